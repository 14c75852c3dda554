//! The signals that end an agent, and the end of whoever holds it. Each of them drains; nothing else is done on a signal.

use std::io;

use tokio::net::unix::pipe;

/// SIGTERM, SIGHUP and SIGINT, and the end of standard input where that is asked for.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    holder: Option<pipe::Receiver>,
}

impl Signals {
    /// `held`: standard input is a pipe, and whoever holds its other end says nothing and wants the agent for as long.
    pub(super) fn listen(held: bool) -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let holder = || pipe::Receiver::from_owned_fd(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 0)?);
        Ok(Signals {
            holder: held.then(holder).transpose()?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one that comes.
    pub(super) async fn next(&mut self) -> &'static str {
        let held = async {
            match &mut self.holder {
                Some(pipe) => tokio::io::copy(pipe, &mut tokio::io::sink()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = held => "the end of standard input",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
