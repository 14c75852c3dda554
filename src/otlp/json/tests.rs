//! The rules of OTLP/JSON, one by one, and whole requests against an oracle.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use prost::Message as _;

use super::super::samples;
use super::*;

mod print;

fn traces(json: &str) -> ExportTraceServiceRequest {
    let bytes = to_protobuf(Signal::Traces, json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
    ExportTraceServiceRequest::decode(bytes).unwrap()
}

/// The span whose members these are.
fn span(members: &str) -> Span {
    let mut request = traces(&around_span(members));
    request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

fn around_span(members: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#)
}

/// Why a span with these members is refused; behind the path to the span.
fn span_refusal(members: &str) -> String {
    let error = refusal(Signal::Traces, &around_span(members));
    let path = "not OTLP/JSON: resourceSpans[0].scopeSpans[0].spans[0].";
    error.strip_prefix(path).unwrap_or_else(|| panic!("{error}")).to_owned()
}

fn refusal(signal: Signal, json: &str) -> String {
    to_protobuf(signal, json.as_bytes()).expect_err(json).to_string()
}

/// The value that these members make.
fn value_of(members: &str) -> Option<any_value::Value> {
    let span = span(&format!(r#""attributes":[{{"key":"k","value":{{{members}}}}}]"#));
    span.attributes[0].value.clone().unwrap().value
}

fn metric(members: &str) -> Metric {
    let json = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{members}}}]}}]}}]}}"#);
    let bytes = to_protobuf(Signal::Metrics, json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
    let mut request = ExportMetricsServiceRequest::decode(bytes).unwrap();
    request
        .resource_metrics
        .remove(0)
        .scope_metrics
        .remove(0)
        .metrics
        .remove(0)
}

#[test]
fn j1_ids_are_hex_in_either_case_in_spans_links_logs_and_exemplars() {
    let id = r#""traceId":"5B8efFF798038103d269b633813fc60c","spanId":"eEE19b7ec3c1b174""#;
    let trace_id = 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes().to_vec();
    let span_id = 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes().to_vec();

    let span = span(&format!(r#"{id},"parentSpanId":"EEE19B7EC3C1B173","links":[{{{id}}}]"#));
    assert_eq!((&span.trace_id, &span.span_id), (&trace_id, &span_id));
    assert_eq!(span.parent_span_id, 0xeee1_9b7e_c3c1_b173_u64.to_be_bytes());
    assert_eq!((&span.links[0].trace_id, &span.links[0].span_id), (&trace_id, &span_id));

    let metric = metric(&format!(r#""gauge":{{"dataPoints":[{{"exemplars":[{{{id}}}]}}]}}"#));
    let Some(metric::Data::Gauge(gauge)) = metric.data else {
        panic!("{metric:?}")
    };
    let exemplar = &gauge.data_points[0].exemplars[0];
    assert_eq!((&exemplar.trace_id, &exemplar.span_id), (&trace_id, &span_id));

    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{id}}}]}}]}}]}}"#);
    let logs = ExportLogsServiceRequest::decode(to_protobuf(Signal::Logs, json.as_bytes()).unwrap()).unwrap();
    assert_eq!(logs.resource_logs[0].scope_logs[0].log_records[0].trace_id, trace_id);
}

#[test]
fn j1_an_id_that_is_no_hex_is_refused_and_one_of_another_length_is_left_to_the_check() {
    assert_eq!(
        span_refusal(r#""traceId":"W47/95gDgQPSabYzgT/GDA==""#),
        "traceId: not a hex string"
    );
    assert_eq!(span_refusal(r#""spanId":"abc""#), "spanId: not a hex string");
    assert_eq!(
        span_refusal(r#""links":[{},{"spanId":7}]"#),
        "links[1].spanId: expected a hex string"
    );
    assert_eq!(span(r#""traceId":"00ff""#).trace_id, [0, 0xff]);
    assert!(span(r#""parentSpanId":"""#).parent_span_id.is_empty());
}

#[test]
fn j2_enums_are_integers_and_their_names_are_refused() {
    assert_eq!(span(r#""kind":3,"status":{"code":2}"#).kind, 3);
    assert_eq!(span(r#""kind":99"#).kind, 99);
    let names = [r#""kind":"SPAN_KIND_CLIENT""#, r#""kind":"3""#];
    for name in names {
        assert_eq!(
            span_refusal(name),
            "kind: expected the number of the enum value, not its name"
        );
    }
    assert!(span_refusal(r#""status":{"code":"STATUS_CODE_OK"}"#).starts_with("status.code: "));
}

#[test]
fn j3_unknown_keys_are_ignored_at_any_depth() {
    let span = span(
        r#""new":{"deep":[1,"two",{"three":null}],"also":false},"name":"a",
           "attributes":[{"key":"k","flavour":-1.5e3,"value":{"stringValue":"v","mood":[]}}],"newer":[]"#,
    );
    assert_eq!(span.name, "a");
    assert_eq!(span.attributes, [samples::attribute("k", "v")]);
    assert_eq!(
        traces(r#"{"resourceLogs":[{}],"x":1}"#),
        ExportTraceServiceRequest::default()
    );
}

#[test]
fn j3_unknown_values_must_be_json_all_the_same() {
    assert!(whole_refusal(r#""new":[1,]"#).contains("expected a value"));
    assert!(whole_refusal(r#""new":01"#).contains("expected a comma"));
    let deep = format!(r#""new":{}{}"#, "[".repeat(200), "]".repeat(200));
    assert!(whole_refusal(&deep).contains("nest too deep"));
}

fn whole_refusal(members: &str) -> String {
    refusal(Signal::Traces, &around_span(members))
}

#[test]
fn j4_snake_case_names_are_unknown() {
    let span = span(r#""trace_id":7,"parent_span_id":"x","start_time_unix_nano":"never","name":"a""#);
    assert_eq!(
        span,
        Span {
            name: "a".to_owned(),
            ..Span::default()
        }
    );
}

#[test]
fn j5_integers_are_numbers_or_strings_with_integral_exponents() {
    for text in [
        "1000000000000000000",
        "1e18",
        "1E+18",
        "\"1000000000000000000\"",
        "\"1e18\"",
        "10.0e17",
        "1.000E18",
    ] {
        let span = span(&format!(r#""startTimeUnixNano":{text}"#));
        assert_eq!(span.start_time_unix_nano, 1_000_000_000_000_000_000, "{text}");
    }
    assert_eq!(
        span(r#""endTimeUnixNano":"18446744073709551615""#).end_time_unix_nano,
        u64::MAX
    );
    assert_eq!(span(r#""flags":"257","droppedLinksCount":4e0"#).flags, 257);
    assert_eq!(
        value_of(r#""intValue":"-9223372036854775808""#),
        Some(any_value::Value::IntValue(i64::MIN))
    );
    assert_eq!(value_of(r#""intValue":-0"#), Some(any_value::Value::IntValue(0)));
}

#[test]
fn j5_numbers_with_fractions_or_out_of_range_are_refused() {
    let cases = [
        (r#""startTimeUnixNano":1.5"#, "startTimeUnixNano: not an integer"),
        (r#""startTimeUnixNano":15e-1"#, "startTimeUnixNano: not an integer"),
        (r#""startTimeUnixNano":"""#, "startTimeUnixNano: not an integer"),
        (r#""startTimeUnixNano":" 1""#, "startTimeUnixNano: not an integer"),
        (r#""startTimeUnixNano":"0x10""#, "startTimeUnixNano: not an integer"),
        (r#""startTimeUnixNano":true"#, "startTimeUnixNano: expected an integer"),
        (
            r#""startTimeUnixNano":-1"#,
            "startTimeUnixNano: the number is out of range",
        ),
        (
            r#""endTimeUnixNano":18446744073709551616"#,
            "endTimeUnixNano: the number is out of range",
        ),
        (
            r#""endTimeUnixNano":1e99999999999999999999"#,
            "endTimeUnixNano: the number is out of range",
        ),
        (r#""flags":4294967296"#, "flags: the number is out of range"),
        (r#""kind":2147483648"#, "kind: the number is out of range"),
    ];
    for (members, error) in cases {
        assert_eq!(span_refusal(members), error);
    }
}

#[test]
fn j6_null_is_unset_for_every_field() {
    let span = span(
        r#""traceId":null,"name":null,"kind":null,"startTimeUnixNano":null,"attributes":null,"events":null,
           "status":null,"flags":null,"links":[{"attributes":null}]"#,
    );
    assert_eq!(span.links.len(), 1);
    assert_eq!(Span { links: vec![], ..span }, Span::default());
    assert_eq!(value_of(r#""doubleValue":null"#), None);
    assert_eq!(
        value_of(r#""stringValue":null,"intValue":"3""#),
        Some(any_value::Value::IntValue(3))
    );
    assert_eq!(
        traces(r#"{"resourceSpans":null}"#),
        ExportTraceServiceRequest::default()
    );
}

#[test]
fn j6_null_is_no_element_of_an_array() {
    assert_eq!(
        span_refusal(r#""links":[{},null]"#),
        "links[1]: null is no element of an array"
    );
    assert!(refusal(Signal::Traces, r#"{"resourceSpans":[null]}"#).contains("resourceSpans[0]: null"));
    assert!(refusal(Signal::Traces, "null").contains("expected an object"));
}

#[test]
fn j6_an_empty_object_is_an_empty_value() {
    assert_eq!(value_of(""), None);
    let bytes = to_protobuf(
        Signal::Logs,
        br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{}}]}]}]}"#,
    );
    let logs = ExportLogsServiceRequest::decode(bytes.unwrap()).unwrap();
    assert_eq!(
        logs.resource_logs[0].scope_logs[0].log_records[0].body,
        Some(AnyValue { value: None })
    );
}

#[test]
fn j6_doubles_may_be_the_three_special_strings_or_numeric_strings() {
    let double = |text: &str| match value_of(&format!(r#""doubleValue":{text}"#)) {
        Some(any_value::Value::DoubleValue(number)) => number,
        other => panic!("{other:?}"),
    };
    assert!(double("\"NaN\"").is_nan());
    assert_eq!(double("\"Infinity\""), f64::INFINITY);
    assert_eq!(double("\"-Infinity\""), f64::NEG_INFINITY);
    assert_eq!(double("\"1.25e2\""), 125.0);
    assert_eq!(double("3"), 3.0);
    assert_eq!(double("-0.0").to_bits(), (-0.0_f64).to_bits());
    for text in ["\"nan\"", "\"inf\"", "\"\"", "1e400", "true", "\"1,5\""] {
        let members = format!(r#""attributes":[{{"value":{{"doubleValue":{text}}}}}]"#);
        assert!(
            span_refusal(&members).starts_with("attributes[0].value.doubleValue: "),
            "{text}"
        );
    }
}

#[test]
fn j6_special_doubles_are_not_lost_in_metrics() {
    let histogram = metric(r#""histogram":{"dataPoints":[{"sum":"NaN","min":"-Infinity","max":0,"count":"2"}]}"#);
    let Some(metric::Data::Histogram(histogram)) = histogram.data else {
        panic!()
    };
    let point = &histogram.data_points[0];
    assert!(point.sum.unwrap().is_nan());
    assert_eq!(
        (point.min, point.max, point.count),
        (Some(f64::NEG_INFINITY), Some(0.0), 2)
    );

    let gauge = metric(r#""gauge":{"dataPoints":[{"asDouble":"Infinity"},{"asInt":"-7"},{"asInt":0}]}"#);
    let Some(metric::Data::Gauge(gauge)) = gauge.data else {
        panic!()
    };
    let values: Vec<_> = gauge.data_points.iter().map(|point| point.value.unwrap()).collect();
    use number_data_point::Value::{AsDouble, AsInt};
    assert_eq!(values, [AsDouble(f64::INFINITY), AsInt(-7), AsInt(0)]);
}

#[test]
fn j6_bytes_are_base64_of_both_alphabets_padded_or_not() {
    for text in ["+/8=", "+/8", "-_8=", "-_8"] {
        let value = value_of(&format!(r#""bytesValue":"{text}""#));
        assert_eq!(value, Some(any_value::Value::BytesValue(vec![0xfb, 0xff])), "{text}");
    }
    assert_eq!(
        value_of(r#""bytesValue":"""#),
        Some(any_value::Value::BytesValue(vec![]))
    );
    let members = r#""attributes":[{"value":{"bytesValue":"*"}}]"#;
    assert_eq!(span_refusal(members), "attributes[0].value.bytesValue: not base64");
}

#[test]
fn j6_a_default_value_is_kept_in_a_oneof_and_left_out_elsewhere() {
    assert_eq!(value_of(r#""intValue":"0""#), Some(any_value::Value::IntValue(0)));
    assert_eq!(
        value_of(r#""boolValue":false"#),
        Some(any_value::Value::BoolValue(false))
    );
    assert_eq!(
        value_of(r#""stringValue":"""#),
        Some(any_value::Value::StringValue(String::new()))
    );
    assert_eq!(
        value_of(r#""doubleValue":0.0"#),
        Some(any_value::Value::DoubleValue(0.0))
    );
    let plain = to_protobuf(
        Signal::Traces,
        around_span(r#""name":"","kind":0,"flags":0,"traceId":"""#).as_bytes(),
    );
    assert_eq!(plain.unwrap(), [0x0a, 4, 0x12, 2, 0x12, 0][..]);
}

#[test]
fn j6_two_members_of_a_oneof_and_a_key_given_twice_are_refused() {
    let members = r#""attributes":[{"value":{"stringValue":"a","intValue":1}}]"#;
    assert!(span_refusal(members).starts_with("attributes[0].value.intValue: another key of the same oneof"));
    assert_eq!(span_refusal(r#""name":"a","name":"b""#), "name: the key is given twice");
}

#[test]
fn j6_strings_have_escapes_and_surrogate_pairs_but_no_lone_halves() {
    assert_eq!(
        span(r#""name":"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00é""#).name,
        "\"\\/\u{8}\u{c}\n\r\té😀é"
    );
    assert_eq!(span(r#""n\u0061me":"a""#).name, "a");
    for (name, why) in [
        (r"\ud83d", "surrogate"),
        (r"\ude00", "surrogate"),
        (r"\ud83d\u0041", "surrogate"),
        (r"\x41", "escape"),
        (r"\u00g0", "escape"),
        ("\n", "control"),
    ] {
        assert!(span_refusal(&format!(r#""name":"{name}""#)).contains(why), "{name}");
    }
}

#[test]
fn entity_refs_need_no_schema_url() {
    let request = traces(
        r#"{"resourceSpans":[{"resource":{"entityRefs":[{"type":"host","idKeys":["host.id"]}],
           "attributes":[{"key":"host.id","value":{"stringValue":"h"}}]}}]}"#,
    );
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(
        (&*resource.entity_refs[0].r#type, &*resource.entity_refs[0].id_keys[0]),
        ("host", "host.id")
    );
}

#[test]
fn r17_what_is_no_json_is_refused() {
    for json in [
        "",
        "{",
        "[]",
        "{}}",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":NaN}"#,
        r#"{"a":tru}"#,
        r#"{"a":.5}"#,
        r#"{"a":1.}"#,
        r#"{"a":1e}"#,
        r#"{"a":"#,
        r#"{'a':1}"#,
        "{} // done",
    ] {
        assert!(refusal(Signal::Traces, json).starts_with("not OTLP/JSON: "), "{json}");
    }
    assert!(to_protobuf(Signal::Traces, b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn an_error_names_the_path_and_never_the_value() {
    let json = r#"{"resourceSpans":[{},{"scopeSpans":[{},{"spans":[{"attributes":[{"key":"k","value":{"intValue":"hunter2"}}]}]}]}]}"#;
    assert_eq!(
        refusal(Signal::Traces, json),
        "not OTLP/JSON: resourceSpans[1].scopeSpans[1].spans[0].attributes[0].value.intValue: not an integer"
    );
}

#[test]
fn nesting_beyond_the_limit_is_refused() {
    let deep = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        let close = "]}}".repeat(levels);
        around_span(&format!(r#""attributes":[{{"value":{open}{close}}}]"#))
    };
    assert!(to_protobuf(Signal::Traces, deep(47).as_bytes()).is_ok());
    assert!(refusal(Signal::Traces, &deep(60)).contains("nest deeper"));
    assert!(refusal(Signal::Traces, &deep(10_000)).contains("nest deeper"));
}

#[test]
fn long_submessages_have_lengths_of_more_than_one_byte() {
    for length in [100, 127, 128, 200, 16_383, 16_384, 70_000] {
        let name = "n".repeat(length);
        let span = span(&format!(r#""status":{{"message":"{name}"}},"name":"after""#));
        assert_eq!(span.status.unwrap().message, name);
        assert_eq!(span.name, "after");
    }
}

#[test]
fn nothing_grows_more_than_four_times() {
    let zeros = vec!["0"; 10_000].join(",");
    let text = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"bucketCounts":[{zeros}]}}]}}}}]}}]}}]}}"#
    );
    let bytes = to_protobuf(Signal::Metrics, text.as_bytes()).unwrap();
    assert!(bytes.len() > 3 * text.len() && bytes.len() <= GROWTH * text.len());
    let within = |room| to_protobuf_within(Signal::Metrics, text.as_bytes(), room).unwrap();
    assert_eq!(within(bytes.len()), Some(bytes.clone()));
    assert_eq!(within(bytes.len() - 1), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        for signal in Signal::ALL {
            let _ = to_protobuf(signal, text.as_bytes());
        }
    }

    #[test]
    fn spoiled_requests_never_panic_and_what_passes_is_well_formed(
        request in samples::metrics(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut json = print::metrics(&request).to_string().into_bytes();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(bytes) = to_protobuf(Signal::Metrics, &json) {
            let batch = crate::otlp::Batch { signal: Signal::Metrics, bytes: bytes.clone() };
            prop_assert!(crate::otlp::check::check(batch).is_ok());
            prop_assert!(ExportMetricsServiceRequest::decode(bytes).is_ok());
        }
    }

    #[test]
    fn generated_traces_come_out_as_the_generated_types_encode_them(request in samples::traces()) {
        let bytes = to_protobuf(Signal::Traces, print::traces(&request).to_string().as_bytes()).unwrap();
        let decoded = ExportTraceServiceRequest::decode(bytes).unwrap();
        // By their bytes, because a NaN does not equal itself.
        prop_assert_eq!(decoded.encode_to_vec(), request.encode_to_vec());
    }

    #[test]
    fn generated_metrics_come_out_as_the_generated_types_encode_them(request in samples::metrics()) {
        let bytes = to_protobuf(Signal::Metrics, print::metrics(&request).to_string().as_bytes()).unwrap();
        let decoded = ExportMetricsServiceRequest::decode(bytes).unwrap();
        prop_assert_eq!(decoded.encode_to_vec(), request.encode_to_vec());
    }

    #[test]
    fn generated_logs_come_out_as_the_generated_types_encode_them(request in samples::logs()) {
        let bytes = to_protobuf(Signal::Logs, format!("{:#}", print::logs(&request)).as_bytes()).unwrap();
        let decoded = ExportLogsServiceRequest::decode(bytes).unwrap();
        prop_assert_eq!(decoded.encode_to_vec(), request.encode_to_vec());
    }
}
