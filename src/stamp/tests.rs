//! Stamps, checked by decoding what was written with the generated types.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pieces::tests::cut;

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn resource(attributes: &[(&str, &str)]) -> Resource {
    Resource {
        attributes: attributes.iter().map(|(key, value)| text(key, value)).collect(),
        ..Resource::default()
    }
}

fn spans(resource: Option<Resource>) -> ResourceSpans {
    ResourceSpans {
        resource,
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "tests".to_owned(),
                ..InstrumentationScope::default()
            }),
            spans: vec![Span {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                name: "GET /".to_owned(),
                attributes: vec![text("user.id", "a span's own attribute is left alone")],
                ..Span::default()
            }],
            schema_url: "https://opentelemetry.io/schemas/1.30.0".to_owned(),
        }],
        schema_url: "https://opentelemetry.io/schemas/1.31.0".to_owned(),
    }
}

fn request(resource_spans: Vec<ResourceSpans>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest { resource_spans }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// The stamp of most tests: `user.*` is removed, `user.id` set, the environment written where absent.
fn stamp() -> Stamp {
    Stamp::new(
        vec!["user."],
        pairs(&[("user.id", "ada")]),
        pairs(&[("deployment.environment.name", "development")]),
    )
}

fn write(stamp: &Stamp, request: &[u8]) -> Vec<u8> {
    let mut out = PiecesMut::default();
    stamp.write(&Bytes::copy_from_slice(request).into(), &mut out).unwrap();
    out.freeze().to_bytes().to_vec()
}

fn stamped(stamp: &Stamp, sent: &ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*write(stamp, &sent.encode_to_vec())).unwrap()
}

/// The attributes of the only resource, as text.
fn attributes(request: &ExportTraceServiceRequest) -> Vec<(String, String)> {
    assert_eq!(request.resource_spans.len(), 1);
    attributes_of(request.resource_spans[0].resource.as_ref().unwrap())
}

fn attributes_of(resource: &Resource) -> Vec<(String, String)> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(value) => (attribute.key.clone(), value.clone()),
        other => (attribute.key.clone(), format!("{other:?}")),
    };
    resource.attributes.iter().map(text).collect()
}

#[test]
fn a_sender_cannot_speak_for_someone_else() {
    let sent = request(vec![spans(Some(resource(&[
        ("user.id", "mallory"),
        ("service.name", "shop"),
        ("user.email", "mallory@example.org"),
        ("user.id", "mallory again"),
    ])))]);
    let wanted = [
        ("service.name", "shop"),
        ("user.id", "ada"),
        ("deployment.environment.name", "development"),
    ];
    assert_eq!(attributes(&stamped(&stamp(), &sent)), pairs(&wanted));
}

#[test]
fn what_is_written_only_where_absent_leaves_the_senders_word() {
    let sent = request(vec![spans(Some(resource(&[(
        "deployment.environment.name",
        "staging",
    )])))]);
    let wanted = [("deployment.environment.name", "staging"), ("user.id", "ada")];
    assert_eq!(attributes(&stamped(&stamp(), &sent)), pairs(&wanted));
}

#[test]
fn a_removed_key_counts_as_absent() {
    let stamp = Stamp::new(vec!["workspace."], vec![], pairs(&[("workspace.name", "ours")]));
    let sent = request(vec![spans(Some(resource(&[("workspace.name", "theirs")])))]);
    assert_eq!(
        attributes(&stamped(&stamp, &sent)),
        pairs(&[("workspace.name", "ours")])
    );
}

#[test]
fn a_group_without_a_resource_gets_one_and_the_rest_stays() {
    let sent = request(vec![spans(None)]);
    let got = stamped(&stamp(), &sent);
    assert_eq!(attributes(&got)[0], ("user.id".to_owned(), "ada".to_owned()));
    assert_eq!(got.resource_spans[0].scope_spans, sent.resource_spans[0].scope_spans);
    assert_eq!(got.resource_spans[0].schema_url, sent.resource_spans[0].schema_url);
}

#[test]
fn p1_of_duplicate_keys_the_last_value_stays_in_the_first_ones_place() {
    let sent = request(vec![spans(Some(resource(&[
        ("a", "1"),
        ("b", "2"),
        ("a", "3"),
        ("deployment.environment.name", "ci"),
    ])))]);
    let wanted = [
        ("a", "3"),
        ("b", "2"),
        ("deployment.environment.name", "ci"),
        ("user.id", "ada"),
    ];
    assert_eq!(attributes(&stamped(&stamp(), &sent)), pairs(&wanted));
}

#[test]
fn p1_holds_for_thousands_of_attributes_too() {
    let keys: Vec<String> = (0..5000).map(|index| format!("key.{}", index % 2500)).collect();
    let sent: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "value")).collect();
    let got = attributes(&stamped(&stamp(), &request(vec![spans(Some(resource(&sent)))])));
    assert_eq!(got.len(), 2500 + 2);
    assert_eq!(got[2499].0, "key.2499");
}

#[test]
fn a_resource_in_several_pieces_becomes_one_wherever_they_stand() {
    let mut group = Vec::new();
    put_len_delimited(&mut group, 3, b"https://schema.example");
    put_len_delimited(
        &mut group,
        1,
        &resource(&[("a", "1"), ("user.id", "mallory")]).encode_to_vec(),
    );
    put_len_delimited(&mut group, 2, &spans(None).scope_spans[0].encode_to_vec());
    let second = Resource {
        dropped_attributes_count: 7,
        ..resource(&[("a", "2"), ("b", "3")])
    };
    put_len_delimited(&mut group, 1, &second.encode_to_vec());
    let mut sent = Vec::new();
    put_len_delimited(&mut sent, 1, &group);

    let out = write(&stamp(), &sent);
    let got = ExportTraceServiceRequest::decode(&*out).unwrap();
    let wanted = [
        ("a", "2"),
        ("b", "3"),
        ("user.id", "ada"),
        ("deployment.environment.name", "development"),
    ];
    assert_eq!(attributes(&got), pairs(&wanted));
    let group = &got.resource_spans[0];
    assert_eq!(group.resource.as_ref().unwrap().dropped_attributes_count, 7);
    assert_eq!(group.scope_spans, spans(None).scope_spans);
    assert_eq!(group.schema_url, "https://schema.example");
    // One occurrence, for decoders that keep the first or the last instead of merging.
    let group = Fields::new(&out).next().unwrap().unwrap().bytes().unwrap();
    let resources = Fields::new(group).filter(|field| field.unwrap().number == RESOURCE);
    assert_eq!(resources.count(), 1);
}

#[test]
fn p5_attribute_values_of_every_kind_pass_untouched() {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
    let values = vec![
        None,
        Some(Value::StringValue(String::new())),
        Some(Value::BoolValue(true)),
        Some(Value::IntValue(-1)),
        Some(Value::DoubleValue(0.5)),
        Some(Value::BytesValue(vec![0, 255])),
        Some(Value::ArrayValue(ArrayValue {
            values: vec![AnyValue::default(), text("", "x").value.unwrap()],
        })),
        Some(Value::KvlistValue(KeyValueList {
            values: vec![text("user.id", "nested keys are not the resource's")],
        })),
    ];
    let kept: Vec<KeyValue> = values
        .into_iter()
        .enumerate()
        .map(|(index, value)| KeyValue {
            key: format!("key.{index}"),
            value: Some(AnyValue { value }),
            ..KeyValue::default()
        })
        .collect();
    let sent = Resource {
        attributes: kept.clone(),
        ..Resource::default()
    };
    let got = stamped(&stamp(), &request(vec![spans(Some(sent))]));
    let got = &got.resource_spans[0].resource.as_ref().unwrap().attributes;
    assert_eq!(got[..kept.len()], kept);
}

#[test]
fn unknown_fields_survive_at_every_level() {
    let mut inner = resource(&[("a", "1")]).encode_to_vec();
    wire::put_varint_field(&mut inner, 77, 1);
    let mut group = Vec::new();
    put_len_delimited(&mut group, 99, b"of the group");
    put_len_delimited(&mut group, 1, &inner);
    // Field 1 with another wire type is no resource either.
    wire::put_varint_field(&mut group, 1, 5);
    let mut sent = Vec::new();
    wire::put_varint_field(&mut sent, 1, 5);
    put_len_delimited(&mut sent, 1, &group);
    put_len_delimited(&mut sent, 4000, b"of the request");

    let out = write(&stamp(), &sent);
    let top: Vec<_> = Fields::new(&out).map(Result::unwrap).collect();
    assert_eq!(top.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 1, 4000]);
    let group: Vec<_> = Fields::new(top[1].bytes().unwrap()).map(Result::unwrap).collect();
    assert_eq!(group.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 99, 1]);
    let numbers = Fields::new(group[0].bytes().unwrap()).map(|field| field.unwrap().number);
    assert!(numbers.collect::<Vec<_>>().contains(&77));
}

#[test]
fn p2_an_entity_whose_identity_is_replaced_is_dropped_and_others_stay() {
    let reference = |id: &[&str], description: &[&str]| EntityRef {
        r#type: "thing".to_owned(),
        id_keys: id.iter().map(|key| (*key).to_owned()).collect(),
        description_keys: description.iter().map(|key| (*key).to_owned()).collect(),
        ..EntityRef::default()
    };
    let sent = Resource {
        entity_refs: vec![
            reference(&["host.id"], &["host.name", "user.name"]),
            reference(&["user.id"], &[]),
            reference(&["service.name", "user.name"], &[]),
            reference(&["never.sent"], &[]),
        ],
        ..resource(&[
            ("host.id", "h"),
            ("host.name", "n"),
            ("service.name", "s"),
            ("user.id", "mallory"),
            ("user.name", "m"),
        ])
    };
    let got = stamped(&stamp(), &request(vec![spans(Some(sent))]));
    let got = &got.resource_spans[0].resource.as_ref().unwrap().entity_refs;
    assert_eq!(*got, [reference(&["host.id"], &["host.name"])]);
}

#[test]
fn p2_setting_an_identity_to_the_same_value_keeps_the_entity() {
    let sent = Resource {
        entity_refs: vec![EntityRef {
            id_keys: vec!["user.id".to_owned()],
            ..EntityRef::default()
        }],
        ..resource(&[("user.id", "ada")])
    };
    let got = stamped(&stamp(), &request(vec![spans(Some(sent))]));
    assert_eq!(got.resource_spans[0].resource.as_ref().unwrap().entity_refs.len(), 1);
}

#[test]
fn two_stamps_compose() {
    let intake = Stamp::new(vec!["workspace."], pairs(&[("workspace.id", "w-1")]), vec![]);
    let sent = request(vec![spans(Some(resource(&[
        ("user.id", "mallory"),
        ("workspace.id", "w-666"),
    ])))]);
    let once = write(&intake, &sent.encode_to_vec());
    let twice = ExportTraceServiceRequest::decode(&*write(&stamp(), &once)).unwrap();
    let wanted = [
        ("workspace.id", "w-1"),
        ("user.id", "ada"),
        ("deployment.environment.name", "development"),
    ];
    assert_eq!(attributes(&twice), pairs(&wanted));
}

#[test]
fn stamping_again_changes_nothing() {
    let sent = request(vec![spans(Some(resource(&[("a", "1"), ("user.id", "x")])))]);
    let once = write(&stamp(), &sent.encode_to_vec());
    let twice = ExportTraceServiceRequest::decode(&*write(&stamp(), &once)).unwrap();
    let sorted = |request: &ExportTraceServiceRequest| {
        let mut attributes = attributes(request);
        attributes.sort();
        attributes
    };
    let once = ExportTraceServiceRequest::decode(&*once).unwrap();
    assert_eq!(sorted(&once), sorted(&twice));
}

#[test]
fn metrics_and_logs_are_stamped_alike() {
    let metrics = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(&[("user.id", "mallory")])),
            scope_metrics: vec![ScopeMetrics::default()],
            ..ResourceMetrics::default()
        }],
    };
    let got = ExportMetricsServiceRequest::decode(&*write(&stamp(), &metrics.encode_to_vec())).unwrap();
    let wanted = pairs(&[("user.id", "ada"), ("deployment.environment.name", "development")]);
    assert_eq!(
        attributes_of(got.resource_metrics[0].resource.as_ref().unwrap()),
        wanted
    );
    assert_eq!(got.resource_metrics[0].scope_metrics.len(), 1);

    let logs = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: None,
            scope_logs: vec![ScopeLogs {
                log_records: vec![LogRecord::default()],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    let got = ExportLogsServiceRequest::decode(&*write(&stamp(), &logs.encode_to_vec())).unwrap();
    assert_eq!(attributes_of(got.resource_logs[0].resource.as_ref().unwrap()), wanted);
    assert_eq!(got.resource_logs[0].scope_logs[0].log_records.len(), 1);
}

#[test]
fn an_empty_request_stays_empty() {
    assert_eq!(write(&stamp(), b""), b"");
}

#[test]
fn on_an_error_what_was_written_before_is_untouched() {
    let mut sent = request(vec![spans(Some(resource(&[("a", "1")])))]).encode_to_vec();
    sent.extend_from_slice(&[0x0a, 0x7f, 0x00]);
    let mut out = PiecesMut::default();
    out.copy(b"before");
    stamp().write(&sent.into(), &mut out).unwrap_err();
    assert_eq!(out.freeze().to_bytes(), "before");
}

#[test]
fn a_length_beyond_all_memory_is_refused() {
    let mut sent = request(vec![spans(None)]).encode_to_vec();
    sent.push(0x0a);
    wire::put_varint(&mut sent, u64::MAX - 20);
    let mut out = PiecesMut::default();
    stamp().write(&sent.into(), &mut out).unwrap_err();
    assert!(out.is_empty());
}

/// What the intake stamped is stamped again at the export, as the pieces that the first stamp left.
#[test]
fn long_runs_of_items_stay_where_they_are_however_often_a_request_is_stamped() {
    let mut long = spans(Some(resource(&[("service.name", "shop"), ("user.id", "mallory")])));
    long.scope_spans[0].spans[0].name = "n".repeat(SHARED_FROM);
    let short = spans(Some(resource(&[("service.name", "cart")])));
    let sent = Bytes::from(request(vec![long.clone(), short, long]).encode_to_vec());
    let is_sent = |piece: &Bytes| sent.as_ptr_range().contains(&piece.as_ptr());

    let mut once = PiecesMut::default();
    let intake = Stamp::new(vec!["workspace."], pairs(&[("workspace.id", "w-1")]), vec![]);
    intake.write(&sent.clone().into(), &mut once).unwrap();
    let once = once.freeze();
    let mut twice = PiecesMut::default();
    stamp().write(&once, &mut twice).unwrap();
    let twice = twice.freeze();

    for pieces in [&once, &twice] {
        let shared: Vec<bool> = pieces.iter().map(is_sent).collect();
        assert_eq!(shared, [false, true, false, true], "what was made, and what was sent");
    }
    assert_eq!(twice.to_bytes(), write(&stamp(), &write(&intake, &sent)));
}

#[test]
fn of_keys_given_twice_to_new_the_last_value_stays_and_set_wins_over_absent() {
    let stamp = Stamp::new(
        vec![],
        pairs(&[("a", "1"), ("b", "2"), ("a", "3")]),
        pairs(&[("b", "4"), ("c", "5")]),
    );
    let got = stamped(&stamp, &request(vec![spans(None)]));
    assert_eq!(attributes(&got), pairs(&[("a", "3"), ("b", "2"), ("c", "5")]));
}

/// Keys from a small alphabet, so that duplicates, removed, set and absent keys all come up.
fn any_key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "b",
        "",
        "user.id",
        "user.email",
        "user",
        "users.id",
        "deployment.environment.name",
        "workspace.id",
    ])
    .prop_map(str::to_owned)
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let reference = (
        prop::collection::vec(any_key(), 0..3),
        prop::collection::vec(any_key(), 0..3),
    );
    (
        prop::collection::vec((any_key(), "[a-z]{0,200}"), 0..40),
        prop::collection::vec(reference, 0..3),
        any::<u32>(),
    )
        .prop_map(|(attributes, references, dropped)| Resource {
            attributes: attributes.iter().map(|(key, value)| text(key, value)).collect(),
            entity_refs: references
                .into_iter()
                .map(|(id_keys, description_keys)| EntityRef {
                    id_keys,
                    description_keys,
                    ..EntityRef::default()
                })
                .collect(),
            dropped_attributes_count: dropped,
        })
}

/// The same message with its fields, and those of its submessages down to the resource, written back to front.
fn back_to_front(message: &[u8], depth: usize) -> Vec<u8> {
    let fields: Vec<_> = Fields::new(message).map(Result::unwrap).collect();
    let mut out = Vec::new();
    for field in fields.iter().rev() {
        match field.bytes() {
            Some(bytes) if depth > 0 && field.number == 1 => {
                put_len_delimited(&mut out, 1, &back_to_front(bytes, depth - 1));
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
    out
}

fn check_stamped(sent: &ExportTraceServiceRequest, got: &ExportTraceServiceRequest) {
    assert_eq!(sent.resource_spans.len(), got.resource_spans.len());
    for (sent, got) in sent.resource_spans.iter().zip(&got.resource_spans) {
        assert_eq!(sent.scope_spans, got.scope_spans);
        assert_eq!(sent.schema_url, got.schema_url);
        let got = got.resource.as_ref().unwrap();
        let sent = sent.resource.clone().unwrap_or_default();
        assert_eq!(sent.dropped_attributes_count, got.dropped_attributes_count);
        let mut keys: Vec<&str> = got.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "keys are unique");
        for attribute in &got.attributes {
            match attribute.key.as_str() {
                "user.id" => assert_eq!(*attribute, text("user.id", "ada")),
                key if key.starts_with("user.") => panic!("{key} was to be removed"),
                key => assert!(
                    sent.attributes.contains(attribute) || *attribute == text(key, "development"),
                    "{key} is the sender's"
                ),
            }
        }
        for wanted in sent.attributes.iter().map(|attribute| attribute.key.as_str()) {
            assert!(wanted.starts_with("user.") || keys.contains(&wanted));
        }
        assert!(keys.contains(&"user.id") && keys.contains(&"deployment.environment.name"));
        for reference in &got.entity_refs {
            for key in reference.id_keys.iter().chain(&reference.description_keys) {
                assert!(keys.contains(&key.as_str()), "P2");
            }
        }
    }
}

proptest! {
    #[test]
    fn after_a_stamp_keys_are_unique_ours_are_there_and_spans_are_equal(
        resources in prop::collection::vec(prop::option::of(any_resource()), 0..4),
    ) {
        let sent = request(resources.into_iter().map(spans).collect());
        check_stamped(&sent, &stamped(&stamp(), &sent));
    }

    #[test]
    fn field_order_does_not_matter(resources in prop::collection::vec(prop::option::of(any_resource()), 0..4)) {
        let sent = request(resources.into_iter().map(spans).collect()).encode_to_vec();
        let reversed = back_to_front(&sent, 3);
        let sent = ExportTraceServiceRequest::decode(&*reversed).unwrap();
        check_stamped(&sent, &ExportTraceServiceRequest::decode(&*write(&stamp(), &reversed)).unwrap());
    }

    #[test]
    fn wherever_a_request_is_cut_it_is_stamped_or_refused_the_same(
        resources in prop::collection::vec(prop::option::of(any_resource()), 0..3),
        spoilt in prop::option::of(any::<(usize, u8)>()),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut sent = request(resources.into_iter().map(spans).collect()).encode_to_vec();
        if let Some((at, byte)) = spoilt
            && !sent.is_empty()
        {
            let at = at % sent.len();
            sent[at] = byte;
        }
        let stamped = |request: Pieces| {
            let mut out = PiecesMut::default();
            stamp().write(&request, &mut out).map(|()| out.freeze().to_bytes()).map_err(|Malformed(reason)| reason)
        };
        prop_assert_eq!(stamped(cut(&sent, &cuts)), stamped(sent.into()));
    }

    #[test]
    fn requests_join_by_concatenation_before_or_after(
        one in any_resource(),
        two in any_resource(),
    ) {
        let (one, two) = (request(vec![spans(Some(one))]).encode_to_vec(), request(vec![spans(Some(two))]).encode_to_vec());
        let joined = write(&stamp(), &[one.clone(), two.clone()].concat());
        prop_assert_eq!(joined, [write(&stamp(), &one), write(&stamp(), &two)].concat());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), nested in any::<bool>()) {
        let mut request = Vec::new();
        if nested {
            put_len_delimited(&mut request, 1, &bytes);
        } else {
            request = bytes;
        }
        let mut out = PiecesMut::default();
        out.copy(b"before");
        if stamp().write(&request.into(), &mut out).is_err() {
            prop_assert_eq!(out.freeze().to_bytes(), "before");
        }
    }
}
