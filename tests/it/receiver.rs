//! The receiver's rows of the conformance table, over HTTP. What gRPC says in its own way is in `receiver_grpc`.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use prost::Message as _;
use tagalong::otlp::{Signal, status::Response};

use crate::support::{
    receiver::{Builder, JSON, PROTOBUF, Running, Version, call, export, gzip, post, send, zstd},
    telemetry::{read_traces, request, span, spans, traces},
};

/// A body whose length is not said in advance.
fn chunked(pieces: Vec<Vec<u8>>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    struct Pieces(std::vec::IntoIter<Vec<u8>>);
    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(Bytes::from(piece)))))
        }
    }
    Pieces(pieces.into_iter()).boxed_unsync()
}

#[tokio::test]
async fn r1_bodies_are_taken_plain_and_compressed() {
    let receiver = Running::start();
    for signal in Signal::ALL {
        let plain = request(signal, 3);
        for (encoding, body) in [
            (None, plain.clone()),
            (Some("identity"), plain.clone()),
            (Some("none"), plain.clone()),
            (Some("gzip"), gzip(&plain)),
            (Some("GZIP"), gzip(&plain)),
            (Some("zstd"), zstd(&plain)),
        ] {
            let mut headers = vec![PROTOBUF];
            headers.extend(encoding.map(|encoding| ("content-encoding", encoding)));
            let answer = export(receiver.http, signal, &headers, body).await;
            assert_eq!(answer.status, StatusCode::OK, "{signal:?} {encoding:?} {answer:?}");
        }
        assert_eq!(receiver.record(signal).items, 3);
    }
    assert_eq!(receiver.accepted(), 3 * 6 * 3);
}

#[tokio::test]
async fn r1_an_unknown_content_encoding_is_415() {
    let receiver = Running::start();
    let answer = export(
        receiver.http,
        Signal::Traces,
        &[PROTOBUF, ("content-encoding", "br")],
        vec![1],
    )
    .await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.header("accept-encoding"), Some("identity, gzip, zstd"));
    assert!(answer.rpc_status().message.contains("Content-Encoding"));
}

#[tokio::test]
async fn r3_body_over_the_limit_is_413() {
    let receiver = Builder::default().max_request_bytes(10_000).start();
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], vec![0; 10_001]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.rpc_status().message.contains("10000"), "the limit is named");
    assert_eq!(answer.rpc_status().retry_delay, None);
}

#[tokio::test]
async fn r3_a_body_that_is_large_for_the_sockets_still_gets_its_413() {
    let receiver = Builder::default().max_request_bytes(10_000).start();
    for version in [Version::Http1, Version::Http2] {
        let request = post(receiver.http, version, "/v1/traces", &[PROTOBUF], vec![0; 20_000_000]);
        let answer = send(receiver.http, version, request).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{version:?}");
    }
}

#[tokio::test]
async fn r3_a_body_of_unknown_length_over_the_limit_is_413() {
    let receiver = Builder::default().max_request_bytes(10_000).start();
    for version in [Version::Http1, Version::Http2] {
        let request = post(receiver.http, version, "/v1/traces", &[PROTOBUF], Vec::new());
        let request = request.map(|_| chunked(vec![vec![0; 4_000]; 3]));
        let answer = send(receiver.http, version, request).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{version:?}");
    }
}

#[tokio::test]
async fn promise_2_a_request_of_a_million_resources_does_not_become_a_thousand_times_as_long() {
    let receiver = Builder::default().max_request_bytes(8 << 20).start();
    let mut body = request(Signal::Traces, 1);
    body.extend([0x0a, 0x00].repeat(1 << 20));
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.rpc_status().message.contains("resources"), "{answer:?}");
}

#[tokio::test]
async fn r3_what_decompresses_beyond_the_limit_is_413() {
    let receiver = Running::start();
    let bomb = vec![0; 50_000_000];
    let mut lying = gzip(&bomb);
    // The trailer says that nothing will come out.
    let end = lying.len();
    lying[end - 4..].fill(0);
    for (encoding, body) in [("gzip", gzip(&bomb)), ("gzip", lying), ("zstd", zstd(&bomb))] {
        assert!(body.len() < 1_000_000, "as it is sent it fits");
        let answer = export(
            receiver.http,
            Signal::Traces,
            &[PROTOBUF, ("content-encoding", encoding)],
            body,
        )
        .await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
    }
}

#[tokio::test]
async fn r4_an_answer_is_small_however_much_is_rejected() {
    let receiver = Running::start();
    let invalid = (0..5_000).map(|_| span("x", 3)).collect();
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], traces(&[], invalid)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.len() < 1024, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn r5_an_empty_request_is_a_success_without_a_record() {
    let receiver = Running::start();
    for signal in Signal::ALL {
        let answer = export(receiver.http, signal, &[PROTOBUF], Vec::new()).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
        let answer = export(receiver.http, signal, &[JSON], b"{}".to_vec()).await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{}"[..]));
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn r6_success_has_no_partial_success() {
    let receiver = Running::start();
    for signal in Signal::ALL {
        let answer = export(receiver.http, signal, &[PROTOBUF], request(signal, 1)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
        assert!(answer.body.is_empty(), "no field is set");
    }
}

#[tokio::test]
async fn r7_invalid_spans_are_rejected_and_the_rest_is_kept() {
    let receiver = Running::start();
    let body = traces(&[], vec![span("good", 8), span("short id", 7), span("also good", 8)]);
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let response = Response::from_protobuf(&answer.body).expect("a response");
    assert_eq!(response.rejected, 1);
    assert!(!response.message.is_empty());
    let record = receiver.record(Signal::Traces);
    let names: Vec<_> = read_traces(&record.bytes.to_bytes())
        .0
        .into_iter()
        .map(|span| span.name)
        .collect();
    assert_eq!(names, ["good", "also good"]);
    assert_eq!(receiver.intake.counts().rejected.traces, 1);
}

#[tokio::test]
async fn r7_a_batch_of_invalid_spans_alone_is_a_partial_success_without_a_record() {
    let receiver = Running::start();
    let answer = export(
        receiver.http,
        Signal::Traces,
        &[PROTOBUF],
        traces(&[], vec![span("x", 0)]),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(Response::from_protobuf(&answer.body).expect("a response").rejected, 1);
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn r8_a_full_accept_carries_no_warning_and_a_message_only_goes_with_a_count() {
    let receiver = Running::start();
    let answer = export(receiver.http, Signal::Logs, &[PROTOBUF], request(Signal::Logs, 2)).await;
    assert_eq!(Response::from_protobuf(&answer.body), Some(Response::default()));
    let warning = Response {
        rejected: 0,
        message: "old semantic conventions".to_owned(),
    };
    assert_eq!(Response::from_protobuf(&warning.to_protobuf()), Some(warning));
}

#[tokio::test]
async fn r11_a_full_spool_is_503_with_retry_after() {
    let receiver = Builder::default().full_spool().start();
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], request(Signal::Traces, 1)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("7"));
    let status = answer.rpc_status();
    assert_eq!((status.code, status.retry_delay), (14, Some(Duration::from_secs(7))));
    assert_eq!(receiver.intake.counts().full, 1);
}

#[tokio::test]
async fn r3_what_the_spool_can_never_hold_is_413_and_names_both_settings() {
    let receiver = Builder {
        spool_bytes: 20_000,
        ..Builder::default()
    }
    .start();
    let (to, logs) = (receiver.http, Signal::Logs);
    let answer = export(to, logs, &[PROTOBUF], request(logs, 1000)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.header("retry-after"), None);
    let status = answer.rpc_status();
    assert_eq!((status.code, status.retry_delay), (8, None));
    for word in ["10000 bytes", "spool.max_bytes", "listen.max_request_bytes"] {
        assert!(status.message.contains(word), "{status:?}");
    }
    let counts = receiver.intake.counts();
    assert_eq!((counts.turned_away, counts.full, receiver.accepted()), (1, 0, 0));
    let answer = export(to, logs, &[PROTOBUF], request(logs, 1)).await;
    assert_eq!(answer.status, StatusCode::OK, "what fits is taken");
}

#[tokio::test]
async fn r12_only_the_three_default_paths_are_there() {
    let receiver = Running::start();
    for path in ["/", "/v1", "/v1/traces/", "/v1/trace", "/v2/traces", "/v1/TRACES"] {
        let request = post(receiver.http, Version::Http1, path, &[PROTOBUF], Vec::new());
        let answer = send(receiver.http, Version::Http1, request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(
            answer.rpc_status().message.contains("/v1/traces"),
            "the way is pointed out"
        );
    }
}

#[tokio::test]
async fn r12_profiles_are_404_and_told_why() {
    let receiver = Running::start();
    for path in ["/v1development/profiles", "/v1/profiles"] {
        let request = post(receiver.http, Version::Http1, path, &[JSON], b"{}".to_vec());
        let answer = send(receiver.http, Version::Http1, request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(String::from_utf8_lossy(&answer.body).contains("profiles are not taken here"));
    }
}

#[tokio::test]
async fn r12_other_methods_are_405_with_allow() {
    let receiver = Running::start();
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let mut request = post(receiver.http, Version::Http1, "/v1/traces", &[], Vec::new());
        *request.method_mut() = method.parse().expect("a method");
        let answer = send(receiver.http, Version::Http1, request).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn r13_both_ports_take_both_protocols_over_both_versions() {
    let receiver = Running::start();
    for address in [receiver.grpc, receiver.http] {
        for version in [Version::Http1, Version::Http2] {
            for (content_type, body) in [(PROTOBUF, request(Signal::Traces, 1)), (JSON, b"{}".to_vec())] {
                let request = post(address, version, "/v1/traces", &[content_type], body);
                let answer = send(address, version, request).await;
                assert_eq!(answer.status, StatusCode::OK, "{address} {version:?} {content_type:?}");
            }
        }
        assert_eq!(
            call(address, Signal::Traces, &request(Signal::Traces, 1))
                .await
                .grpc_code(),
            0
        );
    }
}

#[tokio::test]
async fn r13_json_is_taken_as_the_same_bytes_as_protobuf() {
    let receiver = Running::start();
    let json = br#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[{"traceId":"11111111111111111111111111111111","spanId":"2222222222222222","name":"GET /","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;
    let answer = export(receiver.http, Signal::Traces, &[JSON], json.to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let (read, _) = read_traces(&receiver.record(Signal::Traces).bytes.to_bytes());
    assert_eq!(read, spans(1));
}

#[tokio::test]
async fn r14_the_answer_is_in_the_encoding_of_the_request_and_parameters_do_not_matter() {
    let receiver = Running::start();
    for (sent, expected) in [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("application/x-protobuf", "application/x-protobuf"),
        ("application/x-protobuf;messageType=x", "application/x-protobuf"),
    ] {
        let ok = if expected == "application/json" {
            b"{}".to_vec()
        } else {
            Vec::new()
        };
        let answer = export(receiver.http, Signal::Metrics, &[("content-type", sent)], ok).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::OK, Some(expected))
        );
        let answer = export(
            receiver.http,
            Signal::Metrics,
            &[("content-type", sent)],
            b"\xff\xff".to_vec(),
        )
        .await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::BAD_REQUEST, Some(expected))
        );
    }
}

#[tokio::test]
async fn r15_an_answer_is_not_compressed_since_it_need_not_be() {
    let receiver = Running::start();
    let headers = [PROTOBUF, ("accept-encoding", "gzip")];
    let answer = export(receiver.http, Signal::Traces, &headers, request(Signal::Traces, 1)).await;
    assert_eq!(
        (answer.status, answer.header("content-encoding")),
        (StatusCode::OK, None)
    );
}

#[tokio::test]
async fn r16_every_refusal_has_a_status_as_its_body() {
    let receiver = Builder::default().max_request_bytes(1_000).start();
    let full = Builder::default().full_spool().start();
    for json in [false, true] {
        let (kind, valid) = if json {
            (
                JSON,
                br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#.to_vec(),
            )
        } else {
            (PROTOBUF, request(Signal::Logs, 1))
        };
        let cases = [
            (400, receiver.http, "/v1/logs", vec![kind], b"\xff".to_vec()),
            (
                403,
                receiver.http,
                "/v1/logs",
                vec![kind, ("origin", "http://evil.example")],
                Vec::new(),
            ),
            (404, receiver.http, "/v1/nothing", vec![kind], Vec::new()),
            (413, receiver.http, "/v1/logs", vec![kind], vec![0; 1_001]),
            (
                415,
                receiver.http,
                "/v1/logs",
                vec![kind, ("content-encoding", "br")],
                Vec::new(),
            ),
            (503, full.http, "/v1/logs", vec![kind], valid),
        ];
        for (expected, address, path, headers, body) in cases {
            let request = post(address, Version::Http1, path, &headers, body);
            let answer = send(address, Version::Http1, request).await;
            assert_eq!(answer.status.as_u16(), expected);
            assert_eq!(answer.header("content-type"), Some(kind.1), "{expected}");
            let message = if json {
                let status: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
                status["message"].as_str().expect("a message").to_owned()
            } else {
                answer.rpc_status().message
            };
            assert!(!message.is_empty(), "{expected}");
        }
    }
}

/// A person with curl reads it then.
#[tokio::test]
async fn r16_what_names_neither_encoding_is_refused_in_json() {
    let receiver = Running::start();
    for (path, expected, says) in [("/v1/traces", 415, "Content-Type"), ("/wrong", 404, "/v1/traces")] {
        for headers in [
            vec![],
            vec![("content-type", "text/plain")],
            vec![("content-type", "application/grpc-web")],
        ] {
            let request = post(receiver.http, Version::Http1, path, &headers, vec![0]);
            let answer = send(receiver.http, Version::Http1, request).await;
            assert_eq!(answer.status.as_u16(), expected);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let status: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert!(status["message"].as_str().expect("a message").contains(says));
            // It would say that the compression is what is not known (RFC 9110 section 12.5.3).
            assert_eq!(answer.header("accept-encoding"), None);
        }
    }
}

#[tokio::test]
async fn r17_what_cannot_be_decoded_is_400_with_a_bad_request() {
    let receiver = Running::start();
    let whole = gzip(&request(Signal::Traces, 10));
    for (headers, body) in [
        (vec![PROTOBUF], b"no protobuf at all".to_vec()),
        (vec![PROTOBUF, ("content-encoding", "gzip")], b"no gzip".to_vec()),
        (
            vec![PROTOBUF, ("content-encoding", "gzip")],
            whole[..whole.len() - 9].to_vec(),
        ),
        (vec![PROTOBUF, ("content-encoding", "zstd")], b"no zstd".to_vec()),
    ] {
        let answer = export(receiver.http, Signal::Traces, &headers, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers:?}");
        let status = answer.rpc_status();
        assert_eq!(status.code, 3);
        assert!(status.bad_request.is_some_and(|description| !description.is_empty()));
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn r18_only_what_may_be_taken_later_gets_a_retryable_status() {
    const RETRYABLE: [u16; 4] = [429, 502, 503, 504];
    let receiver = Builder::default().max_request_bytes(1_000).start();
    for (headers, body) in [
        (vec![PROTOBUF], b"\xff".to_vec()),
        (vec![PROTOBUF], vec![0; 1_001]),
        (vec![("content-type", "text/html")], Vec::new()),
        (vec![PROTOBUF, ("host", "evil.example")], Vec::new()),
    ] {
        let answer = export(receiver.http, Signal::Traces, &headers, body).await;
        assert!(answer.status.is_client_error() && !RETRYABLE.contains(&answer.status.as_u16()));
        assert_eq!(answer.header("retry-after"), None);
    }
    receiver.intake.close();
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], request(Signal::Traces, 1)).await;
    assert!(
        RETRYABLE.contains(&answer.status.as_u16()),
        "a stopping agent is not the sender's fault"
    );
}

#[tokio::test]
async fn r19_empty_envelopes_are_taken_and_left_out() {
    let receiver = Running::start();
    for signal in Signal::ALL {
        let answer = export(receiver.http, signal, &[PROTOBUF], request(signal, 0)).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn i1_fields_that_are_not_known_yet_arrive_on_disk() {
    let receiver = Running::start();
    // Field 4000, a string, first in the request and once more within its only resource.
    let unknown = |text: &str| {
        let mut field = Vec::new();
        prost::encoding::string::encode(4000, &text.to_owned(), &mut field);
        field
    };
    let known = request(Signal::Traces, 1);
    let mut inner = unknown("from the future, inside");
    let resource_spans =
        opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest::decode(&known[..]);
    inner.extend(resource_spans.expect("a request").resource_spans[0].encode_to_vec());
    let mut body = unknown("from the future, outside");
    prost::encoding::bytes::encode(1, &inner, &mut body);
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let record = receiver.record(Signal::Traces);
    let stored = String::from_utf8_lossy(&record.bytes.to_bytes()).into_owned();
    assert!(stored.contains("from the future, inside") && stored.contains("from the future, outside"));
}

#[tokio::test]
async fn a_body_in_many_pieces_is_put_together() {
    let receiver = Running::start();
    let body = request(Signal::Logs, 5_000);
    for version in [Version::Http1, Version::Http2] {
        let pieces = body.chunks(7_001).map(<[u8]>::to_vec).collect();
        let request: Request<_> =
            post(receiver.http, version, "/v1/logs", &[PROTOBUF], Vec::new()).map(|_| chunked(pieces));
        let answer = send(receiver.http, version, request).await;
        assert_eq!(answer.status, StatusCode::OK, "{version:?}");
    }
    assert_eq!(receiver.record(Signal::Logs).items, 5_000);
    assert_eq!(receiver.accepted(), 10_000);
}
