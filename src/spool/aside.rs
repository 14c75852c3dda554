//! What will not be sent again unless somebody asks for it: one file for each entry, in its log's `set-aside`.
//!
//! ```text
//! entry = "TASD"  length u32 (of the note)  check u32 (of the note and the bytes)  note (JSON)  bytes
//! ```
//!
//! An entry's name is made of the record's position, so a record that is set aside again after a crash replaces its
//! own entry. It is written beside, synced and renamed: a list never shows half of one.

use super::{
    Owner, Part, Position, SetAside,
    disk::Disk,
    log::{Log, lock},
    segment::u32_at,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The directory in a log's directory.
pub(super) const DIR: &str = "set-aside";
const MAGIC: &[u8; 4] = b"TASD";
const FIXED: usize = 12;
/// Longer reasons are cut: they come from outside.
const REASON: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    items: u64,
    bytes: u64,
    /// Milliseconds since 1970.
    at: u64,
    reason: String,
    /// Whether the bytes are a record's. What a bad disk left is kept, but cannot be sent.
    whole: bool,
}

/// One entry with its bytes.
#[derive(Debug)]
pub(super) struct Entry {
    pub items: u64,
    pub whole: bool,
    pub bytes: Bytes,
}

/// The entries that are being appended again or deleted. Whoever appends may wait long for the disk; nobody else may touch
/// the entry meanwhile.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<BTreeSet<PathBuf>>);

/// Holds one entry.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    path: &'a Path,
}

impl Claims {
    pub(super) fn claim<'a>(&'a self, path: &'a Path) -> io::Result<Claim<'a>> {
        if !lock(&self.0).insert(path.to_path_buf()) {
            let message = "this is being sent again already, as soon as the disk takes it";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        Ok(Claim { claims: self, path })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.claims.0).remove(self.path);
    }
}

/// Writes the parts of one record, durably.
pub(super) fn write(
    disk: &dyn Disk,
    log_dir: &Path,
    position: Position,
    parts: &[Part],
    whole: bool,
    now: u64,
) -> io::Result<u64> {
    let dir = log_dir.join(DIR);
    disk.create_dir(&dir)?;
    disk.sync_dir(log_dir)?;
    let mut added = 0;
    for (i, part) in parts.iter().enumerate() {
        let path = dir.join(format!("{}-{}-{i}", position.segment, position.offset));
        added += u64::from(!exists(disk, &path));
        let mut reason = part.reason.clone();
        reason.truncate(reason.floor_char_boundary(REASON));
        let note = Note {
            items: part.items,
            bytes: part.bytes.len() as u64,
            at: now,
            reason,
            whole,
        };
        write_one(disk, &path, &note, &part.bytes)?;
    }
    disk.sync_dir(&dir)?;
    Ok(added)
}

fn write_one(disk: &dyn Disk, path: &Path, note: &Note, bytes: &[u8]) -> io::Result<()> {
    let note = serde_json::to_vec(note).map_err(io::Error::other)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&note);
    hasher.update(bytes);
    let mut fixed = [0; FIXED];
    fixed[..4].copy_from_slice(MAGIC);
    fixed[4..8].copy_from_slice(&(note.len() as u32).to_le_bytes());
    fixed[8..].copy_from_slice(&hasher.finalize().to_le_bytes());
    let beside = path.with_extension("new");
    let _ = disk.unlink(&beside);
    let file = disk.create(&beside)?;
    let written = file
        .write_at(0, &mut [IoSlice::new(&fixed), IoSlice::new(&note), IoSlice::new(bytes)])
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&beside, path));
    if written.is_err() {
        let _ = disk.unlink(&beside);
    }
    written
}

fn exists(disk: &dyn Disk, path: &Path) -> bool {
    disk.open(path).is_ok()
}

fn is_entry(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The names of a log's entries.
pub(super) fn names(disk: &dyn Disk, log_dir: &Path) -> io::Result<Vec<String>> {
    match disk.list(&log_dir.join(DIR)) {
        Ok(names) => Ok(names
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| is_entry(name))
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Describes a log's entries without reading their bytes.
pub(super) fn list(disk: &dyn Disk, log: &Log) -> io::Result<Vec<SetAside>> {
    let (owner, dir) = {
        let state = log.state();
        (state.owner.clone(), state.dir.clone())
    };
    let mut entries = Vec::new();
    for name in names(disk, &dir)? {
        let file = disk.open(&dir.join(DIR).join(&name))?;
        let note = read_note(&file).unwrap_or_else(|| Note {
            items: 0,
            bytes: file.len().unwrap_or(0),
            at: 0,
            reason: "corrupt".to_owned(),
            whole: false,
        });
        entries.push(SetAside {
            id: id(&owner, &log.lane, &name),
            owner: owner.clone(),
            lane: log.lane.clone(),
            items: note.items,
            bytes: note.bytes,
            at: UNIX_EPOCH + Duration::from_millis(note.at),
            reason: note.reason,
        });
    }
    Ok(entries)
}

fn read_note(file: &super::disk::File) -> Option<Note> {
    let fixed = file
        .read_at(0, FIXED)
        .ok()
        .filter(|fixed| fixed.len() == FIXED && fixed[..4] == MAGIC[..])?;
    let note = file
        .read_at(FIXED as u64, (u32_at(&fixed, 4) as usize).min(16 * REASON))
        .ok()?;
    serde_json::from_slice(&note).ok()
}

/// Reads an entry; `InvalidData` if it is damaged.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Entry> {
    let file = disk.open(path)?;
    let all = Bytes::from(file.read_at(0, file.len()? as usize)?);
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the set-aside entry is damaged");
    if all.len() < FIXED || all[..4] != MAGIC[..] || crc32fast::hash(&all[FIXED..]) != u32_at(&all, 8) {
        return Err(damaged());
    }
    let split = FIXED + u32_at(&all, 4) as usize;
    let note: Note = all
        .get(FIXED..split)
        .and_then(|note| serde_json::from_slice(note).ok())
        .ok_or_else(damaged)?;
    Ok(Entry {
        items: note.items,
        whole: note.whole,
        bytes: all.slice(split..),
    })
}

/// An entry's id: owner, lane and name.
pub(super) fn id(owner: &Owner, lane: &str, name: &str) -> String {
    format!("{}/{lane}/{name}", owner.0)
}

/// Takes an id apart; `NotFound` for what cannot be one, so that no id leads out of the spool.
pub(super) fn parse(id: &str) -> io::Result<(Owner, &str, &str)> {
    let mut parts = id.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(owner), Some(lane), Some(name), None) if is_entry(name) => Ok((Owner(owner.to_owned()), lane, name)),
        _ => Err(missing()),
    }
}

pub(super) fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "nothing of this id is set aside")
}

pub(super) fn path(log: &Log, name: &str) -> PathBuf {
    log.state().dir.join(DIR).join(name)
}

/// Milliseconds since 1970, the only form in which times rest on disk.
pub(super) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
