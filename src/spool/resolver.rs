//! Books what became of each record of one log, and reads again what waits for its answer.

use super::{
    Handle, Outcome, Part, Position, Record, aside,
    commit::Job,
    core::time,
    cursor::Settled,
    disk,
    log::{Log, segment_path, settle},
    segment::{HEAD, Head},
};
use crate::pieces::Pieces;
use bytes::Bytes;
use std::{io, sync::Arc};

/// Books answers for one log, also while its reader waits. A cheap handle.
#[derive(Clone, Debug)]
pub struct Resolver {
    pub(super) handle: Arc<Handle>,
    pub(super) log: Arc<Log>,
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
        // Whose record this is was found out when it was read first; what says so may be unreadable by now.
        let (_, head) = Head::decode_any(&file.read_at(position.offset, HEAD)?).ok_or_else(bad)?;
        let bytes = file.read_at(position.offset + HEAD as u64, head.length as usize)?;
        if crc32fast::hash(&bytes) != head.check {
            return Err(bad());
        }
        Ok(Some(record(position, &head, bytes)))
    }

    /// Books an answer: the cursor moves to the lowest record that has none. A record that was answered for already keeps
    /// its answer.
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

    /// Sets aside what is no record any more.
    pub(super) fn set_bad_aside(&self, position: Position, items: u64, bytes: Bytes, reason: &str) -> io::Result<()> {
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
        let most: u64 = parts.iter().map(|part| aside::most(part.bytes.len())).sum();
        let more = most.saturating_sub(self.log.state().size_of(position));
        if !core.may_set_aside(&self.log.lane, more) {
            let message = "the spool is full, and much of it is set aside: `tagalong spool list` says why";
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        let written = aside::write(core, &self.log, position, parts, whole);
        core.note_trouble(written.as_ref().err());
        if written.as_ref().is_err_and(disk::is_full) {
            // What was sent already is worth less than what was not: the next attempt finds more room.
            let _ = self.handle.jobs.send(Job::MakeRoom);
        }
        written
    }

    fn book(&self, position: Position, settled: Settled) -> io::Result<()> {
        let core = &self.handle.core;
        let advance = self.log.state().answer(position, settled);
        core.release(&self.log, advance.freed);
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

/// What stands at a position.
pub(super) fn record(position: Position, head: &Head, bytes: impl Into<Pieces>) -> Record {
    Record {
        position,
        items: head.items,
        received: time(head.received),
        bytes: bytes.into(),
    }
}
