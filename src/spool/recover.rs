//! What a start reads: names, footers, cursors, and the records of segments that no footer ends.
//!
//! That does not depend on the backlog: only the segment that was open when the last process ended has no footer (and
//! those of starts that were killed before they could end it for their predecessor). Nothing is cut or deleted here.
//!
//! A place that the disk does not give back keeps no agent from starting: what is behind it is the reader's to find out.

use super::{
    LOCK, Owner, aside,
    core::{Caps, Core, Logs, PLACE, PRESENT, is_owner},
    cursor::{self, CURSOR, Cursor},
    disk::{Disk, File, System},
    holes::Holed,
    log::{Log, SPARE, Segment, State, segment_path},
    segment::{self, FOOTER, HEAD, HEADER, Head, Id, SPENT, Tally},
};
use std::{io, path::Path, sync::Arc};

/// What was found on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub logs: Logs,
    pub caps: Caps,
    /// Segments that want a footer.
    pub unsealed: Vec<(Arc<Log>, u64)>,
}

pub(super) fn recover(disk: &dyn Disk, dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for owner in directories(disk, dir)? {
        let owner_dir = dir.join(&owner);
        let owner = Owner(owner);
        for lane in directories(disk, &owner_dir)? {
            let state = recover_log(disk, &owner_dir.join(&lane))?;
            let (entries, bytes) = aside::weigh(disk, &state.dir)?;
            let used = found.caps.lane(&lane);
            used.entries += entries;
            used.set_aside += bytes;
            let (from, unsent) = (state.cursor.segment, state.unsent_bytes());
            let unsealed: Vec<u64> = state
                .segments
                .range(from..)
                .filter(|(_, segment)| !segment.sealed && !segment.unknown)
                .map(|(number, _)| *number)
                .collect();
            let log = Arc::new(Log::with(owner.clone(), &lane, state));
            found.caps.change(&log, 0, unsent);
            found
                .unsealed
                .extend(unsealed.into_iter().map(|number| (log.clone(), number)));
            found.logs.by_owner.entry(owner.clone()).or_default().insert(lane, log);
        }
    }
    Ok(found)
}

/// Whether there is a spool in `dir`, be it that its lock was deleted under the agent that wrote it.
///
/// # Errors
/// `DirectoryNotEmpty` if others' directories are in it: a spool would write and delete there.
pub fn is_spool(dir: &Path) -> io::Result<bool> {
    if dir.join(LOCK).try_exists()? {
        return Ok(true);
    }
    let owners = match directories(&System, dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        owners => owners?,
    };
    for owner in &owners {
        if !is_owners(&dir.join(owner))? {
            let message = "it has directories in it that are no spool's";
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, message));
        }
    }
    Ok(!owners.is_empty())
}

/// Whether only logs are in it. A log's cursor is the first that is made of it.
fn is_owners(dir: &Path) -> io::Result<bool> {
    for (name, is_dir) in System.list(dir)? {
        let is_ours = if is_dir {
            let files = System.list(&dir.join(name))?;
            files.is_empty() || files.iter().any(|(name, _)| name == CURSOR)
        } else {
            [PLACE, PRESENT].contains(&name.as_str())
        };
        if !is_ours {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Those whose name could be an owner's or a lane's.
fn directories(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    let names = disk.list(dir)?.into_iter();
    Ok(names
        .filter(|(name, is_dir)| *is_dir && is_owner(name))
        .map(|(name, _)| name)
        .collect())
}

fn recover_log(disk: &dyn Disk, dir: &Path) -> io::Result<State> {
    let mut state = State::new(dir.to_path_buf());
    match disk.open(&dir.join(CURSOR)) {
        Ok(file) => {
            let (cursor, is_whole) = Cursor::read(&file);
            state.cursor = cursor;
            state.cursor_file = is_whole.then_some(file);
            if !is_whole {
                tracing::error!(dir = %dir.display(), "a cursor cannot be read; what was sent may be sent again");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_damage(&error) => {}
        Err(error) => return Err(error),
    }
    for (name, is_dir) in disk.list(dir)? {
        if name == SPARE {
            state.spare = recover_spare(disk, &dir.join(SPARE));
        }
        if let Some(number) = number_of(&name).filter(|_| !is_dir) {
            let segment = recover_segment(disk, &segment_path(dir, number), number, &state.cursor)?;
            state.segments.insert(number, segment);
        }
    }
    let newest = state.segments.keys().next_back().copied().unwrap_or(0);
    state.next = newest.max(state.cursor.segment) + 1;
    if state.cursor_file.is_none() {
        match cursor::make(disk, dir, &state.cursor) {
            Ok(file) => state.cursor_file = Some(file),
            Err(error) => tracing::warn!(%error, "a log has no cursor on disk for now"),
        }
    }
    Ok(state)
}

/// Whether there is a spare file. One that was in use when the power went holds nothing that was accepted.
fn recover_spare(disk: &dyn Disk, path: &Path) -> bool {
    let start = disk.open(path).and_then(|file| file.read_at(0, SPENT.len()));
    let is_spent = start.is_ok_and(|start| start == SPENT);
    if !is_spent {
        // If it stays, the next spare file takes its name.
        let _ = disk.unlink(path);
    }
    is_spent
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn recover_segment(disk: &dyn Disk, path: &Path, number: u64, cursor: &Cursor) -> io::Result<Segment> {
    let is_history = number < cursor.segment;
    let (len, known) = match disk.open(path) {
        Ok(file) => {
            let len = file.len()?;
            (len, if is_history { sum_of_history(&file) } else { sum(&file) })
        }
        Err(error) if is_damage(&error) => (0, Err(error)),
        Err(error) => return Err(error),
    };
    match known {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => {
            tracing::error!(path = %path.display(), %error, "a segment cannot be read");
            // At least one byte behind the cursor, for the reader to come by.
            let passed = if number == cursor.segment { cursor.offset } else { 0 };
            let end = len.max(passed.max(HEADER) + 1);
            Ok(Segment {
                tally: Tally {
                    records: 1,
                    bytes: end - HEADER,
                    first: cursor.received,
                    // No record in it is younger.
                    last: disk.modified(path).map_or(u64::MAX, aside::millis),
                    ..Tally::default()
                },
                unknown: !is_history,
                ..Segment::default()
            })
        }
        known => known,
    }
}

/// Whether it is about one file: what the machine has too little of, or forbids, is told to whoever starts the agent.
fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What is in a segment: its footer says so, or else its records do.
fn sum(file: &File) -> io::Result<Segment> {
    let len = file.len()?;
    let Some(id) = Id::read(file, len)? else {
        return Ok(Segment::default());
    };
    if let Some(tally) = segment::footer(file, len, id)? {
        return Ok(Segment {
            tally,
            sealed: true,
            ..Segment::default()
        });
    }
    Ok(Segment {
        tally: segment::survey(file, id, HEADER, len)?,
        ..Segment::default()
    })
}

/// The same of a segment of which nothing is wanted any more: no record of it is read.
fn sum_of_history(file: &File) -> io::Result<Segment> {
    let len = file.len()?;
    let Some(id) = Id::read(file, len)? else {
        return Ok(Segment::default());
    };
    let footer = segment::footer(file, len, id)?;
    let guess = Tally {
        records: 1,
        bytes: len.saturating_sub(HEADER),
        ..Tally::default()
    };
    Ok(Segment {
        sealed: footer.is_some(),
        tally: footer.unwrap_or(guess),
        ..Segment::default()
    })
}

/// The same of a segment that the disk does not give back as a whole. All up to its last hole counts as accepted, so that
/// the reader comes by and sets it aside: nobody can tell it from a torn tail.
fn sum_around_holes(file: File) -> io::Result<Segment> {
    let holed = Arc::new(Holed::new(file));
    let file: File = holed.clone();
    let len = file.len()?;
    if file.read_at(0, SPENT.len())? == SPENT {
        return Ok(Segment::default());
    }
    let mut segment = Segment::default();
    let tally = &mut segment.tally;
    if let Some(id) = Id::read(&file, len)? {
        if let Some(footer) = segment::footer(&file, len, id)? {
            *tally = footer;
            segment.sealed = true;
            return Ok(segment);
        }
        *tally = segment::survey(&file, id, HEADER, len)?;
        while tally.end() < holed.end()
            && let Some(head) = Head::decode(&file.read_at(tally.end(), HEAD)?, id)
            && tally.end() + head.size() <= len
        {
            tally.add(&head);
        }
    }
    if len.saturating_sub(tally.end()) != FOOTER as u64 {
        tally.bytes = tally.bytes.max(holed.end().saturating_sub(HEADER));
    }
    if tally.bytes > 0 {
        tally.records = tally.records.max(1);
    }
    Ok(segment)
}

/// Finds out what is in a segment of which the start could not: all of it, or what there is around its holes.
pub(super) fn learn(core: &Core, log: &Log, number: u64, around_holes: bool) -> io::Result<()> {
    let path = segment_path(&log.state().dir, number);
    let file = core.disk.open(&path)?;
    let segment = if around_holes {
        sum_around_holes(file)?
    } else {
        sum(&file)?
    };
    let (guess, unsent) = {
        let mut state = log.state();
        let guess = state.unsent_bytes();
        if let Some(known) = state.segments.get_mut(&number) {
            *known = segment;
        }
        (guess, state.unsent_bytes())
    };
    core.regard(log, guess, unsent);
    Ok(())
}
