//! What a start reads: names, footers, cursors, and the records of segments that no footer ends.
//!
//! That does not depend on the backlog: only the segment that was open when the last process ended has no footer (and
//! those of starts that were killed before they could end it for their predecessor). Nothing is cut or deleted here.

use super::{
    Owner, aside,
    core::{Caps, Logs, is_owner},
    cursor::Cursor,
    disk::Disk,
    log::{CURSOR, Log, SPARE, Segment, State, make_cursor, segment_path},
    segment::{self, HEADER, Id, SPENT, Tally},
};
use std::{io, path::Path, sync::Arc};

/// What was found on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub logs: Logs,
    pub caps: Caps,
    pub set_aside: u64,
    /// Segments that want a footer.
    pub unsealed: Vec<(Arc<Log>, u64)>,
}

pub(super) fn recover(disk: &dyn Disk, dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for owner in directories(disk, dir)? {
        let owner_dir = dir.join(&owner);
        let owner = Owner(owner);
        for lane in directories(disk, &owner_dir)? {
            let state = recover_log(disk, &owner, &owner_dir.join(&lane))?;
            *found.caps.lanes.entry(lane.clone()).or_default() += state.unsent_bytes();
            found.set_aside += aside::names(disk, &state.dir)?.len() as u64;
            let from = state.cursor.segment;
            let unsealed: Vec<u64> = state
                .segments
                .range(from..)
                .filter(|(_, segment)| !segment.sealed)
                .map(|(number, _)| *number)
                .collect();
            let log = Arc::new(Log::with(&lane, state));
            found
                .unsealed
                .extend(unsealed.into_iter().map(|number| (log.clone(), number)));
            found.logs.by_owner.entry(owner.clone()).or_default().insert(lane, log);
        }
    }
    Ok(found)
}

fn directories(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    let names = disk.list(dir)?.into_iter();
    Ok(names
        .filter(|(name, is_dir)| *is_dir && is_owner(name))
        .map(|(name, _)| name)
        .collect())
}

fn recover_log(disk: &dyn Disk, owner: &Owner, dir: &Path) -> io::Result<State> {
    let mut state = State::new(owner.clone(), dir.to_path_buf());
    match disk.open(&dir.join(CURSOR)) {
        Ok(file) => {
            state.cursor = Cursor::read(&file)?;
            state.cursor_file = Some(file);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for (name, is_dir) in disk.list(dir)? {
        if name == SPARE {
            state.spare = recover_spare(disk, &dir.join(SPARE))?;
        }
        if let Some(number) = number_of(&name).filter(|_| !is_dir) {
            let segment = recover_segment(disk, &segment_path(dir, number), number < state.cursor.segment)?;
            state.segments.insert(number, segment);
        }
    }
    let newest = state.segments.keys().next_back().copied().unwrap_or(0);
    state.next = newest.max(state.cursor.segment) + 1;
    if state.cursor_file.is_none() {
        match make_cursor(disk, dir, &state.cursor) {
            Ok(file) => state.cursor_file = Some(file),
            Err(error) => tracing::warn!(%error, "a log has no cursor on disk for now"),
        }
    }
    Ok(state)
}

/// Whether there is a spare file. One that was in use when the power went holds nothing that was accepted.
fn recover_spare(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let is_spent = disk.open(path)?.read_at(0, SPENT.len())? == SPENT;
    if !is_spent {
        // If it stays, the next spare file takes its name.
        let _ = disk.unlink(path);
    }
    Ok(is_spent)
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn recover_segment(disk: &dyn Disk, path: &Path, is_history: bool) -> io::Result<Segment> {
    let file = disk.open(path)?;
    let len = file.len()?;
    let Some(id) = Id::read(&file, len)? else {
        return Ok(Segment::default());
    };
    if let Some(tally) = segment::footer(&file, len, id)? {
        return Ok(Segment {
            tally,
            open: false,
            sealed: true,
        });
    }
    if is_history {
        let tally = Tally {
            records: 1,
            bytes: len.saturating_sub(HEADER),
            ..Tally::default()
        };
        return Ok(Segment {
            tally,
            open: false,
            sealed: false,
        });
    }
    let tally = segment::survey(&file, id, HEADER, len)?;
    Ok(Segment {
        tally,
        open: false,
        sealed: false,
    })
}
