//! Refs that git keeps in tables instead of files (gitformat-reftable): found by reading, without running git.
//!
//! ```text
//! reftable/tables.list    the names of the tables, the newest last; a later one goes before an earlier one
//! table  = header  block…  footer
//! header = "REFT"  version u8  block size u24  update indexes 2 × u64  (version 2: name of the hash)
//! block  = "r"  length u24 (from the file's start for the first)  record…  restart u24…  restarts u16
//! record = shared varint  (rest << 3 | kind) varint  rest of the name  update index varint  value by kind
//! ```
//!
//! Names are sorted, so a look ends at the first that is greater. It reads blocks of refs only, never indexes or logs,
//! each into memory alone, and trusts no length: what does not add up is a ref that is not there.

use std::{
    cmp::Ordering,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::workspace::hex;

/// A list of tables is a few lines: git merges tables as they come.
const LIST_LIMIT: u64 = 256 * 1024;
const MAGIC: &[u8; 4] = b"REFT";
/// Above this, a table is left alone: about a million refs.
const TABLE_LIMIT: u64 = 128 * 1024 * 1024;

/// What a ref holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ref {
    /// An object's id, in hex.
    Object(String),
    /// Another ref's name.
    Symbolic(String),
}

/// The list whose change tells that some ref changed: git replaces it by rename.
pub(super) fn list(git: &Path) -> PathBuf {
    git.join("reftable").join("tables.list")
}

/// The ref of this name in the git directory's tables.
pub(super) fn find(git: &Path, name: &str) -> Option<Ref> {
    let names = super::files::read(&list(git), LIST_LIMIT)?;
    for table in names.lines().rev() {
        if table.contains('/') || table.starts_with('.') {
            return None;
        }
        let path = git.join("reftable").join(table);
        match Table::open(&path)?.find(name.as_bytes())? {
            Found::Ref(found) => return Some(found),
            Found::Deleted => return None,
            Found::Nothing => {}
        }
    }
    None
}

/// What one table says of a name.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Ref(Ref),
    Deleted,
    Nothing,
}

/// One table: an immutable file.
#[derive(Debug)]
struct Table {
    file: File,
    /// Where the blocks end and the footer begins.
    end: u64,
    header: usize,
    block_size: u64,
    /// Bytes of an object's id.
    id: usize,
}

impl Table {
    fn open(path: &Path) -> Option<Table> {
        let file = super::files::regular(path)?;
        let len = file.metadata().ok()?.len();
        let head = read(&file, 0, 28).ok()?;
        // The footer repeats the header, and adds five offsets and a check.
        let (header, id) = match head.get(4)? {
            1 => (24, 20),
            2 if head[24..] == *b"s256" => (28, 32),
            2 => (28, 20),
            _ => return None,
        };
        let footer = header as u64 + 5 * 8 + 4;
        (head[..4] == *MAGIC && len <= TABLE_LIMIT).then_some(())?;
        Some(Table {
            end: len.checked_sub(footer)?,
            header,
            block_size: u24(head.get(5..8)?),
            id,
            file,
        })
    }

    /// None if the table is damaged before the name is found.
    fn find(&self, name: &[u8]) -> Option<Found> {
        let mut start = 0;
        while start < self.end {
            // The first block's length counts from the file's start, its records come behind the file's header.
            let skip = if start == 0 { self.header } else { 0 };
            let head = read(&self.file, start + skip as u64, 4).ok()?;
            if head[0] != b'r' {
                return Some(Found::Nothing);
            }
            let length = u24(&head[1..]);
            let next = start.checked_add(length).filter(|next| *next <= self.end)?;
            let block = read(&self.file, start, usize::try_from(length).ok()?).ok()?;
            if let Some(found) = find_in(block.get(skip + 4..)?, name, self.id)? {
                return Some(found);
            }
            start = self.after(start, next);
        }
        Some(Found::Nothing)
    }

    /// Blocks begin at multiples of the block size with zeros between, or one right behind the other.
    fn after(&self, start: u64, next: u64) -> u64 {
        let aligned = start.saturating_add(self.block_size);
        let padded = read(&self.file, next, 1).is_ok_and(|byte| byte[0] == 0);
        if padded && aligned > next { aligned } else { next }
    }
}

/// Looks through the records of a block, from the first on. `Some(None)` if all of them are smaller.
fn find_in(block: &[u8], name: &[u8], id: usize) -> Option<Option<Found>> {
    let (rest, count) = block.split_at_checked(block.len().checked_sub(2)?)?;
    let restarts = 3 * (usize::from(count[0]) << 8 | usize::from(count[1]));
    let mut rest = rest.get(..rest.len().checked_sub(restarts)?)?;
    let mut key = Vec::new();
    while !rest.is_empty() {
        let shared = usize::try_from(varint(&mut rest)?).ok()?;
        let suffix = varint(&mut rest)?;
        let kind = suffix & 7;
        let suffix = take(&mut rest, usize::try_from(suffix >> 3).ok()?)?;
        (shared <= key.len()).then_some(())?;
        key.truncate(shared);
        key.extend_from_slice(suffix);
        varint(&mut rest)?;
        let value = match kind {
            0 => &[],
            1 => take(&mut rest, id)?,
            // An annotated tag: its own id, and that of what it names.
            2 => &take(&mut rest, 2 * id)?[..id],
            3 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                take(&mut rest, length)?
            }
            _ => return None,
        };
        match (key.as_slice().cmp(name), kind) {
            (Ordering::Less, _) => {}
            (Ordering::Greater, _) => return Some(Some(Found::Nothing)),
            (Ordering::Equal, 0) => return Some(Some(Found::Deleted)),
            (Ordering::Equal, 3) => {
                let target = std::str::from_utf8(value).ok()?;
                return Some(Some(Found::Ref(Ref::Symbolic(target.to_owned()))));
            }
            (Ordering::Equal, _) => return Some(Some(Found::Ref(Ref::Object(hex(value))))),
        }
    }
    Some(None)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Seven bits a byte, the most significant first; each byte but the last adds one (as offsets in pack files do).
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    loop {
        let byte = *take(bytes, 1)?.first()?;
        value = value.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        value = value.checked_add(1)?;
    }
}

fn u24(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(3)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn read(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
