//! Whose turn it is to start, replace or stop the agent of a spool. Only one command at a time does so: an agent has its
//! listening sockets once, and who stops it must know that no other is about to run.
//!
//! The file lies in the spool's directory: containers that share a volume share no runtime directory. It is never removed
//! while the spool is there, and as many bytes long as the agent was stopped on purpose. Whoever waits while it grows was
//! meant, too.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use crate::spool;

/// Its name in the spool's directory.
pub const FILE: &str = "turn";
/// How often it is looked whether another one's turn is over.
const LOOK: Duration = Duration::from_millis(10);
/// How long whoever stops the agent waits for a start that is under way. One that hangs keeps nobody from stopping.
const START: Duration = Duration::from_secs(30);

/// A turn, until it is dropped or the process is gone.
#[derive(Debug)]
pub struct Turn(File);

/// How often the agent of the spool in `dir` was stopped on purpose.
pub fn stops(dir: &Path) -> u64 {
    std::fs::metadata(dir.join(FILE)).map_or(0, |file| file.len())
}

impl Turn {
    /// Makes the spool's directory if there is none, and waits until no other command has its turn.
    ///
    /// # Errors
    /// `WouldBlock` if one has after `patience`, or that the file cannot be had or has no place there.
    pub fn take(dir: &Path, patience: Duration) -> io::Result<Turn> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // In a directory of somebody else's nothing is left.
        spool::is_spool(dir)?;
        let began = Instant::now();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join(FILE))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Turn(file)),
                Err(TryLockError::WouldBlock) if began.elapsed() < patience => std::thread::park_timeout(LOOK),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As [`stops`], of the file that is locked.
    ///
    /// # Errors
    /// The operating system's.
    pub fn stops(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// To stop the agent for good: what was about to run runs when this returns, and what waits for its turn starts nothing
    /// any more. None where there is no spool, or the turn cannot be had.
    pub fn to_stop(dir: &Path) -> Option<Turn> {
        let turn = dir.exists().then(|| Turn::take(dir, START))?.ok()?;
        // Where it cannot be written down, what waits starts afterwards.
        let _ = turn.0.set_len(turn.stops().ok()? + 1);
        Some(turn)
    }
}
