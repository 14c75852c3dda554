//! Promises 3 and 5: caps, history, rings, expiry, and who gets what was pending.

use super::{
    super::{
        disk::Disk,
        segment::{HEAD, Id},
    },
    fault::Faults,
    *,
};

const KIB: usize = 1024;

fn place(place: &str, session: &str) -> Config {
    Config {
        place: place.to_owned(),
        session: session.to_owned(),
        ..config(Path::new("/spool"))
    }
}

#[tokio::test]
async fn promise_3_full_is_said_at_the_cap_and_one_lane_takes_half() {
    let world = World::new();
    let spool = world.open_with(Config {
        max_bytes: 100 * KIB as u64,
        ..place("here", "s1")
    });
    let record = Bytes::from(vec![0; 45 * KIB]);
    spool
        .append(&ada(), "traces", 1, record.clone())
        .await
        .expect("accepted");
    assert_eq!(spool.stats().full, ["traces"], "and that is said");
    assert!(matches!(
        spool.append(&ada(), "traces", 1, record.clone()).await,
        Err(AppendError::Full)
    ));
    spool
        .append(&ada(), "logs", 1, record.clone())
        .await
        .expect("another lane has room");
    assert!(matches!(
        spool.append(&ada(), "metrics", 1, record.clone()).await,
        Err(AppendError::Full)
    ));
    let mut reader = spool.reader(&ada(), "traces").expect("a reader");
    let sent = reader.next().await.expect("a record");
    reader.resolve(sent.position, delivered(1)).expect("books");
    assert_eq!(spool.stats().full, ["logs"]);
    spool.append(&ada(), "traces", 1, record).await.expect("room again");
}

#[tokio::test]
async fn promise_3_what_can_never_fit_is_not_told_to_come_again() {
    let world = World::new();
    let spool = world.open_with(Config {
        max_bytes: 100 * KIB as u64,
        ..place("here", "s1")
    });
    let half = 50 * KIB;
    let put = async |owner: Owner, bytes| spool.append(&owner, TRACES, 1, Bytes::from(vec![0; bytes])).await;
    assert!(matches!(
        put(ada(), half - HEAD + 1).await,
        Err(AppendError::TooLarge { most: 51_200 })
    ));
    put(ada(), half - HEAD).await.expect("it is half of the cap");
    assert!(matches!(put(ada(), half - HEAD).await, Err(AppendError::Full)));
    put(Owner::nobody(), half).await.expect("a ring is never full");
    assert_eq!(books(&spool).accepted, 2);
}

#[tokio::test]
async fn promise_3_the_cap_counts_what_an_earlier_start_left() {
    let world = World::new();
    let small = |session| Config {
        max_bytes: 100 * KIB as u64,
        ..place("here", session)
    };
    let spool = world.open_with(small("s1"));
    let record = Bytes::from(vec![0; 40 * KIB]);
    spool.append(&ada(), TRACES, 1, record.clone()).await.expect("accepted");
    spool.close().await;
    drop(spool);
    let spool = world.open_with(small("s2"));
    assert!(matches!(
        spool.append(&ada(), TRACES, 1, record).await,
        Err(AppendError::Full)
    ));
}

/// Appends `n` records that fill a segment each.
async fn fill(spool: &Spool, n: usize) {
    for _ in 0..n {
        spool
            .append(&ada(), TRACES, 1, Bytes::from(vec![1; 16 << 20]))
            .await
            .expect("accepted");
    }
}

/// Returns when the committer has done what it was asked before.
async fn committed(spool: &Spool) {
    spool.expire(&ada(), UNIX_EPOCH).await.expect("a healthy disk");
}

async fn answer_all(spool: &Spool) {
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    while let Some(record) = reader.try_next().expect("readable") {
        reader.resolve(record.position, delivered(record.items)).expect("books");
    }
}

#[tokio::test]
async fn sent_history_is_kept_up_to_its_limit_and_nothing_unsent_is_deleted() {
    let world = World::new();
    let spool = world.open_with(Config {
        keep_bytes: 40 << 20,
        ..place("here", "s1")
    });
    fill(&spool, 4).await;
    committed(&spool).await;
    assert_eq!(world.segments().len(), 4);
    answer_all(&spool).await;
    committed(&spool).await;
    let left: Vec<_> = world
        .segments()
        .iter()
        .map(|path| path.file_name().expect("a name").to_owned())
        .collect();
    assert_eq!(left, ["00000003.log", "00000004.log"]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 4,
            delivered: 4,
            ..Books::default()
        }
    );
}

#[tokio::test]
async fn promise_3_a_segment_outlives_a_cursor_whose_sync_failed() {
    let world = World::new();
    let small = |session| Config {
        keep_bytes: 20 << 20,
        ..place("here", session)
    };
    let spool = world.open_with(small("s1"));
    fill(&spool, 3).await;
    world.disk.set(Faults {
        sync: true,
        ..Faults::default()
    });
    answer_all(&spool).await;
    committed(&spool).await;
    assert_eq!(world.segments().len(), 3, "it waits for the cursor");
    world.disk.set(Faults::default());
    spool.handle.jobs.send(Job::Trim).expect("it runs");
    committed(&spool).await;
    assert_eq!(world.segments().len(), 1);
    let before = books(&spool);
    world.disk.cut_power(|_| 0);
    drop(spool);
    assert_eq!(books(&world.open_with(small("s2"))), before);
}

/// A spool whose second segment was sent and waits to serve again.
async fn with_a_spare_file(world: &World) -> Spool {
    let spool = world.open_with(Config {
        keep_bytes: 20 << 20,
        ..place("here", "s1")
    });
    fill(&spool, 2).await;
    answer_all(&spool).await;
    committed(&spool).await;
    assert!(world.disk.files().contains(&world.spare()));
    spool
}

#[tokio::test]
async fn a_segment_that_is_not_wanted_any_more_serves_again_and_nothing_of_it_comes_back() {
    let world = World::new();
    let spool = with_a_spare_file(&world).await;
    // Records of the same size: what the file held before lies exactly where more of them would be.
    put(&spool, &ada(), "new").await;
    assert!(!world.disk.files().contains(&world.spare()), "it serves");
    world.disk.kill();
    drop(spool);
    let spool = world.open("s2");
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["new"]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 3,
            delivered: 2,
            pending: 1,
            ..Books::default()
        }
    );
    spool.close().await;
    let last = world.segments().pop().expect("a segment");
    let length = world.disk.open(&last).and_then(|file| file.len()).expect("a file");
    assert!(length < 1000, "it ends where its records end");
}

#[tokio::test]
async fn a_crash_before_a_file_that_serves_again_has_its_new_header_brings_nothing_back() {
    let world = World::new();
    let spool = with_a_spare_file(&world).await;
    world.disk.kill();
    drop(spool);
    world
        .disk
        .rename(&world.spare(), &world.spare().with_file_name("00000003.log"))
        .expect("a file system");
    let spool = world.open("s2");
    let nothing: [&str; 0] = [];
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), nothing);
    assert_eq!((books(&spool).accepted, books(&spool).pending), (2, 0));
    put(&spool, &ada(), "new").await;
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["new"]);
}

#[tokio::test]
async fn what_cannot_be_marked_as_spent_is_deleted_and_holds_up_nothing_behind_it() {
    let world = World::new();
    let spool = world.open("s1");
    fill(&spool, 3).await;
    answer_all(&spool).await;
    spool.close().await;
    drop(spool);
    world.disk.set(Faults {
        write: true,
        ..Faults::default()
    });
    let spool = world.open_with(Config {
        keep_bytes: 20 << 20,
        ..place("here", "s2")
    });
    committed(&spool).await;
    assert_eq!(world.segments().len(), 1);
}

#[tokio::test]
async fn a_spare_file_that_cannot_be_opened_is_done_without() {
    let world = World::new();
    let spool = with_a_spare_file(&world).await;
    world.disk.set(Faults {
        open: true,
        ..Faults::default()
    });
    put(&spool, &ada(), "new").await;
    assert!(world.disk.files().contains(&world.spare()), "and becomes no segment");
    world.disk.set(Faults::default());
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["new"]);
}

#[tokio::test]
async fn a_spare_file_that_is_not_marked_as_spent_is_deleted() {
    let world = World::new();
    let spool = with_a_spare_file(&world).await;
    world.disk.kill();
    drop(spool);
    world.disk.tamper(&world.spare(), |bytes| bytes[0] ^= 1);
    let spool = world.open("s2");
    assert!(!world.disk.files().contains(&world.spare()));
    put(&spool, &ada(), "new").await;
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["new"]);
}

#[tokio::test]
async fn who_was_absent_for_long_has_no_spare_file() {
    let world = World::new();
    let spool = with_a_spare_file(&world).await;
    let late = SystemTime::now() + Duration::from_secs(7200);
    spool
        .expire(&Owner("bob".to_owned()), late)
        .await
        .expect("looked through");
    assert!(!world.disk.files().contains(&world.spare()));
}

#[tokio::test]
async fn with_no_history_to_keep_there_is_no_spare_file_either() {
    let world = World::new();
    let spool = with_a_spare_file(&world).await;
    spool.close().await;
    drop(spool);
    let spool = world.open_with(Config {
        keep_bytes: 0,
        ..place("here", "s2")
    });
    committed(&spool).await;
    assert!(!world.disk.files().contains(&world.spare()));
    assert_eq!(world.segments().len(), 0);
}

#[tokio::test]
async fn no_segment_number_is_used_twice_even_if_all_segments_are_gone() {
    let world = World::new();
    let none = |session| Config {
        keep_bytes: 0,
        ..place("here", session)
    };
    let spool = world.open_with(none("s1"));
    fill(&spool, 2).await;
    answer_all(&spool).await;
    spool.close().await;
    drop(spool);
    assert_eq!(world.segments().len(), 0);
    world.disk.cut_power(|_| 0);
    let spool = world.open_with(none("s2"));
    assert_eq!(
        books(&spool),
        Books {
            accepted: 2,
            delivered: 2,
            ..Books::default()
        }
    );
    put(&spool, &ada(), "new").await;
    assert!(world.segments()[0].ends_with("00000003.log"));
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["new"]);
}

#[tokio::test]
async fn promise_3_a_ring_is_never_full_and_what_it_lets_go_is_counted_as_expired() {
    let world = World::new();
    let spool = world.open_with(Config {
        max_bytes: 1 << 20,
        keep_bytes: 40 << 20,
        ..place("here", "s1")
    });
    spool.set_ring(TRACES, Some(&ada()));
    fill(&spool, 5).await;
    committed(&spool).await;
    assert_eq!(world.segments().len(), 2);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 5,
            expired: 3,
            pending: 2,
            ..Books::default()
        }
    );
    assert_eq!(spool.stats().bytes, 0, "a ring is not unsent");
    spool.set_ring(TRACES, None);
    assert_eq!(spool.stats().bytes, 2 * (HEAD as u64 + (16 << 20)));
    let full = spool.append(&ada(), TRACES, 1, Bytes::from_static(b"x")).await;
    assert!(matches!(full, Err(AppendError::Full)));
}

#[tokio::test]
async fn promise_1_what_nobody_owns_is_a_ring_and_pushes_out_nothing_of_a_principals() {
    let world = World::new();
    let small = |session| Config {
        max_bytes: 100 << 20,
        keep_bytes: 20 << 20,
        ..place("here", session)
    };
    let spool = world.open_with(small("s1"));
    fill(&spool, 3).await;
    spool.close().await;
    drop(spool);
    let spool = world.open_with(small("s2"));
    for _ in 0..5 {
        spool
            .append(&Owner::nobody(), TRACES, 1, Bytes::from(vec![1; 16 << 20]))
            .await
            .expect("a ring is never full");
    }
    committed(&spool).await;
    let of = |owner: &str| {
        world
            .segments()
            .iter()
            .filter(|path| path.starts_with(format!("/spool/{owner}")))
            .count()
    };
    assert_eq!((of("ada"), of("nobody")), (3, 1));
    let unsent = 3 * (HEAD as u64 + (16 << 20));
    assert_eq!((spool.stats().bytes, books(&spool).expired), (unsent, 4));
    let full = spool.append(&ada(), TRACES, 1, Bytes::from(vec![1; 16 << 20])).await;
    assert!(matches!(full, Err(AppendError::Full)), "hers counts as ever");
    spool.close().await;
    drop(spool);
    let spool = world.open_with(small("s3"));
    assert_eq!(spool.let_go(&Owner::nobody()).await.expect("history"), 1);
    assert_eq!((spool.stats().bytes, books(&spool).pending), (unsent, 3));
    let lanes = &spool.handle.core.caps.lock().expect("caps").lanes;
    assert_eq!(lanes[TRACES].unsent, unsent);
}

#[tokio::test]
async fn promise_5_what_upstream_does_not_take_of_one_pushes_out_nothing_of_another() {
    let world = World::new();
    let spool = world.open_with(Config {
        max_bytes: 100 << 20,
        keep_bytes: 20 << 20,
        ..place("here", "s1")
    });
    let grace = Owner("grace".to_owned());
    let put = async |owner: &Owner, lane| {
        let large = Bytes::from(vec![1; 16 << 20]);
        spool.append(owner, lane, 1, large).await
    };
    for _ in 0..2 {
        put(&grace, TRACES).await.expect("accepted");
    }
    spool.set_ring(TRACES, Some(&ada()));
    for _ in 0..5 {
        put(&ada(), TRACES).await.expect("a ring is never full");
    }
    committed(&spool).await;
    let hers = 2 * (HEAD as u64 + (16 << 20));
    assert_eq!(spool.unsent_of(&grace), hers);
    assert_eq!((spool.stats().bytes, books(&spool).expired), (hers, 4));
    for lane in ["metrics", "logs"] {
        for _ in 0..2 {
            put(&ada(), lane).await.expect("there is room");
        }
    }
    let full = put(&ada(), "metrics").await;
    assert!(matches!(full, Err(AppendError::Full)), "what waits takes room as ever");
    let mut reader = spool.reader(&grace, TRACES).expect("a reader");
    assert!(reader.next().await.is_ok(), "and is sent when she is here");
}

#[tokio::test]
async fn beside_a_ring_room_is_what_the_others_leave() {
    let world = World::new();
    let spool = world.open_with(Config {
        max_bytes: 100 * KIB as u64,
        ..place("here", "s1")
    });
    let put = async |owner: &str, lane| {
        let record = Bytes::from(vec![0; 45 * KIB]);
        spool.append(&Owner(owner.to_owned()), lane, 1, record).await
    };
    spool.set_ring(TRACES, Some(&ada()));
    put("grace", TRACES).await.expect("there is room");
    let full = put("grace", TRACES).await;
    assert!(matches!(full, Err(AppendError::Full)), "the ring is somebody else's");
    put("ada", "logs").await.expect("there is room");
    assert!(matches!(put("ada", "metrics").await, Err(AppendError::Full)));
    let late = SystemTime::now() + Duration::from_secs(7200);
    assert_eq!(spool.expire(&ada(), late).await.expect("expires"), 1);
    put("ada", "metrics").await.expect("what expired takes none");
}

/// As if the wall clock had been ahead when the last record of a segment came in.
fn put_ahead(world: &World, path: &Path) {
    let file = world.disk.open(path).expect("a segment");
    let len = file.len().expect("a length");
    let id = Id::read(&file, len).expect("readable").expect("an id");
    let mut tally = segment::footer(&file, len, id).expect("readable").expect("a footer");
    tally.last += 86_400_000;
    file.write_at(tally.end(), &mut [io::IoSlice::new(&tally.encode(id))])
        .expect("a healthy disk");
}

#[tokio::test]
async fn promise_3_a_ring_lets_its_oldest_go_also_after_the_wall_clock_stepped_back() {
    let world = World::new();
    let spool = world.open("s1");
    fill(&spool, 4).await;
    spool.close().await;
    drop(spool);
    for path in &world.segments()[..2] {
        put_ahead(&world, path);
    }
    let spool = world.open_with(Config {
        keep_bytes: 40 << 20,
        ..place("here", "s2")
    });
    spool.set_ring(TRACES, Some(&ada()));
    committed(&spool).await;
    assert_eq!(
        books(&spool),
        Books {
            accepted: 4,
            expired: 2,
            pending: 2,
            ..Books::default()
        }
    );
    spool.set_ring(TRACES, None);
    let unsent = 2 * (HEAD as u64 + (16 << 20));
    assert_eq!(spool.stats().bytes, unsent);
    assert_eq!(
        spool.handle.core.caps.lock().expect("caps").lanes[TRACES].unsent,
        unsent
    );
}

#[tokio::test]
async fn only_what_absent_owners_left_too_long_expires_and_the_count_survives() {
    let world = World::new();
    let spool = world.open("s1");
    let bob = Owner("bob".to_owned());
    put(&spool, &ada(), "ada's").await;
    put(&spool, &bob, "bob's").await;
    spool.close().await;
    drop(spool);
    let spool = world.open("s2");
    let (soon, late) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(7200));
    assert_eq!(spool.expire(&ada(), soon).await.expect("expires"), 0);
    assert_eq!(spool.expire(&ada(), late).await.expect("expires"), 1);
    let after = Books {
        accepted: 2,
        expired: 1,
        pending: 1,
        ..Books::default()
    };
    assert_eq!(books(&spool), after);
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["ada's"]);
    assert_eq!(
        texts(&mut spool.reader(&bob, TRACES).expect("a reader")),
        Vec::<String>::new()
    );
    world.disk.cut_power(|_| 0);
    drop(spool);
    assert_eq!(books(&world.open("s3")), after);
}

#[tokio::test]
async fn what_a_principal_left_expires_also_while_the_agent_that_took_it_goes_on() {
    let world = World::new();
    let spool = world.open("s1");
    let bob = Owner("bob".to_owned());
    put(&spool, &ada(), "ada's").await;
    put(&spool, &bob, "bob's").await;
    put(&spool, &spool.pending(), "this start's").await;
    let (soon, late) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(7200));
    assert_eq!(spool.expire(&ada(), soon).await.expect("expires"), 0);
    put(&spool, &bob, "more of bob's").await;
    assert_eq!(world.segments().len(), 3, "it goes on in the same segment");
    assert_eq!(spool.expire(&ada(), late).await.expect("expires"), 2);
    assert_eq!((books(&spool).expired, books(&spool).pending), (2, 2));
    assert_eq!(world.segments().len(), 2);
}

#[tokio::test]
async fn promise_5_this_starts_pending_goes_to_its_first_principal_by_one_rename() {
    let world = World::new();
    let spool = world.open("s1");
    let pending = spool.pending();
    put(&spool, &pending, "early").await;
    // The exporter may be there first.
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert_eq!(texts(&mut reader), Vec::<String>::new());
    spool.adopt(&ada()).await.expect("adopts");
    put(&spool, &pending, "in flight").await;
    put(&spool, &ada(), "later").await;
    assert_eq!(texts(&mut reader), ["early", "in flight", "later"]);
    let bob = Owner("bob".to_owned());
    spool
        .adopt(&bob)
        .await
        .expect("there is nothing for a second principal");
    assert_eq!(
        texts(&mut spool.reader(&bob, TRACES).expect("a reader")),
        Vec::<String>::new()
    );
    assert!(
        world
            .disk
            .files()
            .iter()
            .all(|path| !path.to_string_lossy().contains("pending"))
    );
    drop(reader);
    world.disk.cut_power(|_| 0);
    drop(spool);
    let spool = world.open("s2");
    assert_eq!(
        texts(&mut spool.reader(&ada(), TRACES).expect("a reader")),
        ["early", "in flight", "later"]
    );
}

#[tokio::test]
async fn promise_5_adoption_joins_an_owner_that_has_a_backlog() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &ada(), "old").await;
    put(&spool, &spool.pending(), "early").await;
    spool.adopt(&ada()).await.expect("adopts");
    put(&spool, &ada(), "later").await;
    assert_eq!(
        texts(&mut spool.reader(&ada(), TRACES).expect("a reader")),
        ["old", "early", "later"]
    );
    assert_eq!(
        books(&spool),
        Books {
            accepted: 3,
            pending: 3,
            ..Books::default()
        }
    );
    world.disk.cut_power(|_| 0);
    drop(spool);
    let spool = world.open("s2");
    assert_eq!(
        texts(&mut spool.reader(&ada(), TRACES).expect("a reader")),
        ["old", "early", "later"]
    );
    assert_eq!(
        books(&spool),
        Books {
            accepted: 3,
            pending: 3,
            ..Books::default()
        }
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_adopted_keeps_no_other_from_it() {
    let world = World::new();
    let spool = world.open("s1");
    put(&spool, &spool.pending(), "an earlier start's").await;
    spool.close().await;
    drop(spool);
    let spool = world.open("s2");
    for owner in [ada(), spool.pending()] {
        let put = spool.append(&owner, "logs", 1, Bytes::from_static(b"a log")).await;
        put.expect("accepted");
    }
    put(&spool, &spool.pending(), "early").await;
    world.disk.wear(Path::new("/spool/ada/logs/cursor"));
    spool.adopt(&ada()).await.expect_err("the books cannot be joined");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert_eq!(texts(&mut reader), ["an earlier start's", "early"]);
}

#[tokio::test]
async fn promise_5_what_an_earlier_start_left_is_adopted_in_the_same_place_only() {
    let world = World::new();
    for (at, session, text) in [("here", "s1", "mine"), ("elsewhere", "s2", "not mine")] {
        let spool = world.open_with(place(at, session));
        put(&spool, &spool.pending(), text).await;
        world.disk.kill();
    }
    let spool = world.open_with(place("here", "s3"));
    world.disk.set(Faults {
        open: true,
        ..Faults::default()
    });
    spool
        .adopt(&ada())
        .await
        .expect_err("it cannot be told where they are from");
    world.disk.set(Faults::default());
    spool.adopt(&ada()).await.expect("adopts");
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["mine"]);
    assert_eq!(
        books(&spool),
        Books {
            accepted: 2,
            pending: 2,
            ..Books::default()
        }
    );
    let foreign = Owner("pending-s2".to_owned());
    assert_eq!(
        texts(&mut spool.reader(&foreign, TRACES).expect("a reader")),
        ["not mine"]
    );
}

#[tokio::test]
async fn a_deleted_segment_is_held_by_nobody_so_that_its_room_is_free() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("opens");
    put(&spool, &ada(), "a").await;
    spool.close().await;
    drop(spool);
    let spool = Spool::open(Config {
        keep_bytes: 0,
        ..config(dir.path())
    })
    .expect("opens");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let record = reader.next().await.expect("a record");
    reader.resolve(record.position, delivered(1)).expect("booked");
    // One after the other: whoever is answered knows that what was asked before is done.
    spool.expire(&ada(), SystemTime::now()).await.expect("looked through");
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let held = descriptors
        .filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok())
        .find(|path| path.starts_with(dir.path()) && path.to_string_lossy().ends_with(".log (deleted)"));
    assert_eq!(held, None);
    assert!(
        std::fs::read_dir(dir.path().join("ada/traces"))
            .expect("a directory")
            .all(|entry| { !entry.expect("an entry").path().to_string_lossy().ends_with(".log") })
    );
    drop(reader);
}
