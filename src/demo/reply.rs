//! The upstream's side of the two protocols: requests taken apart, answers put together.
//!
//! Kept apart from `otlp::status` on purpose: what the agent writes and reads is checked against another implementation.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest,
        metrics::v1::ExportMetricsServiceRequest,
        trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    },
    common::v1::any_value::Value,
    metrics::v1::metric::Data,
    resource::v1::Resource,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;

use super::{
    serve::{Body, answer, body},
    upstream::Items,
};
use crate::otlp::Signal;

pub(super) const INVALID_ARGUMENT: i32 = 3;
pub(super) const UNIMPLEMENTED: i32 = 12;
pub(super) const UNAUTHENTICATED: i32 = 16;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

/// What one request held.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) spans: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) services: BTreeMap<String, Items>,
    pub(super) resources: BTreeSet<BTreeMap<String, String>>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Counted {
    fn note(&mut self, resource: Option<Resource>, items: Items) {
        let resource = strings(resource);
        let service = resource.get("service.name").cloned().unwrap_or_default();
        self.services.entry(service).or_default().add(items);
        self.resources.insert(resource);
    }
}

impl Protocol {
    pub(super) fn of(headers: &HeaderMap) -> Protocol {
        match headers.get(header::CONTENT_TYPE) {
            Some(value) if value.as_bytes().starts_with(b"application/grpc") => Protocol::Grpc,
            _ => Protocol::Http,
        }
    }
}

/// The protobuf bytes of a request: out of its gRPC frame and its compression.
pub(super) fn payload(protocol: Protocol, headers: &HeaderMap, body: &Bytes) -> Result<Bytes, String> {
    let encoding = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("identity")
    };
    match protocol {
        Protocol::Http => {
            let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            if content_type != Some(b"application/x-protobuf".as_slice()) {
                return Err("the content type is not application/x-protobuf".to_owned());
            }
            decompress(encoding("content-encoding"), body)
        }
        Protocol::Grpc => {
            // One frame: a flag, a length in network order, and the message.
            let [flag, a, b, c, d, message @ ..] = body.as_ref() else {
                return Err("the gRPC frame is cut short".to_owned());
            };
            if u32::from_be_bytes([*a, *b, *c, *d]) as usize != message.len() {
                return Err("the gRPC frame has another length than it says".to_owned());
            }
            let encoding = if *flag == 1 {
                encoding("grpc-encoding")
            } else {
                "identity"
            };
            decompress(encoding, &body.slice(5..))
        }
    }
}

/// What a request of `signal` holds.
pub(super) fn count(signal: Signal, payload: &Bytes) -> Result<Counted, String> {
    let malformed = |error: prost::DecodeError| format!("the request is malformed: {error}");
    let mut counted = Counted::default();
    match signal {
        Signal::Traces => {
            for part in ExportTraceServiceRequest::decode(payload.clone())
                .map_err(malformed)?
                .resource_spans
            {
                let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
                let before = counted.spans.len();
                counted.spans.extend(spans.map(|span| (span.trace_id, span.span_id)));
                let items = Items {
                    spans: (counted.spans.len() - before) as u64,
                    ..Items::default()
                };
                counted.note(part.resource, items);
            }
        }
        Signal::Metrics => {
            for part in ExportMetricsServiceRequest::decode(payload.clone())
                .map_err(malformed)?
                .resource_metrics
            {
                let metrics = part.scope_metrics.iter().flat_map(|scope| &scope.metrics);
                let items = Items {
                    points: metrics.map(|metric| points(metric.data.as_ref())).sum(),
                    ..Items::default()
                };
                counted.note(part.resource, items);
            }
        }
        Signal::Logs => {
            for part in ExportLogsServiceRequest::decode(payload.clone())
                .map_err(malformed)?
                .resource_logs
            {
                let records = part.scope_logs.iter().map(|scope| scope.log_records.len() as u64);
                let items = Items {
                    logs: records.sum(),
                    ..Items::default()
                };
                counted.note(part.resource, items);
            }
        }
    }
    Ok(counted)
}

/// Full success, or a partial one if anything is said in it. The three signals' responses have the same fields.
pub(super) fn success(protocol: Protocol, rejected: i64, message: &str) -> Response<Body> {
    let partial = ExportTracePartialSuccess {
        rejected_spans: rejected,
        error_message: message.to_owned(),
    };
    let said = rejected != 0 || !message.is_empty();
    let bytes = ExportTraceServiceResponse {
        partial_success: said.then_some(partial),
    }
    .encode_to_vec();
    match protocol {
        Protocol::Http => answer(200, "application/x-protobuf", bytes),
        Protocol::Grpc => {
            let mut frame = BytesMut::with_capacity(bytes.len() + 5);
            frame.put_u8(0);
            frame.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            frame.put_slice(&bytes);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(frame.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
            let mut response = Response::new(body.boxed_unsync());
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
    }
}

/// A failure in the protocol's own words.
pub(super) fn failure(protocol: Protocol, code: i32, message: &str, retry_delay: Option<Duration>) -> Response<Body> {
    let retry = retry_delay.map(|delay| Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: RetryInfo {
            retry_delay: Some(ProtoDuration {
                seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                nanos: delay.subsec_nanos().cast_signed(),
            }),
        }
        .encode_to_vec(),
    });
    let status = RpcStatus {
        code,
        message: message.to_owned(),
        details: retry.into_iter().collect(),
    };
    match protocol {
        Protocol::Http => {
            let mut response = answer(http_status(code), "application/x-protobuf", status.encode_to_vec());
            if let Some(delay) = retry_delay {
                let seconds = delay.as_secs_f64().ceil() as u64;
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
        Protocol::Grpc => {
            // "Trailers-Only": the status stands in the headers, and there is no body.
            let mut response = Response::new(body(Bytes::new()));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(code));
            const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
            let escaped = utf8_percent_encode(message, ESCAPED).to_string();
            if let Ok(value) = HeaderValue::try_from(escaped) {
                headers.insert("grpc-message", value);
            }
            if let Ok(value) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status.encode_to_vec())) {
                headers.insert("grpc-status-details-bin", value);
            }
            response
        }
    }
}

/// Exactly this HTTP answer.
pub(super) fn verbatim(
    status: u16,
    content_type: &str,
    headers: &[(&'static str, String)],
    body: Bytes,
) -> Response<Body> {
    let mut response = answer(status, content_type, body);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// The HTTP status that stands for a gRPC code (google.rpc.Code's own table).
fn http_status(code: i32) -> u16 {
    match code {
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

fn decompress(encoding: &str, bytes: &Bytes) -> Result<Bytes, String> {
    let broken = |error: std::io::Error| format!("the {encoding} body is broken: {error}");
    let mut out = Vec::new();
    match encoding {
        "identity" => return Ok(bytes.clone()),
        "gzip" => flate2::read::GzDecoder::new(bytes.as_ref())
            .read_to_end(&mut out)
            .map_err(broken)?,
        "zstd" => {
            out = zstd::stream::decode_all(bytes.as_ref()).map_err(broken)?;
            out.len()
        }
        other => return Err(format!("the encoding {other} is not known")),
    };
    Ok(out.into())
}

fn strings(resource: Option<Resource>) -> BTreeMap<String, String> {
    let attributes = resource.map(|resource| resource.attributes).unwrap_or_default();
    let text = |value| match value {
        Value::StringValue(text) => Some(text),
        _ => None,
    };
    attributes
        .into_iter()
        .filter_map(|attribute| Some((attribute.key, attribute.value?.value.and_then(text)?)))
        .collect()
}

fn points(data: Option<&Data>) -> u64 {
    let points = match data {
        None => 0,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    };
    points as u64
}
