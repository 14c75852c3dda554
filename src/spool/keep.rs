//! What is deleted, and when: sent history beyond `keep_bytes`, a ring's oldest, and what absent owners left too long.
//!
//! Nothing else is ever deleted. Before a segment goes, the cursor that passed it is synced: a power cut must not
//! bring back a cursor from before a segment that is gone, or its items would be missing from the books.

use super::{
    Owner,
    aside::millis,
    core::Core,
    log::{Log, lock, segment_path},
};
use std::{io, sync::Arc, time::SystemTime};

/// Deletes the oldest of what was sent, and of rings, until no more than `keep` bytes of it are left.
/// Whether anything went.
pub(super) fn trim(core: &Core, keep: u64) -> bool {
    let rings = lock(&core.caps).rings.clone();
    let mut held = 0;
    let mut candidates = Vec::new();
    for log in core.all() {
        let ring = rings.contains(&log.lane);
        let state = log.state();
        for (&number, segment) in &state.segments {
            if ring || state.is_history(number, segment) {
                held += segment.size();
                if !segment.open {
                    candidates.push((segment.tally.last, number, segment.size(), log.clone()));
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
    let any = !doomed.is_empty();
    if let Err(error) = delete(core, doomed) {
        tracing::warn!(%error, "history that may go stays for now");
        return false;
    }
    any
}

/// Deletes what owners other than `present` and this start's pending spool left longer than `max_age` ago.
pub(super) fn expire(core: &Core, present: Option<&Owner>, now: SystemTime) -> io::Result<u64> {
    let before = millis(now).saturating_sub(core.config.max_age.as_millis() as u64);
    let mut doomed = Vec::new();
    for log in core.all() {
        let state = log.state();
        if Some(&state.owner) == present || state.owner == core.pending {
            continue;
        }
        let old = state
            .segments
            .iter()
            .take_while(|(_, segment)| !segment.open && segment.tally.last < before);
        doomed.extend(old.map(|(number, _)| (log.clone(), *number)));
    }
    delete(core, doomed)
}

/// Deletes segments, for each log from the oldest on. Returns how many items expired with them.
fn delete(core: &Core, doomed: Vec<(Arc<Log>, u64)>) -> io::Result<u64> {
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
        let (count, done) = delete_from(core, &log, &numbers);
        expired += count;
        result = result.and(done);
    }
    result.map(|()| expired)
}

fn delete_from(core: &Core, log: &Log, numbers: &[u64]) -> (u64, io::Result<()>) {
    let (expired, synced, dir) = {
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
                core.release(&log.lane, freed);
            }
        }
        let written = if expired > 0 || state.unwritten {
            state.write_cursor()
        } else {
            Ok(())
        };
        let file = state.cursor_file.clone();
        (expired, written.map(|()| file), state.dir.clone())
    };
    let synced = synced.and_then(|file| file.map_or(Ok(()), |file| file.sync()));
    if let Err(error) = synced {
        return (expired, Err(error));
    }
    for &number in numbers {
        match core.disk.unlink(&segment_path(&dir, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return (expired, Err(error)),
            _ => drop(log.state().segments.remove(&number)),
        }
    }
    (expired, core.disk.sync_dir(&dir))
}
