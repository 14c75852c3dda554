//! What upstream's word on a credential changes: a refused one is replaced at once, one that is refused again and again
//! is only probed with. When is decided here too, by counts and times; nothing is sent.

use std::sync::atomic::Ordering;

use super::{Machine, Now, State, Verdict, rotate};
use crate::identity::source::Manner;

impl Machine {
    pub(super) fn judged(&mut self, generation: u64, verdict: Verdict, now: Now) {
        if generation != self.generation || self.credential.is_none() {
            return;
        }
        match verdict {
            Verdict::Accepted => {
                self.refused_in_a_row = 0;
                if self.state == State::Denied {
                    self.state = State::Fresh;
                    self.pardons += 1;
                    self.probe = None;
                    self.trouble = None;
                }
            }
            // A new credential of the same person would be forbidden the same.
            Verdict::Forbidden if self.state != State::Denied => {
                self.deny("upstream knows the credential and forbids sending (403)", now);
            }
            Verdict::Unauthenticated if !matches!(self.state, State::Rejected | State::Denied) => {
                self.refused_in_a_row += 1;
                if self.manner == Manner::Once {
                    self.deny(
                        "upstream refuses the credential (401), and its source has no other",
                        now,
                    );
                } else if self.refused_in_a_row >= rotate::REFUSALS {
                    self.deny(
                        "upstream refuses fresh credentials (401): compare audience and issuer on both sides",
                        now,
                    );
                } else {
                    self.state = State::Rejected;
                    self.trouble = Some("upstream refused the credential (401)".to_owned());
                    self.force(now);
                }
            }
            Verdict::Forbidden | Verdict::Unauthenticated => self.probe_refused(now),
        }
    }

    /// The probe was answered, and not with yes: the next turn comes later. What was in flight before it counts not.
    fn probe_refused(&mut self, now: Now) {
        let was_probed = self.probe.take_if(|turn| turn.load(Ordering::Relaxed)).is_some();
        if was_probed && self.state == State::Denied {
            self.probes = self.probes.saturating_add(1);
            self.next_probe = now.boot + rotate::probe_gap(self.probes);
        }
    }

    /// Replaces a refused credential now, if the last attempt is not too near.
    fn force(&mut self, now: Now) {
        if self.minting {
            return;
        }
        let gap = rotate::forced_gap(self.forced_in_a_row, self.lifetime());
        self.forced_in_a_row = self.forced_in_a_row.saturating_add(1);
        let earliest = self.last_attempt.map_or(now.boot, |last| last + gap);
        self.next = Some(earliest.max(now.boot));
    }

    pub(super) fn deny(&mut self, why: &str, now: Now) {
        self.state = State::Denied;
        self.unreplaced = false;
        self.trouble = Some(why.to_owned());
        self.probe = None;
        self.probes = 1;
        self.last_probe = now.boot;
        self.next_probe = now.boot + rotate::probe_gap(self.probes);
    }
}
