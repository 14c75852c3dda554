//! Prints generated messages as OTLP/JSON, every field of them, default values included: the transcoder's oracle.

use base64::Engine as _;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint, exemplar,
    metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

pub(super) fn traces(request: &ExportTraceServiceRequest) -> Value {
    let resource = list(&request.resource_spans, |resource| {
        let scope = list(
            &resource.scope_spans,
            |of| json!({"scope": of.scope.as_ref().map(scope), "spans": list(&of.spans, span), "schemaUrl": of.schema_url}),
        );
        let attributes = resource.resource.as_ref().map(self::resource);
        json!({"scopeSpans": scope, "schemaUrl": resource.schema_url, "resource": attributes})
    });
    json!({ "resourceSpans": resource })
}

pub(super) fn logs(request: &ExportLogsServiceRequest) -> Value {
    let resource = list(&request.resource_logs, |resource| {
        let scope = list(&resource.scope_logs, |of| {
            json!({
                "scope": of.scope.as_ref().map(scope),
                "logRecords": list(&of.log_records, log_record),
                "schemaUrl": of.schema_url,
            })
        });
        let attributes = resource.resource.as_ref().map(self::resource);
        json!({"scopeLogs": scope, "schemaUrl": resource.schema_url, "resource": attributes})
    });
    json!({ "resourceLogs": resource })
}

pub(super) fn metrics(request: &ExportMetricsServiceRequest) -> Value {
    let resource = list(&request.resource_metrics, |resource| {
        let scope = list(&resource.scope_metrics, |of| {
            json!({
                "scope": of.scope.as_ref().map(scope),
                "metrics": list(&of.metrics, metric),
                "schemaUrl": of.schema_url,
            })
        });
        let attributes = resource.resource.as_ref().map(self::resource);
        json!({"scopeMetrics": scope, "schemaUrl": resource.schema_url, "resource": attributes})
    });
    json!({ "resourceMetrics": resource })
}

fn list<T>(items: &[T], print: impl Fn(&T) -> Value) -> Value {
    items.iter().map(print).collect()
}

/// 64-bit integers are strings (J5).
fn long(number: impl ToString) -> Value {
    number.to_string().into()
}

fn double(number: f64) -> Value {
    match number {
        number if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        number => json!(number),
    }
}

/// Upper case, which J1 allows.
fn hex(bytes: &[u8]) -> Value {
    bytes
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<String>()
        .into()
}

fn attributes(pairs: &[KeyValue]) -> Value {
    list(
        pairs,
        |pair| json!({"key": pair.key, "value": pair.value.as_ref().map(any_value)}),
    )
}

fn any_value(value: &AnyValue) -> Value {
    use any_value::Value as Any;
    match &value.value {
        None => json!({}),
        Some(Any::StringValue(text)) => json!({ "stringValue": text }),
        Some(Any::BoolValue(flag)) => json!({ "boolValue": flag }),
        Some(Any::IntValue(number)) => json!({ "intValue": long(number) }),
        Some(Any::DoubleValue(number)) => json!({ "doubleValue": double(*number) }),
        Some(Any::BytesValue(bytes)) => {
            json!({ "bytesValue": base64::prelude::BASE64_STANDARD.encode(bytes) })
        }
        Some(Any::ArrayValue(array)) => json!({ "arrayValue": { "values": list(&array.values, any_value) } }),
        Some(Any::KvlistValue(map)) => json!({ "kvlistValue": { "values": attributes(&map.values) } }),
        Some(Any::StringValueStrindex(index)) => json!({ "stringValueStrindex": index }),
    }
}

fn resource(resource: &Resource) -> Value {
    let entities = list(&resource.entity_refs, |entity| {
        json!({
            "schemaUrl": entity.schema_url,
            "type": entity.r#type,
            "idKeys": entity.id_keys,
            "descriptionKeys": entity.description_keys,
        })
    });
    json!({
        "attributes": attributes(&resource.attributes),
        "droppedAttributesCount": resource.dropped_attributes_count,
        "entityRefs": entities,
    })
}

fn scope(scope: &InstrumentationScope) -> Value {
    json!({
        "name": scope.name,
        "version": scope.version,
        "attributes": attributes(&scope.attributes),
        "droppedAttributesCount": scope.dropped_attributes_count,
    })
}

fn span(span: &Span) -> Value {
    let events = list(&span.events, |event| {
        json!({
            "timeUnixNano": long(event.time_unix_nano),
            "name": event.name,
            "attributes": attributes(&event.attributes),
            "droppedAttributesCount": event.dropped_attributes_count,
        })
    });
    let links = list(&span.links, |link| {
        json!({
            "traceId": hex(&link.trace_id),
            "spanId": hex(&link.span_id),
            "traceState": link.trace_state,
            "attributes": attributes(&link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count,
            "flags": link.flags,
        })
    });
    json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "traceState": span.trace_state,
        "parentSpanId": hex(&span.parent_span_id),
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": long(span.start_time_unix_nano),
        "endTimeUnixNano": span.end_time_unix_nano,
        "attributes": attributes(&span.attributes),
        "droppedAttributesCount": span.dropped_attributes_count,
        "events": events,
        "droppedEventsCount": span.dropped_events_count,
        "links": links,
        "droppedLinksCount": span.dropped_links_count,
        "status": span.status.as_ref().map(|status| json!({"message": status.message, "code": status.code})),
    })
}

fn log_record(record: &LogRecord) -> Value {
    json!({
        "timeUnixNano": long(record.time_unix_nano),
        "observedTimeUnixNano": record.observed_time_unix_nano,
        "severityNumber": record.severity_number,
        "severityText": record.severity_text,
        "body": record.body.as_ref().map(any_value),
        "attributes": attributes(&record.attributes),
        "droppedAttributesCount": record.dropped_attributes_count,
        "flags": record.flags,
        "traceId": hex(&record.trace_id),
        "spanId": hex(&record.span_id),
        "eventName": record.event_name,
    })
}

fn metric(metric: &Metric) -> Value {
    use metric::Data;
    let mut json = json!({
        "name": metric.name,
        "description": metric.description,
        "unit": metric.unit,
        "metadata": attributes(&metric.metadata),
    });
    let (key, data) = match &metric.data {
        None => return json,
        Some(Data::Gauge(data)) => ("gauge", json!({ "dataPoints": list(&data.data_points, number_point) })),
        Some(Data::Sum(data)) => (
            "sum",
            json!({
                "dataPoints": list(&data.data_points, number_point),
                "aggregationTemporality": data.aggregation_temporality,
                "isMonotonic": data.is_monotonic,
            }),
        ),
        Some(Data::Histogram(data)) => (
            "histogram",
            json!({
                "dataPoints": list(&data.data_points, histogram_point),
                "aggregationTemporality": data.aggregation_temporality,
            }),
        ),
        Some(Data::ExponentialHistogram(data)) => (
            "exponentialHistogram",
            json!({
                "dataPoints": list(&data.data_points, exponential_point),
                "aggregationTemporality": data.aggregation_temporality,
            }),
        ),
        Some(Data::Summary(data)) => (
            "summary",
            json!({ "dataPoints": list(&data.data_points, summary_point) }),
        ),
    };
    json[key] = data;
    json
}

fn exemplars(exemplars: &[Exemplar]) -> Value {
    list(exemplars, |exemplar| {
        let mut json = json!({
            "filteredAttributes": attributes(&exemplar.filtered_attributes),
            "timeUnixNano": long(exemplar.time_unix_nano),
            "spanId": hex(&exemplar.span_id),
            "traceId": hex(&exemplar.trace_id),
        });
        match exemplar.value {
            None => {}
            Some(exemplar::Value::AsDouble(number)) => json["asDouble"] = double(number),
            Some(exemplar::Value::AsInt(number)) => json["asInt"] = long(number),
        }
        json
    })
}

fn number_point(point: &NumberDataPoint) -> Value {
    let mut json = json!({
        "attributes": attributes(&point.attributes),
        "startTimeUnixNano": long(point.start_time_unix_nano),
        "timeUnixNano": long(point.time_unix_nano),
        "exemplars": exemplars(&point.exemplars),
        "flags": point.flags,
    });
    match point.value {
        None => {}
        Some(number_data_point::Value::AsDouble(number)) => json["asDouble"] = double(number),
        Some(number_data_point::Value::AsInt(number)) => json["asInt"] = long(number),
    }
    json
}

fn histogram_point(point: &HistogramDataPoint) -> Value {
    json!({
        "attributes": attributes(&point.attributes),
        "startTimeUnixNano": long(point.start_time_unix_nano),
        "timeUnixNano": long(point.time_unix_nano),
        "count": long(point.count),
        "sum": point.sum.map(double),
        "bucketCounts": list(&point.bucket_counts, |&count| long(count)),
        "explicitBounds": list(&point.explicit_bounds, |&bound| double(bound)),
        "exemplars": exemplars(&point.exemplars),
        "flags": point.flags,
        "min": point.min.map(double),
        "max": point.max.map(double),
    })
}

fn exponential_point(point: &ExponentialHistogramDataPoint) -> Value {
    let buckets = |buckets: &Buckets| json!({"offset": buckets.offset, "bucketCounts": list(&buckets.bucket_counts, |&count| long(count))});
    json!({
        "attributes": attributes(&point.attributes),
        "startTimeUnixNano": long(point.start_time_unix_nano),
        "timeUnixNano": long(point.time_unix_nano),
        "count": long(point.count),
        "sum": point.sum.map(double),
        "scale": point.scale,
        "zeroCount": long(point.zero_count),
        "positive": point.positive.as_ref().map(buckets),
        "negative": point.negative.as_ref().map(buckets),
        "flags": point.flags,
        "exemplars": exemplars(&point.exemplars),
        "min": point.min.map(double),
        "max": point.max.map(double),
        "zeroThreshold": double(point.zero_threshold),
    })
}

fn summary_point(point: &SummaryDataPoint) -> Value {
    let quantiles = list(
        &point.quantile_values,
        |at| json!({"quantile": double(at.quantile), "value": double(at.value)}),
    );
    json!({
        "attributes": attributes(&point.attributes),
        "startTimeUnixNano": long(point.start_time_unix_nano),
        "timeUnixNano": long(point.time_unix_nano),
        "count": long(point.count),
        "sum": double(point.sum),
        "quantileValues": quantiles,
        "flags": point.flags,
    })
}
