//! `identity.attributes`: what of a person is in the bytes that leave, judged on the wire and not by what we say.

use std::sync::Arc;

use aws_lc_rs::hmac;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message;
use tagalong::{
    demo::issuer::{self, Issuer},
    otlp::Signal,
};

use crate::support::{
    agent::{Home, client},
    telemetry,
    upstream::{Say, Seen, Upstream},
};

const KEY: &str = "a key that the whole team shares";

/// Everything by which the issuer's default person could be known.
fn names() -> Vec<String> {
    let person = issuer::Config::default();
    let mut names = vec![
        person.user_id,
        person.name,
        person.email,
        "spoofed".to_owned(),
        "os-user".to_owned(),
    ];
    names.extend(rustix::system::uname().nodename().to_str().map(str::to_owned));
    names
}

/// The resource attributes of a request of any signal.
fn attributes(seen: &Seen) -> Vec<KeyValue> {
    let body = seen.body.clone();
    if seen.is_of("traces") {
        let request = ExportTraceServiceRequest::decode(body).expect("traces");
        request
            .resource_spans
            .into_iter()
            .filter_map(|one| one.resource)
            .flat_map(|one| one.attributes)
            .collect()
    } else if seen.is_of("metrics") {
        let request = ExportMetricsServiceRequest::decode(body).expect("metrics");
        request
            .resource_metrics
            .into_iter()
            .filter_map(|one| one.resource)
            .flat_map(|one| one.attributes)
            .collect()
    } else {
        let request = ExportLogsServiceRequest::decode(body).expect("logs");
        request
            .resource_logs
            .into_iter()
            .filter_map(|one| one.resource)
            .flat_map(|one| one.attributes)
            .collect()
    }
}

/// The values of `user.*` by key, over all that left.
fn of_the_person(seen: &[Seen]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = seen
        .iter()
        .flat_map(attributes)
        .filter(|attribute| attribute.key.starts_with("user.") || attribute.key.starts_with("enduser."))
        .map(|attribute| match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(value)) => (attribute.key, value),
            other => panic!("{}: {other:?}", attribute.key),
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Sends each signal, once with a resource that names somebody, through an agent of its own; gives all that left.
async fn all_that_left(home: Home, upstream: &Arc<Upstream>) -> Vec<Seen> {
    let before = upstream.seen().len();
    home.up();
    let named = [
        ("user.email", "spoofed@example.com"),
        ("user.name", "spoofed"),
        ("enduser.id", "spoofed"),
        ("process.owner", "os-user"),
        ("service.name", "shop"),
    ];
    let traces = telemetry::traces(&named, telemetry::spans(2));
    let requests = [
        (Signal::Traces, traces),
        (Signal::Metrics, telemetry::request(Signal::Metrics, 2)),
        (Signal::Logs, telemetry::request(Signal::Logs, 2)),
    ];
    for (signal, body) in requests {
        let request = client()
            .post(home.http(signal.http_path()))
            .header("content-type", "application/x-protobuf")
            .body(body);
        assert!(request.send().await.expect("an answer").status().is_success());
    }
    upstream
        .wait(|seen| {
            ["traces", "metrics", "logs"]
                .iter()
                .all(|signal| seen[before..].iter().any(|one| one.is_of(signal)))
        })
        .await;
    home.text(&["down"]);
    upstream.seen()[before..].to_vec()
}

async fn parties() -> (Issuer, Arc<Upstream>) {
    let issuer = Issuer::start(issuer::Config {
        // As Gitpod's tokens have it, so that the person is the user id and not the subject.
        claims: serde_json::Map::from_iter([("workspace_id".to_owned(), "w-1".into())]),
        ..issuer::Config::default()
    });
    let upstream = Upstream::start(|_| Say::Ok).await;
    (issuer.await.expect("an issuer"), Arc::new(upstream))
}

fn home(mode: &str, upstream: &Upstream, issuer: &Issuer) -> Home {
    Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_IDENTITY_ATTRIBUTES", mode)
        .set("TAGALONG_IDENTITY_PSEUDONYM_KEY", KEY)
}

/// The subject that the generic table takes, as the demonstration's issuer is on loopback.
fn hash(issuer: &str, subject: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let tag = hmac::sign(&key, [issuer.as_bytes(), &[0], subject.as_bytes()].concat().as_slice());
    tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_nobody_is_named(seen: &[Seen]) {
    for one in seen {
        // Strings are as they are in protobuf, so a name would be found wherever it stands: in attributes, in spans,
        // in fields that nobody thought of.
        let body = String::from_utf8_lossy(&one.body);
        for name in names().iter().filter(|name| !name.is_empty()) {
            assert!(!body.contains(name.as_str()), "{name} is in the {} that left", one.path);
        }
        for (name, value) in &one.headers {
            let value = value.to_str().unwrap_or_default();
            let is_token = name == "authorization";
            assert!(
                is_token || names().iter().all(|person| !value.contains(person.as_str())),
                "{name}: {value}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pseudonym_is_all_that_leaves_of_a_person() {
    let (issuer, upstream) = parties().await;
    let seen = all_that_left(home("pseudonym", &upstream, &issuer), &upstream).await;
    let wanted = hash(&issuer.url(), &issuer::Config::default().subject);
    assert_eq!(of_the_person(&seen), [("user.hash".to_owned(), wanted)]);
    assert_nobody_is_named(&seen);
    // Another machine of the same team has the same pseudonym for the same person, whatever the names are by now.
    issuer.edit(|person| person.name = "Somebody Else".to_owned());
    let again = all_that_left(home("pseudonym", &upstream, &issuer), &upstream).await;
    assert_eq!(of_the_person(&again), of_the_person(&seen));
    // And another one for another.
    issuer.edit(|person| person.subject = "https://example.com/other".to_owned());
    let other = all_that_left(home("pseudonym", &upstream, &issuer), &upstream).await;
    assert_ne!(of_the_person(&other), of_the_person(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_of_a_person_where_nothing_is_wanted() {
    let (issuer, upstream) = parties().await;
    let seen = all_that_left(home("none", &upstream, &issuer), &upstream).await;
    assert_eq!(of_the_person(&seen), []);
    assert_nobody_is_named(&seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_the_issuers_word_leaves_and_no_senders() {
    let (issuer, upstream) = parties().await;
    let seen = all_that_left(home("full", &upstream, &issuer), &upstream).await;
    let person = of_the_person(&seen);
    assert!(
        person.contains(&("user.email".to_owned(), "ada@example.com".to_owned())),
        "{person:?}"
    );
    assert!(
        person
            .iter()
            .all(|(key, value)| !key.starts_with("user.") || !value.contains("spoofed"))
    );
}
