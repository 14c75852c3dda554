//! Adoption: what was received before the principal was known becomes the principal's.
//!
//! A log whose lane the new owner does not have yet is renamed as a whole; otherwise its segments are renamed one by
//! one to the owner's next numbers. Each rename moves whole segments, so a crash between two of them leaves every
//! record in exactly one log, and the next start's adoption moves the rest.

use super::{
    Owner, aside, commit,
    core::{Core, PENDING, PLACE},
    cursor::CURSOR,
    log::{Log, lock, segment_path},
};
use std::{io, sync::Arc};

/// Gives `owner` this start's pending spool, if nobody has it yet, and earlier starts' of the same place. What
/// cannot be moved is left to the next attempt.
pub(super) fn adopt(core: &Core, owner: &Owner) -> io::Result<()> {
    let mine = core.pending.clone();
    let mut sources = Vec::new();
    {
        let mut logs = lock(&core.logs);
        // From here on, appends to the pending spool go to the adopter; what is queued follows `moved`.
        if logs.adopted.is_none() {
            logs.adopted = Some(owner.clone());
        }
        let adopter = logs.adopted.clone();
        for (source, lanes) in &logs.by_owner {
            let is_mine = *source == mine;
            if source.0.starts_with(PENDING) && (!is_mine || adopter.as_ref() == Some(owner)) {
                sources.push((source.clone(), lanes.values().cloned().collect::<Vec<_>>()));
            }
        }
    }
    // What stays keeps nothing else from its owner.
    let adopted = sources
        .iter()
        .map(|(source, lanes)| adopt_from(core, source, lanes, owner));
    let adopted = adopted.fold(Ok(()), io::Result::and);
    *lock(&core.unadopted) = adopted.as_ref().err().map(ToString::to_string);
    adopted
}

fn adopt_from(core: &Core, source: &Owner, lanes: &[Arc<Log>], owner: &Owner) -> io::Result<()> {
    if *source != core.pending && core.read_place(source)?.as_ref() != Some(&core.config.place) {
        return Ok(());
    }
    let moved = lanes.iter().map(|log| move_log(core, log, owner));
    moved.fold(Ok(()), io::Result::and)?;
    forget(core, source);
    Ok(())
}

fn forget(core: &Core, source: &Owner) {
    lock(&core.logs).by_owner.remove(source);
    let dir = core.config.dir.join(&source.0);
    // Best effort: an empty directory holds nothing back.
    let _ = core.disk.unlink(&dir.join(PLACE));
    let _ = core.disk.remove_dir(&dir);
    let _ = core.disk.sync_dir(&core.config.dir);
}

fn move_log(core: &Core, from: &Arc<Log>, owner: &Owner) -> io::Result<()> {
    if let Err(error) = commit::seal(from) {
        tracing::warn!(%error, from.lane, "a segment is adopted unsealed");
    }
    let to = core.log(owner, &from.lane)?;
    if from.state().cursor_file.is_some() {
        if to.state().cursor_file.is_none() {
            move_whole(core, from, &to)?;
        } else {
            move_segments(core, from, &to)?;
        }
    }
    from.state().moved = Some(to.clone());
    to.news.notify_one();
    Ok(())
}

/// One rename.
fn move_whole(core: &Core, from: &Log, to: &Log) -> io::Result<()> {
    let (source, target) = (from.state().dir.clone(), to.state().dir.clone());
    let owner_dir = core.config.dir.join(&to.owner.0);
    core.disk.create_dir(&owner_dir)?;
    core.disk.sync_dir(&core.config.dir)?;
    // What a failed attempt to write left there is empty.
    let _ = core.disk.remove_dir(&target);
    core.disk.rename(&source, &target)?;
    {
        let (mut from, mut to) = (from.state(), to.state());
        to.segments = std::mem::take(&mut from.segments);
        to.next = to.next.max(from.next);
        to.cursor = from.cursor;
        to.cursor_file = from.cursor_file.take();
        to.unwritten = from.unwritten;
        to.spare = std::mem::take(&mut from.spare);
    }
    core.disk.sync_dir(&owner_dir)?;
    if let Some(parent) = source.parent() {
        core.disk.sync_dir(parent)?;
    }
    Ok(())
}

/// One rename for each segment.
fn move_segments(core: &Core, from: &Log, to: &Log) -> io::Result<()> {
    commit::seal(to)?;
    let (source, target) = (from.state().dir.clone(), to.state().dir.clone());
    // The committer alone changes which segments there are. So no lock is held over a rename: whoever looks at a log must
    // not wait for the disk.
    let segments = from.state().segments.clone();
    for (number, segment) in segments {
        let old = segment_path(&source, number);
        if from.state().is_history(number, &segment) {
            // The next trim would delete it anyway, and under a new number it would be sent again.
            core.disk.unlink(&old)?;
            from.state().segments.remove(&number);
            continue;
        }
        let next = to.state().next;
        core.disk.rename(&old, &segment_path(&target, next))?;
        let (mut from, mut to) = (from.state(), to.state());
        from.segments.remove(&number);
        to.segments.insert(next, segment);
        to.next += 1;
    }
    core.disk.sync_dir(&target)?;
    core.disk.sync_dir(&source)?;
    move_books(core, from, to)?;
    core.disk.unlink(&source.join(CURSOR))?;
    from.state().cursor_file = None;
    let spare = from.state().take_spare();
    if let Some(spare) = spare {
        core.disk.unlink(&spare)?;
    }
    let _ = core.disk.remove_dir(&source.join(aside::DIR));
    core.disk.remove_dir(&source)
}

fn move_books(core: &Core, from: &Log, to: &Log) -> io::Result<()> {
    let file = {
        let (mut from, mut to) = (from.state(), to.state());
        let settled = std::mem::take(&mut from.cursor.settled);
        to.cursor.settled.add(&settled);
        to.write_cursor()?;
        to.cursor_file.clone()
    };
    file.map_or(Ok(()), |file| file.sync())?;
    let (source, target) = (from.state().dir.clone(), to.state().dir.join(aside::DIR));
    let names = aside::names(&*core.disk, &source)?;
    if names.is_empty() {
        return Ok(());
    }
    core.disk.create_dir(&target)?;
    let taken = aside::names(&*core.disk, &to.state().dir)?;
    let mut free = 0u64..;
    for name in names {
        // The same position in another log is another entry.
        let renamed = free
            .by_ref()
            .map(|n| format!("{name}-{n}"))
            .find(|name| !taken.contains(name));
        let renamed = renamed.unwrap_or(name.clone());
        core.disk
            .rename(&source.join(aside::DIR).join(&name), &target.join(renamed))?;
    }
    core.disk.sync_dir(&target)
}
