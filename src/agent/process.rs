//! What holds for the whole process of the agent: its threads and its log. Nothing here knows a part.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// One thread forwards more than a workspace ever sends. What comes in is taken on the spool's own, and what takes long
/// (compression, files, names) on others.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
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

/// To standard error, as the configuration's `log` filters it.
pub(super) fn init_log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| "info".into());
    // A second initialisation happens only in tests that run several agents in one process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(io::stderr)
        // Its complaint about a log that cannot be written would go to the same place, and panic there.
        .log_internal_errors(false)
        .try_init();
}
