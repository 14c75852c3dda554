//! Reads a log from its cursor on, in order and in constant memory, and books what became of each record.
//!
//! A record whose bytes do not agree with their checksum is set aside with what is left of it, counted, and passed. So is
//! what cannot be read at all, after some tries.

use super::{
    Handle, Position, Record,
    disk::{self, File},
    holes::Holed,
    log::{Find, Log, segment_path},
    recover,
    resolver::{Resolver, record},
    segment::{self, CHUNK, HEAD, Head, Id, Tally},
};
use crate::pieces::Pieces;
use bytes::Bytes;
use std::{cmp::Ordering, io, sync::Arc};

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
    /// Of the segment that was opened last: where it stands may be unreadable, and that is found out once.
    id: Option<(u64, Id)>,
    /// Bytes from that place on.
    chunk: Bytes,
    /// How often reading that place failed, one time after the other.
    failures: u32,
    /// Up to here nothing is read ahead, because something there cannot be read.
    careful: u64,
}

/// The segment that is being read.
#[derive(Clone, Debug)]
struct Opened {
    number: u64,
    id: Id,
    file: File,
}

/// After this many failures in a row, a place is unreadable for good. Whoever reads leaves time between them.
const FAILURES: u32 = 3;

/// What is at a place.
enum Found {
    /// Its bytes are at the front of the chunk; they may be bad.
    Record(Head),
    Gap(Gap),
    /// It is to be looked for again.
    Nothing,
}

/// What is no record, up to `next`.
struct Gap {
    next: u64,
    items: u64,
    received: u64,
    /// What is left of it.
    bytes: Bytes,
}

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
            id: None,
            chunk: Bytes::new(),
            failures: 0,
            careful: 0,
        }
    }

    /// The next record that is synced and was not returned yet; none where [`Reader::wait`] waits for one.
    ///
    /// After an error the same place is read again.
    pub fn try_next(&mut self) -> io::Result<Option<Record>> {
        loop {
            match self.step() {
                Ok(Step::Record(record)) => return Ok(Some(record)),
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Ok(None),
                Err(error) => {
                    self.forget();
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
            tally,
            recent,
        } = found
        else {
            return Ok(Step::Wait);
        };
        if (number, offset) != (self.number, self.offset) {
            self.chunk = Bytes::new();
            (self.number, self.offset, self.before) = (number, offset, before);
            (self.failures, self.careful) = (0, 0);
        }
        let step = match recent {
            Some((head, bytes)) => self.take_recent(&head, bytes),
            None => self.read(&tally)?,
        };
        if self.offset >= tally.end() {
            // Deleted while it is held, it would keep its room on the disk.
            self.file = None;
        }
        Ok(step)
    }

    /// Reads what is next in the segment, of which so much is synced.
    fn read(&mut self, synced: &Tally) -> io::Result<Step> {
        match self.look(synced) {
            Ok(Found::Record(head)) => self.take(&head),
            Ok(Found::Gap(gap)) => self.pass(gap),
            Ok(Found::Nothing) => Ok(Step::Again),
            // That passes, however long it lasts.
            Err(error) if disk::is_of_the_machine(&error) => Err(error),
            Err(error) => {
                self.failures += 1;
                match self.failures.cmp(&FAILURES) {
                    Ordering::Less => Err(error),
                    // From now on what cannot be read is a hole.
                    Ordering::Equal => {
                        self.forget();
                        Ok(Step::Again)
                    }
                    Ordering::Greater => self.pass(self.rest(synced)),
                }
            }
        }
    }

    /// Lets go of what was read: it may be other than what is on the disk.
    fn forget(&mut self) {
        self.chunk = Bytes::new();
        self.file = None;
    }

    fn look(&mut self, synced: &Tally) -> io::Result<Found> {
        let end = synced.end();
        if self.is_unknown() {
            let Resolver { handle, log } = &self.resolver;
            recover::learn(&handle.core, log, self.number, self.failures >= FAILURES)?;
            self.failures = 0;
            return Ok(Found::Nothing);
        }
        let Some(opened) = self.open()? else {
            return Ok(Found::Nothing);
        };
        if self.chunk.len() < HEAD {
            self.fill(&opened.file, end, HEAD)?;
        }
        let head = Head::decode(&self.chunk, opened.id).filter(|head| self.offset + head.size() <= end);
        let Some(head) = head else {
            return self.gap(&opened, synced).map(Found::Gap);
        };
        let size = head.size() as usize;
        if self.chunk.len() < size {
            self.fill(&opened.file, end, size)?;
        }
        Ok(Found::Record(head))
    }

    fn is_unknown(&self) -> bool {
        let state = self.resolver.log.state();
        state.segments.get(&self.number).is_some_and(|segment| segment.unknown)
    }

    /// The segment; `None` if it was deleted just now, as a ring's oldest.
    fn open(&mut self) -> io::Result<Option<Opened>> {
        if let Some(opened) = &self.file
            && opened.number == self.number
        {
            return Ok(Some(opened.clone()));
        }
        let path = segment_path(&self.resolver.log.state().dir, self.number);
        let mut file = match self.resolver.handle.core.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.has(self.number) => return Ok(None),
            opened => opened?,
        };
        if self.failures >= FAILURES {
            file = Arc::new(Holed::new(file));
        }
        let mut id = self.id.filter(|(number, _)| *number == self.number).map(|(_, id)| id);
        if id.is_none() {
            id = Id::read(&file, file.len()?)?;
        }
        let Some(id) = id else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a segment lost its header"));
        };
        let number = self.number;
        self.id = Some((number, id));
        Ok(Some(self.file.insert(Opened { number, id, file }).clone()))
    }

    fn has(&self, number: u64) -> bool {
        self.resolver.log.state().segments.contains_key(&number)
    }

    /// Takes a record that did not leave memory since its checksum was made.
    fn take_recent(&mut self, head: &Head, bytes: Pieces) -> Step {
        let position = self.position();
        self.chunk = Bytes::new();
        self.passed(self.offset + head.size(), head.items);
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

    /// Reads ahead; around what cannot be read no further than is needed, because only something behind may be bad.
    fn fill(&mut self, file: &File, end: u64, needed: usize) -> io::Result<()> {
        let most = |len: usize| (end - self.offset).min(len as u64) as usize;
        if self.offset >= self.careful && self.failures < FAILURES {
            let len = needed.max(CHUNK);
            if let Ok(chunk) = file.read_at(self.offset, most(len)) {
                self.chunk = Bytes::from(chunk);
                return Ok(());
            }
            self.careful = self.offset + len as u64;
        }
        self.chunk = Bytes::from(file.read_at(self.offset, most(needed))?);
        Ok(())
    }

    /// Takes the record at the front of the chunk.
    fn take(&mut self, head: &Head) -> io::Result<Step> {
        let position = self.position();
        let size = head.size() as usize;
        let bytes = self.chunk.slice(HEAD.min(self.chunk.len())..size.min(self.chunk.len()));
        let end = self.offset + head.size();
        let wanted = self.resolver.log.state().take(position, end, head.items, head.received);
        let good = bytes.len() == head.length as usize && crc32fast::hash(&bytes) == head.check;
        if wanted && !good {
            self.resolver
                .set_bad_aside(position, head.items, bytes.clone(), self.reason())?;
        }
        self.chunk = self.chunk.slice(size.min(self.chunk.len())..);
        self.passed(end, head.items);
        if !wanted || !good {
            return Ok(Step::Again);
        }
        Ok(Step::Record(record(position, head, bytes)))
    }

    /// Bytes that are no record, up to the next record or the end of the segment. The items are what was counted in the
    /// segment and nobody else in it has.
    fn gap(&self, opened: &Opened, synced: &Tally) -> io::Result<Gap> {
        let Opened { id, file, .. } = opened;
        let end = synced.end();
        let next = segment::find(file, *id, self.offset + 1, end)?.unwrap_or(end);
        let behind = segment::items(file, *id, next, end)?;
        let rest = self.rest(synced);
        Ok(Gap {
            next,
            items: rest.items.saturating_sub(behind),
            bytes: Bytes::from(file.read_at(self.offset, (next - self.offset) as usize)?),
            ..rest
        })
    }

    /// All that is left of a segment, without its bytes.
    fn rest(&self, synced: &Tally) -> Gap {
        Gap {
            next: synced.end(),
            items: synced.items.saturating_sub(self.before),
            received: synced.first,
            bytes: Bytes::new(),
        }
    }

    /// Sets aside what is no record.
    fn pass(&mut self, gap: Gap) -> io::Result<Step> {
        let position = self.position();
        if self
            .resolver
            .log
            .state()
            .take(position, gap.next, gap.items, gap.received)
        {
            self.resolver
                .set_bad_aside(position, gap.items, gap.bytes, self.reason())?;
        }
        self.chunk = Bytes::new();
        self.passed(gap.next, gap.items);
        Ok(Step::Again)
    }

    /// Why what is bad is bad.
    fn reason(&self) -> &'static str {
        if self.failures < FAILURES {
            "corrupt"
        } else {
            "unreadable"
        }
    }

    /// Goes on behind what was dealt with.
    fn passed(&mut self, next: u64, items: u64) {
        if self.failures > 0 {
            // The next place is tried anew, without holes.
            self.forget();
        }
        (self.offset, self.failures) = (next, 0);
        self.before += items;
    }
}
