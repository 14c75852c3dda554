//! One log: what one owner has in one lane. The part of it that is in memory: which segments there are, where the
//! cursor is, and which records are out with the reader.
//!
//! Writing, renaming and unlinking segments is the committer's business alone; everybody else reads this state under
//! its mutex, and moves the cursor. No lock here is held while something is synced.

use super::{
    Outcome, Owner, Position,
    cursor::{Cursor, Settled},
    disk::File,
    segment::{FOOTER, HEADER, Head, Id, Tally},
};
use crate::pieces::Pieces;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The name of the file that serves as a segment next.
pub(super) const SPARE: &str = "spare";
/// How much of a log's newest is kept in memory for its reader.
const RECENT_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Log {
    pub owner: Owner,
    pub lane: String,
    /// Whether it is a ring whatever becomes of its lane.
    pub is_nobodys: bool,
    /// Told when the reader has something new to find.
    pub news: Notify,
    /// The segment that is being written; the committer's.
    pub open: Mutex<Option<Open>>,
    state: Mutex<State>,
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Open {
    pub number: u64,
    pub id: Id,
    pub file: File,
    /// What is synced.
    pub tally: Tally,
}

/// A segment as readers see it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    /// Only what is synced.
    pub tally: Tally,
    /// Whether more may come.
    pub open: bool,
    /// Whether it ends with a footer.
    pub sealed: bool,
    /// Whether the start could not read what is in it. The tally is a guess then, and the reader finds out.
    pub unknown: bool,
}

impl Segment {
    /// What it takes on disk, as far as is known.
    pub(super) fn size(&self) -> u64 {
        self.tally.end() + if self.sealed { FOOTER as u64 } else { 0 }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub dir: PathBuf,
    pub segments: BTreeMap<u64, Segment>,
    /// The number of the next segment; no number is used twice.
    pub next: u64,
    /// Whether a file waits to serve as the next segment.
    pub spare: bool,
    pub cursor: Cursor,
    /// The cursor's file; none until the log is on disk.
    pub cursor_file: Option<File>,
    /// Whether the cursor was moved since its file was last written without an error, or what was written may be lost.
    pub unwritten: bool,
    pub recent: Recent,
    /// Records that were read and that the cursor has not passed.
    taken: BTreeMap<Position, Taken>,
    /// What the answers among `taken` say.
    beyond: Settled,
    /// Set-aside items that were appended again before the cursor passed them the first time.
    taken_back: u64,
    /// Where the log's records went, if another one adopted them.
    pub moved: Option<Arc<Log>>,
}

#[derive(Debug)]
struct Taken {
    end: u64,
    items: u64,
    received: u64,
    answer: Option<Settled>,
}

/// The newest records, for a reader that keeps up; without a gap up to what is synced, and never more than
/// [`RECENT_BYTES`] of them, in buffers that are four times as long at worst.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Whether there is a reader at all.
    pub wanted: bool,
    /// The reader waits until it has so many bytes more than when it began to wait.
    enough: u64,
    more: u64,
    records: VecDeque<(Position, Head, Pieces)>,
    bytes: u64,
}

impl Recent {
    fn push(&mut self, position: Position, head: Head, bytes: Pieces) {
        if !self.wanted {
            return;
        }
        self.bytes += head.size();
        self.more += head.size();
        self.records.push_back((position, head, bytes));
        while self.bytes > RECENT_BYTES {
            self.pop();
        }
    }

    /// From now on the reader waits for so many bytes; but never for what would not be in memory any more.
    pub(super) fn wait_for(&mut self, bytes: u64) {
        (self.enough, self.more) = (bytes.min(RECENT_BYTES / 2), 0);
    }

    fn pop(&mut self) {
        if let Some((_, head, _)) = self.records.pop_front() {
            self.bytes -= head.size();
        }
    }

    /// The record at a position. What is before it is let go: the reader does not come back.
    fn at(&mut self, position: Position) -> Option<(Head, Pieces)> {
        while self.records.front().is_some_and(|(first, ..)| *first < position) {
            self.pop();
        }
        let (_, head, bytes) = self.records.front().filter(|(first, ..)| *first == position)?;
        Some((*head, bytes.clone()))
    }
}

/// What an answer changed.
#[derive(Debug, Default)]
pub(super) struct Advance {
    /// Bytes of records that are not unsent any more.
    pub freed: u64,
    /// Whether some segment may have become history.
    pub left_segment: bool,
    /// What writing the cursor came to.
    pub trouble: Option<io::Error>,
}

/// What the reader finds at a place.
#[derive(Debug)]
pub(super) enum Find {
    /// Synced bytes of segment `number` from `offset` on; and the record there, if it is still in memory.
    Bytes {
        number: u64,
        offset: u64,
        before: u64,
        /// What is synced of the whole segment.
        tally: Tally,
        recent: Option<(Head, Pieces)>,
    },
    Nothing,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere does not make these values wrong: each is changed in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

impl Log {
    /// A log that is not on disk yet.
    pub(super) fn new(owner: Owner, lane: &str, dir: PathBuf) -> Log {
        Log::with(owner, lane, State::new(dir))
    }

    pub(super) fn with(owner: Owner, lane: &str, state: State) -> Log {
        Log {
            is_nobodys: owner == Owner::nobody(),
            owner,
            lane: lane.to_owned(),
            news: Notify::new(),
            open: Mutex::new(None),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Makes what was synced into segment `number` visible to the reader.
    pub(super) fn publish(&self, number: u64, segment: Segment) {
        self.state().segments.insert(number, segment);
        self.news.notify_one();
    }

    /// The same for new records, which a reader that keeps up gets without reading the disk: once there are enough.
    pub(super) fn publish_records(&self, number: u64, segment: Segment, records: impl Iterator<Item = (Head, Pieces)>) {
        let enough = {
            let mut state = self.state();
            let mut offset = state.segments.get(&number).map_or(HEADER, |before| before.tally.end());
            for (head, bytes) in records {
                state.recent.push(
                    Position {
                        segment: number,
                        offset,
                    },
                    head,
                    bytes,
                );
                offset += head.size();
            }
            state.segments.insert(number, segment);
            state.recent.more >= state.recent.enough
        };
        if enough {
            self.news.notify_one();
        }
    }
}

impl State {
    pub(super) fn new(dir: PathBuf) -> State {
        State {
            dir,
            segments: BTreeMap::new(),
            next: 1,
            spare: false,
            cursor: Cursor::default(),
            cursor_file: None,
            unwritten: false,
            recent: Recent::default(),
            taken: BTreeMap::new(),
            beyond: Settled::default(),
            taken_back: 0,
            moved: None,
        }
    }

    /// The spare file, if there is one. Whoever takes it uses or deletes it.
    pub(super) fn take_spare(&mut self) -> Option<PathBuf> {
        std::mem::take(&mut self.spare).then(|| self.dir.join(SPARE))
    }

    /// The first synced bytes at or behind a position; `before` is how many of the segment's items were passed.
    pub(super) fn find(&mut self, number: u64, offset: u64, before: u64) -> Find {
        for (&found, segment) in self.segments.range(number..) {
            let (offset, before) = if found == number {
                (offset.max(HEADER), before)
            } else {
                (HEADER, 0)
            };
            if offset < segment.tally.end() {
                let recent = self.recent.at(Position { segment: found, offset });
                return Find::Bytes {
                    number: found,
                    offset,
                    before,
                    tally: segment.tally,
                    recent,
                };
            }
        }
        Find::Nothing
    }

    /// Remembers that a record is out. False if it was answered for already and need not be read again.
    pub(super) fn take(&mut self, position: Position, end: u64, items: u64, received: u64) -> bool {
        let at = (self.cursor.segment, self.cursor.offset);
        if (position.segment, position.offset) < at {
            return false;
        }
        let taken = self.taken.entry(position).or_insert(Taken {
            end,
            items,
            received,
            answer: None,
        });
        taken.answer.is_none()
    }

    /// How many items an unanswered record has; `None` if it needs no answer (any more).
    pub(super) fn waits_for(&self, position: Position) -> Option<u64> {
        self.taken
            .get(&position)
            .filter(|taken| taken.answer.is_none())
            .map(|taken| taken.items)
    }

    /// What a record that waits for its answer takes in its segment.
    pub(super) fn size_of(&self, position: Position) -> u64 {
        self.taken.get(&position).map_or(0, |taken| taken.end - position.offset)
    }

    /// Books an answer, and moves the cursor over all that is answered for without a gap.
    pub(super) fn answer(&mut self, position: Position, settled: Settled) -> Advance {
        let mut advance = Advance::default();
        match self.taken.get_mut(&position) {
            Some(taken) if taken.answer.is_none() => taken.answer = Some(settled),
            _ => return advance,
        }
        self.beyond.add(&settled);
        let from = self.cursor;
        while let Some(entry) = self.taken.first_entry() {
            let Some(settled) = entry.get().answer else { break };
            let (position, taken) = entry.remove_entry();
            self.beyond.subtract(&settled);
            advance.freed += self.step(position.segment, taken.end, taken.items, taken.received, &settled);
        }
        self.take_back(0);
        if self.cursor != from {
            advance.left_segment = self.cursor.segment != from.segment || self.at_end_of_closed();
            advance.trouble = self.write_cursor().err();
        }
        advance
    }

    /// Moves the cursor over one record.
    fn step(&mut self, segment: u64, end: u64, items: u64, received: u64, settled: &Settled) -> u64 {
        let cursor = &mut self.cursor;
        if cursor.segment != segment {
            *cursor = Cursor {
                segment,
                offset: HEADER,
                before: 0,
                ..*cursor
            };
        }
        let freed = end - cursor.offset.max(HEADER);
        cursor.offset = end;
        cursor.before += items;
        cursor.received = received;
        cursor.settled.add(settled);
        freed
    }

    /// Takes items out of the books that were set aside, because they are pending again.
    pub(super) fn take_back(&mut self, items: u64) {
        self.taken_back += items;
        let now = self.taken_back.min(self.cursor.settled.set_aside);
        self.taken_back -= now;
        self.cursor.settled.set_aside -= now;
    }

    fn at_end_of_closed(&self) -> bool {
        let segment = self.segments.get(&self.cursor.segment);
        segment.is_some_and(|segment| !segment.open && self.cursor.offset >= segment.tally.end())
    }

    pub(super) fn write_cursor(&mut self) -> io::Result<()> {
        let Some(file) = &self.cursor_file else { return Ok(()) };
        self.unwritten = true;
        self.cursor.write(file)?;
        self.unwritten = false;
        Ok(())
    }

    /// Moves the cursor to the end of a segment; what nobody answered for there is expired. Returns those items and
    /// the bytes that are not unsent any more. The caller writes and syncs the cursor, and deletes the segment then.
    pub(super) fn expire(&mut self, number: u64) -> (u64, u64) {
        let Some(segment) = self.segments.get(&number).copied() else {
            return (0, 0);
        };
        if number < self.cursor.segment {
            return (0, 0);
        }
        let freed = self.unsent_bytes_of(number, &segment);
        let left = self.unsent_items_of(number, &segment);
        let mut settled = Settled::default();
        while let Some(entry) = self.taken.first_entry().filter(|entry| entry.key().segment <= number) {
            if let Some(answer) = entry.remove().answer {
                self.beyond.subtract(&answer);
                settled.add(&answer);
            }
        }
        let expired = left.saturating_sub(settled.total());
        settled.expired += expired;
        self.cursor.segment = number;
        self.cursor.offset = segment.tally.end();
        self.cursor.before = segment.tally.items;
        self.cursor.received = segment.tally.last;
        self.cursor.settled.add(&settled);
        (expired, freed)
    }

    /// Whether all of a segment is answered for.
    pub(super) fn is_history(&self, number: u64, segment: &Segment) -> bool {
        let behind = number < self.cursor.segment
            || (number == self.cursor.segment && self.cursor.offset >= segment.tally.end())
            || segment.tally.records == 0;
        behind && !segment.open
    }

    /// Whether a segment, which may be open, has records and all of them are answered for.
    pub(super) fn is_answered_for(&self, number: u64) -> bool {
        let segment = self.segments.get(&number);
        segment.is_some_and(|segment| segment.tally.records > 0 && self.unsent_bytes_of(number, segment) == 0)
    }

    fn unsent_bytes_of(&self, number: u64, segment: &Segment) -> u64 {
        match number.cmp(&self.cursor.segment) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => segment.tally.end().saturating_sub(self.cursor.offset.max(HEADER)),
            std::cmp::Ordering::Greater => segment.tally.bytes,
        }
    }

    fn unsent_items_of(&self, number: u64, segment: &Segment) -> u64 {
        match number.cmp(&self.cursor.segment) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => segment.tally.items.saturating_sub(self.cursor.before),
            std::cmp::Ordering::Greater => segment.tally.items,
        }
    }

    /// Bytes of records that the cursor has not passed.
    pub(super) fn unsent_bytes(&self) -> u64 {
        self.segments
            .range(self.cursor.segment..)
            .map(|(number, segment)| self.unsent_bytes_of(*number, segment))
            .sum()
    }

    /// Items without any answer.
    pub(super) fn pending_items(&self) -> u64 {
        let segments = self.segments.range(self.cursor.segment..);
        let unsent: u64 = segments
            .map(|(number, segment)| self.unsent_items_of(*number, segment))
            .sum();
        unsent.saturating_sub(self.beyond.total())
    }

    pub(super) fn settled(&self) -> Settled {
        let mut settled = self.cursor.settled;
        settled.add(&self.beyond);
        settled.set_aside = settled.set_aside.saturating_sub(self.taken_back);
        settled
    }

    /// When the oldest record that the cursor has not passed was received, at the earliest.
    pub(super) fn oldest(&self) -> Option<u64> {
        let mut unsent = self.segments.range(self.cursor.segment..);
        let (number, segment) = unsent.find(|(number, segment)| self.unsent_bytes_of(**number, segment) > 0)?;
        let partly = *number == self.cursor.segment && self.cursor.offset > HEADER;
        Some(if partly {
            segment.tally.first.max(self.cursor.received)
        } else {
            segment.tally.first
        })
    }
}

/// What an outcome comes to for a record of `items`. The three must add up: what upstream says about more items than
/// there are is capped, and what it says nothing about was delivered.
pub(super) fn settle(items: u64, outcome: &Outcome) -> Settled {
    let parts: u64 = outcome.set_aside.iter().map(|part| part.items).sum();
    let set_aside = parts.min(items);
    let rejected = outcome.rejected.min(items - set_aside);
    let settled = Settled {
        delivered: items - set_aside - rejected,
        rejected,
        set_aside,
        expired: 0,
    };
    if settled.delivered != outcome.delivered {
        tracing::debug!(
            items,
            outcome.delivered,
            outcome.rejected,
            parts,
            "an answer did not add up"
        );
    }
    settled
}
