//! One signal of one principal: gathers records of its log, and starts a delivery when enough came or time is up.
//!
//! It never decides about data; it only notices that upstream does not take its signal, and then leaves it alone
//! for an hour.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::OwnedSemaphorePermit, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    deliver::Delivery,
    send::{NoAnswer, Sender},
    status::LaneState,
};
use crate::{
    identity::Principal,
    otlp::{Signal, budget::Budget},
    spool::{Owner, Reader, Record, Spool},
    stamp::Stamp,
};

/// For the requests of one lane that are under way: a whole window of batches by default, and of larger ones as many as fit,
/// but always one. Each lane has its own, so that none waits for what another cannot get rid of.
const BYTES: u32 = 4 * 1024 * 1024;

/// A guess at what the stamp adds to a record.
const STAMP_ROOM: usize = 256;

/// Whose log, which signal, and until when.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub signal: Signal,
    pub principal: Arc<Principal>,
    /// Cancelled when another principal takes over, by whichever lane notices it.
    pub stop: CancellationToken,
}

/// One signal of one principal.
pub(super) struct Lane {
    sender: Arc<Sender>,
    spool: Spool,
    place: Place,
    stamp: Option<(Arc<Principal>, Arc<Stamp>)>,
    budget: Budget,
}

/// What one more request may use.
#[derive(Debug)]
pub(super) struct Room {
    /// None beyond the window, while the gate is closed.
    pub window: Option<OwnedSemaphorePermit>,
    pub bytes: OwnedSemaphorePermit,
}

/// What is being joined.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    bytes: usize,
    /// When the oldest has waited long enough.
    due: Option<Instant>,
    /// Did not fit any more: the first of the next.
    over: Option<Record>,
}

/// Why a lane stopped reading.
enum End {
    Done,
    NotTaken(String),
    Unreadable(io::Error),
}

impl Lane {
    pub(super) fn new(sender: Arc<Sender>, spool: Spool, place: Place) -> Lane {
        Lane {
            sender,
            spool,
            place,
            stamp: None,
            budget: Budget::new(BYTES),
        }
    }

    /// Returns when the principal changed, or on the drain.
    pub(super) async fn run(mut self) {
        let lane = self.place.signal.as_str();
        loop {
            // Each start tries anew.
            self.spool.set_ring(lane, None);
            self.sender
                .count(self.place.signal, |lane| lane.state = LaneState::Open);
            let again = match self.read().await {
                End::Done => {
                    if !self.sender.shutdown.is_cancelled() {
                        // Whoever is gone for one lane is gone for all.
                        self.place.stop.cancel();
                    }
                    return;
                }
                End::Unreadable(error) => {
                    if let Some(times) = self.sender.seldom.due(("unreadable", self.place.signal)) {
                        tracing::error!(signal = lane, times, %error, "the spool cannot be read");
                    }
                    self.sender.config.unreadable_for
                }
                End::NotTaken(reason) => {
                    tracing::warn!(signal = lane, %reason, "upstream does not take this signal; it is tried again every hour");
                    self.spool.set_ring(lane, Some(&self.owner()));
                    let not_taken_for = self.sender.config.not_taken_for;
                    let until = SystemTime::now() + not_taken_for;
                    self.sender.count(self.place.signal, |lane| {
                        lane.state = LaneState::NotTaken { reason, until }
                    });
                    not_taken_for
                }
            };
            let clock = self.sender.identity.clock();
            tokio::select! {
                () = self.place.stop.cancelled() => return,
                () = self.sender.shutdown.cancelled() => return,
                () = clock.sleep_until(clock.now().boot + again) => {}
            }
        }
    }

    fn owner(&self) -> Owner {
        Owner(self.place.principal.fingerprint())
    }

    async fn read(&mut self) -> End {
        let mut reader = match self.spool.reader(&self.owner(), self.place.signal.as_str()) {
            Ok(reader) => reader,
            Err(error) => return End::Unreadable(error),
        };
        let mut gathered = Gathered::default();
        let mut deliveries = JoinSet::new();
        let mut leaving = false;
        let config = self.sender.config.clone();
        // While the reader is left alone, because the disk did not give back what is next.
        let mut unreadable_until = None;
        loop {
            let stopping = leaving || self.place.stop.is_cancelled();
            let draining = self.sender.shutdown.is_cancelled();
            // What is there is taken at once; only then is there anything to wait for.
            while !stopping && unreadable_until.is_none() && !gathered.is_full(config.batch_bytes) {
                match reader.try_next() {
                    Ok(Some(record)) => gathered.push(record, config.batch_bytes, config.batch_delay),
                    Ok(None) => break,
                    Err(error) => {
                        // The reader itself knows when it tried often enough; what is gathered and under way goes on.
                        if let Some(times) = self.sender.seldom.due(("unreadable", self.place.signal)) {
                            let signal = self.place.signal.as_str();
                            tracing::error!(signal, times, %error, "the spool cannot be read");
                        }
                        unreadable_until = Some(Instant::now() + config.unreadable_for);
                    }
                }
            }
            if deliveries.is_empty() && (stopping || draining && gathered.is_empty()) {
                return End::Done;
            }
            let due = !gathered.is_empty() && (draining || gathered.is_due(config.batch_bytes));
            // Deliveries that wait for others to pass are outside of the window, but not without end.
            let in_flight = deliveries.len();
            let may_read = !stopping && unreadable_until.is_none() && !gathered.is_full(config.batch_bytes);
            let may_start = due && !stopping && in_flight < 2 * config.concurrency + 2;
            tokio::select! {
                biased;
                Some(ended) = deliveries.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(NoAnswer::Left)) => leaving = true,
                    Ok(Err(NoAnswer::NotTaken(reason))) => return End::NotTaken(reason),
                    Ok(Err(NoAnswer::Unreadable(error))) => return End::Unreadable(error),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = self.place.stop.cancelled(), if !stopping => {}
                () = self.sender.shutdown.cancelled(), if !draining => {}
                room = self.room(in_flight, gathered.joined_bytes()), if may_start => {
                    match self.delivery(&reader, &mut gathered, room) {
                        Some(delivery) => deliveries.spawn(delivery.run()),
                        None => { leaving = true; continue }
                    };
                }
                // The first record starts the clock; after it nothing is to do until there are enough, or time is up.
                () = reader.wait(gathered.missing(config.batch_bytes)), if may_read && !draining => {}
                () = sleep_until(unreadable_until), if unreadable_until.is_some() => unreadable_until = None,
                () = sleep_until(gathered.due), if !stopping && !due && gathered.due.is_some() => {}
            }
        }
    }

    /// Waits for room for one more request of about so many bytes; `in_flight` is how many requests there are.
    ///
    /// It is asked for before a request is made, because records that wait to be joined take memory too.
    async fn room(&self, in_flight: usize, bytes: usize) -> Room {
        let bytes = self.budget.take(bytes).await;
        // The lanes share the window: nobody waits for something else with a place in it.
        Room {
            window: self.sender.place_in_window(in_flight).await,
            bytes,
        }
    }

    /// `None` if another principal took over.
    fn delivery(&mut self, reader: &Reader, gathered: &mut Gathered, room: Room) -> Option<Delivery> {
        let stamp = self.stamp()?;
        Some(Delivery {
            sender: self.sender.clone(),
            place: self.place.clone(),
            resolver: reader.resolver(),
            records: gathered.take(self.sender.config.batch_bytes, self.sender.config.batch_delay),
            stamp,
            budget: self.budget.clone(),
            room,
        })
    }

    /// The principal as it is now: an e-mail may change while the person stays the same.
    fn stamp(&mut self) -> Option<Arc<Stamp>> {
        let principal = self.sender.identity.current().principal?;
        if let Some((known, stamp)) = &self.stamp
            && Arc::ptr_eq(known, &principal)
        {
            return Some(stamp.clone());
        }
        if !principal.is_same_person(&self.place.principal) {
            return None;
        }
        let stamp = Arc::new(Stamp::new(vec!["user."], principal.attributes.clone(), Vec::new()));
        self.stamp = Some((principal, stamp.clone()));
        Some(stamp)
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What the request will need, by a guess that is rather too large.
    fn joined_bytes(&self) -> usize {
        self.bytes + self.records.len() * STAMP_ROOM
    }

    fn is_full(&self, batch_bytes: usize) -> bool {
        self.over.is_some() || self.bytes >= batch_bytes
    }

    /// How many bytes more make a whole request; of the first record, any.
    fn missing(&self, batch_bytes: usize) -> u64 {
        if self.is_empty() {
            return 0;
        }
        batch_bytes.saturating_sub(self.bytes) as u64
    }

    fn is_due(&self, batch_bytes: usize) -> bool {
        self.is_full(batch_bytes) || self.due.is_some_and(|due| due <= Instant::now())
    }

    /// The delay counts from the arrival of the oldest, so a backlog does not wait.
    fn push(&mut self, record: Record, batch_bytes: usize, delay: Duration) {
        if !self.records.is_empty() && self.bytes + record.bytes.len() > batch_bytes {
            self.over = Some(record);
            return;
        }
        self.bytes += record.bytes.len();
        self.due.get_or_insert_with(|| {
            let age = SystemTime::now().duration_since(record.received).unwrap_or_default();
            Instant::now() + delay.saturating_sub(age)
        });
        self.records.push(record);
    }

    /// What was gathered; what did not fit starts the next.
    fn take(&mut self, batch_bytes: usize, delay: Duration) -> Vec<Record> {
        let taken = std::mem::take(self);
        if let Some(over) = taken.over {
            self.push(over, batch_bytes, delay);
        }
        taken.records
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
