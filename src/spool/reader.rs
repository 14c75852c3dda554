//! Reads a log from its cursor on, in order and in constant memory, and books what became of each record.
//!
//! A record whose bytes do not agree with their checksum is set aside with what is left of it, counted, and passed.

use super::{
    Handle, Outcome, Part, Position, Record, aside,
    commit::Job,
    core::time,
    cursor::Settled,
    disk::File,
    log::{Find, Log, segment_path, settle},
    segment::{self, CHUNK, HEAD, Head, Id},
};
use crate::pieces::Pieces;
use bytes::Bytes;
use std::{io, sync::Arc};

/// Reads one log. There is one at a time for each log.
#[derive(Debug)]
pub struct Reader {
    resolver: Resolver,
    /// The next place to read.
    number: u64,
    offset: u64,
    /// Items of this segment before that place.
    before: u64,
    file: Option<Opened>,
    /// Bytes from that place on.
    chunk: Bytes,
    /// How often reading that place failed, one time after the other.
    failures: u32,
}

/// The segment that is being read.
#[derive(Clone, Debug)]
struct Opened {
    number: u64,
    id: Id,
    file: File,
}

/// Books answers for one log, also while its reader waits. A cheap handle.
#[derive(Clone, Debug)]
pub struct Resolver {
    handle: Arc<Handle>,
    log: Arc<Log>,
}

/// After this many failures in a row, a place is unreadable for good.
const FAILURES: u32 = 3;

/// What one step of the reader came to.
enum Step {
    Record(Record),
    /// Something was passed; there may be more.
    Again,
    /// All that is synced was read.
    Wait,
}

impl Reader {
    pub(super) fn new(handle: Arc<Handle>, log: Arc<Log>) -> Reader {
        let cursor = {
            let mut state = log.state();
            state.recent.wanted = true;
            state.cursor
        };
        let (number, offset, before) = (cursor.segment, cursor.offset, cursor.before);
        Reader {
            resolver: Resolver { handle, log },
            number,
            offset,
            before,
            file: None,
            chunk: Bytes::new(),
            failures: 0,
        }
    }

    /// The next record that is synced and was not returned yet; waits for one.
    ///
    /// Dropping the future loses nothing. After an error the same place is read again.
    pub async fn next(&mut self) -> io::Result<Record> {
        loop {
            if let Some(record) = self.try_next()? {
                return Ok(record);
            }
            self.wait(0).await;
        }
    }

    /// Like [`Reader::next`], but `None` where that would wait.
    pub fn try_next(&mut self) -> io::Result<Option<Record>> {
        loop {
            match self.step() {
                Ok(Step::Record(record)) => return Ok(Some(record)),
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Ok(None),
                Err(error) => {
                    self.chunk = Bytes::new();
                    self.file = None;
                    return Err(error);
                }
            }
        }
    }

    /// Where there is nothing to read, waits until about so many bytes are there. It may return for no reason.
    pub async fn wait(&self, bytes: u64) {
        let log = &self.resolver.log;
        {
            let mut state = log.state();
            if let Find::Bytes { .. } = state.find(self.number, self.offset, self.before) {
                return;
            }
            state.recent.wait_for(bytes);
        }
        log.news.notified().await;
    }

    /// Books an answer. The cursor moves to the lowest record that is not answered for.
    pub fn resolve(&self, position: Position, outcome: Outcome) -> io::Result<()> {
        self.resolver.resolve(position, outcome)
    }

    /// A handle that books answers for this log.
    pub fn resolver(&self) -> Resolver {
        self.resolver.clone()
    }

    fn step(&mut self) -> io::Result<Step> {
        let found = self.resolver.log.state().find(self.number, self.offset, self.before);
        let Find::Bytes {
            number,
            offset,
            before,
            end,
            recent,
        } = found
        else {
            return Ok(Step::Wait);
        };
        if (number, offset) != (self.number, self.offset) {
            self.chunk = Bytes::new();
            (self.number, self.offset, self.before) = (number, offset, before);
        }
        let step = match recent {
            Some((head, bytes)) => self.take_recent(&head, bytes),
            None => self.read(end)?,
        };
        if self.offset >= end {
            // Deleted while it is held, it would keep its room on the disk.
            self.file = None;
        }
        Ok(step)
    }

    /// Reads what is next in the segment, which is synced up to `end`.
    fn read(&mut self, end: u64) -> io::Result<Step> {
        let Some(opened) = self.open()? else {
            return Ok(Step::Again);
        };
        if self.failures >= FAILURES {
            return self.pass_unreadable(&opened, end);
        }
        if self.chunk.len() < HEAD {
            self.fill(&opened.file, end, HEAD)?;
        }
        let head = Head::decode(&self.chunk, opened.id).filter(|head| self.offset + head.size() <= end);
        let Some(head) = head else {
            return self.pass_gap(&opened, end);
        };
        let size = head.size() as usize;
        if self.chunk.len() < size {
            self.fill(&opened.file, end, size)?;
        }
        self.take(&head, size)
    }

    /// The segment; `None` if it was deleted just now, as a ring's oldest.
    fn open(&mut self) -> io::Result<Option<Opened>> {
        if let Some(opened) = &self.file
            && opened.number == self.number
        {
            return Ok(Some(opened.clone()));
        }
        let path = segment_path(&self.resolver.log.state().dir, self.number);
        match self.resolver.handle.core.disk.open(&path) {
            Ok(file) => {
                let Some(id) = Id::read(&file, file.len()?)? else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a segment lost its header"));
                };
                let number = self.number;
                Ok(Some(self.file.insert(Opened { number, id, file }).clone()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.has(self.number) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn has(&self, number: u64) -> bool {
        self.resolver.log.state().segments.contains_key(&number)
    }

    /// Takes a record that did not leave memory since its checksum was made.
    fn take_recent(&mut self, head: &Head, bytes: Pieces) -> Step {
        let position = self.position();
        self.chunk = Bytes::new();
        self.offset += head.size();
        self.before += head.items;
        let mut state = self.resolver.log.state();
        if !state.take(position, self.offset, head.items, head.received) {
            return Step::Again;
        }
        Step::Record(record(position, head, bytes))
    }

    fn position(&self) -> Position {
        Position {
            segment: self.number,
            offset: self.offset,
        }
    }

    /// Reads ahead; after a failure no further than is needed, because only something behind that may be bad.
    fn fill(&mut self, file: &File, end: u64, needed: usize) -> io::Result<()> {
        let len = if self.failures == 0 { needed.max(CHUNK) } else { needed };
        let most = (end - self.offset).min(len as u64) as usize;
        let read = file.read_at(self.offset, most);
        self.failures = if read.is_ok() { self.failures } else { self.failures + 1 };
        self.chunk = Bytes::from(read?);
        Ok(())
    }

    /// Passes a record, or if its head is lost all that is left of the segment, because the disk does not give it back.
    fn pass_unreadable(&mut self, opened: &Opened, end: u64) -> io::Result<Step> {
        let head = opened
            .file
            .read_at(self.offset, HEAD)
            .ok()
            .and_then(|bytes| Head::decode(&bytes, opened.id));
        let head = head.filter(|head| self.offset + head.size() <= end);
        let position = self.position();
        let (items, next, received) = {
            let state = self.resolver.log.state();
            let tally = state
                .segments
                .get(&self.number)
                .map_or_else(Default::default, |segment| segment.tally);
            let rest = (tally.items.saturating_sub(self.before), end, tally.first);
            head.map_or(rest, |head| (head.items, self.offset + head.size(), head.received))
        };
        if self.resolver.log.state().take(position, next, items, received) {
            self.resolver
                .set_bad_aside(position, items, Bytes::new(), "unreadable")?;
        }
        self.chunk = Bytes::new();
        (self.offset, self.failures) = (next, 0);
        self.before += items;
        Ok(Step::Again)
    }

    /// Takes the record at the front of the chunk.
    fn take(&mut self, head: &Head, size: usize) -> io::Result<Step> {
        let position = self.position();
        let bytes = self.chunk.slice(HEAD.min(self.chunk.len())..size.min(self.chunk.len()));
        let end = self.offset + size as u64;
        let wanted = self.resolver.log.state().take(position, end, head.items, head.received);
        let good = bytes.len() == head.length as usize && crc32fast::hash(&bytes) == head.check;
        if wanted && !good {
            self.resolver
                .set_bad_aside(position, head.items, bytes.clone(), "corrupt")?;
        }
        self.chunk = self.chunk.slice(size.min(self.chunk.len())..);
        (self.offset, self.failures) = (end, 0);
        self.before += head.items;
        if !wanted || !good {
            return Ok(Step::Again);
        }
        Ok(Step::Record(record(position, head, bytes)))
    }

    /// Sets aside bytes that are no record, up to the next record or the end of the segment. The items are what the
    /// segment's footer counted and nobody else in it has.
    fn pass_gap(&mut self, opened: &Opened, end: u64) -> io::Result<Step> {
        let Opened { id, file, .. } = opened;
        let position = self.position();
        let next = segment::find(file, *id, self.offset + 1, end)?.unwrap_or(end);
        let behind = segment::survey(file, *id, next, end)?.items;
        let (total, received) = {
            let state = self.resolver.log.state();
            let cursor = state.cursor.received;
            state
                .segments
                .get(&self.number)
                .map_or((0, cursor), |segment| (segment.tally.items, segment.tally.first))
        };
        let items = total.saturating_sub(self.before).saturating_sub(behind);
        let bytes = Bytes::from(file.read_at(self.offset, (next - self.offset) as usize)?);
        if self.resolver.log.state().take(position, next, items, received) {
            self.resolver.set_bad_aside(position, items, bytes, "corrupt")?;
        }
        self.chunk = Bytes::new();
        self.offset = next;
        self.before += items;
        Ok(Step::Again)
    }
}

/// What stands at a position.
fn record(position: Position, head: &Head, bytes: impl Into<Pieces>) -> Record {
    Record {
        position,
        items: head.items,
        received: time(head.received),
        bytes: bytes.into(),
    }
}

impl Resolver {
    /// A record once more, from the disk: for whoever let its bytes go while it waits. `None` if it was answered for.
    ///
    /// # Errors
    /// If it cannot be read as it was written. A new reader finds out what is to become of it.
    pub fn again(&self, position: Position) -> io::Result<Option<Record>> {
        let path = {
            let state = self.log.state();
            if state.waits_for(position).is_none() {
                return Ok(None);
            }
            segment_path(&state.dir, position.segment)
        };
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a record changed on the disk");
        let file = self.handle.core.disk.open(&path)?;
        let id = Id::read(&file, file.len()?)?.ok_or_else(bad)?;
        let head = Head::decode(&file.read_at(position.offset, HEAD)?, id).ok_or_else(bad)?;
        let bytes = file.read_at(position.offset + HEAD as u64, head.length as usize)?;
        if crc32fast::hash(&bytes) != head.check {
            return Err(bad());
        }
        Ok(Some(record(position, &head, bytes)))
    }

    /// Books an answer, as [`Reader::resolve`] does. A record that was answered for already keeps its answer.
    ///
    /// # Errors
    /// If what is to be set aside cannot be written: then the record is not answered for, and this can be tried again.
    pub fn resolve(&self, position: Position, outcome: Outcome) -> io::Result<()> {
        let Some(items) = self.log.state().waits_for(position) else {
            return Ok(());
        };
        self.write_aside(position, &outcome.set_aside, true)?;
        self.book(position, settle(items, &outcome))
    }

    fn set_bad_aside(&self, position: Position, items: u64, bytes: Bytes, reason: &str) -> io::Result<()> {
        tracing::warn!(lane = self.log.lane, items, reason, "a bad record is set aside");
        let part = Part {
            bytes,
            items,
            reason: reason.to_owned(),
        };
        self.write_aside(position, &[part], false)?;
        self.book(
            position,
            Settled {
                set_aside: items,
                ..Settled::default()
            },
        )
    }

    fn write_aside(&self, position: Position, parts: &[Part], whole: bool) -> io::Result<()> {
        let core = &self.handle.core;
        if core.is_closed() {
            return Err(io::Error::other("the spool is closed"));
        }
        if parts.is_empty() {
            return Ok(());
        }
        let dir = self.log.state().dir.clone();
        let added = aside::write(&*core.disk, &dir, position, parts, whole, core.now());
        core.note_trouble(added.as_ref().err());
        if added
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
        {
            // What was sent already is worth less than what was not: the next attempt finds more room.
            let _ = self.handle.jobs.send(Job::MakeRoom);
        }
        core.set_aside.fetch_add(added?, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn book(&self, position: Position, settled: Settled) -> io::Result<()> {
        let core = &self.handle.core;
        let advance = self.log.state().answer(position, settled);
        core.release(&self.log.lane, advance.freed);
        if let Some(error) = &advance.trouble {
            // The cursor in memory has moved all the same, and the next advance writes it again.
            core.note_trouble(Some(error));
        }
        if advance.left_segment {
            // Closed meanwhile: the next start trims.
            let _ = self.handle.jobs.send(Job::Trim);
        }
        Ok(())
    }
}
