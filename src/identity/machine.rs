//! The state machine of one credential: it is stepped with what happened and when, and says whether to mint now and
//! when to be stepped again. It reads no clock, draws no random number and does no IO, so every story about time is
//! told in values.

mod judgement;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{
    Credential, Current, Principal, State, Verdict,
    admit::Admitted,
    clock::{Clock, Now},
    rotate,
    source::{Manner, MintError, refresh::LOG_IN},
};

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// Time passed.
    Tick,
    /// An attempt ended.
    Minted(Result<Admitted, MintError>),
    /// Upstream judged a generation.
    Verdict(u64, Verdict),
    /// Somebody wants a new credential now.
    Refresh,
    /// The person logged out.
    Forget,
    /// The end.
    Stop,
}

/// All that is known of the credential and of the attempts to renew it. Times of attempts are boot times.
#[derive(Debug)]
pub(super) struct Machine {
    manner: Manner,
    state: State,
    principal: Option<Arc<Principal>>,
    credential: Option<Arc<Credential>>,
    /// Of the newest credential, also when that was forgotten: no number is used twice.
    generation: u64,
    trouble: Option<String>,
    rotations: u64,
    failures: u64,
    /// An attempt is under way: there is never a second one.
    minting: bool,
    /// Refresh once less than this is left.
    threshold: Duration,
    /// The next attempt, where something else than the threshold decides.
    next: Option<Duration>,
    last_attempt: Option<Duration>,
    /// Whoever was asked wants to be left alone until then.
    not_before: Duration,
    /// Somebody asked while an attempt was under way: what it brings may be out of date.
    asked_meanwhile: bool,
    /// The attempt under way began under a login that was ended since.
    ended_meanwhile: bool,
    failed_in_a_row: u32,
    starved_in_a_row: u32,
    refused_in_a_row: u32,
    forced_in_a_row: u32,
    /// `Denied` only for want of another credential.
    unreplaced: bool,
    probe: Option<Arc<AtomicBool>>,
    next_probe: Duration,
    last_probe: Duration,
    probes: u32,
    pardons: u64,
    last: Option<Now>,
}

impl Machine {
    pub(super) fn new(manner: Manner) -> Machine {
        Machine {
            manner,
            state: State::Boot,
            principal: None,
            credential: None,
            generation: 0,
            trouble: None,
            rotations: 0,
            failures: 0,
            minting: false,
            threshold: Duration::ZERO,
            next: None,
            last_attempt: None,
            not_before: Duration::ZERO,
            asked_meanwhile: false,
            ended_meanwhile: false,
            failed_in_a_row: 0,
            starved_in_a_row: 0,
            refused_in_a_row: 0,
            forced_in_a_row: 0,
            unreplaced: false,
            probe: None,
            next_probe: Duration::ZERO,
            last_probe: Duration::ZERO,
            probes: 0,
            pardons: 0,
            last: None,
        }
    }

    /// One step. True if an attempt has to be started now. `unit` is jitter in [0, 1).
    pub(super) fn step(&mut self, event: Event, now: Now, unit: f64) -> bool {
        if self.state == State::Stopped {
            return false;
        }
        self.notice_jump(now, unit);
        match event {
            Event::Tick => {}
            Event::Minted(result) => {
                self.minting = false;
                match result {
                    _ if std::mem::take(&mut self.ended_meanwhile) => {
                        if std::mem::take(&mut self.asked_meanwhile) {
                            self.asked(now);
                        }
                    }
                    Ok(admitted) => self.admitted(admitted, now, unit),
                    Err(error) => self.failed(&error, now, unit),
                }
            }
            Event::Verdict(generation, verdict) => self.judged(generation, verdict, now),
            Event::Refresh => self.asked(now),
            Event::Forget => self.forget(now),
            Event::Stop => {
                self.state = State::Stopped;
                self.credential = None;
                return false;
            }
        }
        self.settle(now);
        self.start_if_due(now)
    }

    /// The newest credential, also when it ended.
    pub(super) fn held(&self) -> Option<Arc<Credential>> {
        self.credential.clone()
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// How long nothing needs to be looked at.
    pub(super) fn wait(&self, now: Now) -> Duration {
        let mut wait = rotate::TICK;
        if let Some(due) = self.due(now) {
            wait = wait.min(due);
        }
        if let Some(expiry) = self.credential.as_ref().and_then(|credential| credential.expiry)
            && self.state.sends()
        {
            wait = wait.min(expiry.remaining(now).saturating_sub(expiry.margin()));
        }
        if self.state == State::Denied {
            wait = wait.min(self.next_probe.saturating_sub(now.boot));
        }
        // Never busy, whatever the arithmetic above comes to.
        wait.max(Duration::from_millis(10))
    }

    /// How long an attempt that starts now may take. Only a credential that is sent under could be waited away by it:
    /// to hurry the replacement of a refused one would throw away what an issuer minted on a busy machine.
    pub(super) fn attempt(&self, now: Now) -> Duration {
        let is_in_use = self.is_usable(now) && !matches!(self.state, State::Rejected | State::Denied);
        let usable = is_in_use.then(|| self.remaining(now)).flatten();
        rotate::attempt(usable)
    }

    /// The value to publish.
    pub(super) fn current(&self, source: &'static str, clock: &Clock) -> Current {
        Current {
            state: self.state,
            principal: self.principal.clone(),
            credential: self.credential.clone(),
            trouble: self.trouble.clone(),
            source,
            rotations: self.rotations,
            failures: self.failures,
            steps: Arc::from([]),
            clock: clock.clone(),
            heeds_acceptance: self.refused_in_a_row > 0 || self.state == State::Denied,
            pardons: self.pardons,
            probe: self.probe.clone(),
            retry: match self.state {
                State::Starved | State::NeedsUser if !self.minting => self.next.map(|next| next.max(self.not_before)),
                _ => None,
            },
        }
    }

    /// After a suspend, or when the wall clock was set, what failed before says nothing about now.
    fn notice_jump(&mut self, now: Now, unit: f64) {
        let jumped = self.last.is_some_and(|last| now.jumped_since(last));
        self.last = Some(now);
        if !jumped {
            return;
        }
        let was_failing = self.failed_in_a_row > 0;
        self.failed_in_a_row = 0;
        self.starved_in_a_row = 0;
        if was_failing || !self.is_usable(now) {
            self.next = Some(now.boot + rotate::after_resume(self.lifetime(), unit));
        }
    }

    fn admitted(&mut self, admitted: Admitted, now: Now, unit: f64) {
        let held = self.credential.as_ref();
        let is_same = held.is_some_and(|held| held.is_token(admitted.token.as_ref()));
        if is_same {
            return self.same_again(admitted, now, unit);
        }
        let generation = self.generation + 1;
        self.generation = generation;
        self.rotations = generation - 1;
        let is_same_person = self
            .principal
            .as_ref()
            .is_some_and(|principal| principal.is_same_person(&admitted.principal));
        if !is_same_person {
            self.refused_in_a_row = 0;
        }
        if self.principal.as_deref() != Some(&admitted.principal) {
            self.principal = Some(Arc::new(admitted.principal));
        }
        if let Some(expiry) = admitted.expiry {
            self.threshold = expiry.lifetime - rotate::refresh_at(expiry.lifetime, unit);
        }
        self.credential = Some(Arc::new(Credential {
            token: admitted.token,
            generation,
            expiry: admitted.expiry,
        }));
        self.succeeded(now);
        if self.state == State::Denied && is_same_person && !self.unreplaced {
            // Each new generation may be tried once, without waiting for the turn.
            let soonest = self.last_probe + rotate::PROBE_FIRST;
            self.next_probe = self.next_probe.min(soonest.max(now.boot));
        } else {
            self.state = State::Fresh;
            self.probe = None;
            self.trouble = None;
        }
        if self.manner == Manner::Once && admitted.expiry.is_some() {
            self.trouble = Some("the credential cannot be renewed: its source has no other after it ends".to_owned());
        }
    }

    /// The source gave what is held already.
    fn same_again(&mut self, admitted: Admitted, now: Now, unit: f64) {
        if self.state == State::Rejected {
            // There is nothing else to try, and upstream may have been wrong: an issuer's new key takes a while to arrive.
            self.deny(
                "upstream refuses the credential (401), and its source has no newer one",
                now,
            );
        }
        let ends_later = match (&self.credential, admitted.expiry) {
            (Some(held), Some(expiry)) => held
                .expiry
                .is_some_and(|held| expiry.remaining(now) > held.remaining(now) + rotate::LEAST_GAP),
            _ => false,
        };
        if ends_later && let (Some(held), Some(expiry)) = (&self.credential, admitted.expiry) {
            // Told or assumed anew: nothing of the token itself says when it ends.
            self.threshold = expiry.lifetime - rotate::refresh_at(expiry.lifetime, unit);
            self.credential = Some(Arc::new(Credential {
                token: held.token.clone(),
                generation: held.generation,
                expiry: Some(expiry),
            }));
        } else if self.manner == Manner::Mint {
            return self.failed(
                &MintError::Transient("the source gave the same token again".to_owned()),
                now,
                unit,
            );
        }
        self.succeeded(now);
        if self.manner == Manner::Cached
            && let Some(remaining) = self.remaining(now)
        {
            self.next = Some(now.boot + rotate::ask_cache_again(self.lifetime(), remaining));
        }
        if self.state != State::Denied {
            self.state = State::Fresh;
        }
    }

    fn succeeded(&mut self, now: Now) {
        self.asked_meanwhile = false;
        self.failed_in_a_row = 0;
        self.starved_in_a_row = 0;
        if self.state != State::Denied {
            self.trouble = None;
        }
        self.next = match self.manner {
            Manner::Look => Some(now.boot + self.look_again(now)),
            Manner::Mint | Manner::Cached | Manner::Once => None,
        };
    }

    fn failed(&mut self, error: &MintError, now: Now, unit: f64) {
        self.failures += 1;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        if self.state != State::Denied {
            self.trouble = Some(error.to_string());
        }
        let usable = self.is_usable(now) && !matches!(self.state, State::Rejected | State::Denied);
        if !usable {
            self.starved_in_a_row = self.starved_in_a_row.saturating_add(1);
        }
        // Where there is one credential only, asking again brings no other.
        let is_only = self.manner == Manner::Once && self.credential.is_some();
        let is_lasting = is_only || !matches!(error, MintError::Transient(_) | MintError::Later(..));
        match self.state {
            State::Denied => {}
            // Nothing else to try for a while, and upstream may have been wrong: its issuer may be away from it too.
            State::Rejected if is_lasting || self.starved_in_a_row >= rotate::UNREPLACED => {
                let why = "upstream refuses the credential (401), and its source gives no newer one";
                self.deny(&format!("{why}: {error}"), now);
                self.unreplaced = true;
            }
            State::Rejected => {}
            _ => {
                self.state = match (usable, is_lasting) {
                    (true, _) => State::Degraded,
                    (false, true) => State::NeedsUser,
                    (false, false) => State::Starved,
                };
            }
        }
        let delay = if self.manner == Manner::Look {
            self.look_again(now)
        } else if is_lasting {
            rotate::AFTER_CONFIG_ERROR
        } else if usable {
            let remaining = self.remaining(now).unwrap_or(Duration::MAX);
            rotate::retry_while_usable(self.failed_in_a_row, remaining, unit).max(rotate::least_gap(self.lifetime()))
        } else {
            rotate::retry_while_starved(self.starved_in_a_row, self.lifetime(), unit)
        };
        self.next = Some(now.boot + delay);
        self.not_before = now.boot + error.pause().unwrap_or_default();
        if std::mem::take(&mut self.asked_meanwhile) {
            self.asked(now);
        }
    }

    fn asked(&mut self, now: Now) {
        self.asked_meanwhile = self.minting || self.state == State::Boot;
        if !self.minting && self.state != State::Boot && (self.manner != Manner::Once || self.credential.is_none()) {
            let earliest = self.last_attempt.map_or(now.boot, |last| last + rotate::LEAST_GAP);
            self.next = Some(earliest.max(now.boot));
            // Somebody knows more than what was answered before.
            self.not_before = Duration::ZERO;
        }
    }

    /// Nothing leaves under a login that was ended; the next one is a refresh that somebody asks for.
    fn forget(&mut self, now: Now) {
        self.ended_meanwhile = self.minting;
        self.asked_meanwhile = false;
        self.credential = None;
        self.probe = None;
        self.state = State::NeedsUser;
        self.trouble = Some(format!("somebody logged out here: {LOG_IN}"));
        self.next = Some(now.boot + rotate::AFTER_CONFIG_ERROR);
    }

    /// What the clocks alone change.
    fn settle(&mut self, now: Now) {
        // What upstream refuses is probed with until it ends.
        let is_tried = self.state.sends() || self.state == State::Denied;
        if is_tried && self.credential.is_some() && !self.is_usable(now) {
            self.probe = None;
            self.state = if self.manner == Manner::Once {
                self.trouble = Some("the credential has expired, and its source has no other".to_owned());
                State::NeedsUser
            } else {
                State::Starved
            };
            // What was planned while the credential was good is too late now.
            let soon = now.boot + rotate::retry_while_starved(1, None, 0.0);
            self.next = self.next.map(|next| next.min(soon));
        }
        if self.state == State::Denied && now.boot >= self.next_probe && self.is_usable(now) {
            self.probe = Some(Arc::new(AtomicBool::new(false)));
            self.last_probe = now.boot;
            self.next_probe = now.boot + rotate::probe_gap(self.probes);
        }
    }

    fn start_if_due(&mut self, now: Now) -> bool {
        if self.due(now) != Some(Duration::ZERO) {
            return false;
        }
        let by_threshold = self.next.is_none();
        self.minting = true;
        self.last_attempt = Some(now.boot);
        self.next = None;
        if self.state == State::Fresh && by_threshold {
            // The credential lasted until its time, so replacing it early did not become a habit.
            self.forced_in_a_row = 0;
        }
        self.state = match self.state {
            State::Boot => State::Acquiring,
            State::NeedsUser => State::Acquiring,
            // A look is not a refresh.
            State::Fresh if self.manner != Manner::Look => State::Refreshing,
            other => other,
        };
        true
    }

    /// How long until an attempt is due; none while one is under way or where another would tell nothing new.
    fn due(&self, now: Now) -> Option<Duration> {
        if self.minting {
            return None;
        }
        let wanted = match (self.next, &self.credential) {
            (Some(next), _) => next.saturating_sub(now.boot),
            (None, None) => Duration::ZERO,
            (None, Some(_)) if self.manner == Manner::Once => return None,
            (None, Some(_)) => self.remaining(now)?.saturating_sub(self.threshold),
        };
        let gap = if self.next.is_some() {
            rotate::LEAST_GAP
        } else {
            rotate::least_gap(self.lifetime())
        };
        let allowed = self
            .last_attempt
            .map_or(Duration::ZERO, |last| (last + gap).saturating_sub(now.boot));
        Some(wanted.max(allowed).max(self.not_before.saturating_sub(now.boot)))
    }

    fn look_again(&self, now: Now) -> Duration {
        let usable = self.is_usable(now) && self.state != State::Rejected;
        let look = rotate::look_again(self.lifetime(), usable);
        match self.starved_in_a_row {
            0 | 1 => look,
            // The platform is late: from 5 s to a minute.
            more => (look * more.min(12)).min(Duration::from_secs(60)),
        }
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(self.credential.as_ref()?.expiry?.lifetime)
    }

    fn remaining(&self, now: Now) -> Option<Duration> {
        Some(self.credential.as_ref()?.expiry?.remaining(now))
    }

    fn is_usable(&self, now: Now) -> bool {
        self.credential
            .as_ref()
            .is_some_and(|credential| credential.is_usable(now))
    }
}

#[cfg(test)]
mod tests;
