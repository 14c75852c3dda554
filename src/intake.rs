//! The one door behind every source: check, redact, stamp, spool, answer.
//!
//! [`Intake::take`] returns success only after the spool says that the batch is on disk (promise 1).
//! What the sender wrote under `user.` and `workspace.` is gone by then (promise 6), and so is what the redaction rules name (promise 8).
//! It decodes no item, holds no queue, and refuses to guess: a batch is taken whole (but for invalid items, which are counted) or not at all.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    otlp::{
        Batch, Signal,
        check::{self, Checked, Malformed},
    },
    pieces::{Pieces, PiecesMut},
    spool::{AppendError, Owner, Spool},
    stamp::{Stamp, redact::Redactor},
};

/// What stamping may add to one batch, in bytes: as many as a request may have.
/// Each of its resources gets about a kilobyte, and one that is empty costs its sender two bytes.
const MOST_ADDED: usize = 64 << 20;

/// What became of a batch that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Items on disk: spans, data points or log records.
    pub items: u64,
    /// Items taken out because they are invalid; never to be sent again.
    pub rejected: u64,
    /// Why items were taken out. Empty if none was.
    pub reason: &'static str,
}

/// Why a batch was not taken. Nothing of it is on disk then.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The bytes: never send them again.
    #[error("{0}")]
    Malformed(String),
    /// With what is stamped, it does not fit an empty spool: never send it again.
    #[error(
        "the request takes more than {most} bytes of the spool, half of spool.max_bytes, and never fits, although \
         listen.max_request_bytes may allow it: send smaller batches, or raise spool.max_bytes"
    )]
    TooLarge {
        /// What one signal may take of the spool.
        most: u64,
    },
    /// Come again: full disk, full spool, or stopping.
    #[error("{0}")]
    Later(String),
}

/// What went through the door since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items on disk.
    pub accepted: BySignal,
    /// Items taken out as invalid.
    pub rejected: BySignal,
    /// Batches that were no OTLP request, or one of too many resources.
    pub malformed: u64,
    /// Batches that were told to come again because the spool was full.
    pub full: u64,
    /// Batches that were told to come again because the disk refused.
    pub disk: u64,
    /// Batches that were told to come again because the agent was stopping.
    pub closing: u64,
    /// Requests that were turned away whatever is in them: strangers, unknown paths and types, too large.
    pub turned_away: u64,
    /// Values that were redacted.
    pub redacted: u64,
}

/// One number for each signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BySignal {
    /// Spans.
    pub traces: u64,
    /// Data points.
    pub metrics: u64,
    /// Log records.
    pub logs: u64,
}

/// Where the stamp of the moment comes from: repository and branch may change between two batches.
pub type Stamps = Box<dyn Fn() -> Arc<Stamp> + Send + Sync>;

/// A cheap handle.
#[derive(Clone)]
pub struct Intake {
    door: Arc<Door>,
}

struct Door {
    redactor: Redactor,
    stamps: Stamps,
    spool: Spool,
    owner: watch::Receiver<Owner>,
    closed: AtomicBool,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    accepted: [AtomicU64; 3],
    rejected: [AtomicU64; 3],
    malformed: AtomicU64,
    full: AtomicU64,
    disk: AtomicU64,
    closing: AtomicU64,
    turned_away: AtomicU64,
    redacted: AtomicU64,
}

/// A batch that is fit for the disk.
struct Prepared {
    bytes: Pieces,
    items: u64,
    rejected: u64,
    reason: &'static str,
}

// === impl Intake ===

impl Intake {
    /// `stamps` is asked once for each batch and should only rebuild what changed.
    /// `owner` is whose log a batch goes to: the newest value at the moment of the append.
    pub fn new(redactor: Redactor, stamps: Stamps, spool: Spool, owner: watch::Receiver<Owner>) -> Intake {
        Intake {
            door: Arc::new(Door {
                redactor,
                stamps,
                spool,
                owner,
                closed: AtomicBool::new(false),
                tally: Tally::default(),
            }),
        }
    }

    /// Returns when the batch is on disk. A batch without items, or whose items are all invalid, is answered without a record.
    pub async fn take(&self, batch: Batch) -> Result<Taken, Refused> {
        let door = &*self.door;
        if door.closed.load(Ordering::Acquire) {
            return Err(door.closing());
        }
        let signal = batch.signal;
        let Prepared {
            bytes,
            items,
            rejected,
            reason,
        } = door.prepare(batch)?;
        if items > 0 {
            let owner = door.owner.borrow().clone();
            let appended = door.spool.append(&owner, signal.as_str(), items, bytes).await;
            appended.map_err(|error| door.refused(error))?;
        }
        add(&door.tally.accepted[slot(signal)], items);
        add(&door.tally.rejected[slot(signal)], rejected);
        Ok(Taken {
            items,
            rejected,
            reason,
        })
    }

    /// From now on every batch is told to come again. What is already on its way to the disk is still answered.
    pub fn close(&self) {
        self.door.closed.store(true, Ordering::Release);
    }

    /// A source refused a request that never became a batch.
    pub fn turned_away(&self) {
        add(&self.door.tally.turned_away, 1);
    }

    /// What went through since this intake was made.
    pub fn counts(&self) -> Counts {
        let tally = &self.door.tally;
        Counts {
            accepted: BySignal::read(&tally.accepted),
            rejected: BySignal::read(&tally.rejected),
            malformed: tally.malformed.load(Ordering::Relaxed),
            full: tally.full.load(Ordering::Relaxed),
            disk: tally.disk.load(Ordering::Relaxed),
            closing: tally.closing.load(Ordering::Relaxed),
            turned_away: tally.turned_away.load(Ordering::Relaxed),
            redacted: tally.redacted.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

// === impl Door ===

impl Door {
    /// Everything that needs no disk. What is long of the sender's bytes is not copied; short ones are, and let go here.
    fn prepare(&self, batch: Batch) -> Result<Prepared, Refused> {
        let Checked {
            batch,
            items,
            rejected,
            reason,
        } = check::check(batch).map_err(|error| self.malformed(error))?;
        let mut bytes = PiecesMut::default();
        if items > 0 {
            let (batch, redacted) = self.redactor.redact(batch);
            add(&self.tally.redacted, redacted);
            let (stamp, request) = ((self.stamps)(), Pieces::from(batch.bytes));
            let room = stamp.room(&request);
            if room > request.len() + MOST_ADDED {
                let message = "the request has too many resources, each of which is stamped: send smaller batches";
                return Err(self.malformed(Malformed(message.to_owned())));
            }
            bytes.reserve(room);
            stamp
                .write(&request, &mut bytes)
                .map_err(|error| self.malformed(error))?;
        }
        Ok(Prepared {
            bytes: bytes.freeze(),
            items,
            rejected,
            reason,
        })
    }

    fn malformed(&self, Malformed(message): Malformed) -> Refused {
        add(&self.tally.malformed, 1);
        Refused::Malformed(message)
    }

    fn closing(&self) -> Refused {
        add(&self.tally.closing, 1);
        Refused::Later("the agent is stopping".to_owned())
    }

    fn refused(&self, error: AppendError) -> Refused {
        match error {
            AppendError::Closed => return self.closing(),
            AppendError::TooLarge { most } => {
                add(&self.tally.turned_away, 1);
                return Refused::TooLarge { most };
            }
            AppendError::Full => add(&self.tally.full, 1),
            AppendError::Disk(_) => add(&self.tally.disk, 1),
        }
        Refused::Later(error.to_string())
    }
}

// === impl BySignal ===

impl BySignal {
    /// All three together.
    pub fn total(&self) -> u64 {
        self.traces + self.metrics + self.logs
    }

    fn read(counters: &[AtomicU64; 3]) -> BySignal {
        let of = |signal| counters[slot(signal)].load(Ordering::Relaxed);
        BySignal {
            traces: of(Signal::Traces),
            metrics: of(Signal::Metrics),
            logs: of(Signal::Logs),
        }
    }
}

const fn slot(signal: Signal) -> usize {
    match signal {
        Signal::Traces => 0,
        Signal::Metrics => 1,
        Signal::Logs => 2,
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
