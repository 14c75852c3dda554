//! What the log may say of each record or request, and upstream so decides how often: the first of a kind, and then once
//! a minute how many there were.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::otlp::Signal;

/// Between two lines of a kind.
const EVERY: Duration = Duration::from_secs(60);

/// What is said, and of which signal if it is of one.
type Kind = (&'static str, Option<Signal>);

/// When each kind was said last, and how often it was not since.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<BTreeMap<Kind, (Instant, u64)>>);

impl Seldom {
    /// If it is to be said now, of how many times.
    pub(super) fn due(&self, what: &'static str, signal: impl Into<Option<Signal>>) -> Option<u64> {
        self.due_at((what, signal.into()), Instant::now())
    }

    fn due_at(&self, kind: Kind, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, kept)) = said.get_mut(&kind) else {
            said.insert(kind, (now, 0));
            return Some(1);
        };
        *kept += 1;
        (now.duration_since(*last) >= EVERY).then(|| {
            *last = now;
            std::mem::take(kept)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_is_said_and_then_once_a_minute_how_many_there_were() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let at = |seconds, what, signal| seldom.due_at((what, signal), start + Duration::from_secs(seconds));
        assert_eq!(at(0, "refused", Some(Signal::Logs)), Some(1));
        assert_eq!(at(1, "refused", Some(Signal::Logs)), None);
        assert_eq!(at(1, "refused", Some(Signal::Traces)), Some(1), "another kind");
        assert_eq!(at(59, "refused", Some(Signal::Logs)), None);
        assert_eq!(at(60, "refused", Some(Signal::Logs)), Some(3));
        assert_eq!(at(61, "refused", Some(Signal::Logs)), None);
    }
}
