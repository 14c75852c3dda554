//! The gate on the path to upstream: open, or closed with one probe at a time.
//!
//! Whoever wants to send takes a [`Turn`]. While the gate is closed, turns are given out singly, when their time has
//! come, and in the order in which they were asked for: so a probe that failed lets another signal's go first, and one
//! signal that upstream does not take cannot keep the others from proving that the path is fine. Where that is all that
//! is known, a signal that was not tried yet does not even wait for the time.
//! It sends nothing and judges nothing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::{
    retry::{self, Trouble},
    status::{State, Status},
};
use crate::{identity::clock::Clock, otlp::Signal};

/// The gate; one for all signals.
#[derive(Debug)]
pub(super) struct Gate {
    inner: Mutex<Inner>,
    /// Counts changes, to wake who waits.
    changes: watch::Sender<u64>,
    clock: Clock,
    status: Arc<watch::Sender<Status>>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: Option<Closed>,
    /// Grows with each closing and each failed probe: a turn of an earlier epoch proves nothing about this one.
    epoch: u64,
    next_ticket: u64,
    waiting: BTreeSet<u64>,
}

#[derive(Debug)]
struct Closed {
    /// Since boot: a pause goes on while the machine sleeps.
    until: Duration,
    figure: Duration,
    probing: bool,
    /// Where only "not found" was heard: the signals that it was said of. Empty otherwise.
    about: BTreeSet<Signal>,
}

/// The right to send one request. Dropped unused, it goes back.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    gate: &'a Gate,
    epoch: u64,
    probe: bool,
}

/// A place in the queue, given back on drop.
struct Ticket<'a> {
    gate: &'a Gate,
    number: u64,
    signal: Signal,
}

impl Gate {
    pub(super) fn new(clock: Clock, status: Arc<watch::Sender<Status>>) -> Gate {
        Gate {
            inner: Mutex::default(),
            changes: watch::Sender::new(0),
            clock,
            status,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Waits for the gate to close or open, or for a probe to end.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until a request may be sent. Cancel-safe.
    pub(super) async fn turn(&self, signal: Signal) -> Turn<'_> {
        let mut changes = self.changes.subscribe();
        let ticket = self.ticket(signal);
        loop {
            changes.borrow_and_update();
            let until = match self.try_turn(&ticket) {
                Ok(turn) => return turn,
                Err(until) => until,
            };
            // A closed channel cannot be: the gate holds the sender.
            match until {
                Some(until) => {
                    tokio::select! {
                        _ = changes.changed() => {}
                        () = self.clock.sleep_until(until) => {}
                    }
                }
                None => {
                    let _ = changes.changed().await;
                }
            }
        }
    }

    /// A turn, or the time of the next attempt, since boot; `None` if only a change can help.
    fn try_turn(&self, ticket: &Ticket<'_>) -> Result<Turn<'_>, Option<Duration>> {
        let mut inner = self.lock();
        let epoch = inner.epoch;
        let first = inner.waiting.first() == Some(&ticket.number);
        let Some(closed) = &mut inner.closed else {
            return Ok(Turn {
                gate: self,
                epoch,
                probe: false,
            });
        };
        let is_news = !closed.about.is_empty() && !closed.about.contains(&ticket.signal);
        if closed.probing || !first && !is_news {
            return Err(None);
        }
        if self.clock.now().boot < closed.until && !is_news {
            return Err(Some(closed.until));
        }
        closed.probing = true;
        Ok(Turn {
            gate: self,
            epoch,
            probe: true,
        })
    }

    fn ticket(&self, signal: Signal) -> Ticket<'_> {
        let mut inner = self.lock();
        let number = inner.next_ticket;
        inner.next_ticket += 1;
        inner.waiting.insert(number);
        Ticket {
            gate: self,
            number,
            signal,
        }
    }

    /// A pause lasts until then, if it is not longer already.
    fn show_until(&self, then: SystemTime) {
        self.status.send_modify(|status| {
            if let State::Paused { until, .. } = &mut status.state {
                *until = then.max(*until);
            }
        });
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }
}

impl Turn<'_> {
    /// Upstream took or judged what was sent: the path is fine.
    ///
    /// The answer to a request that went out before the gate closed does not open it: upstream may have asked for a pause since.
    pub(super) fn fine(self) {
        let mut inner = self.gate.lock();
        if inner.epoch == self.epoch && inner.closed.take().is_some() {
            inner.epoch += 1;
            drop(inner);
            tracing::info!("upstream answers again");
            self.gate.status.send_modify(|status| status.state = State::Sending);
            self.gate.changed();
        }
    }

    /// The path is in trouble. `random` in `[0, 1)` is for the jitter.
    ///
    /// Requests that were in flight together and fail together count as one failure. What an earlier one says of the path
    /// is out of date; the pause that its answer asks for is not.
    pub(super) fn failed(self, trouble: &Trouble, random: f64) {
        let mut inner = self.gate.lock();
        if inner.epoch != self.epoch {
            match (&mut inner.closed, trouble.hint) {
                (_, None) => return,
                (Some(closed), Some(hint)) => {
                    closed.until = closed.until.max(self.gate.clock.now().boot + hint);
                    drop(inner);
                    return self.gate.show_until(SystemTime::now() + hint);
                }
                (None, Some(_)) => {}
            }
        }
        let last = inner.closed.as_ref().map(|closed| closed.figure);
        let (figure, wait) = retry::backoff(last, trouble.reach, trouble.hint, random);
        let first = inner.closed.is_none();
        let before = inner.closed.take().map(|closed| closed.about);
        let about = match (before, trouble.about) {
            (None, Some(signal)) => BTreeSet::from([signal]),
            (Some(mut before), Some(signal)) if !before.is_empty() => {
                before.insert(signal);
                before
            }
            _ => BTreeSet::new(),
        };
        inner.closed = Some(Closed {
            until: self.gate.clock.now().boot + wait,
            figure,
            probing: false,
            about,
        });
        inner.epoch += 1;
        drop(inner);
        if first {
            tracing::warn!(reason = %trouble.reason, "sending is paused; the spool keeps what arrives");
        } else {
            tracing::debug!(reason = %trouble.reason, wait_ms = wait.as_millis() as u64, "a probe failed");
        }
        self.gate.status.send_modify(|status| {
            status.state = State::Paused {
                reason: trouble.reason.clone(),
                until: SystemTime::now() + wait,
            };
        });
        self.gate.changed();
    }
}

impl Drop for Turn<'_> {
    /// A probe that ended without a word about the path (another principal, no credential) gives its turn to the next.
    fn drop(&mut self) {
        if !self.probe {
            return;
        }
        let mut inner = self.gate.lock();
        if inner.epoch == self.epoch
            && let Some(closed) = &mut inner.closed
        {
            closed.probing = false;
            drop(inner);
            self.gate.changed();
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.remove(&self.number);
        // The next in line may have been waiting only for this one to go.
        if self.gate.is_closed() {
            self.gate.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{export::retry::Reach, identity::clock::Driven};

    fn gate() -> Gate {
        gate_by(Clock::Driven(Driven::starting_at(SystemTime::now())))
    }

    fn gate_by(clock: Clock) -> Gate {
        Gate::new(clock, Arc::new(watch::Sender::new(Status::default())))
    }

    fn trouble(hint: Option<u64>) -> Trouble {
        Trouble {
            reason: "down".into(),
            reach: Reach::Answering,
            hint: hint.map(Duration::from_secs),
            suspect: false,
            about: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_lets_one_probe_through_when_its_time_has_come() {
        let gate = gate();
        let start = Instant::now();
        gate.turn(Signal::Traces).await.failed(&trouble(Some(10)), 0.0);
        let probe = gate.turn(Signal::Traces).await;
        assert_eq!(start.elapsed().as_secs(), 10);
        let second = tokio::time::timeout(Duration::from_secs(60), gate.turn(Signal::Traces)).await;
        assert!(second.is_err(), "one probe at a time");
        probe.fine();
        gate.turn(Signal::Traces).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_goes_on_while_the_machine_sleeps() {
        let clock = Driven::starting_at(SystemTime::now());
        let gate = gate_by(Clock::Driven(clock.clone()));
        gate.turn(Signal::Traces).await.failed(&trouble(Some(3600)), 0.0);
        let start = Instant::now();
        let waiting = async {
            gate.turn(Signal::Traces).await.fine();
            start.elapsed()
        };
        let asleep = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            clock.suspend(Duration::from_secs(8 * 3600));
        };
        let (waited, ()) = tokio::join!(waiting, asleep);
        assert!(waited <= Duration::from_secs(5 + 30), "it waited for {waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_fail_together_count_once() {
        let gate = gate();
        let (one, two) = (gate.turn(Signal::Traces).await, gate.turn(Signal::Traces).await);
        let start = Instant::now();
        one.failed(&trouble(None), 1.0);
        two.failed(&trouble(None), 1.0);
        gate.turn(Signal::Traces).await.failed(&trouble(None), 1.0);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        gate.turn(Signal::Traces).await.fine();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn e8_an_older_success_does_not_cut_a_pause_short() {
        let gate = gate();
        let (older, throttled) = (gate.turn(Signal::Traces).await, gate.turn(Signal::Traces).await);
        throttled.failed(&trouble(Some(30)), 0.0);
        older.fine();
        assert!(gate.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn e8_an_older_request_that_is_throttled_closes_a_gate_that_is_open_again() {
        let gate = gate();
        let (lost, throttled, slow) = (
            gate.turn(Signal::Traces).await,
            gate.turn(Signal::Traces).await,
            gate.turn(Signal::Traces).await,
        );
        lost.failed(&trouble(None), 1.0);
        gate.turn(Signal::Traces).await.fine();
        slow.failed(&trouble(None), 1.0);
        assert!(!gate.is_closed(), "what went out before says nothing of the path now");
        throttled.failed(&trouble(Some(30)), 0.0);
        assert!(gate.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_became_longer_is_shown_as_long_as_it_is() {
        let gate = gate();
        let (one, two) = (gate.turn(Signal::Traces).await, gate.turn(Signal::Traces).await);
        one.failed(&trouble(None), 1.0);
        two.failed(&trouble(Some(300)), 1.0);
        let State::Paused { until, .. } = gate.status.borrow().state.clone() else {
            panic!("it is closed");
        };
        assert!(until > SystemTime::now() + Duration::from_secs(200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_lets_the_next_in_line_try() {
        let gate = Arc::new(gate());
        gate.turn(Signal::Traces).await.failed(&trouble(None), 1.0);
        let first = gate.turn(Signal::Traces).await;
        let other = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn(Signal::Traces).await.fine() }
        });
        tokio::task::yield_now().await;
        first.failed(&trouble(None), 1.0);
        let again = gate.turn(Signal::Traces);
        other.await.expect("the other waiter had the next turn");
        drop(again);
        assert!(!gate.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_says_nothing_gives_its_turn_back() {
        let gate = gate();
        gate.turn(Signal::Traces).await.failed(&trouble(None), 1.0);
        drop(gate.turn(Signal::Traces).await);
        gate.turn(Signal::Traces).await.fine();
        assert!(!gate.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_that_was_not_tried_yet_does_not_wait_for_one_that_was_not_found() {
        let gate = gate();
        let not_found = |signal| Trouble {
            about: Some(signal),
            ..trouble(Some(300))
        };
        let start = Instant::now();
        gate.turn(Signal::Logs).await.failed(&not_found(Signal::Logs), 0.0);
        gate.turn(Signal::Metrics)
            .await
            .failed(&not_found(Signal::Metrics), 0.0);
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Of these two it is known.
        for signal in [Signal::Logs, Signal::Metrics] {
            let again = tokio::time::timeout(Duration::from_secs(100), gate.turn(signal)).await;
            assert!(again.is_err());
        }
        let waited = Instant::now();
        gate.turn(Signal::Traces).await.fine();
        assert_eq!(waited.elapsed(), Duration::ZERO);
        assert!(!gate.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_in_trouble_is_in_trouble_for_every_signal() {
        let gate = gate();
        let not_found = Trouble {
            about: Some(Signal::Logs),
            ..trouble(Some(300))
        };
        gate.turn(Signal::Logs).await.failed(&not_found, 0.0);
        gate.turn(Signal::Traces).await.failed(&trouble(Some(300)), 0.0);
        let start = Instant::now();
        gate.turn(Signal::Metrics).await.fine();
        assert_eq!(start.elapsed(), Duration::from_secs(300));
    }
}
