//! What is refused, as the agent's own log tells it: a sender's log is seldom read, and "why does nothing arrive?" is asked here.
//!
//! Each cause is told at its first refusal, and after that at most once a minute with how many there were: a sender in a
//! loop writes no log full. A request that is taken comes nowhere near this. No byte of a request is told.

use crate::seldom::Seldom;

/// What is wrong; each is told for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// The connection could not even be accepted.
    Connection,
    /// It is not HTTP that is spoken.
    Speech,
    /// Another OS user, or another machine.
    User,
    /// A container without the workspace's key.
    Key,
    /// A name that is not this machine's.
    Host,
    /// A web page.
    Page,
    /// A path or method where nothing is taken.
    Path,
    /// A media type or compression that is not known.
    Type,
    /// More bytes than one request may have.
    Size,
    /// Bytes that are no OTLP.
    Bytes,
    /// Too much at once, or too slowly.
    Pace,
    /// The spool does not take it, or the agent stops.
    Spool,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Refusals(Seldom<Cause>);

// === impl Refusals ===

impl Refusals {
    /// Writes it into the log, or counts it.
    pub(super) fn tell(&self, cause: Cause, message: &str) {
        let advice = cause.advice();
        match self.0.due(cause) {
            Some(1) => tracing::warn!("telemetry is refused: {message}{advice}"),
            Some(times) => {
                tracing::warn!("telemetry is refused, {times} times more since this was said: {message}{advice}")
            }
            None => {}
        }
    }
}

// === impl Cause ===

impl Cause {
    /// What to do, where the message to the sender does not say it.
    fn advice(self) -> &'static str {
        match self {
            Cause::Bytes => "; the sender is told to drop it: look at the exporter that it comes from",
            Cause::Pace => "; the sender may come again",
            Cause::Spool => "; senders are told to come again, and `tagalong doctor` says what is in the way",
            _ => "",
        }
    }
}
