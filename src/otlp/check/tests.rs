//! What may be kept, what is taken out, what is refused whole.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use proptest::prelude::*;
use prost::Message as _;

use super::super::samples::{self, encode, logs_of, span, traces_of};
use super::*;

fn check_bytes(signal: Signal, bytes: impl Into<Bytes>) -> Result<Checked, Malformed> {
    check(Batch {
        signal,
        bytes: bytes.into(),
    })
}

fn traces(request: &ExportTraceServiceRequest) -> Checked {
    check_bytes(Signal::Traces, encode(request)).unwrap()
}

fn refusal(signal: Signal, bytes: Vec<u8>) -> String {
    check_bytes(signal, bytes).unwrap_err().to_string()
}

/// `content` wrapped in one field of each of these numbers, outermost first.
fn nested(numbers: &[u32], content: &[u8]) -> Vec<u8> {
    numbers.iter().rev().fold(content.to_vec(), |content, &number| {
        let mut out = Vec::new();
        wire::put_len_delimited(&mut out, number, &content);
        out
    })
}

/// The bytes of a valid span, to which a test adds one field.
fn span_and(field: &[u8]) -> Vec<u8> {
    let mut bytes = span("checkout").encode_to_vec();
    bytes.extend_from_slice(field);
    nested(&[1, 2, 2], &bytes)
}

#[test]
fn r5_an_empty_request_holds_nothing_and_is_kept() {
    for signal in Signal::ALL {
        let checked = check_bytes(signal, Bytes::new()).unwrap();
        assert_eq!((checked.items, checked.rejected, checked.reason), (0, 0, ""));
    }
}

#[test]
fn a_valid_request_comes_back_as_the_same_bytes_without_a_copy() {
    let bytes = encode(&traces_of(vec![span("a"), span("b")]));
    let checked = check_bytes(Signal::Traces, bytes.clone()).unwrap();
    assert_eq!((checked.items, checked.rejected), (2, 0));
    assert_eq!(checked.batch.bytes.as_ptr(), bytes.as_ptr());
}

#[test]
fn p6_spans_with_invalid_ids_are_taken_out_and_counted() {
    let invalid: [fn(&mut Span); 7] = [
        |span| span.trace_id = vec![0; 16],
        |span| span.trace_id = vec![1; 15],
        |span| span.trace_id = Vec::new(),
        |span| span.span_id = vec![0; 8],
        |span| span.span_id = vec![1; 16],
        |span| span.span_id = Vec::new(),
        |span| span.parent_span_id = vec![1; 7],
    ];
    for spoil in invalid {
        let mut bad = span("bad");
        spoil(&mut bad);
        let checked = traces(&traces_of(vec![span("a"), bad, span("b")]));
        assert_eq!((checked.items, checked.rejected), (2, 1));
        assert!(checked.reason.contains("trace_id"), "{}", checked.reason);
        assert_eq!(checked.batch.bytes, encode(&traces_of(vec![span("a"), span("b")])));
    }
}

#[test]
fn p6_a_link_to_an_invalid_span_and_a_zero_parent_do_not_cost_the_span() {
    let mut linked = span("linked");
    linked.parent_span_id = vec![0; 8];
    linked.links.push(Link {
        trace_id: vec![0; 3],
        ..Link::default()
    });
    let checked = traces(&traces_of(vec![linked]));
    assert_eq!((checked.items, checked.rejected), (1, 0));
}

#[test]
fn p6_log_records_may_have_no_ids_but_not_ids_of_another_length() {
    let record = |trace_id: usize, span_id: usize| LogRecord {
        trace_id: vec![0; trace_id],
        span_id: vec![0; span_id],
        ..LogRecord::default()
    };
    let request = logs_of(vec![
        record(0, 0),
        record(16, 8),
        record(16, 0),
        record(15, 8),
        record(16, 9),
    ]);
    let checked = check_bytes(Signal::Logs, encode(&request)).unwrap();
    assert_eq!((checked.items, checked.rejected), (3, 2));
    let kept = ExportLogsServiceRequest::decode(checked.batch.bytes).unwrap();
    let kept = &kept.resource_logs[0].scope_logs[0].log_records;
    assert_eq!(kept, &[record(0, 0), record(16, 8), record(16, 0)]);
}

#[test]
fn e15_envelopes_that_lose_all_their_spans_go_with_them() {
    let mut request = traces_of(vec![Span::default()]);
    assert_eq!(traces(&request).batch.bytes, Bytes::new());
    request.resource_spans.extend(traces_of(vec![span("a")]).resource_spans);
    assert_eq!(traces(&request).batch.bytes, encode(&traces_of(vec![span("a")])));
}

#[test]
fn i1_unknown_fields_survive_at_every_level_also_when_an_item_is_taken_out() {
    let mut unknown = Vec::new();
    wire::put_len_delimited(&mut unknown, 1000, b"from the future");
    wire::put_varint_field(&mut unknown, 30, 7);
    let with = |content: Vec<u8>| [&unknown[..], &content, &unknown].concat();
    let good = with(span("good").encode_to_vec());
    let bad = nested(&[2], &with(Vec::new()));
    let build = |items: &[u8]| with(nested(&[1], &with(nested(&[2], &with(items.to_vec())))));

    let checked = check_bytes(Signal::Traces, build(&[nested(&[2], &good), bad].concat())).unwrap();
    assert_eq!((checked.items, checked.rejected), (1, 1));
    assert_eq!(checked.batch.bytes, build(&nested(&[2], &good)));
}

#[test]
fn fields_may_come_in_any_order_even_spans_before_their_resource() {
    let mut scope = Vec::new();
    wire::put_len_delimited(&mut scope, 3, b"https://example.com");
    wire::put_len_delimited(&mut scope, 2, &span("a").encode_to_vec());
    wire::put_len_delimited(&mut scope, 1, &nested(&[1], b"scope"));
    let mut resource = Vec::new();
    wire::put_len_delimited(&mut resource, 3, b"https://example.com");
    wire::put_len_delimited(&mut resource, 2, &scope);
    wire::put_len_delimited(&mut resource, 1, b"");
    let checked = check_bytes(Signal::Traces, nested(&[1], &resource)).unwrap();
    assert_eq!(checked.items, 1);
}

#[test]
fn p3_indices_into_a_dictionary_that_only_profiles_have_are_not_fatal() {
    let mut key_value = Vec::new();
    wire::put_varint_field(&mut key_value, 3, 4);
    wire::put_len_delimited(&mut key_value, 2, &[0x40, 5]);
    assert!(check_bytes(Signal::Traces, span_and(&nested(&[9], &key_value))).is_ok());
}

#[test]
fn p4_flags_keep_the_bits_that_nobody_has_named() {
    let mut flagged = span("flagged");
    flagged.flags = u32::MAX;
    let checked = traces(&traces_of(vec![flagged, Span::default()]));
    let kept = ExportTraceServiceRequest::decode(checked.batch.bytes).unwrap();
    assert_eq!(kept.resource_spans[0].scope_spans[0].spans[0].flags, u32::MAX);
}

#[test]
fn p5_empty_bytes_nested_array_and_kvlist_values_are_accepted() {
    for value in [
        &[][..],
        &[0x3a, 1, 0xff],
        &[0x2a, 4, 0x0a, 2, 0x2a, 0],
        &[0x32, 2, 0x0a, 0],
    ] {
        let bytes = span_and(&nested(&[9, 2], value));
        assert!(check_bytes(Signal::Traces, bytes).is_ok(), "{value:x?}");
    }
}

#[test]
fn r17_a_known_field_of_another_wire_type_is_refused_with_its_path() {
    assert_eq!(
        refusal(Signal::Traces, span_and(&[0x28, 1])),
        "not an OTLP request: resourceSpans.scopeSpans.spans.name: the field has another wire type than OTLP gives it"
    );
    assert!(refusal(Signal::Metrics, vec![0x08, 1]).contains("resourceMetrics"));
}

#[test]
fn r17_a_string_that_is_not_utf8_is_refused_with_its_path() {
    assert_eq!(
        refusal(Signal::Logs, nested(&[1, 2, 2, 5, 1], &[0xc3, 0x28])),
        "not an OTLP request: resourceLogs.scopeLogs.logRecords.body.stringValue: the string is not UTF-8"
    );
}

#[test]
fn r17_bytes_that_are_no_protobuf_are_refused() {
    for bytes in [
        &b"{\"resourceSpans\":[]}"[..],
        b"<html></html>",
        b"\x0a\x05abc",
        b"\x1f\x8b\x08\x00",
    ] {
        for signal in Signal::ALL {
            assert!(check_bytes(signal, Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }
}

#[test]
fn nesting_is_followed_down_to_the_limit_and_refused_beyond_it() {
    // request 0, resource 1, scope 2, span 3, attribute 4, value 5; then two levels for each array.
    let deep = |arrays: usize| span_and(&nested(&[9, 2], &nested(&[[5, 1]].repeat(arrays).concat(), &[])));
    assert!(check_bytes(Signal::Traces, deep(47)).is_ok());
    assert!(refusal(Signal::Traces, deep(48)).contains("nest deeper"));
    assert!(refusal(Signal::Traces, deep(5_000)).contains("nest deeper"));
}

#[test]
fn packed_lists_must_be_whole_and_may_be_unpacked() {
    let bucket_counts = |field: &[u8]| nested(&[1, 2, 2, 9, 1], field);
    let metrics = |bytes: Vec<u8>| check_bytes(Signal::Metrics, bytes);
    assert_eq!(metrics(bucket_counts(&nested(&[6], &[0; 16]))).unwrap().items, 1);
    assert_eq!(
        metrics(bucket_counts(&[0x31, 0, 0, 0, 0, 0, 0, 0, 0])).unwrap().items,
        1
    );
    assert!(metrics(bucket_counts(&nested(&[6], &[0; 15]))).is_err());
    let exponential = |packed: &[u8]| metrics(nested(&[1, 2, 2, 10, 1, 8, 2], packed));
    assert!(exponential(&[0x80, 1, 7]).is_ok());
    assert!(exponential(&[0x80]).is_err());
}

#[test]
fn data_points_of_a_metric_that_is_given_twice_are_those_of_the_last_kind() {
    let gauge = nested(&[5, 1], &[]);
    let sum = nested(&[7, 1], &[]);
    let metric = [&gauge[..], &gauge, &sum, &sum, &sum].concat();
    let bytes = nested(&[1, 2, 2], &metric);
    assert_eq!(check_bytes(Signal::Metrics, bytes.clone()).unwrap().items, 3);
    assert_eq!(count(Signal::Metrics, &bytes), 3);
}

fn short_value() -> impl Strategy<Value = any_value::Value> {
    prop_oneof![
        "[a-zé]{0,3}".prop_map(any_value::Value::StringValue),
        any::<i64>().prop_map(any_value::Value::IntValue),
        any::<bool>().prop_map(any_value::Value::BoolValue),
        any::<f64>().prop_map(any_value::Value::DoubleValue),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for signal in Signal::ALL {
            count(signal, &bytes);
            let _ = check_bytes(signal, bytes.clone());
        }
    }

    #[test]
    fn spoiled_requests_never_panic_and_what_is_kept_is_kept_again(
        request in samples::traces(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = request.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(first) = check_bytes(Signal::Traces, bytes) {
            let again = check_bytes(Signal::Traces, first.batch.bytes.clone()).unwrap();
            prop_assert_eq!((again.items, again.rejected), (first.items, 0));
            prop_assert_eq!(again.batch.bytes, first.batch.bytes);
        }
    }

    #[test]
    fn what_is_kept_can_be_decoded_upstream(
        request in samples::traces(), spoil in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)
    ) {
        let mut bytes = request.encode_to_vec();
        for (at, byte) in spoil {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Ok(checked) = check_bytes(Signal::Traces, bytes) {
            prop_assert!(ExportTraceServiceRequest::decode(checked.batch.bytes).is_ok());
        }
    }

    #[test]
    fn the_short_cut_for_attributes_says_what_the_walk_says(
        key in "[a-zé]{1,3}", value in short_value(), spoil in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)
    ) {
        let message = Message::request(Signal::Traces).child(1).child(1).child(1);
        let attribute = KeyValue { value: Some(AnyValue { value: Some(value.clone()) }), ..samples::attribute(&key, "") };
        let mut bytes = attribute.encode_to_vec();
        let plain = key.is_ascii() && match &value {
            any_value::Value::StringValue(text) => text.is_ascii(),
            // Of ten bytes, where nearly all take a few.
            any_value::Value::IntValue(number) => *number >= 0,
            _ => true,
        };
        prop_assert_eq!(is_plain_attribute(&bytes), plain);
        for (at, byte) in spoil {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert!(walk(message, &bytes, 3).is_ok() || !is_plain_attribute(&bytes));
        }
        for cut in 0..bytes.len() {
            prop_assert!(walk(message, &bytes[..cut], 3).is_ok() || !is_plain_attribute(&bytes[..cut]));
        }
    }

    #[test]
    fn generated_traces_are_kept_and_counted(request in samples::traces()) {
        let bytes = encode(&request);
        let spans = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len());
        let spans = spans.sum::<usize>() as u64;
        let checked = check_bytes(Signal::Traces, bytes.clone()).unwrap();
        prop_assert_eq!((checked.items, checked.rejected, &checked.batch.bytes), (spans, 0, &bytes));
        prop_assert_eq!(count(Signal::Traces, &bytes), spans);
    }

    #[test]
    fn generated_logs_are_kept_and_counted(request in samples::logs()) {
        let bytes = encode(&request);
        let records = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs).map(|scope| scope.log_records.len());
        let records = records.sum::<usize>() as u64;
        let checked = check_bytes(Signal::Logs, bytes.clone()).unwrap();
        prop_assert_eq!((checked.items, checked.rejected, &checked.batch.bytes), (records, 0, &bytes));
        prop_assert_eq!(count(Signal::Logs, &bytes), records);
    }

    #[test]
    fn generated_metrics_are_kept_and_their_data_points_counted(request in samples::metrics()) {
        let bytes = encode(&request);
        let points = samples::data_points(&request);
        let checked = check_bytes(Signal::Metrics, bytes.clone()).unwrap();
        prop_assert_eq!((checked.items, checked.rejected, &checked.batch.bytes), (points, 0, &bytes));
        prop_assert_eq!(count(Signal::Metrics, &bytes), points);
    }
}
