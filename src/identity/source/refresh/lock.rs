//! One process at a time: an flock on a file that is never removed, or two processes could hold two of them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Held until it is dropped, or the process is gone.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing it unlocks")] File);

impl Lock {
    /// None if another holds it. Never waits: the kernel's queue would hold a thread.
    pub(super) fn take(path: &Path) -> io::Result<Option<Lock>> {
        if let Some(directory) = path.parent() {
            crate::identity::keep::private_directory(directory)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
