//! How often the log says what others decide the frequency of: a sender in a loop, an upstream that refuses everything.
//! The first of a kind is said at once, and after that once a minute how many there were. It writes nothing itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two lines of a kind.
const EVERY: Duration = Duration::from_secs(60);

/// When each kind was said last, and how often it was not since.
#[derive(Debug)]
pub struct Seldom<K>(Mutex<BTreeMap<K, (Instant, u64)>>);

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Seldom(Mutex::default())
    }
}

impl<K: Ord> Seldom<K> {
    /// If it is to be said now, of how many times: this one, and those that were not said.
    pub fn due(&self, kind: K) -> Option<u64> {
        self.due_at(kind, Instant::now())
    }

    fn due_at(&self, kind: K, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, kept)) = said.get_mut(&kind) else {
            said.insert(kind, (now, 0));
            return Some(1);
        };
        *kept += 1;
        (now.saturating_duration_since(*last) >= EVERY).then(|| {
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
        let at = |seconds, kind| seldom.due_at(kind, start + Duration::from_secs(seconds));
        assert_eq!(at(0, "logs"), Some(1));
        for _ in 0..1000 {
            assert_eq!(at(59, "logs"), None);
        }
        assert_eq!(at(59, "traces"), Some(1), "another kind");
        assert_eq!(at(60, "logs"), Some(1001), "with this one");
        assert_eq!(at(119, "logs"), None);
        assert_eq!(at(600, "logs"), Some(2));
    }
}
