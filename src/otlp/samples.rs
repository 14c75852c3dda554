//! Requests for tests, made and encoded by generated types: an oracle that shares no code with this module.
//! They have every field of OTLP that the generated types have, unusual values included, and valid ids.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

/// The bytes of a message.
pub(super) fn encode(message: &impl Message) -> bytes::Bytes {
    message.encode_to_vec().into()
}

/// A span with valid ids and one attribute.
pub(super) fn span(name: &str) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![9; 8],
        name: name.to_owned(),
        attributes: vec![attribute("http.request.method", "GET")],
        ..Span::default()
    }
}

pub(super) fn attribute(key: &str, text: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(text.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// One resource with one scope of these spans.
pub(super) fn traces_of(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", "shop")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans,
                schema_url: "https://example.com/scope".to_owned(),
                ..ScopeSpans::default()
            }],
            schema_url: "https://example.com/resource".to_owned(),
        }],
    }
}

/// One resource with one scope of these log records.
pub(super) fn logs_of(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

// === strategies ===

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-z.]{0,8}",
        "\\PC{0,6}",
        any::<String>().prop_map(|text| text.chars().take(5).collect())
    ]
    .boxed()
}

fn id(length: usize) -> BoxedStrategy<Vec<u8>> {
    vec(1_u8.., length).boxed()
}

fn id_or_none(length: usize) -> BoxedStrategy<Vec<u8>> {
    prop_oneof![Just(Vec::new()), id(length)].boxed()
}

/// Any bits but those of a NaN with a payload, which JSON cannot carry.
fn double() -> BoxedStrategy<f64> {
    let special = prop::sample::select(vec![
        0.0,
        -0.0,
        1.5,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
    ]);
    let bits = any::<u64>().prop_map(f64::from_bits);
    prop_oneof![
        special,
        bits.prop_filter("a NaN with a payload", |value| !value.is_nan())
    ]
    .boxed()
}

fn any_value() -> BoxedStrategy<AnyValue> {
    use any_value::Value;
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|flag| Some(Value::BoolValue(flag))),
        any::<i64>().prop_map(|number| Some(Value::IntValue(number))),
        double().prop_map(|number| Some(Value::DoubleValue(number))),
        vec(any::<u8>(), 0..6).prop_map(|bytes| Some(Value::BytesValue(bytes))),
        any::<i32>().prop_map(|index| Some(Value::StringValueStrindex(index))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = vec(inner.clone(), 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values }));
        let map = vec((text(), inner), 0..3).prop_map(|pairs| {
            Value::KvlistValue(KeyValueList {
                values: pairs
                    .into_iter()
                    .map(|(key, value)| key_value(key, Some(value)))
                    .collect(),
            })
        });
        prop_oneof![list, map].prop_map(|value| AnyValue { value: Some(value) })
    })
    .boxed()
}

fn key_value(key: String, value: Option<AnyValue>) -> KeyValue {
    KeyValue {
        key,
        value,
        ..KeyValue::default()
    }
}

fn attributes() -> BoxedStrategy<Vec<KeyValue>> {
    let pair = (text(), prop::option::of(any_value())).prop_map(|(key, value)| key_value(key, value));
    vec(pair, 0..3).boxed()
}

fn resource() -> BoxedStrategy<Option<Resource>> {
    let entity = (text(), text(), vec(text(), 0..2), vec(text(), 0..2));
    let entity = entity.prop_map(|(schema_url, r#type, id_keys, description_keys)| EntityRef {
        schema_url,
        r#type,
        id_keys,
        description_keys,
    });
    let parts = (attributes(), any::<u32>(), vec(entity, 0..2));
    let resource = parts.prop_map(|(attributes, dropped_attributes_count, entity_refs)| Resource {
        attributes,
        dropped_attributes_count,
        entity_refs,
    });
    prop::option::of(resource).boxed()
}

fn scope() -> BoxedStrategy<Option<InstrumentationScope>> {
    let scope = (text(), text(), attributes(), any::<u32>());
    let scope = scope.prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    prop::option::of(scope).boxed()
}

fn any_span() -> BoxedStrategy<Span> {
    let event = (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (id(16), id(8), text(), attributes(), any::<u32>(), any::<u32>());
    let link = link.prop_map(|(trace_id, span_id, trace_state, attributes, dropped, flags)| Link {
        trace_id,
        span_id,
        trace_state,
        attributes,
        dropped_attributes_count: dropped,
        flags,
    });
    let status = prop::option::of((text(), -3..9_i32).prop_map(|(message, code)| Status { message, code }));
    let ids = (id(16), id(8), id_or_none(8), text(), any::<u32>());
    let what = (text(), any::<i32>(), any::<u64>(), any::<u64>(), status);
    let lists = (attributes(), vec(event, 0..2), vec(link, 0..2), any::<[u32; 3]>());
    (ids, what, lists)
        .prop_map(|(ids, what, lists)| Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2,
            trace_state: ids.3,
            flags: ids.4,
            name: what.0,
            kind: what.1,
            start_time_unix_nano: what.2,
            end_time_unix_nano: what.3,
            status: what.4,
            attributes: lists.0,
            events: lists.1,
            links: lists.2,
            dropped_attributes_count: lists.3[0],
            dropped_events_count: lists.3[1],
            dropped_links_count: lists.3[2],
        })
        .boxed()
}

fn any_log_record() -> BoxedStrategy<LogRecord> {
    let times = (any::<u64>(), any::<u64>(), 0..25_i32, text(), any::<u32>());
    let rest = (prop::option::of(any_value()), attributes(), any::<u32>(), text());
    (times, rest, id_or_none(16), id_or_none(8))
        .prop_map(|(times, rest, trace_id, span_id)| LogRecord {
            time_unix_nano: times.0,
            observed_time_unix_nano: times.1,
            severity_number: times.2,
            severity_text: times.3,
            flags: times.4,
            body: rest.0,
            attributes: rest.1,
            dropped_attributes_count: rest.2,
            event_name: rest.3,
            trace_id,
            span_id,
        })
        .boxed()
}

fn exemplar() -> BoxedStrategy<Exemplar> {
    let value = prop_oneof![
        Just(None),
        double().prop_map(|number| Some(exemplar::Value::AsDouble(number))),
        any::<i64>().prop_map(|number| Some(exemplar::Value::AsInt(number))),
    ];
    (attributes(), any::<u64>(), value, id_or_none(8), id_or_none(16))
        .prop_map(
            |(filtered_attributes, time_unix_nano, value, span_id, trace_id)| Exemplar {
                filtered_attributes,
                time_unix_nano,
                span_id,
                trace_id,
                value,
            },
        )
        .boxed()
}

/// What all data points have: attributes, times, exemplars, flags.
type Point = (Vec<KeyValue>, [u64; 2], Vec<Exemplar>, u32);

fn point() -> BoxedStrategy<Point> {
    (attributes(), any::<[u64; 2]>(), vec(exemplar(), 0..2), any::<u32>()).boxed()
}

fn number_point() -> BoxedStrategy<NumberDataPoint> {
    let value = prop_oneof![
        Just(None),
        double().prop_map(|number| Some(number_data_point::Value::AsDouble(number))),
        any::<i64>().prop_map(|number| Some(number_data_point::Value::AsInt(number))),
    ];
    (point(), value)
        .prop_map(|((attributes, times, exemplars, flags), value)| NumberDataPoint {
            attributes,
            start_time_unix_nano: times[0],
            time_unix_nano: times[1],
            exemplars,
            flags,
            value,
        })
        .boxed()
}

fn histogram_point() -> BoxedStrategy<HistogramDataPoint> {
    let optional = prop::option::of(double());
    let counts = (any::<u64>(), vec(any::<u64>(), 0..3), vec(double(), 0..3));
    (point(), counts, optional.clone(), optional.clone(), optional)
        .prop_map(
            |((attributes, times, exemplars, flags), counts, sum, min, max)| HistogramDataPoint {
                attributes,
                start_time_unix_nano: times[0],
                time_unix_nano: times[1],
                count: counts.0,
                sum,
                bucket_counts: counts.1,
                explicit_bounds: counts.2,
                exemplars,
                flags,
                min,
                max,
            },
        )
        .boxed()
}

fn exponential_point() -> BoxedStrategy<ExponentialHistogramDataPoint> {
    let buckets = (any::<i32>(), vec(any::<u64>(), 0..3));
    let buckets = prop::option::of(buckets.prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }));
    let optional = prop::option::of(double());
    let counts = (any::<u64>(), any::<i32>(), any::<u64>(), double());
    (
        point(),
        counts,
        buckets.clone(),
        buckets,
        (optional.clone(), optional.clone(), optional),
    )
        .prop_map(
            |((attributes, times, exemplars, flags), counts, positive, negative, stats)| {
                ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano: times[0],
                    time_unix_nano: times[1],
                    count: counts.0,
                    sum: stats.0,
                    scale: counts.1,
                    zero_count: counts.2,
                    positive,
                    negative,
                    flags,
                    exemplars,
                    min: stats.1,
                    max: stats.2,
                    zero_threshold: counts.3,
                }
            },
        )
        .boxed()
}

fn summary_point() -> BoxedStrategy<SummaryDataPoint> {
    let quantile = (double(), double()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (point(), any::<u64>(), double(), vec(quantile, 0..2))
        .prop_map(
            |((attributes, times, _, flags), count, sum, quantile_values)| SummaryDataPoint {
                attributes,
                start_time_unix_nano: times[0],
                time_unix_nano: times[1],
                count,
                sum,
                quantile_values,
                flags,
            },
        )
        .boxed()
}

fn any_metric() -> BoxedStrategy<Metric> {
    use metric::Data;
    let temporality = 0..3_i32;
    let data = prop_oneof![
        Just(None),
        vec(number_point(), 0..3).prop_map(|data_points| Some(Data::Gauge(Gauge { data_points }))),
        (vec(number_point(), 0..3), temporality.clone(), any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| Some(Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic
            }))
        ),
        (vec(histogram_point(), 0..3), temporality.clone()).prop_map(|(data_points, aggregation_temporality)| Some(
            Data::Histogram(Histogram {
                data_points,
                aggregation_temporality
            })
        )),
        (vec(exponential_point(), 0..3), temporality).prop_map(|(data_points, aggregation_temporality)| Some(
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points,
                aggregation_temporality
            })
        )),
        vec(summary_point(), 0..3).prop_map(|data_points| Some(Data::Summary(Summary { data_points }))),
    ];
    (text(), text(), text(), attributes(), data)
        .prop_map(|(name, description, unit, metadata, data)| Metric {
            name,
            description,
            unit,
            metadata,
            data,
        })
        .boxed()
}

/// Requests of spans with valid ids.
pub(super) fn traces() -> BoxedStrategy<ExportTraceServiceRequest> {
    let scope_spans = (scope(), vec(any_span(), 0..3), text());
    let scope_spans = scope_spans.prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    });
    let resource_spans = (resource(), vec(scope_spans, 0..3), text());
    let resource_spans = resource_spans.prop_map(|(resource, scope_spans, schema_url)| ResourceSpans {
        resource,
        scope_spans,
        schema_url,
    });
    vec(resource_spans, 0..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
        .boxed()
}

/// Requests of log records with valid ids or none.
pub(super) fn logs() -> BoxedStrategy<ExportLogsServiceRequest> {
    let scope_logs = (scope(), vec(any_log_record(), 0..3), text());
    let scope_logs = scope_logs.prop_map(|(scope, log_records, schema_url)| ScopeLogs {
        scope,
        log_records,
        schema_url,
    });
    let resource_logs = (resource(), vec(scope_logs, 0..3), text());
    let resource_logs = resource_logs.prop_map(|(resource, scope_logs, schema_url)| ResourceLogs {
        resource,
        scope_logs,
        schema_url,
    });
    vec(resource_logs, 0..3)
        .prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
        .boxed()
}

/// Requests of metrics of every kind.
pub(super) fn metrics() -> BoxedStrategy<ExportMetricsServiceRequest> {
    let scope_metrics = (scope(), vec(any_metric(), 0..3), text());
    let scope_metrics = scope_metrics.prop_map(|(scope, metrics, schema_url)| ScopeMetrics {
        scope,
        metrics,
        schema_url,
    });
    let resource_metrics = (resource(), vec(scope_metrics, 0..3), text());
    let resource_metrics = resource_metrics.prop_map(|(resource, scope_metrics, schema_url)| ResourceMetrics {
        resource,
        scope_metrics,
        schema_url,
    });
    vec(resource_metrics, 0..3)
        .prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
        .boxed()
}

/// How many data points a decoded request holds.
pub(super) fn data_points(request: &ExportMetricsServiceRequest) -> u64 {
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| &scope.metrics);
    let points = metrics.map(|metric| match &metric.data {
        None => 0,
        Some(metric::Data::Gauge(data)) => data.data_points.len(),
        Some(metric::Data::Sum(data)) => data.data_points.len(),
        Some(metric::Data::Histogram(data)) => data.data_points.len(),
        Some(metric::Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(metric::Data::Summary(data)) => data.data_points.len(),
    });
    points.sum::<usize>() as u64
}
