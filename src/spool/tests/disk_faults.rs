//! Promises 1, 2 and 3 on a disk that is full, fails, hangs, or loses its power.

use std::pin::pin;

use super::{super::segment::HEAD, fault::Faults, *};

#[tokio::test]
async fn promise_1_accepted_means_on_disk_after_a_power_cut_that_spares_only_what_was_synced() {
    let world = World::new();
    let spool = world.open("s1");
    for text in ["a", "b"] {
        put(&spool, &ada(), text).await;
    }
    world.disk.cut_power(|_| 0);
    drop(spool);
    let spool = world.open("s2");
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["a", "b"]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 2,
            pending: 2,
            ..Books::default()
        }
    );
}

#[tokio::test]
async fn promise_1_a_committer_that_panics_takes_along_all_that_runs_beside_it_and_nothing_is_accepted() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "before").await;
    let receiver = spool.runtime().spawn(std::future::pending::<()>());
    world.disk.set(Faults {
        panic: true,
        ..Faults::default()
    });
    let append = async |text: &'static str| spool.append(&ada(), TRACES, 1, Bytes::from(text)).await;
    assert!(matches!(append("at the fault").await, Err(AppendError::Closed)));
    let ended = receiver.await.expect_err("it would answer for nobody");
    assert!(ended.is_cancelled(), "which ends the agent");
    assert!(matches!(append("after it").await, Err(AppendError::Closed)));
    assert!(spool.let_go(&ada()).await.is_err());
    spool.close().await;
    world.disk.cut_power(|_| 0);
    drop(spool);
    world.disk.set(Faults::default());
    let spool = world.open("s2");
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["before"]);
}

#[tokio::test]
async fn a_torn_tail_was_never_accepted_and_is_not_read() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "whole").await;
    world.disk.kill();
    drop(spool);
    let segment = world.segments()[0].clone();
    world.disk.tamper(&segment, |bytes| {
        let torn = bytes[HEADER as usize..].to_vec();
        bytes.extend_from_slice(&torn[..torn.len() - 2]);
    });
    let spool = world.open("s2");
    put(&spool, &ada(), "next").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert_eq!(texts(&mut reader), ["whole", "next"]);
    assert_eq!(spool.stats().set_aside, 0);
    assert_eq!(world.segments().len(), 2, "every start writes into a new segment");
}

#[tokio::test]
async fn promise_3_a_corrupt_sealed_record_is_set_aside_with_its_count_and_the_rest_is_read() {
    let world = World::new();
    let spool = world.open("s1");
    for text in ["first", "second", "third"] {
        spool
            .append(&ada(), TRACES, 7, Bytes::from_static(text.as_bytes()))
            .await
            .expect("accepted");
    }
    spool.close().await;
    let at = HEADER as usize + HEAD + "first".len() + HEAD;
    world.disk.tamper(&world.segments()[0], |bytes| bytes[at] ^= 1);
    let spool = world.open("s2");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert_eq!(texts(&mut reader), ["first", "third"]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 21,
            set_aside: 7,
            pending: 14,
            ..Books::default()
        }
    );
    let entry = spool.set_aside().expect("a list").remove(0);
    assert_eq!((entry.items, entry.bytes, entry.reason.as_str()), (7, 6, "corrupt"));
    let refused = spool.retry(&entry.id).await.expect_err("it cannot be sent");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn promise_3_a_corrupt_head_loses_no_record_behind_it_and_no_item_in_the_books() {
    for sealed in [true, false] {
        let world = World::new();
        let spool = world.open("s1");
        for text in ["first", "second", "third"] {
            spool
                .append(&ada(), TRACES, 7, Bytes::from_static(text.as_bytes()))
                .await
                .expect("accepted");
        }
        if sealed {
            spool.close().await;
        }
        world.disk.kill();
        drop(spool);
        let at = HEADER as usize + HEAD + "first".len();
        world.disk.tamper(&world.segments()[0], |bytes| bytes[at] ^= 1);
        let spool = world.open("s2");
        let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
        assert_eq!(texts(&mut reader), ["first", "third"]);
        // Without a footer nobody knows how many items the bad bytes were.
        let lost = if sealed { 7 } else { 0 };
        assert_eq!(
            books(&spool),
            Books {
                accepted: 14 + lost,
                set_aside: lost,
                pending: 14,
                ..Books::default()
            }
        );
        assert_eq!(
            spool.set_aside().expect("a list")[0].bytes,
            (HEAD + "second".len()) as u64
        );
    }
}

#[tokio::test]
async fn a_full_disk_refuses_drains_and_recovers() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "before").await;
    world.disk.set(Faults {
        full: true,
        ..Faults::default()
    });
    for _ in 0..3 {
        let refused = spool.append(&ada(), TRACES, 1, Bytes::from_static(b"refused")).await;
        assert!(matches!(refused, Err(AppendError::Disk(_))));
    }
    assert!(spool.stats().trouble.is_some());
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let record = reader.next().await.expect("it drains");
    reader
        .resolve(record.position, delivered(1))
        .expect("the cursor needs no room");
    world.disk.set(Faults::default());
    put(&spool, &ada(), "after").await;
    assert_eq!(spool.stats().trouble, None);
    assert_eq!(texts(&mut reader), ["after"]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 2,
            delivered: 1,
            pending: 1,
            ..Books::default()
        }
    );
    drop(reader);
    world.disk.cut_power(|live| live);
    drop(spool);
    assert_eq!(
        texts(&mut world.open("s2").reader(&ada(), TRACES).expect("a reader")),
        ["after"]
    );
}

#[tokio::test]
async fn a_full_disk_before_the_first_record_is_survived_too() {
    let world = World::new();
    let spool = world.open("s1");
    world.disk.set(Faults {
        full: true,
        ..Faults::default()
    });
    assert!(
        spool
            .append(&ada(), TRACES, 1, Bytes::from_static(b"refused"))
            .await
            .is_err()
    );
    world.disk.set(Faults::default());
    put(&spool, &ada(), "after").await;
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["after"]);
}

#[tokio::test]
async fn after_a_failed_sync_the_segment_is_abandoned_and_its_waiters_are_refused() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "before").await;
    world.disk.set(Faults {
        sync: true,
        ..Faults::default()
    });
    let refused = spool.append(&ada(), TRACES, 1, Bytes::from_static(b"refused")).await;
    assert!(matches!(refused, Err(AppendError::Disk(_))));
    world.disk.set(Faults::default());
    put(&spool, &ada(), "after").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert_eq!(texts(&mut reader), ["before", "after"]);
    assert_eq!(world.segments().len(), 2, "nothing is synced twice");
    drop(reader);
    world.disk.cut_power(|_| 0);
    drop(spool);
    let spool = world.open("s2");
    assert_eq!(
        texts(&mut spool.reader(&ada(), TRACES).expect("a reader")),
        ["before", "after"]
    );
    assert_eq!(
        books(&spool),
        Books {
            accepted: 2,
            pending: 2,
            ..Books::default()
        }
    );
}

#[tokio::test]
async fn what_cannot_be_set_aside_for_want_of_room_is_not_answered_for() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "poison").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let record = reader.next().await.expect("a record");
    let part = Part {
        bytes: record.bytes.to_bytes(),
        items: 1,
        reason: "400".to_owned(),
    };
    let outcome = Outcome {
        set_aside: vec![part],
        ..Outcome::default()
    };
    world.disk.set(Faults {
        full: true,
        ..Faults::default()
    });
    let refused = reader.resolve(record.position, outcome.clone()).expect_err("no room");
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(books(&spool).pending, 1);
    world.disk.set(Faults::default());
    reader.resolve(record.position, outcome).expect("room again");
    assert_eq!(
        books(&spool),
        Books {
            accepted: 1,
            set_aside: 1,
            ..Books::default()
        }
    );
    assert_eq!(spool.set_aside().expect("a list").len(), 1);
}

#[tokio::test]
async fn on_a_full_disk_what_was_sent_makes_room_for_what_was_not() {
    for quota in [false, true] {
        makes_room(quota).await;
    }
}

async fn makes_room(quota: bool) {
    let world = World::new();
    let spool = world.open("s1");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    world.disk.set(Faults {
        room: Some(10_000),
        quota,
        ..Faults::default()
    });
    let text = "x".repeat(1000);
    let mut accepted = 0;
    while spool.append(&ada(), TRACES, 1, text.clone().into_bytes()).await.is_ok() {
        accepted += 1;
    }
    assert!((5..10).contains(&accepted), "{accepted}");
    assert!(spool.stats().trouble.is_some());
    let refused = spool.append(&ada(), TRACES, 1, text.clone().into_bytes()).await;
    assert!(
        matches!(refused, Err(AppendError::Disk(_))),
        "unsent data gives way to nothing"
    );
    assert_eq!(world.segments().len(), 1, "a refusal leaves nothing behind");
    for _ in 0..accepted {
        let record = reader.next().await.expect("a record");
        reader.resolve(record.position, delivered(1)).expect("booked");
    }
    put(&spool, &ada(), &text).await;
    assert_eq!(texts(&mut reader), [text]);
    assert_eq!(spool.stats().trouble, None);
    assert_eq!(
        books(&spool),
        Books {
            accepted: accepted + 1,
            delivered: accepted,
            pending: 1,
            ..Books::default()
        }
    );
}

#[tokio::test]
async fn promise_2_a_start_reads_only_the_newest_segment_whatever_the_backlog() {
    let world = World::new();
    let spool = world.open("s1");
    let large = Bytes::from(vec![7; 9 << 20]);
    for _ in 0..4 {
        spool.append(&ada(), TRACES, 1, large.clone()).await.expect("accepted");
    }
    spool.close().await;
    drop(spool);
    let spool = world.open("s2");
    put(&spool, &ada(), "newest").await;
    world.disk.kill();
    drop(spool);
    world.disk.bytes_read();
    let spool = world.open("s3");
    assert!(world.disk.bytes_read() < 4096);
    assert_eq!(books(&spool).pending, 5);
    assert_eq!(spool.stats().bytes, 4 * (HEAD as u64 + (9 << 20)) + HEAD as u64 + 6);
}

#[tokio::test]
async fn a_reader_that_keeps_up_reads_no_disk_and_one_that_does_not_loses_nothing() {
    let world = World::new();
    let spool = world.open("s1");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    world.disk.bytes_read();
    put(&spool, &ada(), "at once").await;
    assert_eq!(texts(&mut reader), ["at once"]);
    assert_eq!(world.disk.bytes_read(), 0);
    let many: Vec<String> = (0..40).map(|n| format!("{n:060000}")).collect();
    for text in &many {
        put(&spool, &ada(), text).await;
    }
    assert_eq!(texts(&mut reader), many);
    assert!(world.disk.bytes_read() > 0);
}

#[tokio::test]
async fn what_is_ready_together_shares_a_sync() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "so that there is a segment").await;
    let before = world.disk.syncs();
    let senders = spool.runtime().spawn({
        let spool = spool.clone();
        async move {
            let mut senders = tokio::task::JoinSet::new();
            for n in 0..10 {
                let spool = spool.clone();
                senders.spawn(async move { put(&spool, &ada(), &format!("sender {n}")).await });
            }
            senders.join_all().await
        }
    });
    senders.await.expect("all ten are accepted");
    assert_eq!(world.disk.syncs() - before, 1);
}

#[tokio::test]
async fn a_sync_that_hangs_holds_up_those_who_wait_for_it_and_nobody_else() {
    let world = World::new();
    let spool = world.open("s1");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    put(&spool, &ada(), "before").await;
    world.disk.set(Faults {
        hang: true,
        ..Faults::default()
    });
    let ada = ada();
    let mut during = pin!(put(&spool, &ada, "during"));
    tokio::select! {
        biased;
        () = &mut during => panic!("nothing is accepted before it is synced"),
        () = tokio::task::yield_now() => world.disk.wait_until_one_hangs(),
    }
    let record = reader.next().await.expect("what was accepted can be sent");
    reader.resolve(record.position, delivered(1)).expect("books");
    assert_eq!((books(&spool).delivered, books(&spool).pending), (1, 0));
    world.disk.set(Faults::default());
    during.await;
    assert_eq!(texts(&mut reader), ["during"]);
}

#[tokio::test]
async fn a_rename_that_hangs_holds_up_nobody_who_looks_at_the_log() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "old").await;
    put(&spool, &spool.pending(), "early").await;
    world.disk.set(Faults {
        hang_renames: true,
        ..Faults::default()
    });
    let adopted = tokio::spawn({
        let spool = spool.clone();
        async move { spool.adopt(&ada()).await }
    });
    tokio::task::yield_now().await;
    world.disk.wait_until_one_hangs();
    let (told, looked) = std::sync::mpsc::channel();
    let looking = thread::spawn({
        let spool = spool.clone();
        move || told.send(books(&spool).pending)
    });
    let pending = looked.recv_timeout(Duration::from_secs(5));
    world.disk.set(Faults::default());
    adopted.await.expect("no panic").expect("adopts");
    assert_eq!(pending, Ok(2), "while it hangs");
    looking.join().expect("no panic").expect("it was heard");
    assert_eq!(
        texts(&mut spool.reader(&ada(), TRACES).expect("a reader")),
        ["old", "early"]
    );
}

#[tokio::test]
async fn a_bad_sector_takes_only_its_own_record_and_that_is_counted() {
    let world = World::new();
    let spool = world.open("s1");
    for text in ["first", "second", "third"] {
        put(&spool, &ada(), text).await;
    }
    spool.close().await;
    drop(spool);
    let spool = world.open("s2");
    let bad_sector = Some(HEADER + HEAD as u64 + 5 + HEAD as u64 + 3);
    world.disk.set(Faults {
        bad_sector,
        ..Faults::default()
    });
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let mut read = Vec::new();
    // A failed read is told, and the same place is tried again.
    for _ in 0..10 {
        while let Ok(Some(record)) = reader.try_next() {
            read.push(record.bytes.to_bytes());
        }
    }
    assert_eq!(read, [&b"first"[..], &b"third"[..]]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 3,
            set_aside: 1,
            pending: 2,
            ..Books::default()
        }
    );
    world.disk.set(Faults::default());
    assert_eq!(spool.set_aside().expect("a list")[0].reason, "unreadable");
}

#[tokio::test]
async fn what_waits_for_an_answer_is_read_again_as_it_was_or_not_at_all() {
    let world = World::new();
    let spool = world.open("s1");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    for text in ["answered", "waits", "spoilt"] {
        put(&spool, &ada(), text).await;
    }
    let answered = reader.next().await.expect("a record").position;
    let waits = reader.next().await.expect("a record");
    let spoilt = reader.next().await.expect("a record").position;
    let resolver = reader.resolver();
    resolver.resolve(answered, delivered(1)).expect("books");
    let at = spoilt.offset as usize + HEAD;
    world.disk.tamper(&world.segments()[0], |bytes| bytes[at] ^= 1);

    assert!(resolver.again(answered).expect("known").is_none());
    let again = resolver.again(waits.position).expect("readable").expect("no answer");
    assert_eq!(
        (again.bytes.to_bytes(), again.items),
        (waits.bytes.to_bytes(), waits.items)
    );
    let refused = resolver.again(spoilt).expect_err("it changed");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);

    // A start has it set aside.
    drop((reader, resolver));
    spool.close().await;
    let spool = world.open("s2");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert_eq!(texts(&mut reader), ["waits"]);
    assert_eq!((books(&spool).set_aside, books(&spool).pending), (1, 1));
}

#[tokio::test]
async fn history_makes_room_for_what_must_be_set_aside() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "sent").await;
    spool.close().await;
    drop(spool);
    let spool = world.open("s2");
    put(&spool, &ada(), "poison").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let sent = reader.next().await.expect("a record");
    reader.resolve(sent.position, delivered(1)).expect("books");
    let poison = reader.next().await.expect("a record");
    let part = Part {
        bytes: poison.bytes.to_bytes(),
        items: 1,
        reason: "400".to_owned(),
    };
    let outcome = Outcome {
        set_aside: vec![part],
        ..Outcome::default()
    };
    let before = world.segments().len();
    world.disk.set(Faults {
        full: true,
        ..Faults::default()
    });
    reader.resolve(poison.position, outcome).expect_err("no room");
    spool
        .expire(&ada(), UNIX_EPOCH)
        .await
        .expect("the committer has done what was asked before");
    assert_eq!((before, world.segments().len()), (2, 1));
}

#[tokio::test]
async fn an_entry_is_sent_again_once_however_often_it_is_asked_for_while_the_disk_is_busy() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "refused once").await;
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let refused = reader.next().await.expect("a record");
    let part = Part {
        bytes: refused.bytes.to_bytes(),
        items: 1,
        reason: "400".to_owned(),
    };
    let outcome = Outcome {
        set_aside: vec![part],
        ..Outcome::default()
    };
    reader.resolve(refused.position, outcome).expect("books");
    let id = spool.set_aside().expect("a list").remove(0).id;
    world.disk.set(Faults {
        hang: true,
        ..Faults::default()
    });
    {
        let mut first = pin!(spool.retry(&id));
        tokio::select! {
            biased;
            _ = &mut first => panic!("nothing is appended before it is synced"),
            () = tokio::task::yield_now() => world.disk.wait_until_one_hangs(),
        }
        let mut second = pin!(spool.retry(&id));
        let again = tokio::select! {
            biased;
            again = &mut second => Some(again),
            () = tokio::task::yield_now() => None,
        };
        let given_up = spool.give_up(&id);
        // Before anything is asserted: a spool is not dropped while its disk hangs.
        world.disk.set(Faults::default());
        first.await.expect("appended again");
        for refused in [again.expect("it does not wait to append twice"), given_up] {
            let kind = refused.expect_err("it is under way").kind();
            assert_eq!(kind, io::ErrorKind::ResourceBusy);
        }
    }
    let gone = spool.retry(&id).await.expect_err("it was appended");
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert_eq!(texts(&mut reader), ["refused once"]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 1,
            pending: 1,
            ..Books::default()
        }
    );
    assert_eq!(spool.stats().set_aside, 0);
}
