//! One joined request, until each of its records is answered for: sent whole, then by halves where upstream refuses.
//!
//! What is refused for good is set aside as small as it can be told apart: a record for its content, an item for its
//! size. Records are slices of what was joined; nothing is copied to tell them apart.

use std::{collections::VecDeque, io, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    join::{Joined, Placed, join},
    lane::{Place, Room},
    retry::printable,
    send::{Judged, NoAnswer, Passed, Sender},
};
use crate::{
    otlp::{budget::Budget, check, split, status::Response},
    pieces::Pieces,
    spool::{Outcome, Part, Position, Record, Resolver},
    stamp::Stamp,
};

/// How often a record that alone gets 500 while others pass is tried.
const BROKEN_TRIES: u32 = 3;

/// A record that alone gets 500 is tried again when another of its signal passed, or after this.
const PARKED_FOR: Duration = Duration::from_secs(60);

/// Where halves of more than so many bytes repeat most of what they hold (a resource of megabytes, before each span of
/// a thousand), telling apart would multiply it on the disk and in memory.
const REPEATS_LITTLE: usize = 16 * 1024;

/// The spool may refuse an answer for a while: a set-aside entry needs room on the disk.
const BOOK_AGAIN: Duration = Duration::from_secs(1);

/// Everything that one delivery needs.
pub(super) struct Delivery {
    pub sender: Arc<Sender>,
    pub place: Place,
    pub resolver: Resolver,
    pub records: Vec<Record>,
    pub stamp: Arc<Stamp>,
    pub budget: Budget,
    pub room: Room,
}

/// A delivery under way.
struct Underway {
    sender: Arc<Sender>,
    place: Place,
    resolver: Resolver,
    stamp: Arc<Stamp>,
    records: Vec<Placed>,
    tallies: Vec<Tally>,
    units: VecDeque<Unit>,
    budget: Budget,
    /// What it has of the window, and of the budget.
    window: Option<OwnedSemaphorePermit>,
    bytes: Option<OwnedSemaphorePermit>,
}

/// One record's outcome so far.
#[derive(Default)]
struct Tally {
    outcome: Outcome,
    /// Units that still hold something of it.
    open: u32,
}

/// What is sent as one request.
struct Unit {
    records: Range<usize>,
    bytes: Pieces,
    items: u64,
    /// Less than one record.
    part: bool,
    /// How many requests had passed when this one, or what it is a half of, got its last 500.
    passed_at: Option<Passed>,
    /// Answers of 500 to this record alone, with others passing in between.
    broken: u32,
}

impl Delivery {
    /// Returns when each record is resolved.
    ///
    /// # Errors
    /// [`NoAnswer`]: what is not resolved stays in the spool.
    pub(super) async fn run(self) -> Result<(), NoAnswer> {
        let Room { window, mut bytes } = self.room;
        let (joined, refused) = join(self.records, &self.stamp);
        // What was taken for a guess goes back.
        drop(bytes.split(bytes.num_permits().saturating_sub(joined.bytes.len())));
        let mut underway = Underway {
            sender: self.sender,
            place: self.place,
            resolver: self.resolver,
            stamp: self.stamp,
            tallies: joined.records.iter().map(|_| Tally::default()).collect(),
            units: VecDeque::new(),
            records: Vec::new(),
            budget: self.budget,
            window,
            bytes: Some(bytes),
        };
        for (position, outcome) in refused {
            if let Some(times) = underway.sender.seldom.due(("no request", underway.place.signal)) {
                let signal = underway.place.signal.as_str();
                tracing::warn!(signal, times, "a record that is no OTLP request is set aside");
            }
            underway.resolve(position, outcome).await;
        }
        underway.run(joined).await
    }
}

impl Underway {
    async fn run(mut self, joined: Joined) -> Result<(), NoAnswer> {
        self.records = joined.records;
        self.push(Unit {
            records: 0..self.records.len(),
            items: self.records.iter().map(|record| record.items).sum(),
            bytes: joined.bytes,
            part: false,
            passed_at: None,
            broken: 0,
        });
        while let Some(unit) = self.units.pop_front() {
            match self.send(&unit).await? {
                Judged::Taken(response) => self.book(&unit, &response).await,
                Judged::Data(reason) => self.bisect_or(unit, reason).await,
                Judged::Size(reason) => self.shrink(unit, reason).await,
                Judged::Broken(reason) => self.broken(unit, reason).await?,
            }
        }
        Ok(())
    }

    async fn send(&mut self, unit: &Unit) -> Result<Judged, NoAnswer> {
        if unit.bytes.is_empty() {
            // An empty request says nothing, so none is sent.
            return Ok(Judged::Taken(Response::default()));
        }
        if unit.bytes.len() > self.sender.config.max_request_bytes {
            return Ok(Judged::Size(format!(
                "larger than the largest request that is sent, {} bytes",
                self.sender.config.max_request_bytes
            )));
        }
        self.sender.judge(&self.place, &unit.bytes, unit.passed_at).await
    }

    /// 400: halves, down to the single record.
    async fn bisect_or(&mut self, unit: Unit, reason: String) {
        match self.halves(&unit) {
            Some((left, right)) => {
                self.units.push_front(right);
                self.units.push_front(left);
            }
            None => self.set_aside(unit, reason).await,
        }
    }

    /// 413: halves, down to the single item, or to what is hardly smaller by halves.
    async fn shrink(&mut self, mut unit: Unit, reason: String) {
        if unit.records.len() > 1 {
            return self.bisect_or(unit, reason).await;
        }
        let bytes = unit.bytes.to_bytes();
        unit.bytes = bytes.clone().into();
        let helps = |(left, right): &(Bytes, Bytes)| {
            let both = left.len() + right.len();
            both <= REPEATS_LITTLE || both <= bytes.len() + bytes.len() / 4 * 3
        };
        let Some((left, right)) = split::halve(self.place.signal, &bytes).filter(helps) else {
            return self.set_aside(unit, reason).await;
        };
        // The right half's count is what is left, so that the books balance whatever is counted.
        let items = check::count(self.place.signal, &left).min(unit.items);
        self.close(&unit);
        for (bytes, items) in [(right, unit.items - items), (left, items)] {
            self.open(&unit.records);
            self.units.push_front(Unit {
                records: unit.records.clone(),
                bytes: bytes.into(),
                items,
                part: true,
                passed_at: unit.passed_at,
                broken: 0,
            });
        }
    }

    /// 500: with others passing, the fault is in here; without, a single record goes first to find out. What is in a single
    /// record is judged by others of its signal alone: a pipeline of upstream's may be broken, whatever it is given.
    async fn broken(&mut self, mut unit: Unit, reason: String) -> Result<(), NoAnswer> {
        let passed = self.sender.passed(self.place.signal);
        let before = unit.passed_at.replace(passed);
        if unit.records.len() > 1 {
            let others_passed = before.is_some_and(|before| passed != before);
            let middle = if others_passed { unit.records.len() / 2 } else { 1 };
            let (first, rest) = self.cut(&unit, middle);
            self.units.push_front(first);
            if others_passed {
                self.units.insert(1, rest);
            } else {
                self.units.push_back(rest);
            }
            return Ok(());
        }
        if before.is_none_or(|before| passed.of_signal == before.of_signal) {
            let was_first = unit.broken == 0;
            unit.broken = unit.broken.max(1);
            self.units.push_back(unit);
            // All that is left is under suspicion, this for the second time: wait for others rather than keep the gate
            // and the budget busy.
            if !was_first && self.units.iter().all(|unit| unit.broken > 0) {
                return self.park().await;
            }
            return Ok(());
        }
        unit.broken += 1;
        if unit.broken >= BROKEN_TRIES {
            self.set_aside(unit, format!("{reason} ({BROKEN_TRIES} times, while others passed)"))
                .await;
            return Ok(());
        }
        self.units.push_back(unit);
        if self.units.len() == 1 {
            return self.park().await;
        }
        Ok(())
    }

    /// Waits for another request to pass, outside of the window and the budget. So the bytes of what waits are not held
    /// but read again. Only a part of a record keeps its own, because the spool does not know it.
    async fn park(&mut self) -> Result<(), NoAnswer> {
        let size = self.units.iter().map(|unit| unit.bytes.len()).sum();
        for unit in &mut self.units {
            unit.bytes = if unit.part {
                unit.bytes.copy().into()
            } else {
                Pieces::default()
            };
        }
        self.window = None;
        self.bytes = None;
        let passed = self.sender.passed(self.place.signal);
        let room = async {
            let other = self.sender.another_passes(self.place.signal, passed);
            let _ = tokio::time::timeout(PARKED_FOR, other).await;
            self.budget.take(size).await
        };
        self.bytes = tokio::select! {
            () = self.place.stop.cancelled() => return Err(NoAnswer::Left),
            () = self.sender.shutdown.cancelled() => return Err(NoAnswer::Left),
            room = room => Some(room),
        };
        for mut unit in std::mem::take(&mut self.units) {
            if !unit.part {
                let position = self.records[unit.records.start].position;
                let Some(bytes) = self.again(position).map_err(NoAnswer::Unreadable)? else {
                    // Let go meanwhile: a log that upstream does not take is kept short.
                    continue;
                };
                unit.bytes = bytes;
            }
            self.units.push_back(unit);
        }
        Ok(())
    }

    /// A record as it was sent before; `None` if it was answered for.
    fn again(&self, position: Position) -> io::Result<Option<Pieces>> {
        let Some(record) = self.resolver.again(position)? else {
            return Ok(None);
        };
        let (joined, refused) = join(vec![record], &self.stamp);
        if refused.is_empty() {
            return Ok(Some(joined.bytes));
        }
        Err(io::Error::other("what could be stamped cannot be any more"))
    }

    fn halves(&self, unit: &Unit) -> Option<(Unit, Unit)> {
        (unit.records.len() > 1).then(|| self.cut(unit, unit.records.len() / 2))
    }

    /// The first `count` records of a unit, and the others.
    fn cut(&self, unit: &Unit, count: usize) -> (Unit, Unit) {
        let at = unit.records.start + count;
        let base = self.records[unit.records.start].range.start;
        let split = self.records[at].range.start - base;
        let piece = |records: Range<usize>, bytes: Pieces| Unit {
            items: self.records[records.clone()].iter().map(|record| record.items).sum(),
            records,
            bytes,
            part: false,
            passed_at: unit.passed_at,
            broken: 0,
        };
        (
            piece(unit.records.start..at, unit.bytes.slice(0..split)),
            piece(at..unit.records.end, unit.bytes.slice(split..unit.bytes.len())),
        )
    }

    /// Success, with what upstream rejected of it booked to the last records: it does not say which they were.
    async fn book(&mut self, unit: &Unit, response: &Response) {
        let mut rejected = response.rejected.min(unit.items);
        self.sender.count(self.place.signal, |lane| {
            lane.delivered += unit.items - rejected;
            lane.rejected += rejected;
            if !response.message.is_empty() || rejected > 0 {
                lane.last_refusal = Some(printable(&response.message));
            }
        });
        if (rejected > 0 || !response.message.is_empty())
            && let Some(times) = self.sender.seldom.due(("in part", self.place.signal))
        {
            let signal = self.place.signal.as_str();
            tracing::warn!(signal, times, rejected, message = %printable(&response.message), "upstream took a request in part");
        }
        for index in unit.records.clone().rev() {
            let items = if unit.part {
                unit.items
            } else {
                self.records[index].items
            };
            let of_this = rejected.min(items);
            rejected -= of_this;
            let outcome = &mut self.tallies[index].outcome;
            outcome.delivered += items - of_this;
            outcome.rejected += of_this;
        }
        self.close(unit);
        self.finish(unit).await;
    }

    async fn set_aside(&mut self, unit: Unit, reason: String) {
        let (signal, items) = (self.place.signal.as_str(), unit.items);
        if let Some(times) = self.sender.seldom.due(("refused", self.place.signal)) {
            tracing::warn!(signal, times, items, %reason, "upstream refuses this for good; it is set aside");
        }
        self.sender.count(self.place.signal, |lane| {
            lane.set_aside += items;
            lane.last_refusal = Some(reason.clone());
        });
        self.tallies[unit.records.start].outcome.set_aside.push(Part {
            bytes: unit.bytes.copy(),
            items,
            reason,
        });
        self.close(&unit);
        self.finish(&unit).await;
    }

    fn push(&mut self, unit: Unit) {
        self.open(&unit.records);
        self.units.push_back(unit);
    }

    fn open(&mut self, records: &Range<usize>) {
        for tally in &mut self.tallies[records.clone()] {
            tally.open += 1;
        }
    }

    fn close(&mut self, unit: &Unit) {
        for tally in &mut self.tallies[unit.records.clone()] {
            tally.open -= 1;
        }
    }

    /// Resolves the records of which nothing is open any more: the last first, so that the cursor moves, and is written,
    /// once for all of them.
    async fn finish(&mut self, unit: &Unit) {
        for index in unit.records.clone().rev() {
            if self.tallies[index].open == 0 {
                let outcome = std::mem::take(&mut self.tallies[index].outcome);
                self.resolve(self.records[index].position, outcome).await;
            }
        }
    }

    /// Books with the spool, again and again while the disk refuses: upstream has this, and must not get it twice.
    async fn resolve(&mut self, position: Position, outcome: Outcome) {
        let mut is_first = true;
        while let Err(error) = self.resolver.resolve(position, outcome.clone()) {
            if std::mem::take(&mut is_first)
                && let Some(times) = self.sender.seldom.due(("not booked", self.place.signal))
            {
                tracing::warn!(times, %error, "the spool cannot book an answer yet");
            }
            // On a full disk only what others deliver makes room, so they must not wait for this.
            self.window = None;
            self.bytes = None;
            if self.place.stop.is_cancelled() || self.sender.shutdown.is_cancelled() {
                return;
            }
            tokio::time::sleep(BOOK_AGAIN).await;
        }
    }
}
