//! What holds for the whole process of the agent: its threads, its descriptors and its log. Nothing here knows a part.

use std::{io, path::PathBuf, sync::Mutex};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::detach::Log;

/// What is wanted of the limit of descriptors, which is 1024 nearly everywhere until a process asks for more
/// (systemd.exec(5), `LimitNOFILE`). Programs that are started from here get it, too, so it is none that hurts those that
/// look at each descriptor that they may have.
const DESCRIPTORS: u64 = 4096;
/// Of senders, at a time. No workspace has so many.
const MOST_CONNECTIONS: u64 = 1024;

/// One thread forwards more than a workspace ever sends. What comes in is taken on the spool's own, and what takes long
/// (compression, files, names) on others.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
}

/// Raises the limit of descriptors as far as this process may.
pub(super) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS);
    if limit.current.is_some_and(|now| now < current) {
        // With fewer there are fewer connections.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(current),
                ..limit
            },
        );
    }
}

/// How many connections of senders there may be: no more than half of the descriptors, so that the spool, upstream, the
/// control socket and whose connections they are always have theirs.
pub(super) fn connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = (descriptors / 2).clamp(1, MOST_CONNECTIONS);
    usize::try_from(connections).expect("a thousand fits")
}

/// A guest's share of a busy processor is a third of what the workspace's own programs get (sched(7), "The nice value").
const NICE: i32 = 5;

/// From now on this thread, and what is started from it, lets others go first: who waits for an answer waits for the thread
/// that takes requests, and nobody waits for what is sent. Linux has that by thread (setpriority(2), "C library/kernel
/// differences"), other systems for the whole process, which is a guest's manner, too.
pub(super) fn give_way() {
    // Whoever may not even do that works all the same.
    let _ = rustix::process::nice(NICE);
}

/// To standard error, as the configuration's `log` filters it; a detached agent's is the log at this path.
pub(super) fn init_log(filter: &str, log: Option<PathBuf>) {
    let writer = match log {
        Some(path) => BoxMakeWriter::new(Mutex::new(Log { path })),
        None => BoxMakeWriter::new(io::stderr),
    };
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| "info".into());
    // A second initialisation happens only in tests that run several agents in one process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(writer)
        // Its complaint about a log that cannot be written would go to the same place, and panic there.
        .log_internal_errors(false)
        .try_init();
}
