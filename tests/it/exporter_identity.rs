//! Whose data leaves, under what, and where a bearer never goes: promises 4, 5 and 7 at the exporter.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tagalong::{
    export::{Config, Export, Protocol, status},
    spool::Owner,
};

use crate::support::{
    exporting::{Rig, config, person, spans, token},
    log::Log,
    upstream::{Say, Upstream},
};

const PROTOCOLS: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::Grpc];

#[tokio::test]
async fn promise_5_data_of_one_principal_never_leaves_under_another() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.append_spans(["of ada"]).await;
        rig.store.rotate(person("grace"), token("of grace"), None);
        let grace = Owner(person("grace").fingerprint());
        rig.spool
            .append(&grace, "traces", 1, spans(["of grace"]))
            .await
            .expect("appended");
        let mut running = rig.run(config(&upstream.url(), protocol));
        running.until(|status| status.last_success.is_some()).await;
        assert_eq!(upstream.seen()[0].span_names(), ["of grace"]);

        rig.store.rotate(person("ada"), token("of ada"), None);
        upstream.wait(|seen| seen.len() == 2).await;
        running.drain().await;
        let seen = upstream.seen();
        assert_eq!(seen[1].span_names(), ["of ada"]);
        assert_eq!((seen[0].bearer(), seen[1].bearer()), (Some("of grace"), Some("of ada")));
        assert!(format!("{:?}", seen[1].traces()).contains("\"ada\""));
    }
}

#[tokio::test]
async fn promise_5_a_request_that_waits_for_a_credential_does_not_take_another_persons() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Status {
            http: 401,
            code: 16,
            message: "expired",
            retry: None,
        })
        .await;
        rig.append_spans(["of ada"]).await;
        let mut running = rig.run(config(&upstream.url(), protocol));
        running.until(|status| status.unauthenticated_current == 1).await;
        upstream.script(|_| Say::Ok);
        rig.store.rotate(person("grace"), token("of grace"), None);
        let grace = Owner(person("grace").fingerprint());
        rig.spool
            .append(&grace, "traces", 1, spans(["of grace"]))
            .await
            .expect("appended");
        upstream.wait(|seen| seen.len() == 2).await;
        running.drain().await;
        assert_eq!(upstream.seen()[1].span_names(), ["of grace"]);
        assert_eq!(rig.books("traces").pending, 1, "ada's waits for ada");
    }
}

/// Chance decides what the exporter hears of first.
#[tokio::test]
async fn an_exporter_of_which_each_signal_notices_another_person_by_itself_goes_on_for_them() {
    for _ in 0..10 {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        for lane in ["traces", "metrics", "logs"] {
            rig.append(lane, 1, spans(["of ada"])).await;
        }
        let grace = Owner(person("grace").fingerprint());
        let of_grace = spans(["of grace"]);
        rig.spool.append(&grace, "traces", 1, of_grace).await.expect("appended");
        let mut running = rig.run(Config {
            batch_delay: Duration::ZERO,
            ..config(&upstream.url(), Protocol::HttpProtobuf)
        });
        let store = rig.store.clone();
        // Its turn comes when the signals' tasks were made, and none of them ran.
        tokio::spawn(async move { store.rotate(person("grace"), token("of grace"), None) });
        running.until(|status| status.last_success.is_some()).await;
        running.drain().await;
        assert_eq!(upstream.seen()[0].span_names(), ["of grace"]);
    }
}

#[tokio::test]
async fn promise_4_without_a_credential_the_spool_waits() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| Say::Ok).await;
    rig.store.set_state(tagalong::identity::State::Starved);
    rig.append_spans(["a"]).await;
    let mut running = rig.run(config(&upstream.url(), Protocol::HttpProtobuf));
    running.until(|status| status.state == status::State::Waiting).await;
    assert!(upstream.seen().is_empty());
    rig.store.rotate(person("ada"), token("second"), None);
    running.until(|status| status.last_success.is_some()).await;
    running.drain().await;
    assert_eq!(rig.books("traces").delivered, 1);
}

#[tokio::test]
async fn no_credential_means_no_header() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.store.rotate(person("ada"), None, None);
        rig.append_spans(["a"]).await;
        rig.run(config(&upstream.url(), protocol)).drain().await;
        assert_eq!(upstream.seen()[0].header("authorization"), None);
    }
}

#[tokio::test]
async fn who_shows_no_credential_is_not_told_that_it_was_refused() {
    for (http, code) in [(401, 16), (403, 7)] {
        for protocol in PROTOCOLS {
            let mut rig = Rig::new();
            let upstream = Upstream::start(move |_| Say::Status {
                http,
                code,
                message: "members only",
                retry: None,
            })
            .await;
            rig.store.rotate(person("ada"), None, None);
            rig.append_spans(["a"]).await;
            let mut running = rig.run(config(&upstream.url(), protocol));
            let found = running.until_paused().await;
            assert!(format!("{:?}", found.state).contains("members only"), "{found:?}");
            let store = Arc::get_mut(&mut rig.store).expect("its only holder");
            let said = tokio::time::timeout(Duration::ZERO, store.said()).await;
            assert!(said.is_err(), "{http}: {said:?}");
            upstream.script(|_| Say::Ok);
            running.drain().await;
        }
    }
}

#[tokio::test]
async fn promise_7_a_bearer_never_crosses_a_redirect() {
    for protocol in PROTOCOLS {
        for code in [301, 302, 303, 307, 308] {
            let rig = Rig::new();
            let elsewhere = Upstream::start(|_| Say::Ok).await;
            let location = format!("{}/v1/traces", elsewhere.url());
            let upstream = Upstream::start(move |_| Say::Http {
                status: code,
                headers: vec![("location", location.clone())],
                body: Bytes::new(),
            })
            .await;
            rig.append_spans(["a"]).await;
            let mut running = rig.run(config(&upstream.url(), protocol));
            running.until_paused().await;
            running.drain().await;
            assert!(elsewhere.seen().is_empty(), "{code}");
            assert_eq!(rig.books("traces").pending, 1);
        }
    }
}

#[tokio::test]
async fn promise_7_where_a_redirect_leads_is_said_without_what_is_confidential_in_it() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Http {
            status: 308,
            headers: vec![(
                "location",
                "https://ada:canary@b.example:8443/otlp/first/v1/traces?state=canary#canary".to_owned(),
            )],
            body: Bytes::new(),
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(config(&upstream.url(), protocol));
        let found = running.until_paused().await;
        let status::State::Paused { reason, .. } = found.state else {
            panic!("{found:?}")
        };
        // The first token is "first".
        assert_eq!(reason, "HTTP 308: it leads to https://b.example:8443/otlp/[redacted]");
    }
}

#[tokio::test]
async fn promise_7_a_bearer_never_goes_over_plain_http_to_another_machine() {
    for protocol in PROTOCOLS {
        // A name that leads here, but is not known to.
        let rig = Rig::new();
        rig.append_spans(["a"]).await;
        let config = config("http://0.0.0.0:9", protocol);
        let export = Export::build(config.clone()).expect("an exporter");
        assert!(!export.may_carry_credential());
        let mut running = rig.run(config);
        let found = running.until_paused().await;
        assert_eq!(found.requests, 0, "nothing was sent");
        assert!(format!("{:?}", found.state).contains("TLS"));
    }
}

#[tokio::test]
async fn nothing_shows_the_token() {
    let rig = Rig::new();
    rig.store.rotate(person("ada"), token("hunter2\n"), None);
    let upstream = Upstream::start(|_| Say::Ok).await;
    rig.append_spans(["a"]).await;
    let mut config = config(&upstream.url(), Protocol::HttpProtobuf);
    config.headers = vec![("x-key".to_owned(), "hunter2".to_owned())];
    assert!(!format!("{config:?}").contains("hunter2"));
    let export = Export::build(config.clone()).expect("an exporter");
    assert!(!format!("{export:?}").contains("hunter2"));
    let mut running = rig.run(config);
    let found = running.until(|status| status.last_error.is_some()).await;
    assert!(!format!("{found:?}").contains("hunter2"));
    assert!(upstream.seen().is_empty());
}

/// Some gateways put what they refuse into the refusal.
#[tokio::test]
async fn promise_7_a_secret_that_upstream_repeats_is_shown_nowhere() {
    const TOKEN: &str = "canary-0123456789.abcdefghijklmnopqrstuvwxyz/ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const KEY: &str = "canary-key-0123456789";
    let messages = [
        format!("no key in the header: 'Bearer {TOKEN}', x-key: Api-Token {KEY}"),
        // The end of what is kept is in the middle of it.
        format!("no key in {} header: Bearer {TOKEN}", "x".repeat(450)),
        // Upstream cuts it, and writes it in its own way.
        format!(
            "no key in the header: {}... or {}",
            &TOKEN[..20],
            TOKEN.replace('/', "\\/")
        ),
    ];
    for (protocol, message) in PROTOCOLS
        .iter()
        .flat_map(|p| messages.iter().map(move |m| (*p, m.clone().leak() as &_)))
    {
        let status = |http, code| Say::Status {
            http,
            code,
            message,
            retry: None,
        };
        let partial = Say::Partial { rejected: 1, message };
        for (say, aside) in [
            (status(400, 3), 1),
            (status(403, 7), 0),
            (status(503, 14), 0),
            (partial, 0),
        ] {
            let (rig, log) = (Rig::new(), Log::default());
            let _guard = log.capture();
            rig.store.rotate(person("ada"), token(TOKEN), None);
            let upstream = Upstream::start(move |_| say.clone()).await;
            rig.append_spans(["a"]).await;
            let mut config = config(&upstream.url(), protocol);
            config.headers = vec![("x-key".to_owned(), format!("Api-Token {KEY}"))];
            let mut running = rig.run(config);
            let status = running.status.clone();
            running.until(|status| status.requests > 0).await;
            running.drain().await;
            assert_eq!(upstream.seen()[0].bearer(), Some(TOKEN));
            let notes = rig.spool.set_aside().expect("a list");
            assert_eq!(notes.len(), aside);
            for shown in [log.text(), format!("{:?}", *status.borrow()), format!("{notes:?}")] {
                assert!(!shown.contains("canary"), "{shown}");
                assert!(shown.contains("no key in") || shown == "[]", "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn a_drain_ends_while_upstream_is_away_and_loses_nothing() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| Say::Ok).await;
    upstream.kill();
    rig.append_spans(["a"]).await;
    let mut running = rig.run(config(&upstream.url(), Protocol::HttpProtobuf));
    running.until_paused().await;
    tokio::time::timeout(Duration::from_secs(5), running.drain())
        .await
        .expect("soon");
    assert_eq!(rig.books("traces").pending, 1);
    upstream.recover().await;
    rig.run(config(&upstream.url(), Protocol::HttpProtobuf)).drain().await;
    assert_eq!(rig.books("traces").delivered, 1);
}
