//! The committer: one thread that writes. Whoever waits while it syncs is served by its next sync together.
//!
//! It alone makes, extends, seals, renames and unlinks segments, so none of these can overlap with another. It never
//! ends because the disk refuses: it says so to those who wait, and tries again with the next record.

use super::{
    AppendError, Owner,
    core::Core,
    disk::File,
    keep,
    log::{Log, Open, Segment, lock, segment_path},
    segment::{self, FOOTER, Head, Id, Tally},
};
use bytes::Bytes;
use std::{
    io::{self, IoSlice},
    path::Path,
    sync::{Arc, mpsc},
    time::SystemTime,
};
use tokio::sync::oneshot;

/// What the committer is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Append(Vec<Append>),
    /// Ends segments that an earlier start left open.
    Seal(Vec<(Arc<Log>, u64)>),
    /// Deletes what may go.
    Trim,
    /// Deletes all history, for something that must be kept.
    MakeRoom,
    Adopt(Owner, mpsc::Sender<io::Result<()>>),
    Expire {
        present: Option<Owner>,
        now: SystemTime,
        reply: mpsc::Sender<io::Result<u64>>,
    },
    /// Seals everything and ends the thread.
    Close,
}

/// A record that waits to be written.
#[derive(Debug)]
pub(super) struct Append {
    pub log: Arc<Log>,
    pub head: Head,
    pub bytes: Bytes,
    pub done: oneshot::Sender<Verdict>,
}

/// What became of the records of one sync. Whoever gets it tells the others that waited for that sync.
///
/// To wake a task costs this thread a system call each time, and a task of the same runtime next to nothing.
#[derive(Debug)]
pub(super) struct Verdict {
    result: Result<(), AppendError>,
    others: Vec<oneshot::Sender<Verdict>>,
}

impl Verdict {
    fn tell(result: Result<(), AppendError>, mut waiting: Vec<oneshot::Sender<Verdict>>) {
        let mut verdict = Verdict {
            result,
            others: Vec::new(),
        };
        while let Some(first) = waiting.pop() {
            verdict.others = waiting;
            match first.send(verdict) {
                Ok(()) => return,
                // Whoever does not wait any more hands the others back.
                Err(mut back) => {
                    waiting = std::mem::take(&mut back.others);
                    verdict = back;
                }
            }
        }
    }

    /// What became of one's own record.
    pub(super) fn result(&self) -> Result<(), AppendError> {
        self.result.clone()
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        for other in self.others.drain(..) {
            let _ = other.send(Verdict {
                result: self.result.clone(),
                others: Vec::new(),
            });
        }
    }
}

/// Runs until the spool is closed.
pub(super) fn run(core: &Core, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut appends = Vec::new();
        let mut others = Vec::new();
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            match job {
                Job::Append(more) => appends.extend(more),
                other => others.push(other),
            }
        }
        // What waits for the disk goes first, and all of it at once.
        for job in std::iter::once(Job::Append(appends)).chain(others) {
            match job {
                Job::Append(all) => commit_all(core, all),
                Job::Seal(left) => seal_left(core, left),
                Job::Trim => drop(keep::trim(core, core.config.keep_bytes)),
                Job::MakeRoom => drop(make_room(core)),
                Job::Adopt(owner, reply) => drop(reply.send(super::adopt::adopt(core, &owner))),
                Job::Expire { present, now, reply } => drop(reply.send(keep::expire(core, present.as_ref(), now))),
                Job::Close => return close(core, jobs),
            }
        }
    }
    close(core, jobs);
}

fn close(core: &Core, jobs: &mpsc::Receiver<Job>) {
    for job in jobs.try_iter() {
        if let Job::Append(appends) = job {
            refuse(core, appends);
        }
    }
    for log in core.all() {
        if let Err(error) = seal(&log) {
            tracing::warn!(%error, log.lane, "a segment stays unsealed");
        }
        let mut state = log.state();
        if state.unwritten {
            let _ = state.write_cursor();
        }
        let file = state.cursor_file.clone();
        drop(state);
        if let Some(Err(error)) = file.map(|file| file.sync()) {
            tracing::warn!(%error, log.lane, "the cursor may be older after a power cut");
        }
    }
    *lock(&core.lock) = None;
}

/// The spool is closed.
pub(super) fn refuse(core: &Core, appends: Vec<Append>) {
    answer(core, appends, Err(AppendError::Closed));
}

/// Tells all of them, and gives the room of what is refused back.
fn answer(core: &Core, appends: Vec<Append>, result: Result<(), AppendError>) {
    if result.is_err() {
        for append in &appends {
            core.release(&append.log.lane, append.head.size());
        }
    }
    Verdict::tell(result, appends.into_iter().map(|append| append.done).collect());
}

/// Commits appends log by log.
fn commit_all(core: &Core, mut appends: Vec<Append>) {
    for append in &mut appends {
        let moved = append.log.state().moved.clone();
        if let Some(log) = moved {
            append.log = log;
        }
    }
    while let Some(first) = appends.first() {
        let log = first.log.clone();
        let (mine, rest) = appends.into_iter().partition(|append| Arc::ptr_eq(&append.log, &log));
        appends = rest;
        commit(core, &log, mine);
    }
}

/// Writes and syncs as many as fit the segment at once, and answers them; then the next.
fn commit(core: &Core, log: &Log, appends: Vec<Append>) {
    let mut left = appends.into_iter().peekable();
    let mut sealed_one = false;
    while left.peek().is_some() {
        let used = lock(&log.open).as_ref().map_or(0, |open| open.tally.bytes);
        let mut size = used;
        let mut batch: Vec<Append> = Vec::new();
        while let Some(append) = left.next_if(|append| size == 0 || size + append.head.size() <= core.segment_bytes) {
            size += append.head.size();
            batch.push(append);
        }
        let mut result = Ok(());
        if !batch.is_empty() {
            result = write_or_make_room(core, log, &batch);
            core.note_trouble(result.as_ref().err());
        }
        let written = result.is_ok();
        answer(
            core,
            batch,
            result.map_err(|error| AppendError::Disk(error.to_string())),
        );
        if written && (left.peek().is_some() || size >= core.segment_bytes) {
            sealed_one = true;
            if let Err(error) = seal(log) {
                tracing::warn!(%error, log.lane, "a segment stays unsealed");
            }
        }
    }
    if sealed_one && lock(&core.caps).rings.contains(&log.lane) {
        keep::trim(core, core.config.keep_bytes);
    }
}

/// Writes; on a full disk once more, if what was sent already makes room: it is worth less than what was not.
fn write_or_make_room(core: &Core, log: &Log, batch: &[Append]) -> io::Result<()> {
    match write(core, log, batch) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull && make_room(core) => write(core, log, batch),
        written => written,
    }
}

/// Deletes all history, also that of segments which are still open. Whether there was any.
fn make_room(core: &Core) -> bool {
    for log in core.all() {
        let number = lock(&log.open).as_ref().map(|open| open.number);
        if number.is_some_and(|number| log.state().is_answered_for(number))
            && let Err(error) = seal(&log)
        {
            tracing::debug!(%error, log.lane, "a segment that is about to go has no footer");
        }
    }
    keep::trim(core, 0)
}

/// Writes records behind the open segment's synced end, and syncs.
fn write(core: &Core, log: &Log, batch: &[Append]) -> io::Result<()> {
    let mut slot = lock(&log.open);
    let new = slot.is_none();
    if new {
        *slot = Some(create(core, log)?);
    }
    let open = slot.as_mut().expect("it was made just now");
    let header = segment::header(open.id);
    let heads: Vec<[u8; segment::HEAD]> = batch.iter().map(|append| append.head.encode(open.id)).collect();
    let first = open.tally.records == 0;
    let mut slices = Vec::with_capacity(1 + 2 * batch.len());
    if first {
        slices.push(IoSlice::new(&header));
    }
    let mut tally = open.tally;
    for (append, head) in batch.iter().zip(&heads) {
        slices.push(IoSlice::new(head));
        slices.push(IoSlice::new(&append.bytes));
        tally.add(&append.head);
    }
    let at = if first { 0 } else { open.tally.end() };
    if let Err(error) = open.file.write_at(at, &mut slices) {
        // Nothing was synced, so the same place can be written again; if only it can be cut clean.
        if open.file.set_len(at).is_err() {
            abandon(log, &mut slot);
        }
        return Err(error);
    }
    let synced = open
        .file
        .sync()
        .and_then(|()| if first { core.disk.sync_dir(&dir(log)) } else { Ok(()) });
    if let Err(error) = synced {
        // The kernel may have dropped the pages and forgotten it: another sync of this file would lie.
        let _ = open.file.set_len(at);
        abandon(log, &mut slot);
        return Err(error);
    }
    open.tally = tally;
    let segment = Segment {
        tally,
        open: true,
        sealed: false,
    };
    let records = batch.iter().map(|append| (append.head, append.bytes.clone()));
    log.publish_records(open.number, segment, records);
    Ok(())
}

fn dir(log: &Log) -> std::path::PathBuf {
    log.state().dir.clone()
}

/// Makes the next segment's file, and whatever it needs around it.
fn create(core: &Core, log: &Log) -> io::Result<Open> {
    let (owner, dir, is_new) = {
        let state = log.state();
        (state.owner.clone(), state.dir.clone(), state.cursor_file.is_none())
    };
    if is_new {
        core.make_dirs(&owner, &dir)?;
        log.state().allocate_cursor(&*core.disk)?;
    }
    let number = {
        let mut state = log.state();
        state.next += 1;
        state.next - 1
    };
    Ok(Open {
        number,
        id: Id::draw()?,
        file: make_file(core, log, &segment_path(&dir, number))?,
        tally: Tally::default(),
    })
}

/// A file for a segment: the spare one if there is one.
fn make_file(core: &Core, log: &Log, path: &Path) -> io::Result<File> {
    // Apart from the `if`, which would hold the state for as long as the disk takes.
    let spare = log.state().take_spare();
    if let Some(spare) = spare {
        match core.disk.rename(&spare, path).and_then(|()| core.disk.open(path)) {
            Ok(file) => return Ok(file),
            Err(error) => tracing::warn!(%error, log.lane, "a spare file cannot be used"),
        }
    }
    core.disk.create(path)
}

/// Leaves the open segment as it is: what was synced before stays readable, and nothing is written to it any more.
fn abandon(log: &Log, slot: &mut Option<Open>) {
    if let Some(open) = slot.take() {
        log.publish(
            open.number,
            Segment {
                tally: open.tally,
                open: false,
                sealed: false,
            },
        );
    }
}

/// Ends the open segment, if there is one. If that fails it is read up to its end all the same.
pub(super) fn seal(log: &Log) -> io::Result<()> {
    let Some(open) = lock(&log.open).take() else {
        return Ok(());
    };
    let written = write_footer(&open);
    log.publish(
        open.number,
        Segment {
            tally: open.tally,
            open: false,
            sealed: written.is_ok(),
        },
    );
    written
}

fn write_footer(open: &Open) -> io::Result<()> {
    if open.tally.records == 0 {
        return Ok(());
    }
    let end = open.tally.end();
    open.file
        .write_at(end, &mut [IoSlice::new(&open.tally.encode(open.id))])?;
    // A file that served before may be longer.
    open.file.set_len(end + FOOTER as u64)?;
    open.file.sync()
}

fn seal_left(core: &Core, left: Vec<(Arc<Log>, u64)>) {
    for (log, number) in left {
        let found = {
            let state = log.state();
            state
                .segments
                .get(&number)
                .copied()
                .map(|segment| (segment, segment_path(&state.dir, number)))
        };
        let Some((segment, path)) = found else { continue };
        let sealed = core.disk.open(&path).and_then(|file| {
            let Some(id) = Id::read(&file, file.len()?)? else {
                return Ok(());
            };
            file.set_len(segment.tally.end())?;
            write_footer(&Open {
                number,
                id,
                file,
                tally: segment.tally,
            })
        });
        match sealed {
            Ok(()) => log.publish(
                number,
                Segment {
                    sealed: segment.tally.records > 0,
                    ..segment
                },
            ),
            Err(error) => tracing::warn!(%error, log.lane, "a segment stays unsealed"),
        }
    }
}
