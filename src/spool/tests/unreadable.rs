//! Promise 3 where the disk does not give back what it took: one bad place stops neither a start nor a signal.

use super::{
    super::{
        cursor::{self, CURSOR, Cursor},
        disk::Disk as _,
        segment::{FOOTER, HEAD},
    },
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

fn bad(byte: u64, file: &'static str) -> Faults {
    Faults {
        bad_sector: Some(byte),
        bad_in: file,
        ..Faults::default()
    }
}

/// All that can be read, after as many tries as the reader makes of its own accord.
fn texts_at_last(reader: &mut Reader) -> Vec<String> {
    (0..10)
        .flat_map(|_| std::iter::from_fn(|| reader.try_next().ok().flatten()).collect::<Vec<_>>())
        .map(|record| String::from_utf8(record.bytes.to_bytes().to_vec()).expect("text"))
        .collect()
}

#[tokio::test]
async fn promise_3_a_file_that_serves_again_is_not_taken_for_what_it_was_where_its_start_cannot_be_read() {
    let world = World::new();
    let keep = |session: &str| Config {
        keep_bytes: 20 << 20,
        session: session.to_owned(),
        ..config(Path::new("/spool"))
    };
    let spool = world.open_with(keep("s1"));
    // Four fill a segment.
    let old = Bytes::from(vec![1; (4 << 20) - HEAD]);
    for _ in 0..8 {
        spool.append(&ada(), TRACES, 1, old.clone()).await.expect("accepted");
    }
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    while let Some(record) = reader.try_next().expect("readable") {
        reader.resolve(record.position, super::delivered(1)).expect("books");
    }
    spool.expire(&ada(), UNIX_EPOCH).await.expect("the committer is done");
    assert!(world.disk.files().contains(&world.spare()));
    let new = ["first", "second", "third"].map(|text| text.repeat(LONG / 5));
    for text in &new {
        put(&spool, &ada(), text).await;
    }
    assert!(!world.disk.files().contains(&world.spare()), "it serves");
    world.disk.kill();
    drop((spool, reader));

    let name = world.segments().pop().expect("a segment");
    assert!(name.ends_with("00000003.log"), "{name:?}");
    world.disk.set(bad(HEADER + 4, "00000003.log"));
    let spool = world.open_with(keep("s2"));
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert!(texts_at_last(&mut reader) == new[1..]);
    let books = books(&spool);
    assert_eq!((books.accepted, books.delivered, books.pending), (10, 8, 2));
    assert!(spool.stats().set_aside_bytes < 100_000);
}

#[test]
fn promise_3_what_comes_while_a_bad_place_is_passed_is_counted_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let world = World::new();
    let spool = world.open("s1");
    // Before there is a reader, so that it reads them from the disk.
    for text in ["bad", "good"] {
        runtime.block_on(put(&spool, &ada(), &text.repeat(LONG)));
    }
    world.disk.set(bad(HEADER + 4, "00000001.log"));
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    for _ in 0..2 {
        reader.try_next().expect_err("it is tried again");
    }
    world.disk.set(Faults {
        hang_reads: true,
        ..bad(HEADER + 4, "00000001.log")
    });
    std::thread::scope(|threads| {
        let reading = threads.spawn(|| texts(&mut reader));
        world.disk.wait_until_one_hangs();
        runtime.block_on(put(&spool, &ada(), "late"));
        world.disk.set(bad(HEADER + 4, "00000001.log"));
        assert!(reading.join().expect("no panic") == ["good".repeat(LONG), "late".to_owned()]);
    });
    assert_eq!(
        books(&spool),
        Books {
            accepted: 3,
            set_aside: 1,
            pending: 2,
            ..Books::default()
        }
    );
}

#[tokio::test]
async fn what_waits_for_an_answer_is_read_again_also_where_its_segments_start_cannot_be() {
    let world = World::new();
    let spool = world.open("s1");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    put(&spool, &ada(), "waits").await;
    let waits = reader.next().await.expect("a record");
    world.disk.set(bad(0, "00000001.log"));
    let again = reader.resolver().again(waits.position).expect("readable");
    assert_eq!(again.expect("no answer").bytes.to_bytes(), "waits");
}

#[tokio::test]
async fn promise_3_what_cannot_be_opened_for_want_of_descriptors_is_no_bad_place_however_long_that_lasts() {
    let world = World::new();
    let spool = world.open("s1");
    // Before there is a reader, so that it reads it from the disk.
    put(&spool, &ada(), "whole").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    world.disk.set(Faults {
        open: true,
        ..Faults::default()
    });
    for _ in 0..10 {
        let error = reader.try_next().expect_err("it is tried again");
        assert_eq!(error.raw_os_error(), Some(24));
    }
    world.disk.set(Faults::default());
    assert_eq!(texts(&mut reader), ["whole"]);
}

#[tokio::test]
async fn a_cursor_that_can_be_neither_read_nor_written_is_made_anew_at_once() {
    let world = three_spans(true).await;
    let owner = Owner(person().fingerprint());
    let path = PathBuf::from(format!("/spool/{}/traces/cursor", owner.0));
    world.disk.wear(&path);
    let spool = world.open("s2");
    let mut reader = spool.reader(&owner, TRACES).expect("a reader");
    let position = reader.next().await.expect("a record").position;
    reader.resolve(position, super::delivered(1)).expect("books");
    world.disk.kill();
    drop((spool, reader));
    assert_eq!(
        books(&world.open("s3")).delivered,
        1,
        "what was answered for is not sent again"
    );
}

#[tokio::test]
async fn what_an_absent_owner_left_expires_also_where_it_cannot_be_read() {
    let world = three_spans(true).await;
    let record = (HEAD + span(1).len()) as u64;
    let hole = || bad(HEADER + 3 * record + 1, "00000001.log");
    world.disk.set(hole());
    let spool = world.open("s2");
    let (soon, late) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(7200));
    assert_eq!(spool.expire(&ada(), soon).await.expect("expires"), 0);
    assert_eq!(world.segments().len(), 1);
    let short = Faults { open: true, ..hole() };
    world.disk.set(short);
    assert_eq!(spool.expire(&ada(), late).await.expect("expires"), 0);
    assert_eq!(
        world.segments().len(),
        1,
        "it could not be counted for want of descriptors"
    );
    world.disk.set(hole());
    assert_eq!(spool.expire(&ada(), late).await.expect("expires"), 3);
    assert_eq!(world.segments().len(), 0);
    assert_eq!((books(&spool).accepted, books(&spool).expired), (3, 3));
    assert_eq!(spool.stats().bytes, 0);
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

#[test]
fn a_cursor_of_which_nothing_is_good_is_written_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join(CURSOR), [0xab; 1024]).expect("a file");
    let read = || Cursor::read(&disk::System.open(&dir.path().join(CURSOR)).expect("a file"));
    assert_eq!(read(), (Cursor::default(), false));
    cursor::make(&disk::System, dir.path(), &Cursor::default()).expect("a cursor");
    assert_eq!(read(), (Cursor::default(), true));
}
