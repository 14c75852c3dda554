//! The receiver's rows of the conformance table, over gRPC.

use std::time::Duration;

use tagalong::otlp::{Signal, status::Response};

use crate::support::{
    receiver::{Builder, GRPC, Running, call, call_framed, frame, gzip, zstd},
    telemetry::{read_traces, request, span, traces},
};

const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[tokio::test]
async fn r1_grpc_messages_are_taken_plain_and_compressed() {
    let receiver = Running::start();
    for signal in Signal::ALL {
        let plain = request(signal, 2);
        for (encoding, body) in [
            ("identity", frame(0, &plain)),
            ("gzip", frame(1, &gzip(&plain))),
            ("gzip", frame(0, &plain)),
            ("zstd", frame(1, &zstd(&plain))),
        ] {
            let answer = call_framed(
                receiver.grpc,
                signal.grpc_path(),
                &[GRPC, ("grpc-encoding", encoding)],
                body,
            )
            .await;
            assert_eq!(answer.grpc_code(), 0, "{signal:?} {encoding} {answer:?}");
        }
        assert_eq!(receiver.record(signal).items, 2);
    }
    assert_eq!(receiver.accepted(), 3 * 4 * 2);
}

#[tokio::test]
async fn r1_an_unknown_grpc_encoding_is_unimplemented_and_told_what_is_known() {
    let receiver = Running::start();
    let headers = [GRPC, ("grpc-encoding", "snappy")];
    let answer = call_framed(receiver.grpc, TRACES, &headers, frame(1, b"x")).await;
    assert_eq!(answer.grpc_code(), UNIMPLEMENTED);
    assert_eq!(answer.header("grpc-accept-encoding"), Some("identity, gzip, zstd"));
}

#[tokio::test]
async fn r2_message_over_the_limit_is_resource_exhausted_without_retry_info() {
    let receiver = Running::start();
    let bomb = vec![0; 20_000_000];
    for (encoding, body) in [
        ("identity", frame(0, &bomb)),
        ("gzip", frame(1, &gzip(&bomb))),
        ("zstd", frame(1, &zstd(&bomb))),
    ] {
        let headers = [GRPC, ("grpc-encoding", encoding)];
        let answer = call_framed(receiver.grpc, TRACES, &headers, body).await;
        assert_eq!(answer.grpc_code(), RESOURCE_EXHAUSTED, "{encoding}");
        assert_eq!(answer.grpc_details().retry_delay, None, "it is final");
    }
}

#[tokio::test]
async fn r5_r6_an_empty_call_and_a_full_accept_answer_with_an_empty_message() {
    let receiver = Running::start();
    for message in [Vec::new(), request(Signal::Traces, 1)] {
        let answer = call(receiver.grpc, Signal::Traces, &message).await;
        assert_eq!((answer.status.as_u16(), answer.grpc_code()), (200, 0));
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(&answer.body[..], [0; 5]);
    }
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn r7_grpc_tells_how_many_spans_were_rejected() {
    let receiver = Running::start();
    let message = traces(&[], vec![span("bad", 0), span("good", 8), span("bad", 9)]);
    let answer = call(receiver.grpc, Signal::Traces, &message).await;
    assert_eq!(answer.grpc_code(), 0);
    let response = Response::from_protobuf(&answer.body[5..]).expect("a response");
    assert_eq!(response.rejected, 2);
    assert!(!response.message.is_empty());
    assert_eq!(
        read_traces(&receiver.record(Signal::Traces).bytes.to_bytes()).0.len(),
        1
    );
}

#[tokio::test]
async fn r9_r11_a_full_spool_is_unavailable_with_retry_info() {
    let receiver = Builder::default().full_spool().start();
    let answer = call(receiver.grpc, Signal::Logs, &request(Signal::Logs, 1)).await;
    assert_eq!((answer.status.as_u16(), answer.grpc_code()), (200, UNAVAILABLE));
    let details = answer.grpc_details();
    assert_eq!(details.code, UNAVAILABLE);
    assert_eq!(details.retry_delay, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn r3_what_the_spool_can_never_hold_is_resource_exhausted_for_good() {
    let receiver = Builder {
        spool_bytes: 20_000,
        ..Builder::default()
    }
    .start();
    let answer = call(receiver.grpc, Signal::Logs, &request(Signal::Logs, 1000)).await;
    assert_eq!(answer.grpc_code(), RESOURCE_EXHAUSTED);
    assert_eq!(answer.grpc_details().retry_delay, None, "it is final");
}

#[tokio::test]
async fn r10_what_cannot_be_decoded_is_invalid_argument_with_a_bad_request() {
    let receiver = Running::start();
    let answer = call(receiver.grpc, Signal::Metrics, b"no protobuf at all").await;
    assert_eq!(answer.grpc_code(), INVALID_ARGUMENT);
    assert!(answer.grpc_details().bad_request.is_some());
    assert!(answer.header("grpc-message").is_some_and(|message| !message.is_empty()));
}

#[tokio::test]
async fn r10_a_call_that_is_not_one_whole_message_is_invalid_argument() {
    let receiver = Running::start();
    let message = request(Signal::Traces, 1);
    let two = [frame(0, &message), frame(0, &message)].concat();
    let cut = frame(0, &message)[..message.len()].to_vec();
    for body in [
        Vec::new(),
        vec![0, 0, 0],
        two,
        cut,
        frame(7, &message),
        frame(1, &message),
        frame(1, &gzip(&message)),
    ] {
        let answer = call_framed(receiver.grpc, TRACES, &[GRPC], body).await;
        assert_eq!(answer.grpc_code(), INVALID_ARGUMENT, "{answer:?}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn r12_an_unknown_method_is_unimplemented_and_profiles_are_one() {
    let receiver = Running::start();
    for path in [
        "/",
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Other",
        "/grpc.health.v1.Health/Check",
    ] {
        let answer = call_framed(receiver.grpc, path, &[GRPC], frame(0, b"")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.grpc_code()),
            (200, UNIMPLEMENTED),
            "{path}"
        );
    }
}

#[tokio::test]
async fn messages_other_than_protobuf_are_unimplemented() {
    let receiver = Running::start();
    let json = [("content-type", "application/grpc+json")];
    assert_eq!(
        call_framed(receiver.grpc, TRACES, &json, frame(0, b"{}"))
            .await
            .grpc_code(),
        UNIMPLEMENTED
    );
    let proto = [("content-type", "application/grpc+proto")];
    assert_eq!(
        call_framed(receiver.grpc, TRACES, &proto, frame(0, b""))
            .await
            .grpc_code(),
        0
    );
}

#[tokio::test]
async fn a_foreign_name_or_page_is_denied_permission() {
    let receiver = Running::start();
    for header in [("host", "evil.example"), ("origin", "http://localhost:3000")] {
        let answer = call_framed(receiver.grpc, TRACES, &[GRPC, header], frame(0, b"")).await;
        assert_eq!(answer.grpc_code(), PERMISSION_DENIED, "{header:?}");
    }
}

#[tokio::test]
async fn a_message_in_many_frames_is_put_together() {
    let receiver = Running::start();
    let message = request(Signal::Traces, 10_000);
    assert!(message.len() > 500_000);
    assert_eq!(call(receiver.grpc, Signal::Traces, &message).await.grpc_code(), 0);
    assert_eq!(receiver.record(Signal::Traces).items, 10_000);
}
