//! The committer: the one task that writes. What is ready in one turn of its thread is synced together.
//!
//! It alone makes, extends, seals, renames and unlinks segments, so none of these can overlap with another. It never
//! ends because the disk refuses: it says so to those who wait, and tries again with the next record.
//!
//! It blocks its thread while the disk is busy. Whoever appends from that thread has nothing else to do meanwhile, and
//! is told without waking a thread, which on a fast disk costs as much as the sync; nothing else belongs there.

use super::{
    AppendError, Owner,
    core::Core,
    cursor,
    disk::{self, File},
    keep,
    log::{Log, Open, Segment, lock, segment_path},
    segment::{self, FOOTER, Head, Id, Tally},
};
use crate::pieces::Pieces;
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
    time::SystemTime,
};
use tokio::{
    sync::{mpsc, oneshot},
    task,
};

/// What the committer is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Append(Append),
    /// Ends segments that an earlier start left open.
    Seal(Vec<(Arc<Log>, u64)>),
    /// Deletes what may go.
    Trim,
    /// Deletes all history, for something that must be kept.
    MakeRoom,
    Adopt(Owner, oneshot::Sender<io::Result<()>>),
    Expire {
        present: Owner,
        now: SystemTime,
        reply: oneshot::Sender<io::Result<u64>>,
    },
    LetGo(Owner, oneshot::Sender<io::Result<u64>>),
    /// Seals everything and ends the committer.
    Close,
}

/// A record that waits to be written.
#[derive(Debug)]
pub(super) struct Append {
    pub log: Arc<Log>,
    pub head: Head,
    pub bytes: Pieces,
    pub done: oneshot::Sender<Result<(), AppendError>>,
}

/// Runs until the spool is closed.
pub(super) async fn run(core: &Core, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut put_off = VecDeque::new();
    loop {
        let next = match put_off.pop_front() {
            Some(job) => Some(job),
            None => jobs.recv().await,
        };
        match next {
            Some(Job::Append(first)) => {
                let all = gather(first, &mut jobs, &mut put_off).await;
                commit_all(core, all);
            }
            Some(Job::Seal(left)) => seal_left(core, left),
            Some(Job::Trim) => drop(keep::trim(core, core.config.keep_bytes)),
            Some(Job::MakeRoom) => drop(make_room(core)),
            Some(Job::Adopt(owner, reply)) => drop(reply.send(super::adopt::adopt(core, &owner))),
            Some(Job::Expire { present, now, reply }) => drop(reply.send(keep::expire(core, &present, now))),
            Some(Job::LetGo(owner, reply)) => drop(reply.send(keep::let_go(core, &owner))),
            Some(Job::Close) | None => break,
        }
    }
    jobs.close();
    while let Some(job) = put_off.pop_front().or_else(|| jobs.try_recv().ok()) {
        if let Job::Append(append) = job {
            refuse(core, append);
        }
    }
    close(core);
}

/// So many bytes do not wait for company: to sync them takes longer than to wake for it.
const ENOUGH: u64 = 4 << 20;

/// All who share a sync with the first: as long as more of them come in the thread's next turn, which reads what senders
/// wrote meanwhile. Most wait for their answer before they send more; those who do not come to an end at [`ENOUGH`].
async fn gather(first: Append, jobs: &mut mpsc::UnboundedReceiver<Job>, put_off: &mut VecDeque<Job>) -> Vec<Append> {
    let mut bytes = first.head.size();
    let mut all = vec![first];
    loop {
        let before = all.len();
        task::yield_now().await;
        while let Ok(job) = jobs.try_recv() {
            match job {
                Job::Append(append) => {
                    bytes += append.head.size();
                    all.push(append);
                }
                other => put_off.push_back(other),
            }
        }
        if all.len() == before || bytes >= ENOUGH || !put_off.is_empty() {
            return all;
        }
    }
}

fn close(core: &Core) {
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
    if let Some(file) = lock(&core.lock).take() {
        // Not by closing it alone: a child that is being started at this moment has it open, too.
        let _ = rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock);
    }
}

/// The spool is closed.
pub(super) fn refuse(core: &Core, append: Append) {
    answer(core, vec![append], Err(AppendError::Closed));
}

/// Tells all of them, and gives the room of what is refused back.
fn answer(core: &Core, appends: Vec<Append>, result: Result<(), AppendError>) {
    for append in appends {
        if result.is_err() {
            core.release(&append.log, append.head.size());
        }
        // Whoever does not wait any more is not told.
        let _ = append.done.send(result.clone());
    }
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
    if sealed_one && core.is_ring(log) {
        keep::trim(core, core.config.keep_bytes);
    }
}

/// Writes; on a full disk once more, if what was sent already makes room: it is worth less than what was not.
fn write_or_make_room(core: &Core, log: &Log, batch: &[Append]) -> io::Result<()> {
    match write(core, log, batch) {
        Err(error) if disk::is_full(&error) && make_room(core) => write(core, log, batch),
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
    let mut slices = Vec::with_capacity(1 + 3 * batch.len());
    if first {
        slices.push(IoSlice::new(&header));
    }
    let mut tally = open.tally;
    for (append, head) in batch.iter().zip(&heads) {
        slices.push(IoSlice::new(head));
        slices.extend(append.bytes.iter().map(|piece| IoSlice::new(piece)));
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
        unknown: false,
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
    let (dir, from, is_new) = {
        let state = log.state();
        (state.dir.clone(), state.cursor, state.cursor_file.is_none())
    };
    if is_new {
        core.make_dirs(&log.owner, &dir)?;
        // Without the lock, as whoever looks at the log must not wait for the disk. Nobody else makes one.
        let file = cursor::make(&*core.disk, &dir, &from)?;
        log.state().cursor_file = Some(file);
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
        // Opened first: one that got the segment's name and no more would be in its way.
        let opened = core.disk.open(&spare);
        match opened.and_then(|file| core.disk.rename(&spare, path).map(|()| file)) {
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
                unknown: false,
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
            unknown: false,
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
