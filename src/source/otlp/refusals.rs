//! What is refused, as the agent's own log tells it: a sender's log is seldom read, and "why does nothing arrive?" is asked here.
//!
//! Each cause is told at its first refusal, and after that at most once a minute with how many there were: a sender in a
//! loop writes no log full. A request that is taken comes nowhere near this. No byte of a request is told.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// For how long refusals of one cause are only counted once one of them was told.
const QUIET: Duration = Duration::from_secs(60);

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
pub(super) struct Refusals {
    told: Mutex<BTreeMap<Cause, Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Refusals that were only counted since.
    since: u64,
}

// === impl Refusals ===

impl Refusals {
    /// Writes it into the log, or counts it.
    pub(super) fn tell(&self, cause: Cause, message: &str) {
        let advice = cause.advice();
        match self.untold(cause, Instant::now()) {
            Some(0) => tracing::warn!("telemetry is refused: {message}{advice}"),
            Some(more) => {
                tracing::warn!("telemetry is refused, {more} times more since this was said: {message}{advice}")
            }
            None => {}
        }
    }

    /// How many refusals of this cause are to be told beside this one; none if this one is only to be counted.
    fn untold(&self, cause: Cause, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().expect("nothing panics while it is held");
        match told.get_mut(&cause) {
            Some(told) if now.saturating_duration_since(told.at) < QUIET => {
                told.since += 1;
                None
            }
            before => {
                let since = before.map_or(0, |told| told.since + 1);
                told.insert(cause, Told { at: now, since: 0 });
                Some(since)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_in_a_loop_is_told_once_a_minute_with_a_count() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(refusals.untold(Cause::Host, after(0)), Some(0), "the first one at once");
        for _ in 0..1000 {
            assert_eq!(refusals.untold(Cause::Host, after(59)), None);
        }
        assert_eq!(
            refusals.untold(Cause::Path, after(59)),
            Some(0),
            "another cause is another story"
        );
        assert_eq!(refusals.untold(Cause::Host, after(60)), Some(1001), "with this one");
        assert_eq!(refusals.untold(Cause::Host, after(119)), None);
        assert_eq!(refusals.untold(Cause::Host, after(600)), Some(2));
        assert_eq!(refusals.untold(Cause::Host, after(660)), Some(1));
    }
}
