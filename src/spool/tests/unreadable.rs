//! Promise 3 where the disk does not give back what it took: one bad place stops neither a start nor a signal.

use super::{
    super::segment::{FOOTER, HEAD},
    fault::Faults,
    *,
};
use crate::{
    demo::upstream::{self, Upstream},
    export::{self, Export},
    identity::{Principal, Store, clock::Clock, secret::Secret},
    otlp::Signal,
    workspace::Trust,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tokio_util::sync::CancellationToken;

/// Longer than a page: what is unreadable in one record is readable in the next.
const LONG: usize = 10_000;

fn person() -> Principal {
    Principal {
        issuer: "https://issuer.example".to_owned(),
        subject: "ada".to_owned(),
        attributes: vec![("user.id".to_owned(), "ada".to_owned())],
        trust: Trust::Verified,
    }
}

/// A request of one span.
fn span(n: u8) -> Vec<u8> {
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![n; 8],
        name: "x".repeat(LONG),
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![span],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

/// A disk with three spans from an earlier start, which was ended or killed.
async fn three_spans(ended: bool) -> World {
    let world = World::new();
    let spool = world.open("s1");
    let owner = Owner(person().fingerprint());
    for n in 1..=3 {
        spool.append(&owner, TRACES, 1, span(n)).await.expect("accepted");
    }
    if ended {
        spool.close().await;
    }
    world.disk.kill();
    world
}

/// What became of three spans on a disk with one bad place and one more behind them, once so many were delivered.
async fn sent(world: &World, delivered: u64) -> Books {
    let spool = world.open("s2");
    spool
        .append(&Owner(person().fingerprint()), TRACES, 1, span(4))
        .await
        .expect("accepted");
    let upstream = Upstream::start(upstream::Config::default()).await.expect("an upstream");
    let (store, identity) = Store::new("test", Clock::System);
    store.rotate(person(), Some(Secret::new("token".to_owned())), None);
    let export = Export::build(export::Config {
        batch_delay: Duration::from_millis(20),
        unreadable_for: Duration::from_millis(10),
        ..export::Config::new(upstream.url().parse().expect("a URL"))
    })
    .expect("an exporter");
    let mut status = export.status();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(export.run(spool.clone(), identity, shutdown.clone()));
    let waiting = status.wait_for(|status| status.lanes[&Signal::Traces].delivered == delivered);
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok();
    assert!(waited, "one bad place blocks the signal: {:?}", books(&spool));
    shutdown.cancel();
    running.await.expect("it drains");
    assert_eq!(upstream.look(|record| record.duplicates()), 0);
    let (books, bytes) = (books(&spool), spool.stats().bytes);
    assert_eq!(bytes, 0, "{books:?}");
    books
}

#[tokio::test]
async fn promise_3_a_bad_place_keeps_no_readable_record_from_upstream() {
    let record = (HEAD + span(1).len()) as u64;
    let second = HEADER + record;
    let footer = HEADER + 3 * record;
    // What is bad, whether a footer says how many items there were, how many come to upstream, and of how many the
    // books know that they did not.
    let cases = [
        (second + HEAD as u64 + 100, true, 2, 1),
        (second + HEAD as u64 + 100, false, 2, 1),
        (second, true, 2, 1),
        (second, false, 2, 0),
        (0, true, 3, 0),
        (0, false, 3, 0),
        (HEADER + 4, true, 2, 1),
        (HEADER + 4, false, 2, 0),
        (footer - 100, false, 2, 1),
        (footer, true, 3, 0),
        (footer + FOOTER as u64 - 1, true, 3, 0),
    ];
    for (bad, ended, delivered, set_aside) in cases {
        let world = three_spans(ended).await;
        world.disk.set(Faults {
            bad_sector: Some(bad),
            bad_in: "00000001.log",
            ..Faults::default()
        });
        let expected = Books {
            accepted: delivered + 1 + set_aside,
            delivered: delivered + 1,
            set_aside,
            ..Books::default()
        };
        assert_eq!(
            sent(&world, delivered + 1).await,
            expected,
            "byte {bad}, {}",
            if ended { "ended" } else { "killed" }
        );
    }
}

#[tokio::test]
async fn promise_3_a_cursor_that_cannot_be_read_skips_nothing_then_or_later() {
    let world = three_spans(true).await;
    let spool = world.open("s2");
    let owner = Owner(person().fingerprint());
    let mut reader = spool.reader(&owner, TRACES).expect("a reader");
    for _ in 0..2 {
        let position = reader.next().await.expect("a record").position;
        reader.resolve(position, super::delivered(1)).expect("books");
    }
    world.disk.kill();
    for bad in [0, 600] {
        world.disk.set(Faults {
            bad_sector: Some(bad),
            bad_in: "cursor",
            ..Faults::default()
        });
        let spool = world.open("s3");
        let mut reader = spool.reader(&owner, TRACES).expect("a reader");
        let mut left = 0;
        while reader.try_next().expect("readable").is_some() {
            left += 1;
        }
        assert!((1..=2).contains(&left), "an older cursor is a cursor: {left}");
        world.disk.kill();
    }
    // What is read of it now is what the last start went by, and no slot from before that.
    world.disk.set(Faults::default());
    let spool = world.open("s4");
    let delivered = books(&spool).delivered;
    assert_eq!((books(&spool).accepted, books(&spool).pending), (3, 3 - delivered));
}
