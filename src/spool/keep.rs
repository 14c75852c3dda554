//! What is deleted, and when: sent history beyond `keep_bytes`, a ring's oldest, and what absent owners left too long.
//!
//! Nothing else is ever deleted. Before a segment goes, the cursor that passed it is synced: a power cut must not
//! bring back a cursor from before a segment that is gone, or its items would be missing from the books.
//!
//! A busy log's oldest is not deleted but spared, to serve as its next segment: deleting and making files of that size
//! over and over takes longer than all else that the disk does. There is one spare file at most for each log.

use super::{
    Owner, commit,
    core::Core,
    disk,
    log::{Log, SPARE, Segment, lock, segment_path},
    recover,
    segment::SPENT,
};
use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

/// What is done with a segment of which nothing is wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Delete,
    /// It becomes the spare file, if there is none.
    Spare,
}

/// Deletes the oldest of what was sent, and of rings, until no more than `keep` bytes of it are left; with none to
/// keep, the spare files too. Whether anything went.
pub(super) fn trim(core: &Core, keep: u64) -> bool {
    let mut held = 0;
    let mut candidates = Vec::new();
    for log in core.all() {
        let ring = core.is_ring(&log);
        let state = log.state();
        // Within a log it is the number that says which is older: the wall clock may have stepped back.
        let mut last = 0;
        for (&number, segment) in &state.segments {
            last = segment.tally.last.max(last);
            if ring || state.is_history(number, segment) {
                held += segment.size();
                if !segment.open {
                    candidates.push((last, number, segment.size(), log.clone()));
                }
            }
        }
    }
    candidates.sort_by_key(|(last, number, ..)| (*last, *number));
    let mut doomed: Vec<(Arc<Log>, u64)> = Vec::new();
    for (_, number, size, log) in candidates {
        if held <= keep {
            break;
        }
        held -= size;
        doomed.push((log, number));
    }
    let end = if keep < core.segment_bytes {
        End::Delete
    } else {
        End::Spare
    };
    let any = !doomed.is_empty();
    let deleted = delete(core, doomed, end);
    let spares = if keep == 0 {
        delete_spares(core, &core.all())
    } else {
        Ok(false)
    };
    match deleted.and(spares) {
        Ok(spares) => any || spares,
        Err(error) => {
            tracing::warn!(%error, "history that may go stays for now");
            false
        }
    }
}

/// Whether there were any.
fn delete_spares(core: &Core, logs: &[Arc<Log>]) -> io::Result<bool> {
    let mut any = false;
    for log in logs {
        let spare = log.state().take_spare();
        if let Some(spare) = spare {
            core.disk.unlink(&spare)?;
            any = true;
        }
    }
    Ok(any)
}

/// Deletes the segments of owners who have been absent for longer than `max_age`, and notes who is not.
pub(super) fn expire(core: &Core, present: &Owner, now: SystemTime) -> io::Result<u64> {
    if let Err(error) = core.note_presence(present, now) {
        tracing::warn!(%error, "who is here is not remembered");
    }
    let before = core.too_old(now);
    let mut doomed = Vec::new();
    let absent = core.absent(present, before);
    for log in &absent {
        let is_old = lock(&log.open).as_ref().is_some_and(|open| open.tally.last < before);
        if is_old && let Err(error) = commit::seal(log) {
            tracing::debug!(%error, log.lane, "a segment that is about to go has no footer");
        }
        let old: Vec<(u64, Segment)> = {
            let state = log.state();
            let segments = state.segments.iter().map(|(number, segment)| (*number, *segment));
            segments
                .take_while(|(_, segment)| !segment.open && segment.tally.last < before)
                .collect()
        };
        for (number, segment) in old {
            if segment.unknown
                && let Err(error) = recover::learn(core, log, number, true)
            {
                tracing::warn!(%error, log.lane, "what is too old cannot be counted");
                if disk::is_of_the_machine(&error) {
                    break;
                }
            }
            doomed.push((log.clone(), number));
        }
    }
    let expired = delete(core, doomed, End::Delete)?;
    delete_spares(core, &absent)?;
    Ok(expired)
}

/// Deletes segments, for each log from the oldest on. Returns how many items expired with them.
fn delete(core: &Core, doomed: Vec<(Arc<Log>, u64)>, end: End) -> io::Result<u64> {
    let mut logs: Vec<(Arc<Log>, Vec<u64>)> = Vec::new();
    for (log, number) in doomed {
        match logs.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &log)) {
            Some((_, numbers)) => numbers.push(number),
            None => logs.push((log, vec![number])),
        }
    }
    let mut expired = 0;
    let mut result = Ok(());
    for (log, mut numbers) in logs {
        numbers.sort_unstable();
        let (count, done) = delete_from(core, &log, &numbers, end);
        expired += count;
        result = result.and(done);
    }
    result.map(|()| expired)
}

/// Makes history of all that `owner` has unsent. Returns how many items expired so.
pub(super) fn let_go(core: &Core, owner: &Owner) -> io::Result<u64> {
    let mut expired = 0;
    for log in core.all().into_iter().filter(|log| log.owner == *owner) {
        let numbers: Vec<u64> = log.state().segments.keys().copied().collect();
        let (count, settled) = settle(core, &log, &numbers);
        settled?;
        expired += count;
    }
    Ok(expired)
}

/// Moves the cursor behind the segments, on disk too. Returns how many items expired with that.
fn settle(core: &Core, log: &Log, numbers: &[u64]) -> (u64, io::Result<()>) {
    let (expired, written) = {
        let mut state = log.state();
        let mut expired = 0;
        for &number in numbers {
            let history = state
                .segments
                .get(&number)
                .is_none_or(|segment| state.is_history(number, segment));
            if !history {
                let (items, freed) = state.expire(number);
                expired += items;
                core.release(log, freed);
            }
        }
        let written = if expired > 0 || state.unwritten {
            state.write_cursor()
        } else {
            Ok(())
        };
        let file = state.cursor_file.clone();
        (expired, written.map(|()| file))
    };
    let synced = written.and_then(|file| file.map_or(Ok(()), |file| file.sync()));
    if synced.is_err() {
        // The kernel may have forgotten what was written: to sync it once more would not do.
        log.state().unwritten = true;
    }
    (expired, synced)
}

fn delete_from(core: &Core, log: &Log, numbers: &[u64], end: End) -> (u64, io::Result<()>) {
    let (expired, settled) = settle(core, log, numbers);
    if let Err(error) = settled {
        return (expired, Err(error));
    }
    let dir = log.state().dir.clone();
    for &number in numbers {
        let path = segment_path(&dir, number);
        let ended = match end {
            // What cannot be written to cannot serve again, and would hold up what is behind it.
            End::Spare if may_spare(core, log, number) => {
                spare(core, log, &path, &dir).or_else(|_| core.disk.unlink(&path))
            }
            End::Spare | End::Delete => core.disk.unlink(&path),
        };
        match ended {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return (expired, Err(error)),
            _ => drop(log.state().segments.remove(&number)),
        }
    }
    (expired, core.disk.sync_dir(&dir))
}

/// One at a time, and none that is so small that it would have to grow for most of its new life.
fn may_spare(core: &Core, log: &Log, number: u64) -> bool {
    let state = log.state();
    let large = state
        .segments
        .get(&number)
        .is_some_and(|segment| segment.size() >= core.segment_bytes / 2);
    large && !state.spare
}

fn spare(core: &Core, log: &Log, path: &Path, dir: &Path) -> io::Result<()> {
    let file = core.disk.open(path)?;
    file.write_at(0, &mut [IoSlice::new(&SPENT)])?;
    // Or a power cut might leave what was in it under its new name.
    file.sync()?;
    core.disk.rename(path, &dir.join(SPARE))?;
    log.state().spare = true;
    Ok(())
}
