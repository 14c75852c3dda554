//! Bisections down to single items, and what both halves must share.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message as _;

use super::super::samples::{self, encode, span, traces_of};
use super::*;

/// Halves until nothing can be halved any more.
fn bisect(signal: Signal, request: &Bytes) -> Vec<Bytes> {
    match halve(signal, request) {
        None => vec![request.clone()],
        Some((left, right)) => [bisect(signal, &left), bisect(signal, &right)].concat(),
    }
}

/// What a request holds, one line an item, with all that stands around it.
fn spans(bytes: &Bytes) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(bytes.clone()).unwrap();
    let mut lines = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let around = (
                    &resource.resource,
                    &resource.schema_url,
                    &scope.scope,
                    &scope.schema_url,
                );
                lines.push(format!("{around:?} {span:?}"));
            }
        }
    }
    lines
}

fn points(bytes: &Bytes) -> Vec<String> {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let request = ExportMetricsServiceRequest::decode(bytes.clone()).unwrap();
    let mut lines = Vec::new();
    for resource in &request.resource_metrics {
        for scope in &resource.scope_metrics {
            let around = (
                &resource.resource,
                &resource.schema_url,
                &scope.scope,
                &scope.schema_url,
            );
            for metric in &scope.metrics {
                let name = (&metric.name, &metric.description, &metric.unit, &metric.metadata);
                let data = match metric.data.as_ref() {
                    None => vec![],
                    Some(Data::Gauge(data)) => lines_of(&data.data_points, &"gauge"),
                    Some(Data::Sum(data)) => {
                        lines_of(&data.data_points, &(data.aggregation_temporality, data.is_monotonic))
                    }
                    Some(Data::Histogram(data)) => lines_of(&data.data_points, &data.aggregation_temporality),
                    Some(Data::ExponentialHistogram(data)) => {
                        lines_of(&data.data_points, &data.aggregation_temporality)
                    }
                    Some(Data::Summary(data)) => lines_of(&data.data_points, &"summary"),
                };
                lines.extend(data.into_iter().map(|line| format!("{around:?} {name:?} {line}")));
            }
        }
    }
    lines
}

fn lines_of(points: &[impl std::fmt::Debug], around: &impl std::fmt::Debug) -> Vec<String> {
    points.iter().map(|point| format!("{around:?} {point:?}")).collect()
}

#[test]
fn a_single_span_and_an_empty_request_cannot_be_halved() {
    assert!(halve(Signal::Traces, &Bytes::new()).is_none());
    assert!(halve(Signal::Traces, &encode(&traces_of(vec![]))).is_none());
    assert!(halve(Signal::Traces, &encode(&traces_of(vec![span("only")]))).is_none());
}

#[test]
fn resources_are_parted_before_scopes_and_scopes_before_spans() {
    let one = || traces_of(vec![span("a"), span("b")]).resource_spans.remove(0);
    let request = ExportTraceServiceRequest {
        resource_spans: vec![one(), one()],
    };
    let (left, right) = halve(Signal::Traces, &encode(&request)).unwrap();
    assert_eq!(
        (&left, &right),
        (&encode(&traces_of(vec![span("a"), span("b")])), &left)
    );
    let (left, right) = halve(Signal::Traces, &left).unwrap();
    assert_eq!(left, encode(&traces_of(vec![span("a")])));
    assert_eq!(right, encode(&traces_of(vec![span("b")])));
}

#[test]
fn one_resource_that_outweighs_the_rest_still_leaves_something_on_each_side() {
    let mut request = traces_of(vec![span("few")]);
    request
        .resource_spans
        .extend(traces_of((0..50).map(|_| span("many")).collect()).resource_spans);
    let (left, right) = halve(Signal::Traces, &encode(&request)).unwrap();
    assert_eq!((spans(&left).len(), spans(&right).len()), (1, 50));
}

#[test]
fn i1_unknown_fields_survive_in_both_halves() {
    let mut resource = traces_of(vec![span("a"), span("b")])
        .resource_spans
        .remove(0)
        .encode_to_vec();
    wire::put_len_delimited(&mut resource, 1000, b"from the future");
    let mut request = Vec::new();
    wire::put_varint_field(&mut request, 17, 42);
    wire::put_len_delimited(&mut request, 1, &resource);
    let (left, right) = halve(Signal::Traces, &request.into()).unwrap();
    for half in [left, right] {
        assert!(half.starts_with(&[0x88, 0x01, 42]));
        assert!(half.ends_with(b"from the future"));
        assert_eq!(spans(&half).len(), 1);
    }
}

#[test]
fn a_resource_behind_its_spans_stays_with_both_halves() {
    let mut resource = Vec::new();
    for name in ["a", "b"] {
        let mut scope = Vec::new();
        wire::put_len_delimited(&mut scope, 2, &span(name).encode_to_vec());
        wire::put_len_delimited(&mut resource, 2, &scope);
    }
    let attributes = vec![samples::attribute("service.name", "late")];
    let late = Resource {
        attributes,
        ..Resource::default()
    };
    wire::put_len_delimited(&mut resource, 1, &late.encode_to_vec());
    let mut request = Vec::new();
    wire::put_len_delimited(&mut request, 1, &resource);
    let (left, right) = halve(Signal::Traces, &request.into()).unwrap();
    for half in [left, right] {
        let half = ExportTraceServiceRequest::decode(half).unwrap();
        assert_eq!(half.resource_spans[0].resource.as_ref(), Some(&late));
    }
}

#[test]
fn the_data_points_of_one_metric_are_parted_within_copies_of_it() {
    use opentelemetry_proto::tonic::metrics::v1::{
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    };
    let sum = Sum {
        data_points: (1..=3)
            .map(|time| NumberDataPoint {
                time_unix_nano: time,
                ..NumberDataPoint::default()
            })
            .collect(),
        aggregation_temporality: 2,
        is_monotonic: true,
    };
    let metric = Metric {
        name: "requests".to_owned(),
        data: Some(metric::Data::Sum(sum)),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics {
        metrics: vec![metric],
        ..ScopeMetrics::default()
    }];
    let request = encode(&ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics,
            ..ResourceMetrics::default()
        }],
    });
    let singles = bisect(Signal::Metrics, &request);
    assert_eq!(singles.len(), 3);
    assert_eq!(singles.iter().flat_map(points).collect::<Vec<_>>(), points(&request));
}

#[test]
fn what_an_empty_member_of_a_oneof_takes_back_is_not_parted_from_it() {
    let field = |number, content: &[u8]| {
        let mut out = Vec::new();
        wire::put_len_delimited(&mut out, number, content);
        out
    };
    let (gauge, sum) = (field(5, &field(1, b"")), field(7, b""));
    // The first gauge does not count, because an empty sum follows.
    let metric = [gauge.clone(), sum, gauge].concat();
    let request = Bytes::from(field(1, &field(2, &field(2, &metric))));
    assert_eq!(check::count(Signal::Metrics, &request), 1);
    assert_eq!(halve(Signal::Metrics, &request), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_bisection_of_traces_ends_at_single_spans_and_loses_none(request in samples::traces()) {
        let request = encode(&request);
        let singles = bisect(Signal::Traces, &request);
        let all = spans(&request);
        prop_assert_eq!(singles.len(), all.len().max(1));
        prop_assert_eq!(singles.iter().flat_map(spans).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_bisection_of_metrics_ends_at_single_data_points_and_loses_none(request in samples::metrics()) {
        let request = encode(&request);
        let singles = bisect(Signal::Metrics, &request);
        let all = points(&request);
        prop_assert_eq!(singles.len(), all.len().max(1));
        prop_assert_eq!(singles.iter().flat_map(points).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_bisection_of_logs_keeps_the_count(request in samples::logs()) {
        let request = encode(&request);
        let singles = bisect(Signal::Logs, &request);
        let all = check::count(Signal::Logs, &request);
        prop_assert_eq!(singles.len() as u64, all.max(1));
        prop_assert_eq!(singles.iter().map(|single| check::count(Signal::Logs, single)).sum::<u64>(), all);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_the_counts_of_both_halves_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        for signal in Signal::ALL {
            if let Some((left, right)) = halve(signal, &bytes) {
                let (left, right) = (check::count(signal, &left), check::count(signal, &right));
                prop_assert!(left > 0 && right > 0);
                prop_assert_eq!(left + right, check::count(signal, &bytes));
            }
        }
    }
}
