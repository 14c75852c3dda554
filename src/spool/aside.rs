//! What will not be sent again unless somebody asks for it: one file for each entry, in its log's `set-aside`.
//!
//! ```text
//! entry = "TASD"  length u32 (of the note)  check u32 (of the note and the bytes)  note (JSON)  bytes
//! ```
//!
//! An entry's name is made of the record's position, so a record that is set aside again after a crash replaces its
//! own entry. It is written beside, synced and renamed: a list never shows half of one.
//!
//! Entries take room of the cap, in whole blocks of the disk, until they are sent again or given up, or too old while
//! their owner is absent. So an upstream that refuses everything fills the spool, and senders are told to come again;
//! beyond the cap nothing is set aside but a few bad records, and the log waits.

use super::{
    Owner, Part, Position, Room, SetAside, Spool,
    core::Core,
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
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The directory in a log's directory.
pub(super) const DIR: &str = "set-aside";
const MAGIC: &[u8; 4] = b"TASD";
const FIXED: usize = 12;
/// Longer reasons are cut: they come from outside.
const REASON: usize = 1024;
/// So many entries of a log a start looks at.
const WEIGHED: usize = 1000;
/// What a file takes on the disk is a multiple of this on common file systems.
const BLOCK: u64 = 4096;

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

/// Writes the parts of one record, durably, and counts them.
pub(super) fn write(core: &Core, log: &Log, position: Position, parts: &[Part], whole: bool) -> io::Result<()> {
    let (disk, now) = (&*core.disk, core.now());
    let log_dir = log.state().dir.clone();
    let dir = log_dir.join(DIR);
    disk.create_dir(&dir)?;
    disk.sync_dir(&log_dir)?;
    for (i, part) in parts.iter().enumerate() {
        let path = dir.join(format!("{}-{}-{i}", position.segment, position.offset));
        let before = disk.size(&path).ok().map(blocks);
        let mut reason = part.reason.clone();
        reason.truncate(reason.floor_char_boundary(REASON));
        let note = Note {
            items: part.items,
            bytes: part.bytes.len() as u64,
            at: now,
            reason,
            whole,
        };
        let size = write_one(disk, &path, &note, &part.bytes)?;
        core.count_set_aside(&log.lane, before, Some(blocks(size)));
    }
    disk.sync_dir(&dir)
}

/// What an entry of so many bytes takes on the disk at most.
pub(super) fn most(bytes: usize) -> u64 {
    blocks((FIXED + REASON + bytes) as u64)
}

/// How many entries a log has, and what they take on the disk. Where there are more than [`WEIGHED`], the others are taken
/// to be like those, so that a start takes no longer than it takes to list them.
pub(super) fn weigh(disk: &dyn Disk, log_dir: &Path) -> io::Result<(u64, u64)> {
    let names = names(disk, log_dir)?;
    let sizes: Vec<u64> = names
        .iter()
        .step_by(names.len().div_ceil(WEIGHED).max(1))
        .filter_map(|name| disk.size(&log_dir.join(DIR).join(name)).ok())
        .map(blocks)
        .collect();
    let (all, weighed) = (names.len() as u64, sizes.len() as u64);
    Ok((all, sizes.iter().sum::<u64>() * all / weighed.max(1)))
}

fn blocks(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

/// Returns the file's size.
fn write_one(disk: &dyn Disk, path: &Path, note: &Note, bytes: &[u8]) -> io::Result<u64> {
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
    written.map(|()| (FIXED + note.len() + bytes.len()) as u64)
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
    let dir = log.state().dir.clone();
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
            id: id(&log.owner, &log.lane, &name),
            owner: log.owner.clone(),
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

/// Deletes what owners had set aside who have been absent for longer than `max_age`: it would take room of those who are
/// here for ever.
///
/// Not the committer's: to delete thousands of files takes long, and senders wait for it.
pub(super) fn expire(core: &Core, present: &Owner, now: SystemTime) {
    let before = core.too_old(now);
    for log in core.absent(present, before) {
        match expire_of(core, &log, before) {
            Ok(0) => {}
            Ok(entries) => tracing::info!(
                owner = log.owner.0,
                log.lane,
                entries,
                "what was set aside is too old by now"
            ),
            Err(error) => tracing::warn!(%error, log.lane, "what is set aside could not be looked through"),
        }
    }
}

/// How many entries of a log those were.
fn expire_of(core: &Core, log: &Log, before: u64) -> io::Result<u64> {
    let log_dir = log.state().dir.clone();
    let dir = log_dir.join(DIR);
    let mut expired = 0;
    for name in names(&*core.disk, &log_dir)? {
        if core.is_closed() {
            break;
        }
        let path = dir.join(name);
        // Somebody may give one up meanwhile.
        let is_old = core.disk.modified(&path).is_ok_and(|at| millis(at) < before);
        if is_old && delete(core, log, &path).is_ok() {
            expired += 1;
        }
    }
    Ok(expired)
}

/// Deletes one entry. No sync waits for that: after a power cut it may be there again, as a record may that was sent.
fn delete(core: &Core, log: &Log, path: &Path) -> io::Result<()> {
    let before = blocks(core.disk.size(path)?);
    core.disk.unlink(path)?;
    core.count_set_aside(&log.lane, Some(before), None);
    Ok(())
}

pub(super) fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "nothing of this id is set aside")
}

pub(super) fn path(log: &Log, name: &str) -> PathBuf {
    log.state().dir.join(DIR).join(name)
}

impl Spool {
    /// What was set aside, by owner and lane.
    pub fn set_aside(&self) -> io::Result<Vec<SetAside>> {
        let core = &self.handle.core;
        let mut entries = Vec::new();
        for log in core.all() {
            entries.extend(list(&*core.disk, &log)?);
        }
        Ok(entries)
    }

    /// Appends a set-aside entry to its log again.
    ///
    /// # Errors
    /// `NotFound` for an unknown id, `InvalidData` for what a bad disk left: that cannot be sent;
    /// `ResourceBusy` while the same is under way already.
    pub async fn retry(&self, id: &str) -> io::Result<()> {
        let core = &self.handle.core;
        let (log, path) = self.entry(id)?;
        let _claim = self.handle.retried.claim(&path)?;
        let entry = read(&*core.disk, &path)?;
        if !entry.whole {
            let message = "a corrupt record cannot be sent again, only given up";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.append_as(&log.owner, &log.lane, entry.items, entry.bytes.into(), Room::Has)
            .await
            .map_err(io::Error::other)?;
        let written = {
            // Pending now, no longer set aside: accepted stays what it was.
            let mut state = log.state();
            state.take_back(entry.items);
            state.write_cursor()
        };
        if let Err(error) = &written {
            // It is in the log again, and an entry that stayed would be sent twice. The next advance writes the cursor.
            core.note_trouble(Some(error));
        }
        match delete(core, &log, &path) {
            // It grew too old meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    /// Deletes a set-aside entry; it stays in the books as set aside.
    pub fn give_up(&self, id: &str) -> io::Result<()> {
        let (log, path) = self.entry(id)?;
        let _claim = self.handle.retried.claim(&path)?;
        delete(&self.handle.core, &log, &path)
    }

    fn entry(&self, id: &str) -> io::Result<(Arc<Log>, PathBuf)> {
        let core = &self.handle.core;
        let (owner, lane, name) = parse(id)?;
        let log = lock(&core.logs)
            .by_owner
            .get(&owner)
            .and_then(|lanes| lanes.get(lane))
            .cloned();
        let log = log.ok_or_else(missing)?;
        let path = path(&log, name);
        core.disk.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => error,
        })?;
        Ok((log, path))
    }
}

/// Milliseconds since 1970, the only form in which times rest on disk.
pub(super) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
