//! Promise 3 where upstream refuses for good: what is set aside takes room until somebody decides about it.

use super::{fault::Faults, *};

use std::{
    pin::pin,
    task::{Context, Waker},
};

const KIB: usize = 1024;
/// Of the caps in these stories, which are small.
const MAX: u64 = 400 * 1024;

fn small(session: &str) -> Config {
    Config {
        max_bytes: MAX,
        session: session.to_owned(),
        ..config(Path::new("/spool"))
    }
}

fn kibibytes(n: usize) -> Bytes {
    Bytes::from(vec![0; n * KIB])
}

/// What upstream's 400 means for a record.
fn refused(record: &Record) -> Outcome {
    let part = Part {
        bytes: record.bytes.to_bytes(),
        items: record.items,
        reason: "400".to_owned(),
    };
    Outcome {
        set_aside: vec![part],
        ..Outcome::default()
    }
}

async fn refuse_all(reader: &mut Reader) {
    while let Some(record) = reader.try_next().expect("readable") {
        reader.resolve(record.position, refused(&record)).expect("books");
    }
}

fn size(world: &World, path: &Path) -> u64 {
    disk::Disk::size(&*world.disk, path).expect("a file")
}

/// What all set-aside entries take, in whole blocks.
fn taken(world: &World) -> u64 {
    let entries = world.disk.files().into_iter();
    entries
        .filter(|path| path.to_string_lossy().contains("set-aside"))
        .map(|path| size(world, &path).next_multiple_of(4096))
        .sum()
}

#[tokio::test]
async fn promise_3_what_is_set_aside_takes_room_until_it_is_given_up_or_sent() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    for _ in 0..2 {
        spool
            .append(&ada(), TRACES, 1, kibibytes(90))
            .await
            .expect("there is room");
    }
    refuse_all(&mut reader).await;
    let stats = spool.stats();
    assert_eq!(
        (stats.bytes, stats.set_aside, stats.set_aside_bytes),
        (0, 2, 2 * 92 * 1024)
    );
    assert_eq!(stats.full, ["traces"], "and that is said");

    let one_more = async |spool: &Spool| spool.append(&ada(), TRACES, 1, kibibytes(90)).await;
    assert!(matches!(one_more(&spool).await, Err(AppendError::Full)));
    spool
        .append(&ada(), "logs", 1, kibibytes(90))
        .await
        .expect("another lane has room");
    drop(reader);
    spool.close().await;
    drop(spool);

    let spool = world.open_with(small("s2"));
    assert_eq!(spool.stats().set_aside_bytes, 2 * 92 * 1024, "the next start knows");
    assert!(matches!(one_more(&spool).await, Err(AppendError::Full)));
    let entries = spool.set_aside().expect("a list");
    spool.give_up(&entries[0].id).expect("deleted");
    one_more(&spool).await.expect("room again");

    assert!(matches!(one_more(&spool).await, Err(AppendError::Full)));
    spool
        .retry(&entries[1].id)
        .await
        .expect("it has its room already, however full the spool is");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    for record in [reader.next().await, reader.next().await] {
        let position = record.expect("a record").position;
        reader.resolve(position, delivered(1)).expect("books");
    }
    assert_eq!((spool.stats().set_aside_bytes, spool.stats().full), (0, Vec::new()));
    one_more(&spool).await.expect("room again");
}

#[tokio::test]
async fn promise_3_a_backlog_that_is_refused_as_a_whole_stays_in_the_spool_beyond_the_cap() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    // Small ones, because an entry takes whole blocks of the disk.
    let mut accepted = 0;
    while spool.append(&ada(), TRACES, 1, kibibytes(1)).await.is_ok() {
        accepted += 1;
    }
    let mut set_aside = 0;
    let waits = loop {
        let record = reader.try_next().expect("readable").expect("not all fits");
        if let Err(error) = reader.resolve(record.position, refused(&record)) {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            break record;
        }
        set_aside += 1;
    };
    assert!((1..accepted).contains(&set_aside), "{set_aside} of {accepted}");
    assert!(spool.stats().bytes + taken(&world) <= MAX / 2 + MAX / 8);
    assert_eq!(spool.stats().set_aside_bytes, taken(&world));
    let trouble = spool.stats().trouble;
    assert_eq!(trouble, None, "the disk is fine");
    assert_eq!(
        books(&spool),
        Books {
            accepted,
            set_aside,
            pending: accepted - set_aside,
            ..Books::default()
        }
    );

    for entry in spool.set_aside().expect("a list") {
        spool.give_up(&entry.id).expect("deleted");
    }
    reader.resolve(waits.position, refused(&waits)).expect("room again");
}

#[tokio::test]
async fn one_poison_record_holds_up_no_spool_that_is_full_to_the_brim() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    while spool.append(&ada(), TRACES, 1, kibibytes(8)).await.is_ok() {}
    let poison = reader.next().await.expect("a record");
    reader.resolve(poison.position, refused(&poison)).expect("books");
    assert_eq!(spool.stats().set_aside, 1);
}

#[tokio::test]
async fn an_entry_that_is_written_again_counts_once_also_after_half_of_a_record_failed() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    put(&spool, &ada(), "poison").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let record = reader.next().await.expect("a record");
    let half = |items, kib| Part {
        bytes: kibibytes(kib),
        items,
        reason: "413".to_owned(),
    };
    let outcome = Outcome {
        set_aside: vec![half(1, 1), half(0, 60)],
        ..Outcome::default()
    };
    let used: u64 = world.disk.files().iter().map(|path| size(&world, path)).sum();
    world.disk.set(fault::Faults {
        room: Some(used as usize + 10 * KIB),
        ..fault::Faults::default()
    });
    reader
        .resolve(record.position, outcome.clone())
        .expect_err("no room for the second half");
    world.disk.set(fault::Faults::default());
    reader.resolve(record.position, outcome).expect("books");
    assert_eq!(
        (spool.stats().set_aside, spool.stats().set_aside_bytes),
        (2, taken(&world))
    );
}

#[tokio::test]
async fn an_entry_is_sent_again_once_also_where_the_cursor_cannot_be_written() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    put(&spool, &ada(), "refused once").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    refuse_all(&mut reader).await;
    let id = spool.set_aside().expect("a list").remove(0).id;
    world.disk.wear(Path::new("/spool/ada/traces/cursor"));
    spool.retry(&id).await.expect("it is in the log again");
    let gone = spool.retry(&id).await.expect_err("it was appended");
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert_eq!(texts(&mut reader), ["refused once"]);
    assert_eq!((books(&spool).accepted, books(&spool).pending), (1, 1));
}

#[tokio::test]
async fn what_an_absent_owner_had_set_aside_gives_its_room_back_when_it_is_too_old() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    let bob = Owner("bob".to_owned());
    for owner in [&ada(), &bob] {
        let put = spool.append(owner, TRACES, 1, kibibytes(90)).await;
        put.expect("there is room");
        refuse_all(&mut spool.reader(owner, TRACES).expect("a reader")).await;
    }
    let one_more = async || spool.append(&ada(), TRACES, 1, kibibytes(90)).await;
    let (soon, late) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(7200));
    spool.expire(&ada(), soon).await.expect("expires");
    assert!(matches!(one_more().await, Err(AppendError::Full)));
    spool.expire(&ada(), late).await.expect("expires");
    let left = spool.set_aside().expect("a list");
    assert_eq!((left.len(), &left[0].owner), (1, &ada()));
    assert_eq!(spool.stats().set_aside_bytes, taken(&world));
    assert_eq!(books(&spool).set_aside, 2, "the books know of both");
    one_more().await.expect("room again");
}

#[tokio::test]
async fn promise_3_what_somebody_left_is_kept_from_when_they_were_here_last_however_old_it_is() {
    let world = World::new();
    let spool = world.open("s1");
    let bob = Owner("bob".to_owned());
    let hours = |hours: u64| SystemTime::now() + Duration::from_secs(hours * 3600);
    put(&spool, &bob, "refused").await;
    refuse_all(&mut spool.reader(&bob, TRACES).expect("a reader")).await;
    put(&spool, &bob, "unsent").await;
    spool
        .expire(&bob, hours(10))
        .await
        .expect("bob is here, and nobody else was");
    spool.close().await;
    drop(spool);

    let spool = world.open("s2");
    spool.expire(&ada(), hours(10)).await.expect("looked through");
    assert_eq!(
        (books(&spool).pending, spool.stats().set_aside),
        (1, 1),
        "bob left a moment ago"
    );
    spool.expire(&ada(), hours(12)).await.expect("looked through");
    assert_eq!((books(&spool).expired, spool.stats().set_aside), (1, 0));
}

#[tokio::test]
async fn an_entry_that_grows_too_old_while_it_is_sent_again_was_sent_again() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    put(&spool, &ada(), "refused once").await;
    refuse_all(&mut spool.reader(&ada(), TRACES).expect("a reader")).await;
    let id = spool.set_aside().expect("a list").remove(0).id;
    world.disk.set(Faults {
        hang: true,
        ..Faults::default()
    });
    let mut retried = pin!(spool.retry(&id));
    let poll = retried.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending(), "while the disk hangs");
    world.disk.set(Faults::default());
    let late = SystemTime::now() + Duration::from_secs(7200);
    spool.expire(&Owner("bob".to_owned()), late).await.expect("expires");
    retried.await.expect("it was in the log again");
    assert_eq!(spool.stats().set_aside, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_absent_owner_had_set_aside_holds_up_nobody_while_it_is_deleted() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    let bob = Owner("bob".to_owned());
    put(&spool, &ada(), "before").await;
    put(&spool, &bob, "refused").await;
    refuse_all(&mut spool.reader(&bob, TRACES).expect("a reader")).await;
    world.disk.set(Faults {
        hang_unlinks: Some("set-aside"),
        ..Faults::default()
    });
    let expiring = tokio::spawn({
        let (spool, late) = (spool.clone(), SystemTime::now() + Duration::from_secs(7200));
        async move { spool.expire(&ada(), late).await }
    });
    world.disk.wait_until_one_hangs();
    let sent = tokio::time::timeout(Duration::from_secs(30), put(&spool, &ada(), "during")).await;
    world.disk.set(Faults::default());
    expiring.await.expect("no panic").expect("expires");
    assert!(sent.is_ok(), "while it hangs");
    assert_eq!(spool.stats().set_aside, 0);
}

#[tokio::test]
async fn promise_2_a_start_does_not_look_at_all_that_is_set_aside() {
    let world = World::new();
    let spool = world.open_with(small("s1"));
    put(&spool, &ada(), "poison").await;
    refuse_all(&mut spool.reader(&ada(), TRACES).expect("a reader")).await;
    spool.close().await;
    drop(spool);
    let dir = Path::new("/spool/ada/traces/set-aside");
    for n in 0..4999 {
        let file = disk::Disk::create(&*world.disk, &dir.join(format!("9-{n}-0"))).expect("a file");
        file.write_at(0, &mut [io::IoSlice::new(b"x")]).expect("room");
    }
    let before = world.disk.sized();
    let spool = world.open_with(small("s2"));
    assert_eq!(world.disk.sized() - before, 1000);
    assert_eq!(
        (spool.stats().set_aside, spool.stats().set_aside_bytes),
        (5000, 5000 * 4096)
    );
    let id = |name| format!("ada/traces/{name}");
    for n in 0..4999 {
        spool.give_up(&id(format!("9-{n}-0"))).expect("deleted");
    }
    assert_eq!((spool.stats().set_aside, spool.stats().set_aside_bytes), (1, 4096));
}
