//! Whatever ends the demonstration early: Ctrl-C, a terminal that closes, a supervisor that stops it.
//!
//! Listened for from the very start: the default for each of these signals would leave the agent and the directory.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP.
#[derive(Debug)]
pub(super) struct Interrupts([Signal; 3]);

impl Interrupts {
    /// From now on these signals end nothing by themselves.
    pub(super) fn listen() -> io::Result<Interrupts> {
        Ok(Interrupts([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Returns at the next one. Cancel-safe.
    pub(super) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
