//! Requests as an SDK would send them, built from the published message types.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tagalong::otlp::Signal;

/// A request of one resource with `items` items.
pub fn request(signal: Signal, items: usize) -> Vec<u8> {
    match signal {
        Signal::Traces => traces(&[], spans(items)),
        Signal::Metrics => metrics(items),
        Signal::Logs => logs(items),
    }
}

/// A request of one resource with these attributes and spans.
pub fn traces(attributes: &[(&str, &str)], spans: Vec<Span>) -> Vec<u8> {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(attributes)),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

pub fn spans(count: usize) -> Vec<Span> {
    (0..count).map(|_| span("GET /", 8)).collect()
}

/// A span whose id has this many bytes: eight is valid.
pub fn span(name: &str, id_bytes: usize) -> Span {
    Span {
        trace_id: vec![0x11; 16],
        span_id: vec![0x22; id_bytes],
        name: name.to_owned(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    }
}

pub fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// The spans of a request, and the attributes of its resources.
pub fn read_traces(bytes: &[u8]) -> (Vec<Span>, Vec<(String, String)>) {
    let request = ExportTraceServiceRequest::decode(bytes).expect("a request");
    let mut spans = Vec::new();
    let mut attributes = Vec::new();
    for resource_spans in request.resource_spans {
        for attribute in resource_spans.resource.unwrap_or_default().attributes {
            if let Some(Value::StringValue(value)) = attribute.value.and_then(|value| value.value) {
                attributes.push((attribute.key, value));
            }
        }
        spans.extend(resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    (spans, attributes)
}

fn resource(attributes: &[(&str, &str)]) -> Resource {
    Resource {
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        ..Resource::default()
    }
}

fn metrics(points: usize) -> Vec<u8> {
    let point = NumberDataPoint {
        time_unix_nano: 1,
        value: Some(number_data_point::Value::AsInt(7)),
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "requests".to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![point; points],
        })),
        ..Metric::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(&[])),
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![metric],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
    .encode_to_vec()
}

fn logs(records: usize) -> Vec<u8> {
    let record = LogRecord {
        time_unix_nano: 1,
        body: attribute("", "it rains").value,
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(&[])),
            scope_logs: vec![ScopeLogs {
                log_records: vec![record; records],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}
