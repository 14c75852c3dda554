//! The request that everything here is measured with: ordinary spans of an HTTP service, with nothing to redact.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// Spans a request.
pub const SPANS: usize = 100;
/// The size of one span as it is on the wire, without its tag and length.
pub const SPAN_BYTES: usize = 412;

/// What is written into the resource, by the stamps and by the yardstick alike.
pub const STAMPED: [(&str, &str); 10] = [
    ("user.id", "3f1c9a52-6a0e-4f59-9c58-0d2f5c1b7a11"),
    ("user.email", "ada@example.org"),
    ("user.name", "ada"),
    ("user.full_name", "Ada Lovelace"),
    ("workspace.id", "0193c5a2-7b1e-7c3f-9e55-3f2f6d1c2b4a"),
    ("workspace.name", "shop"),
    ("workspace.platform", "gitpod"),
    ("workspace.url", "https://0193c5a2.workspaces.example.org"),
    ("vcs.repository.url.full", "https://git.example.org/acme/shop"),
    ("vcs.ref.head.name", "main"),
];

/// One request; `seed` makes its ids differ from another's.
pub fn request(seed: u64) -> Vec<u8> {
    request_of(SPANS, seed)
}

/// The same with so many spans.
pub fn request_of(spans: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("service.name", "checkout"),
                    text("service.version", "1.14.2"),
                    text("service.instance.id", "627cc493-f310-47de-96bd-71410b7dec09"),
                    text("telemetry.sdk.name", "opentelemetry"),
                    text("telemetry.sdk.language", "nodejs"),
                    text("telemetry.sdk.version", "2.1.0"),
                    text("host.name", "workspace-7"),
                    text("process.runtime.name", "nodejs"),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "@opentelemetry/instrumentation-http".to_owned(),
                    version: "0.205.0".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: (0..spans).map(|_| span(&mut random)).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

/// A string attribute.
pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn span(random: &mut Random) -> Span {
    let start = 1_760_000_000_000_000_000 + random.next() % 1_000_000_000;
    let mut span = Span {
        trace_id: [random.next().to_be_bytes(), random.next().to_be_bytes()].concat(),
        span_id: random.next().to_be_bytes().to_vec(),
        parent_span_id: random.next().to_be_bytes().to_vec(),
        name: "GET /api/cart/{id}".to_owned(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.next() % 50_000_000,
        flags: 0x101,
        attributes: vec![
            text("http.request.method", "GET"),
            text("http.route", "/api/cart/{id}"),
            text("url.path", &format!("/api/cart/{}", random.next() % 100_000)),
            text("url.scheme", "https"),
            text("server.address", "shop.example.org"),
            attribute("server.port", Value::IntValue(8443)),
            attribute("http.response.status_code", Value::IntValue(200)),
            text("network.protocol.version", "1.1"),
            text("client.address", "10.0.12.7"),
            text("user_agent.original", ""),
        ],
        ..Span::default()
    };
    // The last attribute fills the span up; its length prefixes all stay one byte.
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 (workspace preview)";
    let room = SPAN_BYTES.saturating_sub(span.encoded_len());
    span.attributes[9] = text("user_agent.original", &agent[..room.min(agent.len())]);
    assert_eq!(span.encoded_len(), SPAN_BYTES, "the sample is as large as it says");
    span
}

/// xorshift64: the same requests in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
