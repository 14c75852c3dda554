//! The upstream refuses what is not right, and counts the rest.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tokio::net::{TcpSocket, TcpStream};

use super::{
    super::{
        issuer::{self, Issuer},
        reply::RpcStatus,
    },
    *,
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_bearer_that_is_right_is_taken_and_its_span_counted_once() {
    let (issuer, upstream) = pair().await;
    let token = issuer.mint(&upstream.url());
    assert_eq!(send(&upstream, Some(&token), 1).await.0, 200);
    assert_eq!(send(&upstream, Some(&token), 1).await.0, 200);
    upstream.look(|record| {
        assert_eq!((record.delivered(), record.duplicates(), record.refused), (1, 1, 0));
        assert_eq!(record.tokens.len(), 1);
        assert_eq!(record.people.len(), 1);
        assert_eq!(record.resources.first().unwrap()["service.name"], "sample");
        assert!(!record.last.as_ref().unwrap().1.contains_key("authorization"));
    });
}

#[tokio::test]
async fn every_bearer_that_is_not_right_is_refused_with_a_status() {
    let (issuer, upstream) = pair().await;
    let stranger = Issuer::start(issuer::Config::default()).await.unwrap();
    let bearers = [
        None,
        Some("opaque".to_owned()),
        Some(issuer.mint("https://somewhere.else")),
        Some(issuer.mint_with(&upstream.url(), Duration::ZERO)),
        Some(stranger.mint(&upstream.url())),
    ];
    for bearer in &bearers {
        let (status, body) = send(&upstream, bearer.as_deref(), 1).await;
        assert_eq!(status, 401);
        assert_eq!(RpcStatus::decode(body).unwrap().code, reply::UNAUTHENTICATED);
    }
    assert_eq!(
        upstream.look(|record| (record.refused, record.delivered())),
        (bearers.len() as u64, 0)
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_its_successor_taken() {
    let (issuer, upstream) = pair().await;
    let old = issuer.mint_with(&upstream.url(), HOUR);
    assert_eq!(send(&upstream, Some(&old), 1).await.0, 200);
    issuer.revoke_all().unwrap();
    upstream.forget_keys();
    assert_eq!(send(&upstream, Some(&old), 2).await.0, 401);
    assert_eq!(send(&upstream, Some(&issuer.mint(&upstream.url())), 2).await.0, 200);
}

#[tokio::test]
async fn killed_it_refuses_connections_and_recovered_it_takes_again() {
    let upstream = Upstream::start(Config::default()).await.unwrap();
    assert_eq!(send(&upstream, None, 1).await.0, 200);
    upstream.kill();
    let address = upstream.server.address();
    // Nobody else gets the port meanwhile.
    while TcpSocket::new_v4().unwrap().bind(address).is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(TcpStream::connect(address).await.is_err());
    upstream.recover().await.unwrap();
    assert_eq!(send(&upstream, None, 2).await.0, 200);
    upstream.wait(|record| record.delivered() == 2).await;
}

#[tokio::test]
async fn faults_answer_in_their_turn() {
    let upstream = Upstream::start(Config::default()).await.unwrap();
    upstream.fault_once([
        Fault::Http {
            status: 502,
            content_type: "text/html",
            headers: vec![("retry-after", "7".to_owned())],
            body: "<html>".into(),
        },
        Fault::Rpc {
            code: 14,
            message: "later",
            retry_delay: Some(Duration::from_secs(3)),
        },
        Fault::Partial {
            rejected: 1,
            message: "one is bad",
        },
    ]);
    assert_eq!(send(&upstream, None, 1).await, (502, Bytes::from("<html>")));
    assert_eq!(send(&upstream, None, 1).await.0, 503);
    assert_eq!(send(&upstream, None, 1).await.0, 200);
    assert_eq!(send(&upstream, None, 1).await.0, 200);
    assert_eq!(upstream.look(|record| (record.faulted, record.delivered())), (3, 1));
}

async fn pair() -> (Issuer, Upstream) {
    let issuer = Issuer::start(issuer::Config::default()).await.unwrap();
    let config = Config {
        issuer: Some(issuer.url()),
        audience: None,
    };
    (issuer, Upstream::start(config).await.unwrap())
}

async fn send(upstream: &Upstream, token: Option<&str>, span_id: u8) -> (u16, Bytes) {
    let mut request = crate::demo::client()
        .unwrap()
        .post(format!("{}/v1/traces", upstream.url()))
        .header("content-type", "application/x-protobuf")
        .body(one_span(span_id));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.bytes().await.unwrap())
}

fn one_span(id: u8) -> Vec<u8> {
    let name = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue("sample".to_owned())),
        }),
        ..KeyValue::default()
    };
    let span = Span {
        trace_id: vec![id; 16],
        span_id: vec![id; 8],
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![name],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: vec![span],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}
