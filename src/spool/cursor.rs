//! How far a log is answered for, and what became of the items before that.
//!
//! Cursor and books are one value in one file, so that they can never disagree about a record. The file is written in
//! full when the log is made and only overwritten afterwards, so a full disk does not keep the spool from draining.
//!
//! ```text
//! file = slot slot                 (512 bytes each, one sector: the newer good one counts)
//! slot = "TCUR"  version u32 = 1  sequence u64  segment u64  offset u64  before u64  received u64
//!        delivered u64  rejected u64  set aside u64  expired u64  check u32  zeros
//! ```
//!
//! It is written at each advance but synced only before a segment is deleted: a killed process loses nothing that it
//! wrote, and after a power cut an old cursor means records sent twice, never records skipped.

use super::{
    disk::{Disk, File},
    segment::{u32_at, u64_at},
};
use std::{
    io::{self, IoSlice},
    path::Path,
};

/// The name of a log's cursor file.
pub(super) const CURSOR: &str = "cursor";
const SLOT: usize = 512;
const MAGIC: &[u8; 4] = b"TCUR";
const VERSION: u32 = 1;
const FIELDS: usize = 10;
const CHECKED: usize = 8 + 8 * FIELDS;

/// What became of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub delivered: u64,
    pub rejected: u64,
    pub set_aside: u64,
    pub expired: u64,
}

impl Settled {
    pub(super) fn add(&mut self, other: &Settled) {
        self.delivered += other.delivered;
        self.rejected += other.rejected;
        self.set_aside += other.set_aside;
        self.expired += other.expired;
    }

    pub(super) fn subtract(&mut self, other: &Settled) {
        self.delivered -= other.delivered;
        self.rejected -= other.rejected;
        self.set_aside -= other.set_aside;
        self.expired -= other.expired;
    }

    pub(super) fn total(&self) -> u64 {
        self.delivered + self.rejected + self.set_aside + self.expired
    }
}

/// Everything before `offset` of `segment` is answered for, and all earlier segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Grows with each write.
    pub sequence: u64,
    pub segment: u64,
    pub offset: u64,
    /// Items of `segment` before `offset`.
    pub before: u64,
    /// When the last record before the cursor was received; no unanswered one is older.
    pub received: u64,
    pub settled: Settled,
}

impl Cursor {
    fn encode(&self) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        slot[..4].copy_from_slice(MAGIC);
        slot[4..8].copy_from_slice(&VERSION.to_le_bytes());
        let settled = &self.settled;
        let fields: [u64; FIELDS] = [
            self.sequence,
            self.segment,
            self.offset,
            self.before,
            self.received,
            settled.delivered,
            settled.rejected,
            settled.set_aside,
            settled.expired,
            0,
        ];
        for (i, field) in fields.into_iter().enumerate() {
            slot[8 + 8 * i..16 + 8 * i].copy_from_slice(&field.to_le_bytes());
        }
        let check = crc32fast::hash(&slot[..CHECKED]);
        slot[CHECKED..CHECKED + 4].copy_from_slice(&check.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Option<Cursor> {
        if slot.len() != SLOT || slot[..4] != MAGIC[..] || u32_at(slot, 4) != VERSION {
            return None;
        }
        if crc32fast::hash(&slot[..CHECKED]) != u32_at(slot, CHECKED) {
            return None;
        }
        let field = |i: usize| u64_at(slot, 8 + 8 * i);
        Some(Cursor {
            sequence: field(0),
            segment: field(1),
            offset: field(2),
            before: field(3),
            received: field(4),
            settled: Settled {
                delivered: field(5),
                rejected: field(6),
                set_aside: field(7),
                expired: field(8),
            },
        })
    }

    /// The newer good slot, or the very beginning if there is none; and whether there was one and all of the file could be
    /// read. If not, both slots are to be written anew, lest the one that was not read comes back and skips what was
    /// numbered since.
    pub(super) fn read(file: &File) -> (Cursor, bool) {
        let slots = [0, SLOT].map(|at| file.read_at(at as u64, SLOT));
        let newest = slots
            .iter()
            .flatten()
            .filter_map(|slot| Cursor::decode(slot))
            .max_by_key(|cursor| cursor.sequence);
        let is_whole = newest.is_some() && slots.iter().all(Result::is_ok);
        (newest.unwrap_or_default(), is_whole)
    }

    /// Writes both slots of a new file.
    pub(super) fn allocate(&self, file: &File) -> io::Result<()> {
        let slot = self.encode();
        file.write_at(0, &mut [IoSlice::new(&slot), IoSlice::new(&slot)])?;
        file.sync()
    }

    /// Overwrites the older slot. The newer one stays good if this is cut short.
    pub(super) fn write(&mut self, file: &File) -> io::Result<()> {
        self.sequence += 1;
        let at = (self.sequence % 2) * SLOT as u64;
        file.write_at(at, &mut [IoSlice::new(&self.encode())])
    }
}

/// Makes a cursor's file in a log's directory, with room for all that it will ever hold.
pub(super) fn make(disk: &dyn Disk, dir: &Path, cursor: &Cursor) -> io::Result<File> {
    let path = dir.join(CURSOR);
    // What is there was left by an attempt that failed half-way, under which no record was answered for, or it cannot be
    // read. It is written over, or else another file takes its place.
    let written = disk.open(&path).and_then(|file| cursor.allocate(&file).map(|()| file));
    if written.is_ok() {
        return written;
    }
    let _ = disk.unlink(&path);
    let file = disk.create(&path)?;
    match cursor.allocate(&file) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = disk.unlink(&path);
            Err(error)
        }
    }
}
