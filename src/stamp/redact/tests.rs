//! Redaction: each rule hits what it names, and everything else stays as it is.

use std::sync::LazyLock;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    Summary, SummaryDataPoint, metric::Data,
};
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogram, ExponentialHistogramDataPoint};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::otlp::Signal;
use crate::otlp::wire::{Fields, put_len_delimited};

const AWS: &str = "AKIAIOSFODNN7EXAMPLE";

fn built_in() -> Redactor {
    Redactor::build(&Config {
        enabled: true,
        ..Config::default()
    })
    .unwrap()
}

fn with(patterns: &[&str], keys: &[&str]) -> Redactor {
    Redactor::build(&Config {
        enabled: true,
        patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    })
    .unwrap()
}

fn any_value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn string(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: any_value(value),
        ..KeyValue::default()
    }
}

fn traces(span: Span) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![span],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn batch(signal: Signal, bytes: Vec<u8>) -> Batch {
    Batch {
        signal,
        bytes: Bytes::from(bytes),
    }
}

/// What becomes of one span attribute, and how many secrets were replaced.
fn redact_attribute(redactor: &Redactor, key: &str, value: Value) -> (KeyValue, u64) {
    let sent = traces(Span {
        attributes: vec![attribute(key, value)],
        ..Span::default()
    });
    let (got, count) = redactor.redact(batch(Signal::Traces, sent.encode_to_vec()));
    let got = ExportTraceServiceRequest::decode(got.bytes).unwrap();
    (
        got.resource_spans[0].scope_spans[0].spans[0].attributes[0].clone(),
        count,
    )
}

fn redact_text(redactor: &Redactor, text: &str) -> (String, u64) {
    let (got, count) = redact_attribute(redactor, "note", string(text));
    match got.value.unwrap().value.unwrap() {
        Value::StringValue(text) => (text, count),
        other => panic!("{other:?}"),
    }
}

/// Put together here, so that no scanner of the repository takes them for real ones.
fn sample(prefix: &str, length: usize) -> String {
    let filler = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
    prefix.chars().chain(filler.chars().cycle().take(length)).collect()
}

#[test]
fn promise_8_credentials_known_by_their_shape_are_replaced_wherever_they_stand() {
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
    let unsigned = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ";
    let openssl = |kind: &str| format!("-----BEGIN {kind}-----\nMIIEow\n+/=\n-----END {kind}-----");
    let secrets = [
        AWS.to_owned(),
        "ASIAIOSFODNN7EXAMPLE".to_owned(),
        sample("ghp_", 36),
        sample("gho_", 36),
        sample("ghu_", 36),
        sample("ghs_", 36),
        sample("ghr_", 36),
        sample("github_pat_", 60),
        sample("glpat-", 20),
        sample("gldt-", 20),
        sample("glrt-", 20),
        sample("glrtr-", 20),
        sample("glcbt-", 20),
        sample("glptt-", 20),
        sample("glft-", 20),
        sample("glsoat-", 20),
        sample("xoxb-", 40),
        sample("xoxp-", 40),
        sample("xoxa-", 40),
        sample("xoxs-", 40),
        sample("xoxe-", 40),
        sample("xoxe.xoxp-", 40),
        sample("xapp-", 40),
        sample("AIza", 35),
        sample("ya29.", 60),
        sample("GOCSPX-", 28),
        sample("sk_live_", 24),
        sample("rk_live_", 24),
        sample("npm_", 36),
        sample("pypi-AgE", 60),
        sample("sk-proj-", 60),
        sample("sk-ant-", 60),
        sample("sk-svcacct-", 60),
        format!("{}{}", sample("sk-", 20), sample("T3BlbkFJ", 20)),
        openssl("PRIVATE KEY"),
        openssl("RSA PRIVATE KEY"),
        openssl("ENCRYPTED PRIVATE KEY"),
        openssl("OPENSSH PRIVATE KEY"),
        openssl("PGP PRIVATE KEY BLOCK"),
        jwt.to_owned(),
        unsigned.to_owned(),
    ];
    let redactor = built_in();
    for secret in secrets {
        assert_eq!(redact_text(&redactor, &secret), (REDACTED.to_owned(), 1), "{secret}");
        let (text, count) = redact_text(&redactor, &format!("é before '{secret}' and after ü"));
        assert_eq!(text, "é before '[redacted]' and after ü", "{secret}");
        assert_eq!(count, 1, "{secret}");
    }
}

#[test]
fn promise_8_a_key_that_was_cut_off_is_replaced_to_the_end() {
    let text = "key: -----BEGIN EC PRIVATE KEY-----\nMHcCAQEE";
    assert_eq!(redact_text(&built_in(), text), ("key: [redacted]".to_owned(), 1));
}

#[test]
fn promise_8_what_stands_behind_a_telling_name_is_replaced() {
    let rows = [
        // HTTP authentication.
        ("Bearer abcdefghijklmnop1", "Bearer [redacted]"),
        ("bearer AbCdEfGhIjKlMnOp", "bearer [redacted]"),
        ("BEARER abcdefghijklmnop1", "BEARER [redacted]"),
        ("BASIC dXNlcjpwYXNz", "BASIC [redacted]"),
        (
            "curl -H 'Authorization: Bearer s3cr3t'",
            "curl -H 'Authorization: Bearer [redacted]'",
        ),
        ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic [redacted]"),
        ("AUTHORIZATION=Token abc", "AUTHORIZATION=Token [redacted]"),
        ("Authorization: Api-Token abc", "Authorization: Api-Token [redacted]"),
        ("Authorization: Splunk abc", "Authorization: Splunk [redacted]"),
        (
            "Proxy-Authorization: Digest abc",
            "Proxy-Authorization: Digest [redacted]",
        ),
        // Other headers.
        ("X-Api-Key: abc", "X-Api-Key: [redacted]"),
        ("x-api-key: abc", "x-api-key: [redacted]"),
        ("X-API-KEY: abc", "X-API-KEY: [redacted]"),
        ("X-API-Key: abc", "X-API-Key: [redacted]"),
        ("apikey: abc", "apikey: [redacted]"),
        ("PRIVATE-TOKEN: abc", "PRIVATE-TOKEN: [redacted]"),
        ("Cookie: id=abc; theme=dark", "Cookie: [redacted]"),
        (
            "Set-Cookie: id=abc; HttpOnly\r\nHost: x",
            "Set-Cookie: [redacted]\r\nHost: x",
        ),
        // URLs.
        ("https://ada:hunter2@example.org/x", "https://[redacted]@example.org/x"),
        (
            "postgresql://ada:p@ss@db:5432/shop",
            "postgresql://[redacted]@db:5432/shop",
        ),
        ("redis://:hunter2@cache:6379", "redis://[redacted]@cache:6379"),
        (
            "https://x.example/?a=1&token=abc&b=2",
            "https://x.example/?a=1&token=[redacted]&b=2",
        ),
        ("/cb?access_token=abc", "/cb?access_token=[redacted]"),
        ("/cb?refresh_token=abc#top", "/cb?refresh_token=[redacted]"),
        ("/cb?id_token=abc", "/cb?id_token=[redacted]"),
        ("/cb?api_key=abc", "/cb?api_key=[redacted]"),
        ("/cb?apikey=abc", "/cb?apikey=[redacted]"),
        ("/cb?apiKey=abc", "/cb?apiKey=[redacted]"),
        ("/cb?api-key=abc", "/cb?api-key=[redacted]"),
        ("/cb?client_secret=abc&x=1", "/cb?client_secret=[redacted]&x=1"),
        ("/cb?password=abc", "/cb?password=[redacted]"),
        ("/cb?sig=a%2Bb%3D&se=2030", "/cb?sig=[redacted]&se=2030"),
        ("/cb?se=2030&sig=a%2Bb%3D", "/cb?se=2030&sig=[redacted]"),
        ("/cb?signature=abc", "/cb?signature=[redacted]"),
        ("/cb?X-Amz-Signature=abc&x=1", "/cb?X-Amz-Signature=[redacted]&x=1"),
        ("/cb?X-Amz-Security-Token=abc", "/cb?X-Amz-Security-Token=[redacted]"),
        ("/cb?X-Goog-Signature=abc", "/cb?X-Goog-Signature=[redacted]"),
        (
            "https://hooks.slack.com/services/T0/B0/x",
            "https://hooks.slack.com/services/[redacted]",
        ),
        // Connection strings.
        (
            "AccountName=a;AccountKey=ab+/==;E=x",
            "AccountName=a;AccountKey=[redacted];E=x",
        ),
        (
            "SharedAccessKeyName=n;SharedAccessKey=ab==",
            "SharedAccessKeyName=n;SharedAccessKey=[redacted]",
        ),
        (
            "Server=db;User Id=sa;Password=hunter2;",
            "Server=db;User Id=sa;Password=[redacted];",
        ),
        ("Server=db;Uid=sa;Pwd=hunter2;", "Server=db;Uid=sa;Pwd=[redacted];"),
        ("SERVER=db;UID=sa;PWD=hunter2", "SERVER=db;UID=sa;PWD=[redacted]"),
        ("server=db;PassWord=hunter2", "server=db;PassWord=[redacted]"),
        ("endpoint=x;accesskey=ab==", "endpoint=x;accesskey=[redacted]"),
        ("accountname=a;ACCOUNTKEY=ab==", "accountname=a;ACCOUNTKEY=[redacted]"),
        // Commands.
        ("DB_PASSWORD=hunter2 ./run", "DB_PASSWORD=[redacted] ./run"),
        (
            "export GITHUB_TOKEN='a b' && ls",
            "export GITHUB_TOKEN='[redacted]' && ls",
        ),
        ("API_KEY=\"a b\" ./run", "API_KEY=\"[redacted]\" ./run"),
        (
            "AWS_SECRET_ACCESS_KEY=a/b+c aws s3 ls",
            "AWS_SECRET_ACCESS_KEY=[redacted] aws s3 ls",
        ),
        ("MY_CLIENT_SECRET=abc", "MY_CLIENT_SECRET=[redacted]"),
        ("mysql --password=hunter2 shop", "mysql --password=[redacted] shop"),
        ("login --password hunter2 -v", "login --password [redacted] -v"),
        ("login --token abc", "login --token [redacted]"),
        ("login --api-key 'a b'", "login --api-key '[redacted]'"),
        ("serve --private-key abc", "serve --private-key [redacted]"),
        ("GPG_PASSPHRASE=abc gpg -d", "GPG_PASSPHRASE=[redacted] gpg -d"),
        ("APIKey=abc ./run", "APIKey=[redacted] ./run"),
        ("sh -c \\\"TOKEN=abc\\\"", "sh -c \\\"TOKEN=[redacted]\\\""),
    ];
    let redactor = built_in();
    for (sent, wanted) in rows {
        assert_eq!(redact_text(&redactor, sent), (wanted.to_owned(), 1), "{sent}");
        assert_eq!(
            redact_text(&redactor, wanted),
            (wanted.to_owned(), 0),
            "again: {wanted}"
        );
    }
}

#[test]
fn promise_8_an_argument_behind_an_option_that_names_a_secret_is_replaced() {
    let list = |words: &[&str]| {
        let values = words.iter().map(|word| AnyValue {
            value: Some(string(word)),
        });
        Value::ArrayValue(ArrayValue {
            values: values.collect(),
        })
    };
    let redactor = built_in();
    for (sent, wanted, replaced) in [
        (
            &["login", "--token", "abc"][..],
            &["login", "--token", "[redacted]"][..],
            1,
        ),
        (
            &["mysql", "-password", "hunter2", "--db-api-key", "k", "shop"],
            &["mysql", "-password", "[redacted]", "--db-api-key", "[redacted]", "shop"],
            2,
        ),
        (
            &["x", "--PASSWORD", "--token", "abc"],
            &["x", "--PASSWORD", "[redacted]", "[redacted]"],
            2,
        ),
        (&["x", "--token=abc", "y"], &["x", "--token=[redacted]", "y"], 1),
        (
            &["x", "--max-tokens", "5", "token", "y", "--secret", "", "--token"],
            &["x", "--max-tokens", "5", "token", "y", "--secret", "", "--token"],
            0,
        ),
    ] {
        let key = "process.command_args";
        assert_eq!(
            redact_attribute(&redactor, key, list(sent)),
            (attribute(key, list(wanted)), replaced),
            "{sent:?}"
        );
        assert_eq!(redact_attribute(&redactor, key, list(wanted)).1, 0, "again: {wanted:?}");
    }
}

#[test]
fn what_only_looks_like_a_secret_is_left_alone() {
    let redactor = built_in();
    for text in [
        "Bearer authentication is required, basic authentication is not",
        "a bearer token-based scheme; Basic internationalization",
        "gen_ai.usage.input_tokens=512 token_type=bearer",
        "SyntaxError: Unexpected token: }",
        "secret: see the manual, the password is in the vault",
        "https://example.org:8080/users/@ada?next=a@b",
        "http://example.org:8080?email=ada@example.org",
        "ssh://git@example.org/ada/shop.git",
        "pwd=/home/ada sig=SIGTERM",
        "AKIASHORT ASIA and AKIAIOSFODNN7EXAMPLEWITHMORE",
        "npm_config_registry npm_lifecycle_event",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "[redacted]",
    ] {
        assert_eq!(redact_text(&redactor, text), (text.to_owned(), 0));
    }
}

#[test]
fn promise_8_attribute_keys_that_name_a_secret_lose_their_value() {
    let redactor = built_in();
    for key in [
        "password",
        "db.password",
        "dbPassword",
        "user_password",
        "PASSWORD",
        "process.environment_variable.DB_PASSWORD",
        "x.passwd",
        "ssh.passphrase",
        "client.secret",
        "oauth.client_secret",
        "CLIENT_SECRET",
        "aws.secret_access_key",
        "secretKey",
        "app.api_key",
        "apiKey",
        "apikey",
        "http.request.header.x-api-key",
        "process.environment_variable.OPENAI_API_KEY",
        "tls.private_key",
        "tls.privateKey",
        "token",
        "auth.token",
        "access_token",
        "accessToken",
        "x-auth-token",
        "process.environment_variable.GITHUB_TOKEN",
        "http.request.header.authorization",
        "http.request.header.proxy-authorization",
        "http.request.header.Authorization",
        "rpc.grpc.request.metadata.authorization",
        "http.request.header.cookie",
        "http.response.header.set-cookie",
        "http.response.header.set_cookie",
        "http.request.header.Cookie",
        "http.response.header.Set-Cookie",
        "http.response.header.setCookie",
        "client.APIKey",
        "GPG_PASSPHRASE",
        "tls.private-key",
    ] {
        let wanted = (attribute(key, string(REDACTED)), 1);
        assert_eq!(redact_attribute(&redactor, key, string("hunter2")), wanted, "{key}");
        let array = Value::ArrayValue(ArrayValue {
            values: vec![AnyValue {
                value: Some(string("hunter2")),
            }],
        });
        assert_eq!(redact_attribute(&redactor, key, array), wanted, "{key} of an array");
        let bytes = Value::BytesValue(b"hunter2".to_vec());
        assert_eq!(redact_attribute(&redactor, key, bytes), wanted, "{key} of bytes");
        for kept in [string(REDACTED), string(""), Value::BoolValue(true)] {
            let wanted = (attribute(key, kept.clone()), 0);
            assert_eq!(redact_attribute(&redactor, key, kept), wanted, "{key}");
        }
    }
}

#[test]
fn attribute_keys_that_only_contain_such_a_word_keep_their_value() {
    let redactor = built_in();
    for key in [
        "gen_ai.usage.input_tokens",
        "gen_ai.token.type",
        "password.length",
        "k8s.secret.name",
        "aws.secretsmanager.secret.arn",
        "token_count",
        "messaging.kafka.message.key",
        "monkey",
        "cookie.consent",
        "compassword",
    ] {
        let kept = (attribute(key, string("value")), 0);
        assert_eq!(redact_attribute(&redactor, key, string("value")), kept, "{key}");
    }
}

#[test]
fn a_number_is_a_password_but_no_token() {
    let redactor = built_in();
    let pin = redact_attribute(&redactor, "password", Value::IntValue(1234));
    assert_eq!(pin, (attribute("password", string(REDACTED)), 1));
    let count = redact_attribute(&redactor, "max_token", Value::IntValue(1234));
    assert_eq!(count, (attribute("max_token", Value::IntValue(1234)), 0));
}

#[test]
fn promise_8_nested_values_are_searched_and_lengths_written_anew() {
    let nested = |secret: &str, password: &str| {
        Value::KvlistValue(KeyValueList {
            values: vec![
                attribute(
                    "list",
                    Value::ArrayValue(ArrayValue {
                        values: vec![
                            AnyValue { value: None },
                            AnyValue {
                                value: Some(string(secret)),
                            },
                            AnyValue {
                                value: Some(Value::IntValue(7)),
                            },
                        ],
                    }),
                ),
                attribute("password", string(password)),
                attribute("long", string(&"x".repeat(300))),
            ],
        })
    };
    let (got, count) = redact_attribute(&built_in(), "note", nested(AWS, "hunter2"));
    assert_eq!(got, attribute("note", nested(REDACTED, REDACTED)));
    assert_eq!(count, 2);
}

/// Every string of a trace that we know, each with `secret` in it.
fn trace_full_of(secret: &str) -> ExportTraceServiceRequest {
    let attributes = vec![
        attribute("note", string(secret)),
        attribute(secret, Value::BoolValue(true)),
    ];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: attributes.clone(),
                ..Resource::default()
            }),
            schema_url: secret.to_owned(),
            scope_spans: vec![ScopeSpans {
                schema_url: secret.to_owned(),
                scope: Some(InstrumentationScope {
                    name: secret.to_owned(),
                    version: secret.to_owned(),
                    attributes: attributes.clone(),
                    ..InstrumentationScope::default()
                }),
                spans: vec![Span {
                    trace_id: vec![1; 16],
                    span_id: vec![2; 8],
                    name: secret.to_owned(),
                    trace_state: secret.to_owned(),
                    attributes: attributes.clone(),
                    events: vec![span::Event {
                        name: secret.to_owned(),
                        attributes: attributes.clone(),
                        ..span::Event::default()
                    }],
                    links: vec![span::Link {
                        trace_state: secret.to_owned(),
                        attributes: attributes.clone(),
                        ..span::Link::default()
                    }],
                    status: Some(Status {
                        message: secret.to_owned(),
                        code: 2,
                    }),
                    ..Span::default()
                }],
            }],
        }],
    }
}

fn logs_full_of(secret: &str) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![LogRecord {
                    severity_text: secret.to_owned(),
                    body: any_value(string(secret)),
                    attributes: vec![attribute("note", Value::BytesValue(secret.as_bytes().to_vec()))],
                    event_name: secret.to_owned(),
                    trace_id: vec![1; 16],
                    ..LogRecord::default()
                }],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn metrics_full_of(secret: &str) -> ExportMetricsServiceRequest {
    let attributes = vec![attribute("note", string(secret))];
    let exemplars = vec![Exemplar {
        filtered_attributes: attributes.clone(),
        ..Exemplar::default()
    }];
    let numbers = vec![NumberDataPoint {
        attributes: attributes.clone(),
        exemplars: exemplars.clone(),
        ..NumberDataPoint::default()
    }];
    let data = vec![
        Data::Gauge(Gauge {
            data_points: numbers.clone(),
        }),
        Data::Sum(Sum {
            data_points: numbers,
            ..Sum::default()
        }),
        Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                attributes: attributes.clone(),
                exemplars: exemplars.clone(),
                ..HistogramDataPoint::default()
            }],
            ..Histogram::default()
        }),
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![ExponentialHistogramDataPoint {
                attributes: attributes.clone(),
                exemplars,
                ..ExponentialHistogramDataPoint::default()
            }],
            ..ExponentialHistogram::default()
        }),
        Data::Summary(Summary {
            data_points: vec![SummaryDataPoint {
                attributes: attributes.clone(),
                ..SummaryDataPoint::default()
            }],
        }),
    ];
    let metric = |data| Metric {
        name: secret.to_owned(),
        description: secret.to_owned(),
        unit: secret.to_owned(),
        metadata: attributes.clone(),
        data: Some(data),
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: data.into_iter().map(metric).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

#[test]
fn promise_8_every_known_string_of_every_signal_is_searched() {
    let redactor = built_in();
    let (got, count) = redactor.redact(batch(Signal::Traces, trace_full_of(AWS).encode_to_vec()));
    let got = ExportTraceServiceRequest::decode(got.bytes).unwrap();
    assert_eq!((got, count), (trace_full_of(REDACTED), 19));

    let (got, count) = redactor.redact(batch(Signal::Logs, logs_full_of(AWS).encode_to_vec()));
    let got = ExportLogsServiceRequest::decode(got.bytes).unwrap();
    assert_eq!((got, count), (logs_full_of(REDACTED), 4));

    let (got, count) = redactor.redact(batch(Signal::Metrics, metrics_full_of(AWS).encode_to_vec()));
    let got = ExportMetricsServiceRequest::decode(got.bytes).unwrap();
    assert_eq!((got, count), (metrics_full_of(REDACTED), 5 * 4 + 5 + 4));
}

/// The same message with its fields, and those of every submessage that can be read as one, written back to front.
fn back_to_front(message: &[u8], depth: usize) -> Vec<u8> {
    let fields: Vec<_> = Fields::new(message).map(Result::unwrap).collect();
    let mut out = Vec::new();
    for field in fields.iter().rev() {
        match field.bytes() {
            // Request, group, scope, item and its attributes.
            Some(bytes) if depth > 0 && matches!((depth, field.number), (5, 1) | (4 | 3, 2) | (2, 9)) => {
                put_len_delimited(&mut out, field.number, &back_to_front(bytes, depth - 1));
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
    out
}

#[test]
fn promise_8_holds_for_a_sender_that_writes_back_to_front() {
    let span = |password: &str| Span {
        status: Some(Status {
            message: "ok".to_owned(),
            code: 1,
        }),
        attributes: vec![
            attribute("first", string("kept")),
            attribute("auth.token", string(password)),
        ],
        ..Span::default()
    };
    let sent = back_to_front(&traces(span("hunter2")).encode_to_vec(), 5);
    let (got, count) = built_in().redact(batch(Signal::Traces, sent));
    let mut got = ExportTraceServiceRequest::decode(got.bytes).unwrap();
    got.resource_spans[0].scope_spans[0].spans[0].attributes.reverse();
    assert_eq!((got, count), (traces(span(REDACTED)), 1));
}

#[test]
fn with_nothing_to_redact_the_same_bytes_come_back() {
    let redactor = built_in();
    // The second one makes the prefilter hit.
    for text in ["GET /cart", "the password is in the vault"] {
        let sent = batch(Signal::Traces, trace_full_of(text).encode_to_vec());
        let (got, count) = redactor.redact(sent.clone());
        assert_eq!(count, 0);
        assert_eq!(got.bytes.as_ptr(), sent.bytes.as_ptr());
        assert_eq!(got.bytes, sent.bytes);
    }
}

#[test]
fn switched_off_it_lets_everything_through() {
    let off = Redactor::build(&Config {
        enabled: false,
        patterns: vec!["(".to_owned()],
        keys: vec![],
    });
    let sent = batch(Signal::Traces, trace_full_of(AWS).encode_to_vec());
    let (got, count) = off.unwrap().redact(sent.clone());
    assert_eq!((got.bytes.as_ptr(), count), (sent.bytes.as_ptr(), 0));
}

#[test]
fn unknown_fields_are_kept_and_not_searched() {
    let mut span = Span {
        name: AWS.to_owned(),
        ..Span::default()
    }
    .encode_to_vec();
    put_len_delimited(&mut span, 500, AWS.as_bytes());
    let mut scope = Vec::new();
    put_len_delimited(&mut scope, 2, &span);
    let mut group = Vec::new();
    put_len_delimited(&mut group, 2, &scope);
    let mut sent = Vec::new();
    put_len_delimited(&mut sent, 1, &group);
    let (got, count) = built_in().redact(batch(Signal::Traces, sent));
    assert_eq!(count, 1);
    assert_eq!(memchr::memmem::find_iter(&got.bytes, AWS).count(), 1);
    assert_eq!(memchr::memmem::find_iter(&got.bytes, REDACTED).count(), 1);
}

#[test]
fn the_users_patterns_are_replaced_too() {
    let redactor = with(&[r"(?i)\bticket-\d+", r#""pin":"(?P<secret>[^"]*)""#, "x*"], &[]);
    assert_eq!(
        redact_text(&redactor, "see Ticket-42!"),
        ("see [redacted]!".to_owned(), 1)
    );
    let body = r#"{"pin":"1234","user":"ada"}"#;
    let wanted = r#"{"pin":"[redacted]","user":"ada"}"#;
    assert_eq!(redact_text(&redactor, body), (wanted.to_owned(), 1));
    assert_eq!(redact_text(&redactor, AWS), (REDACTED.to_owned(), 1));
}

#[test]
fn a_pattern_that_matches_what_stands_for_a_secret_does_not_replace_that_again() {
    for (pattern, wanted) in [
        ("[0-9a-f]{4,}", "1 [redacted]"),
        (r"[^\W\d]+", "1 [redacted]"),
        (".", &*"[redacted]".repeat(6)),
    ] {
        assert_eq!(redact_text(&with(&[pattern], &[]), "1 beef").0, wanted, "{pattern}");
    }
}

#[test]
fn the_users_keys_are_replaced_too() {
    let redactor = with(&[], &["acme.*.ssn", "pin", "customer*"]);
    for key in ["acme.person.ssn", "acme..ssn", "pin", "customer", "customer.name"] {
        let wanted = (attribute(key, string(REDACTED)), 1);
        assert_eq!(redact_attribute(&redactor, key, string("value")), wanted, "{key}");
    }
    for key in ["acme.ssn", "acme.person.ssn.kind", "pins", "Customer"] {
        let kept = (attribute(key, string("value")), 0);
        assert_eq!(redact_attribute(&redactor, key, string("value")), kept, "{key}");
    }
}

#[test]
fn a_rule_that_cannot_be_used_is_named() {
    for pattern in ["a(b", r"(?-u)\xff"] {
        let error = Redactor::build(&Config {
            enabled: true,
            patterns: vec![pattern.to_owned()],
            keys: vec![],
        });
        let message = error.unwrap_err().to_string();
        let wanted = format!("the redaction pattern `{pattern}` cannot be used");
        assert!(message.starts_with(&wanted), "{message}");
    }
}

#[test]
fn what_cannot_be_read_is_not_kept() {
    let mut span = Span {
        name: AWS.to_owned(),
        ..Span::default()
    }
    .encode_to_vec();
    // A field that says it is longer than what is left.
    span.extend_from_slice(&[0x2a, 0x7f]);
    span.extend_from_slice(AWS.as_bytes());
    let mut scope = Vec::new();
    put_len_delimited(&mut scope, 2, &span);
    let mut group = Vec::new();
    put_len_delimited(&mut group, 2, &scope);
    let mut sent = Vec::new();
    put_len_delimited(&mut sent, 1, &group);
    let (got, count) = built_in().redact(batch(Signal::Traces, sent));
    assert_eq!(count, 2);
    assert_eq!(memchr::memmem::find(&got.bytes, AWS.as_bytes()), None);
    ExportTraceServiceRequest::decode(got.bytes).unwrap();
}

#[test]
fn a_value_that_is_nested_without_end_is_not_followed() {
    let mut value = any_value(string(AWS)).unwrap().encode_to_vec();
    for _ in 0..5000 {
        let mut array = Vec::new();
        put_len_delimited(&mut array, 1, &value);
        value.clear();
        put_len_delimited(&mut value, 5, &array);
    }
    let mut sent = Vec::new();
    let mut log = Vec::new();
    put_len_delimited(&mut log, 5, &value);
    for number in [2, 2, 1] {
        sent.clear();
        put_len_delimited(&mut sent, number, &log);
        log.clone_from(&sent);
    }
    let (got, count) = built_in().redact(batch(Signal::Logs, sent));
    assert_eq!(count, 1);
    assert_eq!(memchr::memmem::find(&got.bytes, AWS.as_bytes()), None);
}

/// What stands behind the prefilter, with it and without: compiled once for all cases.
static BOTH: LazyLock<(Redactor, Rules)> = LazyLock::new(|| (built_in(), Rules::new(&[], &[]).unwrap()));

/// What a built-in pattern matches, in whatever case it lets a name be written.
fn matching() -> impl Strategy<Value = Vec<u8>> {
    // The generator knows no boundaries, and has the text's own to begin and end at.
    let boundless = |expression: &str| expression.replace(r"\b", "").replace(r"|\z", "");
    let patterns = rules::PATTERNS.iter().map(|pattern| boundless(pattern.expression));
    prop::strategy::Union::new(patterns.map(|pattern| prop::string::bytes_regex(&pattern).unwrap()))
}

/// A key that the built-in rules name, with the usual separators and before it what may be there.
fn named() -> impl Strategy<Value = String> {
    let keys = rules::KEYS
        .iter()
        .map(|(key, _)| *key)
        .chain(rules::HEADER_KEYS.iter().copied());
    let keys = prop::sample::select(keys.collect::<Vec<_>>());
    let before = prop::sample::select(vec!["", "db.", "x_", "x-", "http.request."]);
    let separator = prop::sample::select(vec!["_", "-", ""]);
    (keys, before, separator).prop_map(|(key, before, separator)| format!("{before}{}", key.replace('_', separator)))
}

/// The same letters, some of them in the other case.
fn recased(text: &str, capitals: u64) -> String {
    let recased = text
        .chars()
        .enumerate()
        .map(|(index, letter)| match capitals >> (index % 64) & 1 {
            1 => letter.to_ascii_uppercase(),
            _ => letter,
        });
    recased.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn promise_8_the_prefilter_passes_over_nothing_that_a_pattern_replaces(text in matching(), end in "[ ;,&\n]?") {
        let text = [&text, end.as_bytes()].concat();
        let (redactor, rules) = &*BOTH;
        let (wanted, count) = rules::replace(&rules.built_in, &text);
        let wanted = (attribute("note", Value::BytesValue(wanted.into_owned())), count);
        let got = redact_attribute(redactor, "note", Value::BytesValue(text));
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn promise_8_the_prefilter_passes_over_no_key_that_a_rule_names(key in named(), capitals in any::<u64>()) {
        let written = [key.clone(), key.to_uppercase(), recased(&key, 1), recased(&key, capitals)];
        let (redactor, rules) = &*BOTH;
        for key in written {
            let wanted = match rules.secret_by_key(key.as_bytes()) {
                Some(_) => (attribute(&key, string(REDACTED)), 1),
                None => (attribute(&key, string("hunter2")), 0),
            };
            prop_assert_eq!(redact_attribute(redactor, &key, string("hunter2")), wanted);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..200) {
        let mut bytes = bytes;
        bytes.splice(at.min(bytes.len())..at.min(bytes.len()), AWS.bytes());
        let redactor = with(&["a+"], &[]);
        for signal in Signal::ALL {
            redactor.redact(batch(signal, bytes.clone()));
            let mut group = Vec::new();
            put_len_delimited(&mut group, 2, &bytes);
            let mut request = Vec::new();
            put_len_delimited(&mut request, 1, &group);
            redactor.redact(batch(signal, request));
        }
    }

    #[test]
    fn text_stays_utf_8_and_is_redacted_only_once(words in prop::collection::vec(
        prop_oneof![
            Just("password=".to_owned()), Just("://a:".to_owned()), Just("@".to_owned()), Just("--token ".to_owned()),
            Just("\\".to_owned()), Just("Authorization: ".to_owned()), Just(AWS.to_owned()), "\\PC{0,5}",
        ],
        0..8,
    )) {
        let redactor = built_in();
        let (once, _) = redact_text(&redactor, &words.concat());
        let (twice, count) = redact_text(&redactor, &once);
        prop_assert_eq!(count, 0, "{} became {}", once, twice);
    }
}
