//! The verdicts: what each answer of upstream's means for the data, over HTTP and over gRPC.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tagalong::{
    export::{Compression, Config, Protocol, retry, status},
    identity::{
        self, Identity,
        claims::Attributes,
        clock::Clock,
        source::{EnvToken, Source},
    },
    workspace::Env,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::support::{
    exporting::{Rig, config, person, spans, token},
    telemetry,
    upstream::{Say, Seen, Upstream},
};

/// Each story once for each protocol.
macro_rules! over_both {
    ($($story:ident),* $(,)?) => {
        mod over_http {
            $(#[tokio::test] async fn $story() { super::stories::$story(super::Protocol::HttpProtobuf).await })*
        }
        mod over_grpc {
            $(#[tokio::test] async fn $story() { super::stories::$story(super::Protocol::Grpc).await })*
        }
    };
}

over_both!(
    success_is_answered_for,
    a_partial_success_is_counted_and_not_resent,
    one_poison_record_among_ten_thousand_is_set_aside_alone,
    a_long_record_is_sent_and_told_apart_like_any_other,
    enough_records_do_not_wait_for_the_delay,
    a_request_that_is_too_large_is_halved_until_it_fits,
    a_single_item_that_is_too_large_is_set_aside,
    what_every_half_would_repeat_is_set_aside_once,
    an_unauthenticated_request_is_sent_again_with_the_next_credential,
    a_refused_generation_is_not_tried_again,
    a_stale_credential_is_just_replaced,
    forbidden_pauses_and_loses_nothing,
    a_signal_that_upstream_does_not_take_holds_up_no_other,
    a_signal_that_upstream_does_not_take_is_tried_again,
    not_found_for_all_signals_is_the_path,
    an_upstream_that_comes_back_gets_everything_within_five_seconds,
    a_server_error_loses_nothing,
    a_record_that_alone_breaks_upstream_is_set_aside,
    a_signal_that_alone_breaks_upstream_loses_nothing,
    a_signal_that_alone_breaks_upstream_is_not_sent_whole_for_each_record,
    a_web_page_is_no_upstream,
    a_cut_connection_is_tried_again,
    a_silent_upstream_is_tried_again,
    throttling_is_honoured,
    a_reason_is_shown_without_control_characters,
);

/// Every server in Go that lets the standard library limit its bodies can answer so; the Collector does.
#[tokio::test]
async fn a_body_that_a_server_in_go_calls_too_large_is_halved_until_it_fits() {
    let rig = Rig::new();
    let upstream = Upstream::start(|seen| match seen.span_names().len() {
        0..=3 => Say::Ok,
        _ => Say::Status {
            http: 400,
            code: 3,
            message: "http: request body too large",
            retry: None,
        },
    })
    .await;
    rig.append("traces", 10, spans((0..10).map(|n| format!("span-{n}"))))
        .await;
    rig.run(config(&upstream.url(), Protocol::HttpProtobuf)).drain().await;
    let books = rig.books("traces");
    assert_eq!((books.delivered, books.set_aside, books.pending), (10, 0, 0));
}

#[tokio::test]
async fn a_credential_without_a_successor_that_was_refused_for_a_moment_is_used_again() {
    let env = Env([("TOKEN".to_owned(), "only-one".to_owned())].into());
    let (identity, receiver) = Identity::build(identity::Config {
        source: Source::Env(EnvToken::new("TOKEN", &env)),
        exchange: None,
        audience: "https://upstream.example".into(),
        attributes: Attributes::Full,
        pseudonym_key: None,
        fallback: person("ada"),
        issuer: None,
        ca_file: None,
        clock: Clock::System,
    });
    let ends = CancellationToken::new();
    let identity = tokio::spawn(identity.run(ends.clone()));
    let mut rig = Rig::new();
    rig.identity = receiver;
    let is_ready = AtomicBool::new(false);
    let upstream = Upstream::start(move |_| match is_ready.swap(true, Ordering::Relaxed) {
        true => Say::Ok,
        false => status(401, 16),
    })
    .await;
    let mut running = rig.run(config(&upstream.url(), Protocol::HttpProtobuf));
    rig.append_spans(["refused, then the probe"]).await;
    running.until(|status| status.last_success.is_some()).await;
    rig.append_spans(["what comes behind it"]).await;
    running.until(|status| status.requests == 3).await;
    running.drain().await;
    ends.cancel();
    identity.await.expect("it does not panic");
    assert_eq!(rig.books("traces").delivered, 2);
}

/// It refuses each request with a certain span.
async fn fussy() -> Upstream {
    Upstream::start(|seen| match seen.has_span("poison") {
        true => status(400, 3),
        false => Say::Ok,
    })
    .await
}

/// It breaks on each request with a certain span.
async fn fragile() -> Upstream {
    Upstream::start(|seen| match seen.has_span("crash") {
        true => status(500, 13),
        false => Say::Ok,
    })
    .await
}

/// Each waits for another to pass, and neither does; what is behind them fills the lane's whole budget.
#[tokio::test]
async fn records_that_break_upstream_let_go_of_what_the_next_request_needs() {
    let rig = Rig::new();
    let upstream = fragile().await;
    for name in ["crash", "crash", &"x".repeat(4 << 20)] {
        rig.append("traces", 1, spans([name])).await;
    }
    let mut running = rig.run(config(&upstream.url(), Protocol::HttpProtobuf));
    let traces = tagalong::otlp::Signal::Traces;
    running.until(|status| status.lanes[&traces].delivered == 1).await;
    running.drain().await;
    assert_eq!(rig.books("traces").pending, 2);
}

fn status(http: u16, code: i32) -> Say {
    Say::Status {
        http,
        code,
        message: "no",
        retry: None,
    }
}

fn page(status: u16) -> Say {
    Say::Http {
        status,
        headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
        body: Bytes::from_static(b"<html><body>Please log in</body></html>"),
    }
}

fn quick(upstream: &Upstream, protocol: Protocol) -> Config {
    config(&upstream.url(), protocol)
}

mod stories {
    use super::*;

    pub async fn success_is_answered_for(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.append_spans(["a", "b"]).await;
        rig.run(quick(&upstream, protocol)).drain().await;
        assert_eq!(rig.books("traces").delivered, 2);
        let seen = upstream.seen();
        assert_eq!(seen.len(), 1, "both went in one request");
        assert_eq!(seen[0].is_grpc(), protocol == Protocol::Grpc);
        assert_eq!(seen[0].bearer(), Some("first"));
        let stamped = seen[0].traces().resource_spans[0]
            .resource
            .clone()
            .expect("a resource")
            .attributes;
        let users: Vec<_> = stamped.iter().filter(|attribute| attribute.key == "user.id").collect();
        assert_eq!(users.len(), 1, "a sender's own claim is replaced, not added to");
        assert!(format!("{:?}", users[0]).contains("ada"));
    }

    pub async fn a_partial_success_is_counted_and_not_resent(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Partial {
            rejected: 3,
            message: "too old",
        })
        .await;
        rig.append("traces", 2, spans(["a", "b"])).await;
        rig.append("traces", 2, spans(["c", "d"])).await;
        let running = rig.run(quick(&upstream, protocol));
        let status = running.status.clone();
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.rejected, books.pending), (1, 3, 0));
        assert_eq!(upstream.seen().len(), 1);
        let lane = status.borrow().lanes[&tagalong::otlp::Signal::Traces].clone();
        assert_eq!((lane.rejected, lane.last_refusal.as_deref()), (3, Some("too old")));
    }

    pub async fn one_poison_record_among_ten_thousand_is_set_aside_alone(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = fussy().await;
        let names = (0..10_000).map(|n| {
            if n == 6_543 {
                "poison".to_owned()
            } else {
                format!("span-{n}")
            }
        });
        rig.append_spans(names).await;
        let config = Config {
            batch_bytes: 16 << 20,
            ..quick(&upstream, protocol)
        };
        rig.run(config).drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside, books.pending), (9_999, 1, 0));
        let aside = rig.spool.set_aside().expect("a list");
        assert_eq!((aside.len(), aside[0].items), (1, 1));
        assert!(aside[0].reason.contains("no"), "{}", aside[0].reason);
        let requests = upstream.seen().len();
        assert!(requests <= 30, "{requests} requests");
    }

    pub async fn enough_records_do_not_wait_for_the_delay(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        let running = rig.run(Config {
            batch_bytes: 100_000,
            batch_delay: Duration::from_secs(3600),
            ..quick(&upstream, protocol)
        });
        for name in ["a", "b", "c", "d"] {
            rig.append("traces", 1, spans([name.repeat(40_000)])).await;
        }
        upstream.wait(|seen| !seen.is_empty()).await;
        assert_eq!(upstream.seen()[0].span_names().len(), 2, "as many as fit");
        running.drain().await;
        assert_eq!(rig.books("traces").delivered, 4);
    }

    /// Long ones lie in pieces until they are sent.
    pub async fn a_long_record_is_sent_and_told_apart_like_any_other(protocol: Protocol) {
        for compression in [Compression::None, Compression::Gzip] {
            let rig = Rig::new();
            let upstream = fussy().await;
            let long = |name: &str| spans([name.to_owned(), "x".repeat(100_000)]);
            for name in ["first", "poison", "last"] {
                rig.append("traces", 2, long(name)).await;
                rig.append("traces", 1, spans([format!("after {name}")])).await;
            }
            let config = Config {
                batch_bytes: 1 << 20,
                compression,
                ..quick(&upstream, protocol)
            };
            rig.run(config).drain().await;
            let books = rig.books("traces");
            assert_eq!((books.delivered, books.set_aside, books.pending), (7, 2, 0));
            let aside = rig.spool.set_aside().expect("a list");
            assert_eq!((aside.len(), aside[0].items), (1, 2));
            let seen = upstream.seen();
            let taken = seen.iter().filter(|seen| !seen.has_span("poison"));
            let mut names: Vec<String> = taken.flat_map(|seen| seen.span_names()).collect();
            names.sort_unstable_by_key(String::len);
            let lengths: Vec<usize> = names.iter().map(String::len).collect();
            assert_eq!(lengths, [4, 5, 10, 11, 12, 100_000, 100_000]);
            let forged = |seen: &Seen| seen.body.windows(13).any(|text| text == b"somebody else");
            assert!(!seen.iter().any(forged), "each was stamped");
            if protocol == Protocol::HttpProtobuf {
                let told = seen.iter().filter_map(|seen| seen.header("content-length"));
                assert_eq!(told.count(), seen.len(), "none is sent in chunks");
            }
        }
    }

    pub async fn a_request_that_is_too_large_is_halved_until_it_fits(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|seen| {
            if seen.span_names().len() > 3 {
                status(413, 8)
            } else {
                Say::Ok
            }
        })
        .await;
        rig.append("traces", 10, spans((0..10).map(|n| format!("span-{n}"))))
            .await;
        rig.append_spans(["one", "two"]).await;
        rig.run(quick(&upstream, protocol)).drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside, books.pending), (12, 0, 0));
    }

    pub async fn a_single_item_that_is_too_large_is_set_aside(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|seen| if seen.has_span("huge") { status(413, 8) } else { Say::Ok }).await;
        rig.append("traces", 4, spans(["a", "b", "huge", "c"])).await;
        rig.run(quick(&upstream, protocol)).drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside, books.pending), (3, 1, 0));
    }

    pub async fn what_every_half_would_repeat_is_set_aside_once(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|seen| match seen.has_span("GET /") {
            true => status(413, 8),
            false => Say::Ok,
        })
        .await;
        let repeated = "r".repeat(500_000);
        let request = telemetry::traces(&[("repeated", &repeated)], telemetry::spans(1000));
        rig.append("traces", 1000, request.into()).await;
        rig.append_spans(["one", "two"]).await;
        rig.run(quick(&upstream, protocol)).drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside, books.pending), (2, 1000, 0));
        let entries = rig.spool.set_aside().expect("a readable directory");
        assert_eq!(entries.len(), 1);
    }

    pub async fn an_unauthenticated_request_is_sent_again_with_the_next_credential(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|seen| {
            if seen.bearer() == Some("second") {
                Say::Ok
            } else {
                status(401, 16)
            }
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(quick(&upstream, protocol));
        running.until(|status| status.unauthenticated_current == 1).await;
        rig.store.rotate(person("ada"), token("second"), None);
        running.until(|status| status.last_success.is_some()).await;
        running.drain().await;
        assert_eq!((rig.books("traces").delivered, upstream.seen().len()), (1, 2));
    }

    pub async fn a_refused_generation_is_not_tried_again(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| status(401, 16)).await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(quick(&upstream, protocol));
        running
            .until(|status| status.unauthenticated_current == 1 && status.state == status::State::Waiting)
            .await;
        rig.append_spans(["b"]).await;
        running.drain().await;
        assert_eq!(upstream.seen().len(), 1, "nobody hammers with what was refused");
        let books = rig.books("traces");
        assert_eq!((books.pending, books.set_aside), (2, 0));
    }

    pub async fn a_stale_credential_is_just_replaced(protocol: Protocol) {
        let rig = Rig::new();
        // By the time of the answer, the credential that it is about has been renewed.
        let renewing = rig.store.clone();
        let upstream = Upstream::start(move |seen| {
            if seen.bearer() == Some("first") {
                renewing.rotate(person("ada"), token("second"), None);
                status(401, 16)
            } else {
                Say::Ok
            }
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(quick(&upstream, protocol));
        let found = running.until(|status| status.last_success.is_some()).await;
        assert_eq!((found.unauthenticated_stale, found.unauthenticated_current), (1, 0));
        running.drain().await;
        assert_eq!((rig.books("traces").delivered, upstream.seen().len()), (1, 2));
    }

    pub async fn forbidden_pauses_and_loses_nothing(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| status(403, 7)).await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(quick(&upstream, protocol));
        running.until_paused().await;
        assert_eq!(rig.books("traces").pending, 1);
        upstream.script(|_| Say::Ok);
        running.until(|status| status.last_success.is_some()).await;
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside), (1, 0));
    }

    pub async fn a_signal_that_upstream_does_not_take_holds_up_no_other(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|seen| if seen.is_of("logs") { status(404, 12) } else { Say::Ok }).await;
        rig.append("logs", 1, spans(["a log, as far as this upstream looks"]))
            .await;
        let mut running = rig.run(quick(&upstream, protocol));
        running.until(|status| status.refused > 0).await;
        rig.append_spans(["a", "b"]).await;
        let logs = tagalong::otlp::Signal::Logs;
        let found = running
            .until(|status| status.lanes[&logs].state != status::LaneState::Open && status.last_success.is_some())
            .await;
        assert!(
            matches!(&found.lanes[&logs].state, status::LaneState::NotTaken { reason, .. } if reason.contains("no"))
        );
        rig.append_spans(["c"]).await;
        running.drain().await;
        assert_eq!(rig.books("traces").delivered, 3);
        let books = rig.books("logs");
        assert_eq!((books.delivered, books.set_aside), (0, 0));
    }

    /// Every hour, and here every 50 ms. What waited meanwhile goes as soon as the signal is taken.
    pub async fn a_signal_that_upstream_does_not_take_is_tried_again(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|seen| if seen.is_of("logs") { status(404, 12) } else { Say::Ok }).await;
        rig.append("logs", 1, spans(["a log"])).await;
        let config = Config {
            not_taken_for: Duration::from_millis(50),
            ..quick(&upstream, protocol)
        };
        let mut running = rig.run(config);
        let logs = tagalong::otlp::Signal::Logs;
        let not_taken = |status: &tagalong::export::Status| status.lanes[&logs].state != status::LaneState::Open;
        // Only once another signal was taken since does "not found" say anything about this one.
        running.until(|status| status.refused > 0).await;
        rig.append_spans(["a"]).await;
        for _ in 0..3 {
            running.until(not_taken).await;
            running.until(|status| !not_taken(status)).await;
        }
        upstream.script(|_| Say::Ok);
        running.until(|status| status.lanes[&logs].delivered == 1).await;
        running.drain().await;
        assert_eq!((rig.books("logs").delivered, rig.books("logs").expired), (1, 0));
    }

    pub async fn not_found_for_all_signals_is_the_path(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.append_spans(["before"]).await;
        rig.append("logs", 1, spans(["before"])).await;
        let mut running = rig.run(quick(&upstream, protocol));
        upstream.wait(|seen| seen.len() == 2).await;
        running.until(|status| status.requests == 2).await;
        upstream.script(|_| status(404, 12));
        rig.append_spans(["a"]).await;
        rig.append("logs", 1, spans(["b"])).await;
        running.until(|status| status.refused >= 3).await;
        upstream.script(|_| Say::Ok);
        let status = running.until(|status| status.requests - status.refused == 4).await;
        assert!(status.lanes.values().all(|lane| lane.state == status::LaneState::Open));
        running.drain().await;
        assert_eq!((rig.books("traces").delivered, rig.books("logs").delivered), (2, 2));
    }

    pub async fn an_upstream_that_comes_back_gets_everything_within_five_seconds(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        upstream.kill();
        rig.append_spans(["a", "b"]).await;
        let mut running = rig.run(quick(&upstream, protocol));
        running.until(|status| status.requests >= 3).await;
        upstream.recover().await;
        let back = Instant::now();
        running.until(|status| status.last_success.is_some()).await;
        assert!(back.elapsed() < Duration::from_secs(5));
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside), (2, 0));
    }

    pub async fn a_server_error_loses_nothing(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| status(500, 13)).await;
        rig.append_spans((0..50).map(|n| format!("span-{n}"))).await;
        let mut running = rig.run(quick(&upstream, protocol));
        running.until(|status| status.refused >= 3).await;
        upstream.script(|_| Say::Ok);
        running
            .until(|status| status.lanes[&tagalong::otlp::Signal::Traces].delivered == 50)
            .await;
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside), (50, 0));
    }

    pub async fn a_record_that_alone_breaks_upstream_is_set_aside(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = fragile().await;
        rig.append_spans((0..100).map(|n| {
            if n == 40 {
                "crash".to_owned()
            } else {
                format!("span-{n}")
            }
        }))
        .await;
        let mut running = rig.run(quick(&upstream, protocol));
        let traces = tagalong::otlp::Signal::Traces;
        running.until(|status| status.lanes[&traces].delivered == 99).await;
        // Others pass, and it still does not.
        for n in 0.. {
            rig.append_spans([format!("other-{n}")]).await;
            let delivered = 100 + n;
            let status = running
                .until(|status| status.lanes[&traces].delivered == delivered)
                .await;
            if status.lanes[&traces].set_aside == 1 || n == 10 {
                break;
            }
            let refused = status.refused;
            running
                .until(|status| status.refused > refused || status.lanes[&traces].set_aside == 1)
                .await;
        }
        running.until(|status| status.lanes[&traces].set_aside == 1).await;
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.set_aside, books.pending), (1, 0));
        let aside = rig.spool.set_aside().expect("a list");
        assert!(aside[0].reason.contains("while others passed"));
    }

    /// A pipeline that is broken says nothing about what it is given.
    pub async fn a_signal_that_alone_breaks_upstream_loses_nothing(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|seen| if seen.is_of("logs") { status(500, 13) } else { Say::Ok }).await;
        for _ in 0..3 {
            rig.append("logs", 1, spans(["a log, as far as this upstream looks"]))
                .await;
        }
        let mut running = rig.run(quick(&upstream, protocol));
        let [logs, traces] = [tagalong::otlp::Signal::Logs, tagalong::otlp::Signal::Traces];
        for n in 1..=12 {
            rig.append_spans(["a span"]).await;
            running.until(|status| status.lanes[&traces].delivered == n).await;
        }
        assert_eq!(rig.books("logs").set_aside, 0);
        upstream.script(|_| Say::Ok);
        rig.append("logs", 1, spans(["the first that passes"])).await;
        running.until(|status| status.lanes[&logs].delivered == 4).await;
        running.drain().await;
        assert_eq!((rig.books("logs").set_aside, rig.books("logs").pending), (0, 0));
    }

    /// While other signals pass no pause holds it back, so it must end soon by itself.
    pub async fn a_signal_that_alone_breaks_upstream_is_not_sent_whole_for_each_record(protocol: Protocol) {
        const LOGS: usize = 16;
        let rig = Rig::new();
        let permits = Arc::new(Semaphore::new(0));
        let held = Say::Held(permits.clone(), Box::new(status(500, 13)));
        let mut asked = 0;
        let upstream = Upstream::start(move |seen| {
            asked += u32::from(seen.is_of("logs"));
            match asked {
                _ if !seen.is_of("logs") => Say::Ok,
                // What comes after a pause goes alone, and would keep the others from passing.
                ..=2 => status(500, 13),
                _ => held.clone(),
            }
        })
        .await;
        for n in 0..LOGS {
            rig.append("logs", 1, spans([format!("log-{n}")])).await;
        }
        let mut running = rig.run(quick(&upstream, protocol));
        let asked = |seen: &[Seen]| -> Vec<Vec<String>> {
            let of_logs = seen.iter().filter(|seen| seen.is_of("logs"));
            of_logs.map(Seen::span_names).collect()
        };
        for (passed, n) in (1..).zip([1].into_iter().chain(3..)) {
            upstream.wait(|seen| asked(seen).len() >= n).await;
            let all = asked(&upstream.seen());
            let alone: BTreeSet<&String> = all.iter().filter(|names| names.len() == 1).flatten().collect();
            if alone.len() == LOGS {
                break;
            }
            rig.append_spans(["a span"]).await;
            let traces = tagalong::otlp::Signal::Traces;
            running.until(|status| status.lanes[&traces].delivered == passed).await;
            permits.add_permits(usize::from(n > 2));
        }
        let sent = asked(&upstream.seen()).concat().len();
        assert!(sent < LOGS * LOGS / 2, "{sent} records for {LOGS}");
    }

    pub async fn a_web_page_is_no_upstream(protocol: Protocol) {
        for code in [200, 400, 502] {
            let rig = Rig::new();
            let upstream = Upstream::start(move |_| page(code)).await;
            rig.append_spans(["a"]).await;
            let mut running = rig.run(quick(&upstream, protocol));
            running.until_paused().await;
            assert_eq!(rig.books("traces").pending, 1);
            upstream.script(|_| Say::Ok);
            running.until(|status| status.last_success.is_some()).await;
            running.drain().await;
            let books = rig.books("traces");
            assert_eq!((books.delivered, books.set_aside), (1, 0), "{code}");
        }
    }

    pub async fn a_cut_connection_is_tried_again(protocol: Protocol) {
        let rig = Rig::new();
        let mut cuts = 2;
        let upstream = Upstream::start(move |_| {
            cuts -= 1;
            if cuts >= 0 { Say::Cut } else { Say::Ok }
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(quick(&upstream, protocol));
        running.until(|status| status.last_success.is_some()).await;
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside), (1, 0));
    }

    pub async fn a_silent_upstream_is_tried_again(protocol: Protocol) {
        let rig = Rig::new();
        let mut silent = true;
        let upstream = Upstream::start(move |_| {
            if std::mem::take(&mut silent) {
                Say::Hang
            } else {
                Say::Ok
            }
        })
        .await;
        rig.append_spans(["a"]).await;
        let config = Config {
            timeout: Duration::from_millis(300),
            ..quick(&upstream, protocol)
        };
        let mut running = rig.run(config);
        running.until(|status| status.last_success.is_some()).await;
        running.drain().await;
        assert_eq!(rig.books("traces").delivered, 1);
    }

    pub async fn throttling_is_honoured(protocol: Protocol) {
        let rig = Rig::new();
        let mut first = true;
        let upstream = Upstream::start(move |_| {
            if std::mem::take(&mut first) {
                Say::Status {
                    http: 429,
                    code: 8,
                    message: "slowly",
                    retry: Some(Duration::from_secs(2)),
                }
            } else {
                Say::Ok
            }
        })
        .await;
        rig.append_spans(["a"]).await;
        let start = Instant::now();
        let mut running = rig.run(quick(&upstream, protocol));
        running.until(|status| status.last_success.is_some()).await;
        assert!(start.elapsed() >= Duration::from_secs(2));
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside), (1, 0));
    }

    pub async fn a_reason_is_shown_without_control_characters(protocol: Protocol) {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Status {
            http: 400,
            code: 3,
            message: "bad\ttrace",
            retry: None,
        })
        .await;
        rig.append_spans(["a"]).await;
        rig.run(quick(&upstream, protocol)).drain().await;
        let reason = rig.spool.set_aside().expect("a list")[0].reason.clone();
        assert!(reason.ends_with("badtrace"), "{reason}");
        assert_eq!(retry::printable(&reason), reason);
    }
}
