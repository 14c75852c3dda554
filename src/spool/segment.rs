//! The bytes of one segment, and how to find the records in bytes that a crash or a bad disk left.
//!
//! All numbers are little-endian; times are milliseconds since 1970; checksums are CRC-32 (IEEE).
//!
//! ```text
//! segment = header record* footer?          (no footer: still open, or its process was killed)
//!
//! header  = "TSEG"  version u32 = 1  id u64                                                16 bytes
//! record  = id u64  length u32  items u64  received u64  check u32 (of the bytes)
//!           check u32 (of the 32 bytes before it)  bytes[length]                           36 bytes + length
//! footer  = "TEN1"  id u64  records u64  items u64  length u64 (of all records)
//!           first u64  last u64 (received)  check u32 (of the 52 bytes before it)          56 bytes
//! ```
//!
//! A record's head has a checksum of its own: where only the bytes are bad, the length still leads to the next record
//! and the items are still known. A run of zeros is no valid head.
//!
//! The id is drawn anew for each segment, because a file may serve again: to write over bytes that are there costs a
//! sync half of what it costs to make a file longer. What the file held before has another id and is not seen. A file
//! that waits to serve again has [`SPENT`] where its header was.

use super::disk::File;
use crate::pieces::Pieces;
use std::io;

/// Length of a segment's header: where its first record is.
pub(super) const HEADER: u64 = 16;
/// Length of a record's head.
pub(super) const HEAD: usize = 36;
/// Length of a sealed segment's footer.
pub(super) const FOOTER: usize = 56;
/// A segment that has reached this is sealed; a record that is longer gets one to itself.
pub(super) const SEGMENT_BYTES: u64 = 16 << 20;
/// How much is read at once.
pub(super) const CHUNK: usize = 256 << 10;

/// Written over the header of a file of which nothing is wanted any more.
pub(super) const SPENT: [u8; HEADER as usize] = *b"TFREE\0\0\0\0\0\0\0\0\0\0\0";

const VERSION: u32 = 1;
const MAGIC: &[u8; 4] = b"TSEG";
const END_MAGIC: &[u8; 4] = b"TEN1";

/// Tells a segment from what its file held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id([u8; 8]);

impl Id {
    /// A new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn draw() -> io::Result<Id> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Id(bytes))
    }

    /// The id of the segment in a file. `None` if there is no segment in it (yet).
    ///
    /// # Errors
    /// `InvalidData` if a newer version of the program wrote it: what we do not understand, we must not cut.
    pub(super) fn read(file: &File, file_len: u64) -> io::Result<Option<Id>> {
        let start = file.read_at(0, HEADER as usize + HEAD)?;
        if start.len() >= 8 && start[..4] == MAGIC[..] && u32_at(&start, 4) != VERSION {
            let message = "a newer version of this program wrote into the spool";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let Some((header, first)) = start.split_at_checked(HEADER as usize) else {
            return Ok(None);
        };
        if header == SPENT {
            return Ok(None);
        }
        if header[..4] == MAGIC[..] {
            return Ok(Some(Id(header[8..].try_into().expect("eight bytes"))));
        }
        // A header that the disk spoilt says nothing, but its records do; and its footer, which comes last because it may
        // be of what the file held before.
        if let Some((id, _)) = Head::decode_any(first) {
            return Ok(Some(id));
        }
        if let Some(id) = Id::search(file, file_len)? {
            return Ok(Some(id));
        }
        Ok(footer_of_any(file, file_len)?.map(|(id, _)| id))
    }

    /// The id of the first whole record.
    fn search(file: &File, file_len: u64) -> io::Result<Option<Id>> {
        let mut window = Window::new(file);
        for at in (HEADER..file_len).step_by(CHUNK) {
            let chunk = file.read_at(at, CHUNK + HEAD - 1)?;
            for (i, bytes) in chunk.windows(HEAD).enumerate() {
                let body = at + (i + HEAD) as u64;
                if let Some((id, head)) = Head::decode_any(bytes)
                    && body + u64::from(head.length) <= file_len
                    && window.check(body, head.length)? == head.check
                {
                    return Ok(Some(id));
                }
            }
        }
        Ok(None)
    }
}

/// A segment's header.
pub(super) fn header(id: Id) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..].copy_from_slice(&id.0);
    bytes
}

/// The checksum of a record's bytes.
pub(super) fn checksum(bytes: &Pieces) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    bytes.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

/// What is known about a record before its bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub length: u32,
    pub items: u64,
    pub received: u64,
    pub check: u32,
}

impl Head {
    pub(super) fn encode(&self, id: Id) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&id.0);
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.items.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.received.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.check.to_le_bytes());
        let check = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None` if these are not the bytes of a head of that segment. Needs [`HEAD`] of them.
    pub(super) fn decode(bytes: &[u8], id: Id) -> Option<Head> {
        bytes
            .starts_with(&id.0)
            .then(|| Head::decode_any(bytes))?
            .map(|(_, head)| head)
    }

    /// The head of any segment's record, and whose it is.
    pub(super) fn decode_any(bytes: &[u8]) -> Option<(Id, Head)> {
        let bytes = bytes.get(..HEAD)?;
        (crc32fast::hash(&bytes[..32]) == u32_at(bytes, 32)).then(|| {
            let head = Head {
                length: u32_at(bytes, 8),
                items: u64_at(bytes, 12),
                received: u64_at(bytes, 20),
                check: u32_at(bytes, 28),
            };
            (Id(bytes[..8].try_into().expect("eight bytes")), head)
        })
    }

    /// What the record takes in its segment.
    pub(super) fn size(&self) -> u64 {
        HEAD as u64 + u64::from(self.length)
    }
}

/// The sums over some records; what a footer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub records: u64,
    pub items: u64,
    /// With the heads.
    pub bytes: u64,
    /// When the first record was received.
    pub first: u64,
    /// When the last record was received.
    pub last: u64,
}

impl Tally {
    pub(super) fn add(&mut self, head: &Head) {
        if self.records == 0 {
            self.first = head.received;
        }
        self.records += 1;
        self.items = self.items.saturating_add(head.items);
        self.bytes += head.size();
        self.last = head.received;
    }

    /// Where a segment's records end.
    pub(super) fn end(&self) -> u64 {
        HEADER + self.bytes
    }

    pub(super) fn encode(&self, id: Id) -> [u8; FOOTER] {
        let mut bytes = [0; FOOTER];
        bytes[..4].copy_from_slice(END_MAGIC);
        bytes[4..12].copy_from_slice(&id.0);
        for (i, value) in [self.records, self.items, self.bytes, self.first, self.last]
            .into_iter()
            .enumerate()
        {
            bytes[12 + 8 * i..20 + 8 * i].copy_from_slice(&value.to_le_bytes());
        }
        let check = crc32fast::hash(&bytes[..FOOTER - 4]);
        bytes[FOOTER - 4..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a sealed segment's footer; `file_len` must agree with it, or it is only bytes of a record.
    fn decode(bytes: &[u8], file_len: u64) -> Option<(Id, Tally)> {
        if bytes.len() != FOOTER || bytes[..4] != END_MAGIC[..] {
            return None;
        }
        if crc32fast::hash(&bytes[..FOOTER - 4]) != u32_at(bytes, FOOTER - 4) {
            return None;
        }
        let id = Id(bytes[4..12].try_into().expect("eight bytes"));
        let [records, items, bytes, first, last] = [12, 20, 28, 36, 44].map(|at| u64_at(bytes, at));
        let tally = Tally {
            records,
            items,
            bytes,
            first,
            last,
        };
        (bytes.checked_add(HEADER + FOOTER as u64) == Some(file_len)).then_some((id, tally))
    }
}

/// Reads the footer of a segment, if it has one.
pub(super) fn footer(file: &File, file_len: u64, id: Id) -> io::Result<Option<Tally>> {
    let found = footer_of_any(file, file_len)?;
    Ok(found.filter(|(found, _)| *found == id).map(|(_, tally)| tally))
}

fn footer_of_any(file: &File, file_len: u64) -> io::Result<Option<(Id, Tally)>> {
    let Some(at) = file_len.checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    Ok(Tally::decode(&file.read_at(at, FOOTER)?, file_len))
}

/// Sums up the records from `from` to `end`, in constant memory.
///
/// Bad bytes with a good record behind them were in the middle of what was accepted: they are included, for the reader
/// to set aside. Bad bytes with nothing good behind them are a torn tail, which nobody was told was accepted.
/// The tally's `bytes` reach to the end of the last good record, bad ones before it included.
pub(super) fn survey(file: &File, id: Id, from: u64, end: u64) -> io::Result<Tally> {
    walk(file, id, from, end).map(|(sure, _)| sure)
}

/// The items of the records from `from` to `end`, all of which were accepted: also of bad ones with nothing behind them.
pub(super) fn items(file: &File, id: Id, from: u64, end: u64) -> io::Result<u64> {
    walk(file, id, from, end).map(|(_, all)| all.items)
}

/// The sums up to the last good record, and up to the last of all.
fn walk(file: &File, id: Id, from: u64, end: u64) -> io::Result<(Tally, Tally)> {
    let mut window = Window::new(file);
    let mut tally = Tally::default();
    let mut doubtful = tally;
    let mut at = from;
    while at < end {
        match Head::decode(window.bytes(at, HEAD)?, id) {
            Some(head) if at + head.size() <= end => {
                doubtful.add(&head);
                if window.check(at + HEAD as u64, head.length)? == head.check {
                    doubtful.bytes = at + head.size() - from;
                    tally = doubtful;
                }
                at += head.size();
            }
            _ => match find(file, id, at + 1, end)? {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    Ok((tally, doubtful))
}

/// The first place from `from` on where a whole record could be.
pub(super) fn find(file: &File, id: Id, from: u64, end: u64) -> io::Result<Option<u64>> {
    for at in (from..end).step_by(CHUNK) {
        // As much more as a head has that begins with the last byte.
        let chunk = file.read_at(at, (CHUNK + HEAD - 1).min((end - at) as usize))?;
        for found in memchr::memmem::find_iter(&chunk, &id.0) {
            if let Some(head) = Head::decode(&chunk[found..], id)
                && at + found as u64 + head.size() <= end
            {
                return Ok(Some(at + found as u64));
            }
        }
    }
    Ok(None)
}

/// A moving part of a file in memory.
struct Window<'a> {
    file: &'a File,
    start: u64,
    loaded: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a File) -> Self {
        Window {
            file,
            start: 0,
            loaded: Vec::new(),
        }
    }

    /// `len` bytes at `at`; fewer at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.start + self.loaded.len() as u64;
        if at < self.start || at + len as u64 > held {
            self.loaded = self.file.read_at(at, len.max(CHUNK))?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(&self.loaded[from..self.loaded.len().min(from + len)])
    }

    fn check(&mut self, mut at: u64, length: u32) -> io::Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        let mut left = length as usize;
        while left > 0 {
            let part = self.bytes(at, left.min(CHUNK))?;
            if part.is_empty() {
                break;
            }
            hasher.update(part);
            at += part.len() as u64;
            left -= part.len();
        }
        Ok(hasher.finalize())
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
