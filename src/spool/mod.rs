//! The only queue, on disk: a log for each owner and lane, of opaque records.
//!
//! ```text
//! DIR/lock                               held while a process has the spool open
//! DIR/OWNER/LANE/00000001.log            segments (`segment`: the layout of their bytes)
//! DIR/OWNER/LANE/spare                   a file that was a segment, and serves as the next one
//! DIR/OWNER/LANE/cursor                  how far it is answered for, and the books (`cursor`)
//! DIR/OWNER/LANE/set-aside/…             what is not sent again by itself (`aside`)
//! DIR/OWNER/present                      when they were here last
//! DIR/pending-SESSION/place              who may adopt what that start left pending
//! ```
//!
//! An owner is a principal's fingerprint, or one start's pending spool.
//!
//! - A record is accepted when it is synced; one sync serves all who are ready for it (`commit`). Nothing answers before.
//! - After a failed sync the segment is abandoned and its waiters are refused. Refused records may come out all the
//!   same after a crash; accepted ones always do.
//! - Every start writes into new segments, and no number is used twice: an old cursor skips nothing.
//! - A segment is deleted when all of it is answered for and the history is longer than is wanted (`keep`), or when it
//!   expired; nothing else is deleted, and nothing is dropped without being counted.
//! - Memory does not depend on the backlog, and neither does opening (`recover`).
//! - What a record means is none of its business: bytes in, bytes out.

mod adopt;
mod aside;
mod commit;
mod core;
mod cursor;
mod disk;
mod glance;
mod holes;
mod keep;
mod log;
mod reader;
mod recover;
mod resolver;
mod segment;
#[cfg(test)]
mod tests;

use self::{commit::Job, core::Core, segment::Head};
use crate::pieces::Pieces;
use bytes::Bytes;
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};

pub use self::{
    core::{is_much_set_aside, is_nearly_full},
    reader::Reader,
    recover::is_spool,
    resolver::Resolver,
};

/// Of a spool's directory, the file that is locked while a process has it open.
pub const LOCK: &str = "lock";

/// Of those who run beside the committer: a storm of connections must not become one of threads.
const BLOCKING_THREADS: usize = 8;

/// What a spool is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Made if it is absent, with mode 0700; its `lock` is held while the spool is open.
    pub dir: PathBuf,
    /// Unsent and set-aside bytes over all logs; one lane takes at most half.
    pub max_bytes: u64,
    /// Already-sent history that is kept, in bytes.
    pub keep_bytes: u64,
    /// Unsent and set-aside data of owners who have been absent for so long expires, if it is that old.
    pub max_age: Duration,
    /// This start's session id: names its pending spool.
    pub session: String,
    /// Who may adopt what an earlier start left pending: workspace id and OS user, as one opaque word.
    pub place: String,
}

/// Whose data a log holds: a principal's fingerprint, one start's pending spool, or nobody's who would send it. A
/// directory's name: `[a-z0-9-]{1,80}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub String);

impl Owner {
    /// Of what came while there was nobody to send it to. Its logs are rings: never full, beyond `keep_bytes` the oldest goes,
    /// and none of it counts as unsent.
    pub fn nobody() -> Owner {
        Owner("nobody".to_owned())
    }
}

/// Identifies one record in one log; later records are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// From 1 on; no number is used twice.
    pub segment: u64,
    /// In bytes from the segment's start.
    pub offset: u64,
}

/// One accepted batch, read back.
#[derive(Clone, Debug)]
pub struct Record {
    /// Names it in [`Resolver`].
    pub position: Position,
    /// As many as its append said.
    pub items: u64,
    /// To the millisecond.
    pub received: SystemTime,
    /// As they were appended; their checksum held.
    pub bytes: Pieces,
}

/// What upstream's answer meant for one record. The three add up to the record's items.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Items that upstream took.
    pub delivered: u64,
    /// Items that upstream counted out of what it took.
    pub rejected: u64,
    /// What upstream refused for good, to be kept apart.
    pub set_aside: Vec<Part>,
}

/// A part of a record (or all of it) that upstream refuses for good.
#[derive(Clone, Debug)]
pub struct Part {
    /// To be appended again as a record, if somebody asks for it.
    pub bytes: Bytes,
    /// Of the record's items.
    pub items: u64,
    /// For people; more than a kilobyte of it is cut.
    pub reason: String,
}

/// Why a record was not accepted. The sender still has it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// At the cap, of the whole spool or of the lane (half of it); room comes by sending.
    #[error("the spool is full")]
    Full,
    /// Never: it takes more than all of a lane's half.
    #[error("a record takes at most {most} bytes of the spool")]
    TooLarge {
        /// What one lane may take.
        most: u64,
    },
    /// Writing or syncing failed; the record may be there after a crash all the same.
    #[error("the spool cannot be written: {0}")]
    Disk(String),
    /// The agent is stopping.
    #[error("the spool is closed")]
    Closed,
}

/// One lane's books, in items over the spool's life: accepted = delivered + rejected + set_aside + expired + pending.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Books {
    /// The sum of all others.
    pub accepted: u64,
    /// Upstream took them.
    pub delivered: u64,
    /// Upstream counted them out in a partial success.
    pub rejected: u64,
    /// Refused for good or damaged; those that were given up, or too old in the end, stay counted here.
    pub set_aside: u64,
    /// Deleted unsent: an absent principal's, or the oldest of a ring.
    pub expired: u64,
    /// Not answered for yet.
    pub pending: u64,
}

/// What is in a spool at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Unsent bytes over all logs.
    pub bytes: u64,
    /// When the oldest unsent record came in, at the earliest; none if nothing is unsent.
    pub oldest: Option<SystemTime>,
    /// By lane name, summed over owners.
    pub books: std::collections::BTreeMap<String, Books>,
    /// Set-aside entries that rest on disk.
    pub set_aside: u64,
    /// What they take there, in whole blocks. It counts towards the cap as unsent bytes do.
    pub set_aside_bytes: u64,
    /// Why the disk refuses right now, if it does.
    pub trouble: Option<String>,
    /// Why something is pending that the first principal was to adopt, if it is.
    pub unadopted: Option<String>,
    /// Lanes that filled nine tenths of the half that is theirs, or more; however empty the rest is.
    pub full: Vec<String>,
}

/// One entry that rests in `set-aside`.
#[derive(Clone, Debug)]
pub struct SetAside {
    /// Names it among all: owner, lane and file.
    pub id: String,
    /// Whose log it came from, and goes back into.
    pub owner: Owner,
    /// The signal's name.
    pub lane: String,
    /// Of the record's items.
    pub items: u64,
    /// Of the record, without the note about it.
    pub bytes: u64,
    /// When it was set aside.
    pub at: SystemTime,
    /// In words for people.
    pub reason: String,
}

/// Where a record's room comes from.
#[derive(Clone, Copy, Debug)]
enum Room {
    /// The cap, if it has any.
    Reserve,
    /// The record takes room already, as a set-aside entry.
    Has,
}

/// A cheap handle.
#[derive(Clone, Debug)]
pub struct Spool {
    handle: Arc<Handle>,
}

/// What handles and readers share. Dropping the last one closes the spool.
#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    jobs: mpsc::UnboundedSender<Job>,
    runtime: runtime::Handle,
    committer: Mutex<Option<thread::JoinHandle<()>>>,
    /// Set-aside entries that are being appended again.
    retried: aside::Claims,
}

impl Spool {
    /// Opens or makes the spool and takes its lock.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds the lock, `InvalidData` if a newer version wrote here, `DirectoryNotEmpty` if
    /// others' directories are in it.
    pub fn open(config: Config) -> io::Result<Spool> {
        DirBuilder::new().recursive(true).mode(0o700).create(&config.dir)?;
        is_spool(&config.dir)?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(config.dir.join(LOCK))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Spool::open_on(Arc::new(disk::System), config, Some(lock), segment::SEGMENT_BYTES)
    }

    fn open_on(disk: Arc<dyn disk::Disk>, config: Config, lock: Option<File>, segment_bytes: u64) -> io::Result<Spool> {
        let found = recover::recover(&*disk, &config.dir)?;
        let core = Arc::new(Core {
            pending: Owner(format!("{}{}", core::PENDING, config.session)),
            config,
            segment_bytes,
            disk,
            logs: Mutex::new(found.logs),
            caps: Mutex::new(found.caps),
            trouble: Mutex::new(None),
            unadopted: Mutex::new(None),
            closed: AtomicBool::new(false),
            lock: Mutex::new(lock),
        });
        let (jobs, queue) = mpsc::unbounded_channel();
        let (told, runtime) = std::sync::mpsc::channel();
        let committer = thread::Builder::new().name("spool".to_owned()).spawn({
            let core = core.clone();
            move || match thread_runtime() {
                Ok(runtime) => {
                    let _ = told.send(Ok(runtime.handle().clone()));
                    runtime.block_on(commit::run(&core, queue));
                    runtime.shutdown_background();
                }
                Err(error) => drop(told.send(Err(error))),
            }
        })?;
        let handle = Handle {
            core,
            jobs,
            runtime: runtime.recv().map_err(io::Error::other)??,
            committer: Mutex::new(Some(committer)),
            retried: aside::Claims::default(),
        };
        let _ = handle.jobs.send(Job::Seal(found.unsealed));
        let _ = handle.jobs.send(Job::Trim);
        Ok(Spool {
            handle: Arc::new(handle),
        })
    }

    /// The runtime of the thread that writes, for those who append all day: what is spawned there is told of a sync
    /// without a thread being woken. All of it stands still while the disk is busy. It ends with [`Spool::close`].
    pub fn runtime(&self) -> &runtime::Handle {
        &self.handle.runtime
    }

    /// This start's pending spool.
    pub fn pending(&self) -> Owner {
        self.handle.core.pending.clone()
    }

    /// Returns when the record is synced. `lane` is a directory's name: a signal's.
    ///
    /// The record is written also if the future is dropped meanwhile.
    pub async fn append(
        &self,
        owner: &Owner,
        lane: &'static str,
        items: u64,
        bytes: impl Into<Pieces>,
    ) -> Result<(), AppendError> {
        self.append_as(owner, lane, items, bytes.into(), Room::Reserve).await
    }

    async fn append_as(
        &self,
        owner: &Owner,
        lane: &str,
        items: u64,
        bytes: Pieces,
        room: Room,
    ) -> Result<(), AppendError> {
        let core = &self.handle.core;
        if core.is_closed() {
            return Err(AppendError::Closed);
        }
        let log = core
            .log(owner, lane)
            .map_err(|error| AppendError::Disk(error.to_string()))?;
        let length = u32::try_from(bytes.len()).map_err(|_| AppendError::TooLarge { most: u32::MAX.into() })?;
        let head = Head {
            length,
            items,
            received: core.now(),
            check: segment::checksum(&bytes),
        };
        match room {
            Room::Has => core.take(&log, head.size()),
            Room::Reserve => core.reserve(&log, head.size())?,
        }
        let (done, answer) = oneshot::channel();
        let append = commit::Append { log, head, bytes, done };
        if let Err(mpsc::error::SendError(Job::Append(append))) = self.handle.jobs.send(Job::Append(append)) {
            commit::refuse(core, append);
        }
        answer.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Gives to `owner` what is pending: this start's, and earlier starts' of the same place. One rename a log.
    ///
    /// From then on, what is appended to this start's pending spool goes to `owner` too. This start's is given once:
    /// a later owner gets none of it.
    pub async fn adopt(&self, owner: &Owner) -> io::Result<()> {
        self.ask(|reply| Job::Adopt(owner.clone(), reply)).await
    }

    /// Reads from the cursor on. One reader at a time for each log.
    pub fn reader(&self, owner: &Owner, lane: &'static str) -> io::Result<Reader> {
        Ok(Reader::new(self.handle.clone(), self.handle.core.log(owner, lane)?))
    }

    /// The one log of the lane that is a ring from now on, by its owner, or none of them. A ring is never full and never
    /// read for sending: its oldest are let go beyond `keep_bytes` and counted as expired. What nobody owns is one in any
    /// case.
    pub fn set_ring(&self, lane: &'static str, owner: Option<&Owner>) {
        let core = &self.handle.core;
        let ring = owner.map(|owner| core.ring(owner, lane));
        {
            let mut caps = log::lock(&core.caps);
            match ring {
                Some(ring) => caps.rings.insert(lane.to_owned(), ring),
                None => caps.rings.remove(lane),
            };
        }
        let _ = self.handle.jobs.send(Job::Trim);
    }

    /// Deletes what owners left who have been absent for longer than `max_age`, and returns how many unsent items that were.
    /// That `present` is here is remembered, for when they are not.
    ///
    /// This start's pending spool is never absent.
    pub async fn expire(&self, present: &Owner, now: SystemTime) -> io::Result<u64> {
        let (core, owner) = (self.handle.core.clone(), present.clone());
        let aside = tokio::task::spawn_blocking(move || aside::expire(&core, &owner, now));
        let present = present.clone();
        let expired = self.ask(|reply| Job::Expire { present, now, reply }).await;
        aside.await.map_err(io::Error::other)?;
        expired
    }

    /// Counts all that `owner` has unsent as expired, and keeps it as history. Returns how many items that were.
    pub async fn let_go(&self, owner: &Owner) -> io::Result<u64> {
        self.ask(|reply| Job::LetGo(owner.clone(), reply)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Job) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        // Of a closed spool the job is dropped, and the reply with it.
        let _ = self.handle.jobs.send(job(reply));
        answer.await.map_err(|_| io::Error::other("the spool is closed"))?
    }

    /// What is in it; from memory alone.
    pub fn stats(&self) -> Stats {
        self.handle.core.stats()
    }

    /// Unsent bytes of one owner, but those of rings.
    pub fn unsent_of(&self, owner: &Owner) -> u64 {
        self.handle.core.unsent_of(owner)
    }

    /// Seals what is open; later appends are refused. Returns when the lock is released.
    pub async fn close(&self) {
        let handle = self.handle.clone();
        // It only fails if the runtime is going down; then dropping the handle closes.
        let _ = tokio::task::spawn_blocking(move || handle.close()).await;
    }
}

/// Made on its own thread: to drop one within another runtime, as a failed start would, panics.
fn thread_runtime() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
}

impl Handle {
    fn close(&self) {
        self.core.closed.store(true, Ordering::Release);
        let _ = self.jobs.send(Job::Close);
        // Whoever comes second waits here for the first.
        let mut committer = log::lock(&self.committer);
        if let Some(committer) = committer.take()
            // The last handle may be a task's that goes with the thread's runtime.
            && committer.thread().id() != thread::current().id()
            && committer.join().is_err()
        {
            tracing::error!("the spool's committer panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
