//! The only queue, on disk.
use bytes::Bytes;
use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

#[derive(Clone, Debug)]
pub struct Config {
    pub dir: PathBuf,
    /// Unsent bytes over all logs; one lane takes at most half.
    pub max_bytes: u64,
    /// Already-sent history that is kept, in bytes.
    pub keep_bytes: u64,
    /// After this, unsent data of an owner that is not present expires.
    pub max_age: Duration,
    /// This start's session id: names its pending spool.
    pub session: String,
    /// Who may adopt what an earlier start left pending: workspace id and OS user, as one opaque word.
    pub place: String,
}

/// Whose data a log holds: a principal's fingerprint, or one start's pending spool. A directory's name: `[a-z0-9-]{1,80}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub String);

/// Identifies one record in one log; later records are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub position: Position,
    pub items: u64,
    pub received: SystemTime,
    pub bytes: Bytes,
}

/// What upstream's answer meant for one record. The three add up to the record's items.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub delivered: u64,
    pub rejected: u64,
    pub set_aside: Vec<Part>,
}

/// A part of a record (or all of it) that upstream refuses for good.
#[derive(Clone, Debug)]
pub struct Part {
    pub bytes: Bytes,
    pub items: u64,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the spool is full")]
    Full,
    #[error("the spool cannot be written: {0}")]
    Disk(String),
    #[error("the spool is closed")]
    Closed,
}

/// One lane's books, in items over the spool's life: accepted = delivered + rejected + set_aside + expired + pending.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Books {
    pub accepted: u64,
    pub delivered: u64,
    pub rejected: u64,
    pub set_aside: u64,
    pub expired: u64,
    pub pending: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Unsent bytes over all logs.
    pub bytes: u64,
    pub oldest: Option<SystemTime>,
    /// By lane name, summed over owners.
    pub books: std::collections::BTreeMap<String, Books>,
    /// Set-aside entries that rest on disk.
    pub set_aside: u64,
    /// Why the disk refuses right now, if it does.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug)]
pub struct SetAside {
    pub id: String,
    pub owner: Owner,
    pub lane: String,
    pub items: u64,
    pub bytes: u64,
    pub at: SystemTime,
    pub reason: String,
}

/// A cheap handle.
#[derive(Clone, Debug)]
pub struct Spool;

#[derive(Debug)]
pub struct Reader;

impl Spool {
    /// Opens or makes the spool and takes its lock; `WouldBlock` if another process holds it.
    pub fn open(_config: Config) -> io::Result<Spool> {
        unimplemented!()
    }
    /// This start's pending spool.
    pub fn pending(&self) -> Owner {
        unimplemented!()
    }
    /// Returns when the record is synced. `lane` is a directory's name: a signal's.
    pub async fn append(
        &self,
        _owner: &Owner,
        _lane: &'static str,
        _items: u64,
        _bytes: Bytes,
    ) -> Result<(), AppendError> {
        unimplemented!()
    }
    /// Gives to `owner` what is pending: this start's, and earlier starts' of the same place. One rename a log.
    pub fn adopt(&self, _owner: &Owner) -> io::Result<()> {
        unimplemented!()
    }
    /// Reads from the cursor on. One reader at a time for each log.
    pub fn reader(&self, _owner: &Owner, _lane: &'static str) -> io::Result<Reader> {
        unimplemented!()
    }
    /// A ring is never full and never read for sending: its oldest are let go beyond `keep_bytes` and counted as expired.
    pub fn set_ring(&self, _lane: &'static str, _ring: bool) {
        unimplemented!()
    }
    /// Deletes what absent owners left longer than `max_age` ago, and counts it.
    pub fn expire(&self, _present: Option<&Owner>, _now: SystemTime) -> io::Result<u64> {
        unimplemented!()
    }
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    pub fn set_aside(&self) -> io::Result<Vec<SetAside>> {
        unimplemented!()
    }
    /// Appends a set-aside entry to its log again.
    pub async fn retry(&self, _id: &str) -> io::Result<()> {
        unimplemented!()
    }
    pub fn give_up(&self, _id: &str) -> io::Result<()> {
        unimplemented!()
    }
    /// Seals what is open; later appends are refused.
    pub async fn close(&self) {
        unimplemented!()
    }
}

impl Reader {
    /// The next record that is synced and was not returned yet; waits for one.
    pub async fn next(&mut self) -> io::Result<Record> {
        unimplemented!()
    }
    /// Books an answer. The cursor moves to the lowest record that is not answered for.
    pub fn resolve(&self, _position: Position, _outcome: Outcome) -> io::Result<()> {
        unimplemented!()
    }
}
