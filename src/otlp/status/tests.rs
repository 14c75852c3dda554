//! Answers in both forms, and what is made of answers that upstream garbled.

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn full() -> Status {
    Status {
        code: 14,
        message: "the spool is full".to_owned(),
        retry_delay: Some(Duration::from_millis(1500)),
        bad_request: Some("spans[0].traceId".to_owned()),
    }
}

#[test]
fn r6_full_success_is_an_empty_message() {
    assert_eq!(Response::default().to_protobuf(), b"");
    assert_eq!(Response::default().to_json(Signal::Traces), "{}");
    assert_eq!(Response::from_protobuf(b""), Some(Response::default()));
}

#[test]
fn r7_partial_success_counts_what_was_rejected_under_the_name_of_its_signal() {
    let response = Response {
        rejected: 3,
        message: "invalid ids".to_owned(),
    };
    let json: Vec<String> = Signal::ALL.map(|signal| response.to_json(signal)).to_vec();
    assert_eq!(
        json,
        [
            r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"invalid ids"}}"#,
            r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"invalid ids"}}"#,
            r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"invalid ids"}}"#,
        ]
    );
    let decoded = ExportTraceServiceResponse::decode(&response.to_protobuf()[..]).unwrap();
    let expected = ExportTracePartialSuccess {
        rejected_spans: 3,
        error_message: "invalid ids".to_owned(),
    };
    assert_eq!(decoded.partial_success, Some(expected));
}

#[test]
fn r8_a_warning_on_full_success_rejects_nothing_and_has_a_message() {
    let warning = Response {
        rejected: 0,
        message: "slow down".to_owned(),
    };
    assert_eq!(
        warning.to_json(Signal::Logs),
        r#"{"partialSuccess":{"errorMessage":"slow down"}}"#
    );
    assert_eq!(Response::from_protobuf(&warning.to_protobuf()), Some(warning));
}

#[test]
fn e5_an_empty_partial_success_reads_as_full_success() {
    assert_eq!(Response::from_protobuf(&[0x0a, 0x00]), Some(Response::default()));
}

#[test]
fn a_negative_count_from_upstream_is_read_as_zero() {
    let answer = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: -1,
            error_message: String::new(),
        }),
    };
    assert_eq!(
        Response::from_protobuf(&answer.encode_to_vec()),
        Some(Response::default())
    );
}

#[test]
fn r16_a_status_has_its_details_in_json_as_any_messages() {
    assert_eq!(
        full().to_json(),
        concat!(
            r#"{"code":14,"message":"the spool is full","details":["#,
            r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"},"#,
            r#"{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"description":"spans[0].traceId"}]}]}"#,
        )
    );
    assert_eq!(Status::default().to_json(), "{}");
}

#[test]
fn r16_a_status_reads_back_from_protobuf() {
    let negative = Status {
        code: -1,
        ..Status::default()
    };
    let immediately = Status {
        retry_delay: Some(Duration::ZERO),
        ..Status::default()
    };
    for status in [full(), negative, immediately, Status::default()] {
        assert_eq!(Status::from_protobuf(&status.to_protobuf()), Some(status));
    }
}

#[test]
fn the_bytes_are_those_that_google_rpc_status_has() {
    let status = Status {
        code: 3,
        message: "no".to_owned(),
        ..Status::default()
    };
    assert_eq!(status.to_protobuf(), [0x08, 3, 0x12, 2, b'n', b'o']);
    let bytes = full().to_protobuf();
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let retry_info = [0x0a, 7, 0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
    assert!(bytes.windows(url.len()).any(|window| window == url));
    assert!(bytes.windows(8).any(|window| window == &retry_info[2..]), "{bytes:x?}");
}

#[test]
fn unknown_details_and_unknown_fields_do_not_make_a_status_unreadable() {
    let mut bytes = full().to_protobuf();
    put_any(&mut bytes, "type.googleapis.com/google.rpc.DebugInfo", &[0xff, 0xff]);
    wire::put_varint_field(&mut bytes, 99, 1);
    assert_eq!(Status::from_protobuf(&bytes), Some(full()));
}

#[test]
fn a_message_that_was_cut_in_the_middle_of_a_character_hides_nothing_else() {
    let whole = "zu groß";
    let cut = &whole.as_bytes()[..whole.len() - 1];
    let mut partial = vec![0x08, 5];
    wire::put_len_delimited(&mut partial, 2, cut);
    let mut response = Vec::new();
    wire::put_len_delimited(&mut response, 1, &partial);
    let response = Response::from_protobuf(&response).expect("a response");
    assert_eq!((response.rejected, &*response.message), (5, "zu gro\u{fffd}"));

    let throttled = Status {
        message: String::new(),
        bad_request: None,
        ..full()
    };
    let mut bytes = throttled.to_protobuf();
    wire::put_len_delimited(&mut bytes, 2, cut);
    let status = Status::from_protobuf(&bytes).expect("a status");
    assert_eq!(status.retry_delay, throttled.retry_delay);
    assert!(status.retry_delay.is_some());
}

#[test]
fn an_html_page_is_neither_a_status_nor_a_response() {
    let page = b"<html><body>502 Bad Gateway</body></html>";
    assert_eq!(Status::from_protobuf(page), None);
    assert_eq!(Response::from_protobuf(page), None);
}

#[test]
fn a_duration_in_json_has_groups_of_three_digits() {
    let cases = [
        (Duration::from_secs(3), "3s"),
        (Duration::from_millis(20), "0.020s"),
        (Duration::from_micros(5), "0.000005s"),
        (Duration::from_nanos(1), "0.000000001s"),
    ];
    for (duration, text) in cases {
        assert_eq!(duration_to_json(duration), text);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = Status::from_protobuf(&bytes);
        let _ = Response::from_protobuf(&bytes);
    }

    #[test]
    fn a_response_reads_back(rejected in 0_u64..i64::MAX as u64, message in ".{0,20}") {
        let response = Response { rejected, message };
        prop_assert_eq!(Response::from_protobuf(&response.to_protobuf()), Some(response));
    }

    #[test]
    fn a_retry_delay_reads_back(seconds in 0_u64..1_000_000, nanos in 0_u32..1_000_000_000) {
        let status = Status { retry_delay: Some(Duration::new(seconds, nanos)), ..Status::default() };
        prop_assert_eq!(Status::from_protobuf(&status.to_protobuf()), Some(status));
    }
}
