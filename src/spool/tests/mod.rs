//! What the spool promises, told as stories; on a real directory where a disk need not fail.

mod aside;
mod disk_faults;
mod fault;
mod keeping;
mod model;
mod unreadable;

use super::{segment::HEADER, *};
use fault::Faulty;
use std::{path::Path, time::UNIX_EPOCH};

const TRACES: &str = "traces";

fn config(dir: &Path) -> Config {
    Config {
        dir: dir.to_path_buf(),
        max_bytes: 1 << 30,
        keep_bytes: 64 << 20,
        max_age: Duration::from_secs(3600),
        session: "s1".to_owned(),
        place: "here".to_owned(),
    }
}

/// A disk that outlives the spools on it.
struct World {
    disk: Arc<Faulty>,
}

impl World {
    fn new() -> World {
        World {
            disk: Faulty::new(Path::new("/spool")),
        }
    }

    fn open(&self, session: &str) -> Spool {
        self.open_with(Config {
            session: session.to_owned(),
            ..config(Path::new("/spool"))
        })
    }

    fn open_with(&self, config: Config) -> Spool {
        Spool::open_on(self.disk.clone(), config, None, segment::SEGMENT_BYTES).expect("opens")
    }

    fn spare(&self) -> PathBuf {
        PathBuf::from("/spool/ada/traces/spare")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = self.disk.files().into_iter();
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect()
    }
}

fn books(spool: &Spool) -> Books {
    spool.stats().books[TRACES].clone()
}

fn ada() -> Owner {
    Owner("ada".to_owned())
}

fn delivered(items: u64) -> Outcome {
    Outcome {
        delivered: items,
        ..Outcome::default()
    }
}

async fn put(spool: &Spool, owner: &Owner, text: &str) {
    spool
        .append(owner, TRACES, 1, Bytes::copy_from_slice(text.as_bytes()))
        .await
        .expect("accepted");
}

impl Reader {
    /// The next record, once it is there.
    async fn next(&mut self) -> io::Result<Record> {
        loop {
            if let Some(record) = self.try_next()? {
                return Ok(record);
            }
            self.wait(0).await;
        }
    }

    fn resolve(&self, position: Position, outcome: Outcome) -> io::Result<()> {
        self.resolver().resolve(position, outcome)
    }
}

fn texts(reader: &mut Reader) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(record) = reader.try_next().expect("readable") {
        texts.push(String::from_utf8(record.bytes.to_bytes().to_vec()).expect("text"));
    }
    texts
}

#[tokio::test]
async fn what_is_appended_is_read_in_order_and_answered_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("opens");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    for text in ["a", "b", "c"] {
        put(&spool, &ada(), text).await;
    }
    let (a, b) = (reader.next().await.expect("a"), reader.next().await.expect("b"));
    assert_eq!((a.bytes.to_bytes(), b.bytes.to_bytes()), ("a".into(), "b".into()));
    reader.resolve(b.position, delivered(1)).expect("books");
    reader.resolve(b.position, delivered(1)).expect("books once");
    let books = spool.stats().books[TRACES].clone();
    assert_eq!(
        books,
        Books {
            accepted: 3,
            delivered: 1,
            pending: 2,
            ..Books::default()
        }
    );
    reader.resolve(a.position, delivered(1)).expect("books");
    assert!(spool.stats().oldest.is_some_and(|oldest| oldest > UNIX_EPOCH));
    drop(reader);
    spool.close().await;

    let spool = Spool::open(config(dir.path())).expect("opens again");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    assert_eq!(texts(&mut reader), ["c"]);
    let books = spool.stats().books[TRACES].clone();
    assert_eq!(
        books,
        Books {
            accepted: 3,
            delivered: 2,
            pending: 1,
            ..Books::default()
        }
    );
}

#[tokio::test]
async fn what_lies_in_a_directory_that_was_no_spool_stays_as_it_is() {
    for theirs in ["app/logs/spare", "photos/cat.jpg"] {
        let dir = tempfile::tempdir().expect("a directory");
        let theirs = dir.path().join(theirs);
        std::fs::create_dir_all(theirs.parent().expect("it has one")).expect("directories");
        std::fs::write(&theirs, "keep me").expect("a file");
        let opened = Spool::open(config(dir.path())).map(drop);
        for refused in [opened, Spool::glance(dir.path(), 1 << 30).map(drop)] {
            let error = refused.expect_err("it is no spool");
            assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty);
        }
        assert_eq!(std::fs::read_to_string(&theirs).expect("it is there"), "keep me");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }
}

/// As when somebody deletes the state of an agent that runs: it makes anew what it needs.
#[tokio::test]
async fn what_an_agent_wrote_is_a_spool_also_without_its_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("opens");
    put(&spool, &ada(), "ada's").await;
    put(&spool, &spool.pending(), "early").await;
    spool.expire(&ada(), UNIX_EPOCH).await.expect("nothing is that old");
    spool.close().await;
    drop(spool);
    std::fs::create_dir_all(dir.path().join("bob/traces")).expect("half of a log");
    std::fs::remove_file(dir.path().join(LOCK)).expect("it is there");
    let seen = Spool::glance(dir.path(), 1 << 30).expect("a spool");
    assert_eq!(seen.books[TRACES].pending, 2);
    let spool = Spool::open(config(dir.path())).expect("opens");
    assert_eq!(texts(&mut spool.reader(&ada(), TRACES).expect("a reader")), ["ada's"]);
}

#[tokio::test]
async fn a_closed_spool_can_be_opened_though_a_child_that_is_being_started_has_its_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("a spool");
    let childs = log::lock(&spool.handle.core.lock)
        .as_ref()
        .map(std::fs::File::try_clone);
    spool.close().await;
    Spool::open(config(dir.path())).expect("it is closed");
    drop(childs.expect("it is locked").expect("a descriptor"));
}

#[tokio::test]
async fn a_record_in_pieces_is_one_on_the_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("opens");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    let pieces: Pieces = ["in ", "three ", "pieces"].map(Bytes::from).into_iter().collect();
    spool.append(&ada(), TRACES, 1, pieces).await.expect("accepted");

    let from_memory = reader.next().await.expect("a record");
    let from_disk = reader.resolver().again(from_memory.position).expect("readable");
    let from_disk = from_disk.expect("it is not answered for");
    assert_eq!((from_memory.bytes.iter().len(), from_disk.bytes.iter().len()), (3, 1));
    for record in [from_memory, from_disk] {
        assert_eq!(record.bytes.to_bytes(), "in three pieces");
    }
}

#[tokio::test]
async fn a_reader_that_waits_for_more_is_left_alone_until_it_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("opens");
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    put(&spool, &ada(), "the first").await;
    reader.wait(1000).await;
    assert_eq!(texts(&mut reader), ["the first"], "what is there is not waited for");
    // The news of it, which was read without having been waited for.
    reader.wait(1000).await;
    {
        let mut more = std::pin::pin!(reader.wait(1000));
        let mut told = async || {
            tokio::select! {
                biased;
                () = &mut more => true,
                () = std::future::ready(()) => false,
            }
        };
        assert!(!told().await);
        put(&spool, &ada(), "too little").await;
        assert!(!told().await, "a few bytes are no reason to wake");
        put(&spool, &ada(), &"x".repeat(1000)).await;
        assert!(told().await);
    }
    assert_eq!(texts(&mut reader).len(), 2);
}

#[tokio::test]
async fn one_process_at_a_time_has_the_spool_and_a_closed_one_refuses() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("opens");
    let second = Spool::open(config(dir.path())).expect_err("it is locked");
    assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
    spool.close().await;
    assert!(matches!(
        spool.append(&ada(), TRACES, 1, Bytes::new()).await,
        Err(AppendError::Closed)
    ));
    Spool::open(config(dir.path())).expect("the lock is free");
}

#[tokio::test]
async fn what_upstream_refuses_is_set_aside_and_can_be_retried_or_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(config(dir.path())).expect("opens");
    for text in ["bad", "worse"] {
        put(&spool, &ada(), text).await;
    }
    let mut reader = spool.reader(&ada(), TRACES).expect("a reader");
    while let Some(record) = reader.try_next().expect("readable") {
        let part = Part {
            bytes: record.bytes.to_bytes(),
            items: 1,
            reason: "400".to_owned(),
        };
        reader
            .resolve(
                record.position,
                Outcome {
                    set_aside: vec![part],
                    ..Outcome::default()
                },
            )
            .expect("books");
    }
    let entries = spool.set_aside().expect("a list");
    assert_eq!(entries.len(), 2);
    assert_eq!(
        (entries[0].items, entries[0].bytes, entries[0].reason.as_str()),
        (1, 3, "400")
    );
    spool.retry(&entries[0].id).await.expect("appended again");
    spool.give_up(&entries[1].id).expect("deleted");
    assert_eq!(texts(&mut reader), ["bad"]);
    assert_eq!(spool.stats().set_aside, 0);
    let books = spool.stats().books[TRACES].clone();
    assert_eq!(
        books,
        Books {
            accepted: 2,
            set_aside: 1,
            pending: 1,
            ..Books::default()
        }
    );
    assert_eq!(
        spool.give_up("ada/traces/../x").expect_err("no way out").kind(),
        io::ErrorKind::NotFound
    );
}
