//! What holds for the whole process of the agent: its threads and its log. Nothing here knows a part.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// One thread forwards more than a workspace ever sends, and hands nothing over to another on the way. The disk has
/// a thread of its own (`spool`), and so has whatever takes long (compression, files, names).
pub(super) fn runtime() -> io::Result<Runtime> {
    // Each new connection is looked up in the kernel's table there: a storm of them must not become one of threads.
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
}

/// To standard error, as the configuration's `log` filters it.
pub(super) fn init_log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| "info".into());
    // A second initialisation happens only in tests that run several agents in one process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(io::stderr)
        .try_init();
}
