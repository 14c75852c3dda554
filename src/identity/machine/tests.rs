//! Stories about time, told in values: a world with an issuer, two clocks and one machine.

use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::{
    identity::{clock::Expiry, clock::Skew, secret::Secret},
    workspace::Trust,
};

const HOUR: Duration = Duration::from_secs(3600);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn person(subject: &str) -> Principal {
    Principal {
        issuer: "https://issuer.example".into(),
        subject: subject.into(),
        attributes: Vec::new(),
        trust: Trust::Verified,
    }
}

/// An issuer's answer: how long it takes, and whether it is a token.
type Answer = (Duration, Result<Duration, MintError>);

struct World {
    now: Now,
    machine: Machine,
    /// When the attempt under way ends, and how.
    attempt: Option<(Duration, Result<Duration, MintError>)>,
    /// Boot times of all attempts.
    attempts: Vec<Duration>,
    minted: u64,
    /// Moments at which a usable credential was missing, after the first was there.
    gaps: Vec<Duration>,
    unit: f64,
}

impl World {
    fn new(unit: f64) -> World {
        World::with(Manner::Mint, unit)
    }

    fn with(manner: Manner, unit: f64) -> World {
        World {
            now: Now {
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
                boot: Duration::from_secs(1000),
                monotonic: Duration::from_secs(1000),
            },
            machine: Machine::new(manner),
            attempt: None,
            attempts: Vec::new(),
            minted: 0,
            gaps: Vec::new(),
            unit,
        }
    }

    fn step(&mut self, event: Event, issuer: &mut impl FnMut(Now) -> Answer) {
        if self.machine.step(event, self.now, self.unit) {
            assert!(self.attempt.is_none(), "a second attempt while one is under way");
            self.attempts.push(self.now.boot);
            let (latency, answer) = issuer(self.now);
            let timeout = self.machine.attempt(self.now);
            self.attempt = Some(if latency > timeout {
                let late = MintError::Transient("timeout".into());
                (self.now.boot + timeout, Err(late))
            } else {
                (self.now.boot + latency, answer)
            });
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall += time;
        self.now.boot += time;
        self.now.monotonic += time;
    }

    fn sleep_of_the_machine(&mut self, time: Duration) {
        self.now.wall += time;
        self.now.boot += time;
    }

    /// Lets `time` pass and everything happen that is due in it.
    fn run(&mut self, time: Duration, mut issuer: impl FnMut(Now) -> Answer) {
        let end = self.now.boot + time;
        self.step(Event::Tick, &mut issuer);
        while self.now.boot < end {
            let mut next = (self.now.boot + self.machine.wait(self.now)).min(end);
            if let Some((ends, _)) = &self.attempt {
                next = next.min(*ends);
            }
            self.pass(next.saturating_sub(self.now.boot));
            if self.minted > 0 && !self.is_usable() {
                self.gaps.push(self.now.boot);
            }
            match self.attempt.take() {
                Some((ends, result)) if ends <= self.now.boot => {
                    let result = result.map(|lifetime| self.mint(lifetime));
                    self.step(Event::Minted(result), &mut issuer);
                }
                pending => {
                    self.attempt = pending;
                    self.step(Event::Tick, &mut issuer);
                }
            }
        }
    }

    fn mint(&mut self, lifetime: Duration) -> Admitted {
        self.minted += 1;
        Admitted {
            token: Some(Secret::new(format!("token-{}", self.minted))),
            principal: person("1"),
            expiry: Some(Expiry::new(self.now.wall + lifetime, Skew::default(), self.now)),
        }
    }

    fn verdict(&mut self, generation: u64, verdict: Verdict, issuer: &mut impl FnMut(Now) -> Answer) {
        self.step(Event::Verdict(generation, verdict), issuer);
    }

    fn is_usable(&self) -> bool {
        self.machine.is_usable(self.now)
    }

    fn lease(&self) -> Option<crate::identity::Lease> {
        self.machine.current("test", &Clock::System).lease_at(self.now)
    }

    fn takes_probe(&self) -> bool {
        let turn = self.machine.probe.as_ref();
        turn.is_some_and(|turn| !turn.swap(true, std::sync::atomic::Ordering::Relaxed))
    }
}

fn healthy(lifetime: Duration) -> impl FnMut(Now) -> Answer {
    move |_| ((lifetime / 50).min(Duration::from_secs(1)), Ok(lifetime))
}

fn down(_: Now) -> Answer {
    (
        Duration::from_millis(5),
        Err(MintError::Transient("no connection".into())),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_healthy_issuer_never_leaves_a_moment_without_a_usable_credential(
        lifetime in prop::sample::select(vec![10u64, 20, 60, 300, 3600, 86_400]),
        latency in 0.0f64..0.1,
        unit in 0.0f64..1.0,
    ) {
        let lifetime = Duration::from_secs(lifetime);
        let mut world = World::new(unit);
        // 30 s is the limit of an attempt, however long the lifetime.
        let latency = lifetime.mul_f64(latency).min(seconds(29.0));
        world.run(lifetime * 20, |_| (latency, Ok(lifetime)));
        prop_assert_eq!(&world.gaps, &Vec::<Duration>::new());
        // About one in half a lifetime, and no more than that.
        prop_assert!(world.attempts.len() <= 48, "{} attempts", world.attempts.len());
    }

    #[test]
    fn an_outage_of_a_third_of_a_lifetime_is_not_noticed(
        lifetime in prop::sample::select(vec![10u64, 20, 60, 300, 3600, 86_400]),
        begins in 1.0f64..3.0,
        hangs in any::<bool>(),
        unit in 0.0f64..1.0,
    ) {
        let lifetime = Duration::from_secs(lifetime);
        let mut world = World::new(unit);
        let from = world.now.boot + lifetime.mul_f64(begins);
        let until = from + lifetime / 3;
        world.run(lifetime * 6, |now| {
            if now.boot < from || now.boot >= until {
                (lifetime / 100, Ok(lifetime))
            } else if hangs {
                (HOUR, Ok(lifetime))
            } else {
                down(now)
            }
        });
        prop_assert_eq!(&world.gaps, &Vec::<Duration>::new());
    }

    #[test]
    fn no_order_of_events_panics_or_asks_twice_at_once(
        events in prop::collection::vec((0u8..9, 0u32..100_000, 0.0f64..1.0), 1..200),
    ) {
        let mut world = World::new(0.5);
        let mut issuer = |_: Now| (Duration::from_millis(300), Ok(Duration::from_secs(20)));
        for (kind, ms, unit) in events {
            world.unit = unit;
            world.pass(Duration::from_millis(u64::from(ms % 3000)));
            let generation = world.machine.generation.saturating_sub(u64::from(ms % 7 == 0));
            match kind {
                0 => world.step(Event::Tick, &mut issuer),
                1 => world.verdict(generation, Verdict::Accepted, &mut issuer),
                2 => world.verdict(generation, Verdict::Unauthenticated, &mut issuer),
                3 => world.verdict(generation, Verdict::Forbidden, &mut issuer),
                4 => world.step(Event::Refresh, &mut issuer),
                5 => world.sleep_of_the_machine(Duration::from_secs(u64::from(ms))),
                6 => world.now.wall -= Duration::from_secs(u64::from(ms)),
                _ => {
                    if let Some((_, result)) = world.attempt.take() {
                        let result = if kind == 7 { result.map(|lifetime| world.mint(lifetime)) }
                            else { Err(MintError::Transient("x".into())) };
                        world.step(Event::Minted(result), &mut issuer);
                    }
                }
            }
            prop_assert!(world.machine.wait(world.now) <= rotate::TICK);
        }
        for pair in world.attempts.windows(2) {
            prop_assert!(pair[1] - pair[0] >= rotate::LEAST_GAP);
        }
    }
}

#[test]
fn bug_backoff_thrown_away_an_issuer_that_is_down_for_ten_minutes_is_asked_a_bounded_number_of_times() {
    for (lifetime, most) in [(10, 135), (60, 40), (300, 45), (3600, 12), (86_400, 3)] {
        let lifetime = Duration::from_secs(lifetime);
        let mut world = World::new(0.0);
        world.run(lifetime.mul_f64(0.45), healthy(lifetime));
        let before = world.attempts.len();
        world.run(Duration::from_secs(600), down);
        let asked = world.attempts.len() - before;
        assert!(asked <= most, "{asked} attempts with tokens of {lifetime:?}");
    }
}

#[test]
fn bug_fixed_buffers_mint_short_tokens_for_ever_and_ours_mint_each_lifetime_about_twice() {
    for lifetime in [10, 60, 300, 900, 3600, 86_400] {
        let lifetime = Duration::from_secs(lifetime);
        let mut world = World::new(0.5);
        world.run(10 * lifetime, healthy(lifetime));
        let minted = world.minted;
        assert!(
            (19..=23).contains(&minted),
            "{minted} mints in ten lifetimes of {lifetime:?}"
        );
    }
}

#[test]
fn bug_a_401_that_nobody_hears_lasts_an_hour_and_ours_is_over_in_seconds() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(60), healthy(HOUR));
    // Revoked a minute after it was minted.
    world.verdict(1, Verdict::Unauthenticated, &mut healthy(HOUR));
    assert!(world.lease().is_none(), "it is not shown again");
    world.run(Duration::from_secs(2), healthy(HOUR));
    assert_eq!(world.lease().map(|lease| lease.credential.generation), Some(2));
}

#[test]
fn a_login_that_comes_while_nobody_is_found_to_be_logged_in_is_looked_for_again() {
    let mut world = World::new(0.5);
    let mut nobody = |_: Now| -> Answer { (seconds(0.1), Err(MintError::NeedsUser("nobody".into()))) };
    world.step(Event::Tick, &mut nobody);
    world.step(Event::Refresh, &mut nobody);
    world.run(seconds(0.2), &mut nobody);
    world.run(seconds(2.0), healthy(HOUR));
    assert_eq!(world.machine.state(), State::Fresh);
}

#[test]
fn an_issuer_that_is_down_from_the_start_is_asked_after_one_second_and_then_up_to_a_minute_apart() {
    let mut world = World::new(0.999);
    world.run(Duration::from_secs(600), down);
    assert_eq!(world.machine.state, State::Starved);
    let gaps: Vec<u64> = world
        .attempts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64().round() as u64)
        .collect();
    assert_eq!(&gaps[..7], &[1, 2, 4, 8, 16, 32, 60]);
    world.run(Duration::from_secs(61), healthy(HOUR));
    assert_eq!(world.machine.state, State::Fresh);
}

#[test]
fn what_cannot_be_sent_is_not_waited_for_beyond_the_next_attempt() {
    let mut world = World::new(0.999);
    let may_send = |world: &World, patience: u64| {
        let current = world.machine.current("test", &Clock::System);
        current.may_send_by(world.now.boot + Duration::from_secs(patience))
    };
    assert!(may_send(&world, 0), "nothing was tried yet");
    world.run(Duration::from_secs(20), down);
    assert_eq!(world.machine.state, State::Starved);
    let next = world.machine.next.expect("it is tried again") - world.now.boot;
    assert!(next > Duration::from_secs(5), "{next:?}");
    assert!(!may_send(&world, next.as_secs() - 1));
    assert!(may_send(&world, next.as_secs() + 1));
    world.run(Duration::from_secs(61), healthy(HOUR));
    assert!(may_send(&world, 0));
}

#[test]
fn after_two_hours_of_suspend_the_credential_is_not_used_and_soon_replaced() {
    let mut world = World::new(0.9);
    world.run(Duration::from_secs(60), healthy(HOUR));
    assert!(world.lease().is_some());
    world.sleep_of_the_machine(HOUR * 2);
    assert!(world.lease().is_none(), "an expired credential was handed out");
    world.gaps.clear();
    world.run(Duration::from_secs(10), healthy(HOUR / 100));
    assert_eq!(world.machine.state, State::Fresh);
    assert!(world.lease().is_some());
}

#[test]
fn a_suspend_forgets_the_backoff() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(900), down);
    world.sleep_of_the_machine(HOUR);
    world.run(Duration::from_secs(6), healthy(HOUR / 100));
    assert_eq!(world.machine.state, State::Fresh);
}

#[test]
fn a_wall_clock_that_is_set_an_hour_ahead_leads_to_a_new_credential_at_once() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(60), healthy(HOUR));
    world.now.wall += HOUR;
    world.run(Duration::from_secs(80), healthy(HOUR));
    assert_eq!(world.machine.state, State::Fresh);
    assert_eq!(world.machine.generation, 2);
}

#[test]
fn a_wall_clock_that_is_set_back_extends_nothing() {
    let mut world = World::new(0.0);
    world.run(Duration::from_secs(60), healthy(HOUR));
    world.now.wall -= HOUR;
    let left = world.machine.remaining(world.now).expect("an expiry");
    assert!(left <= HOUR - Duration::from_secs(55), "{left:?}");
    world.run(HOUR, down);
    assert!(world.lease().is_none());
    assert_eq!(world.machine.state, State::Starved);
}

#[test]
fn a_hundred_senders_that_report_a_401_cause_one_mint() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(60), healthy(HOUR));
    let mut issuer = healthy(HOUR);
    for _ in 0..100 {
        world.verdict(1, Verdict::Unauthenticated, &mut issuer);
    }
    assert_eq!(world.machine.state, State::Rejected);
    assert!(world.lease().is_none(), "a refused credential was handed out");
    assert_eq!(world.attempts.len(), 2);
    let asked = *world.attempts.last().expect("an attempt");
    assert_eq!(asked, world.now.boot, "the mint did not start at once");
    // The rest of the hundred comes in late.
    world.run(Duration::from_secs(80), healthy(HOUR));
    assert_eq!(world.machine.state, State::Fresh);
    for _ in 0..100 {
        world.verdict(1, Verdict::Unauthenticated, &mut issuer);
    }
    assert_eq!(world.machine.state, State::Fresh);
    assert_eq!(world.attempts.len(), 2);
}

/// Refuses generation after generation until the machine has had enough.
fn denied() -> World {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(60), healthy(HOUR / 10));
    for generation in 1..=3 {
        assert_eq!(world.machine.state, State::Fresh, "before refusing {generation}");
        world.verdict(generation, Verdict::Unauthenticated, &mut healthy(HOUR / 10));
        if generation < 3 {
            world.run(Duration::from_secs(40), healthy(HOUR / 10));
        }
    }
    assert_eq!(world.machine.state, State::Denied);
    world
}

#[test]
fn the_third_refused_generation_in_a_row_ends_the_hammering() {
    let mut world = denied();
    let before = world.attempts.len();
    world.run(Duration::from_secs(600), healthy(HOUR / 10));
    // Only the usual rotation of 6-minute tokens goes on.
    assert!(world.attempts.len() - before <= 4);
    assert_eq!(world.machine.state, State::Denied);
    assert!(world.lease().is_none());
}

#[test]
fn denied_probes_one_at_a_time_and_ever_more_rarely() {
    let mut world = denied();
    let began = world.now.boot;
    let mut probed = Vec::new();
    for _ in 0..1200 {
        world.run(Duration::from_millis(500), healthy(HOUR * 10));
        if world.takes_probe() {
            assert!(!world.takes_probe(), "one turn was taken twice");
            probed.push((world.now.boot - began).as_secs());
            world.verdict(
                world.machine.generation,
                Verdict::Unauthenticated,
                &mut healthy(HOUR * 10),
            );
        }
    }
    assert_eq!(probed[0], 4);
    assert!(probed.len() <= 10, "{probed:?}");
    for pair in probed.windows(2) {
        assert!(pair[1] - pair[0] >= 4, "{probed:?}");
    }
}

#[test]
fn a_probe_that_is_accepted_ends_denied() {
    let mut world = denied();
    world.verdict(3, Verdict::Accepted, &mut healthy(HOUR));
    assert_eq!(world.machine.state, State::Fresh);
    assert!(world.lease().is_some());
    assert_eq!(world.machine.trouble, None);
}

#[test]
fn an_accepted_generation_starts_the_count_of_refusals_anew() {
    let mut world = World::new(0.5);
    let mut issuer = healthy(HOUR);
    world.run(Duration::from_secs(60), healthy(HOUR));
    for generation in 1..=6 {
        world.run(Duration::from_secs(1300), healthy(HOUR));
        let current = world.machine.generation;
        world.verdict(current, Verdict::Accepted, &mut issuer);
        world.verdict(current, Verdict::Unauthenticated, &mut issuer);
        assert_eq!(world.machine.state, State::Rejected, "round {generation}");
    }
}

#[test]
fn refusals_between_acceptances_slow_the_forced_mints_down() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(60), healthy(HOUR));
    let before = world.attempts.len();
    for _ in 0..600 {
        world.run(Duration::from_secs(1), healthy(HOUR / 60));
        let current = world.machine.generation;
        world.verdict(current, Verdict::Accepted, &mut healthy(HOUR));
        world.verdict(current, Verdict::Unauthenticated, &mut healthy(HOUR));
    }
    let asked = world.attempts.len() - before;
    assert!(asked <= 60, "{asked} mints in ten minutes");
}

#[test]
fn a_403_never_mints() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    world.verdict(1, Verdict::Forbidden, &mut healthy(HOUR));
    world.run(Duration::from_secs(600), healthy(HOUR));
    assert_eq!(world.machine.state, State::Denied);
    assert_eq!(world.attempts.len(), 1);
}

#[test]
fn a_login_that_ends_while_upstream_refuses_is_said_once_there_is_nothing_to_probe_with() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    world.verdict(1, Verdict::Forbidden, &mut healthy(HOUR));
    let ended = |_| (seconds(0.1), Err(MintError::NeedsUser(LOG_IN.to_owned())));
    world.run(HOUR / 2 + HOUR / 4, ended);
    assert_eq!(world.machine.state, State::Denied, "it may be taken until it ends");
    world.run(HOUR, ended);
    assert_eq!(world.machine.state, State::NeedsUser);
    assert_eq!(world.machine.trouble.as_deref(), Some(LOG_IN));
    world.step(Event::Refresh, &mut healthy(HOUR));
    world.run(Duration::from_secs(1), healthy(HOUR));
    assert_eq!(world.machine.state, State::Fresh);
}

#[test]
fn a_credential_that_ends_while_upstream_refuses_it_is_ended_and_wakes_nobody() {
    let mut cached = World::new(0.5);
    cached.run(Duration::from_secs(80), healthy(HOUR));
    cached.verdict(1, Verdict::Forbidden, &mut down);
    let mut fixed = World::with(Manner::Once, 0.5);
    fixed.run(Duration::from_secs(80), healthy(HOUR));
    fixed.verdict(1, Verdict::Forbidden, &mut down);
    for (mut world, state) in [(cached, State::Starved), (fixed, State::NeedsUser)] {
        assert_eq!(world.machine.state, State::Denied);
        let mut steps = 0;
        for _ in 0..HOUR.as_secs() {
            world.run(Duration::from_secs(1), down);
            steps += u32::from(world.machine.wait(world.now) < Duration::from_millis(100));
        }
        assert_eq!((world.machine.state, world.takes_probe()), (state, false));
        assert!(steps < 60, "awake at {steps} seconds of an hour");
    }
}

#[test]
fn a_refused_credential_waits_for_the_issuer_to_come_back() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    world.verdict(1, Verdict::Unauthenticated, &mut down);
    world.run(Duration::from_secs(5), down);
    assert_eq!(world.machine.state, State::Rejected);
    assert!(world.lease().is_none());
    world.run(Duration::from_secs(80), healthy(HOUR));
    assert_eq!(world.machine.state, State::Fresh);
    assert_eq!(world.machine.generation, 2);
}

#[test]
fn a_refused_credential_is_probed_while_the_issuer_stays_away_because_upstream_may_have_been_wrong() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    world.verdict(1, Verdict::Unauthenticated, &mut down);
    world.run(Duration::from_secs(20), down);
    assert_eq!(world.machine.state, State::Denied);
    assert!(world.takes_probe(), "nobody tried it again");
    world.verdict(1, Verdict::Accepted, &mut down);
    assert_eq!(world.machine.state, State::Fresh);
    assert!(world.lease().is_some());
}

#[test]
fn why_a_refused_credential_has_no_successor_is_said_because_a_person_may_help() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    let ended = |_| (seconds(0.1), Err(MintError::NeedsUser(LOG_IN.to_owned())));
    world.verdict(1, Verdict::Unauthenticated, &mut { ended });
    world.run(Duration::from_secs(5), ended);
    assert_eq!(world.machine.state, State::Denied);
    let trouble = world.machine.trouble.as_deref().expect("it is said");
    assert!(trouble.contains("401") && trouble.ends_with(LOG_IN), "{trouble}");
}

#[test]
fn a_credential_that_comes_after_all_is_used_at_once() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    world.verdict(1, Verdict::Unauthenticated, &mut down);
    world.run(Duration::from_secs(60), down);
    assert_eq!(world.machine.state, State::Denied);
    world.run(Duration::from_secs(80), healthy(HOUR));
    assert_eq!(world.machine.generation, 2);
    assert_eq!(world.machine.state, State::Fresh);
    assert!(world.lease().is_some());
    assert_eq!(world.machine.trouble, None);
}

/// An issuer that wants to be left alone for so long.
fn busy(pause: Duration) -> impl FnMut(Now) -> Answer {
    move |_| (seconds(0.1), Err(MintError::Later("503".into(), pause)))
}

#[test]
fn an_issuer_that_wants_a_pause_gets_it_with_and_without_a_credential_in_hand() {
    let mut world = World::new(0.0);
    world.run(seconds(1.0), healthy(seconds(600.0)));
    world.run(seconds(598.0), busy(seconds(120.0)));
    let gaps = |world: &World| -> Vec<f64> {
        world
            .attempts
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect()
    };
    assert!(gaps(&world)[1..].iter().all(|gap| *gap >= 120.0), "{:?}", gaps(&world));
    let asked = world.attempts.len();
    assert!(asked >= 3);
    world.run(seconds(600.0), busy(seconds(120.0)));
    assert!(
        gaps(&world)[asked..].iter().all(|gap| *gap >= 120.0),
        "{:?}",
        gaps(&world)
    );
    assert!((asked + 4..=asked + 5).contains(&world.attempts.len()));
    world.run(seconds(121.0), healthy(seconds(600.0)));
    assert_eq!(world.machine.state(), State::Fresh);
}

#[test]
fn a_pause_that_is_shorter_than_our_own_makes_nobody_faster() {
    let mut world = World::new(0.0);
    world.run(seconds(600.0), busy(Duration::ZERO));
    let mut without = World::new(0.0);
    without.run(seconds(600.0), down);
    assert!(world.attempts.len() <= without.attempts.len() + 1);
}

#[test]
fn a_401_does_not_break_a_pause_and_a_login_does() {
    let mut world = World::new(0.0);
    world.run(seconds(1.0), healthy(seconds(600.0)));
    world.run(seconds(310.0), busy(seconds(200.0)));
    let asked = world.attempts.len();
    world.verdict(1, Verdict::Unauthenticated, &mut busy(seconds(200.0)));
    world.run(seconds(60.0), busy(seconds(200.0)));
    assert_eq!(world.attempts.len(), asked, "still left alone");
    world.step(Event::Refresh, &mut healthy(seconds(600.0)));
    world.run(seconds(2.0), healthy(seconds(600.0)));
    assert_eq!(world.machine.state(), State::Fresh);
}

#[test]
fn an_attempt_to_replace_a_refused_credential_has_all_the_time_there_is() {
    let mut world = World::new(0.0);
    world.run(seconds(1.0), healthy(seconds(10.0)));
    assert!(
        world.machine.attempt(world.now) < seconds(4.0),
        "or the good one would be waited away"
    );
    world.verdict(1, Verdict::Unauthenticated, &mut healthy(seconds(10.0)));
    assert_eq!(world.machine.attempt(world.now), rotate::ATTEMPT);
}

#[test]
fn a_wrong_setting_is_tried_again_after_half_an_hour_or_when_somebody_asks() {
    let mut world = World::new(0.5);
    let wrong = |_: Now| (Duration::ZERO, Err(MintError::Config("another issuer".into())));
    world.run(HOUR - Duration::from_secs(60), wrong);
    assert_eq!(world.machine.state, State::NeedsUser);
    assert_eq!(world.attempts.len(), 2);
    world.step(Event::Refresh, &mut healthy(HOUR));
    world.run(Duration::from_secs(80), healthy(HOUR));
    assert_eq!(world.machine.state, State::Fresh);
}

#[test]
fn a_file_that_stays_the_same_is_no_failure_and_a_new_one_is_taken_within_ten_seconds() {
    let mut world = World::with(Manner::Look, 0.5);
    let expiry = Some(Expiry::new(world.now.wall + HOUR, Skew::default(), world.now));
    let held = |text: &str| Admitted {
        token: Some(Secret::new(text.into())),
        principal: person("1"),
        expiry,
    };
    let mut never = |_: Now| (HOUR, Ok(HOUR));
    let mut looked = 0;
    world.step(Event::Tick, &mut never);
    for second in 0..120 {
        if world.attempt.take().is_some() {
            looked += 1;
            let text = if second < 100 { "old" } else { "new" };
            world.step(Event::Minted(Ok(held(text))), &mut never);
        }
        world.pass(Duration::from_secs(1));
        world.step(Event::Tick, &mut never);
        assert_eq!(world.machine.state, State::Fresh);
    }
    assert!((11..=14).contains(&looked), "{looked} looks");
    assert_eq!(world.machine.generation, 2);
    assert_eq!(world.machine.failures, 0);
}

#[test]
fn a_cache_that_keeps_its_token_until_the_last_minute_is_no_failure_and_is_asked_ever_more_often() {
    let mut world = World::with(Manner::Cached, 0.5);
    let mut never = |_: Now| (HOUR, Ok(HOUR));
    let mut held = world.mint(HOUR);
    let mut asked = Vec::new();
    world.step(Event::Tick, &mut never);
    for second in 0..3 * 3600 {
        if world.attempt.take().is_some() {
            asked.push(second);
            if held
                .expiry
                .is_some_and(|expiry| expiry.remaining(world.now) < seconds(60.0))
            {
                held = world.mint(HOUR);
            }
            world.step(Event::Minted(Ok(held.clone())), &mut never);
        }
        assert!(world.lease().is_some(), "second {second}: {:?}", world.machine.state);
        world.pass(Duration::from_secs(1));
        world.step(Event::Tick, &mut never);
    }
    assert_eq!((world.machine.generation, world.machine.failures), (4, 0));
    assert!(asked.len() <= 3 * 24, "{asked:?}");
}

#[test]
fn a_cached_token_that_is_refused_is_asked_about_once_and_then_probed() {
    let mut world = World::with(Manner::Cached, 0.5);
    let mut never = |_: Now| (HOUR, Ok(HOUR));
    let held = world.mint(HOUR);
    let again = held.clone();
    world.step(Event::Tick, &mut never);
    world.step(Event::Minted(Ok(held)), &mut never);
    world.verdict(1, Verdict::Unauthenticated, &mut never);
    world.attempt = None;
    world.pass(Duration::from_secs(1));
    world.step(Event::Tick, &mut never);
    assert!(world.attempt.take().is_some(), "the source was not asked");
    world.step(Event::Minted(Ok(again)), &mut never);
    assert_eq!(world.machine.state, State::Denied);
    let another = world.mint(HOUR);
    world.step(Event::Minted(Ok(another)), &mut never);
    world.pass(Duration::from_secs(4));
    world.step(Event::Tick, &mut never);
    assert!(world.takes_probe(), "the new one may be tried");
}

#[test]
fn a_file_whose_token_is_refused_is_probed_until_it_changes_or_upstream_does() {
    let mut world = World::with(Manner::Look, 0.5);
    let mut never = |_: Now| (HOUR, Ok(HOUR));
    let held = world.mint(HOUR);
    let again = held.clone();
    world.step(Event::Tick, &mut never);
    world.step(Event::Minted(Ok(held)), &mut never);
    world.verdict(1, Verdict::Unauthenticated, &mut never);
    assert_eq!(world.machine.state, State::Rejected);
    world.pass(Duration::from_secs(1));
    world.attempt = None;
    world.step(Event::Tick, &mut never);
    assert!(world.attempt.take().is_some(), "the file was not looked at");
    world.step(Event::Minted(Ok(again)), &mut never);
    assert_eq!(world.machine.state, State::Denied);
    world.pass(Duration::from_secs(4));
    world.step(Event::Tick, &mut never);
    assert!(world.takes_probe());
    world.verdict(1, Verdict::Accepted, &mut never);
    assert_eq!(world.machine.state, State::Fresh);
}

#[test]
fn a_probe_that_got_no_answer_does_not_make_the_next_one_rarer() {
    let mut world = denied();
    for _ in 0..5 {
        world.pass(Duration::from_secs(4));
        world.step(Event::Tick, &mut healthy(HOUR));
        assert!(world.takes_probe());
    }
}

#[test]
fn a_fixed_token_that_is_refused_or_ends_asks_for_a_person_and_mints_nothing() {
    let mut refused = World::with(Manner::Once, 0.5);
    refused.run(Duration::from_secs(10), healthy(Duration::from_secs(300)));
    assert!(
        refused
            .machine
            .trouble
            .as_deref()
            .is_some_and(|text| text.contains("cannot be renewed"))
    );
    refused.verdict(1, Verdict::Unauthenticated, &mut healthy(HOUR));
    assert_eq!(refused.machine.state, State::Denied);

    let mut ended = World::with(Manner::Once, 0.5);
    ended.run(Duration::from_secs(400), healthy(Duration::from_secs(300)));
    assert_eq!(ended.machine.state, State::NeedsUser);
    assert_eq!(ended.attempts.len(), 1);
}

#[test]
fn a_fixed_token_that_ended_is_looked_at_once_more_after_a_suspend_and_still_asks_for_a_person() {
    let mut world = World::with(Manner::Once, 0.5);
    world.run(seconds(1.0), healthy(HOUR));
    world.sleep_of_the_machine(2 * HOUR);
    world.run(HOUR / 3, down);
    assert_eq!(world.machine.state(), State::NeedsUser);
    assert_eq!(
        world.attempts.len(),
        2,
        "the wall clock may have been wrong, and no more often"
    );
}

#[test]
fn another_person_is_published_together_with_their_credential() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    let mut other = world.mint(HOUR);
    other.principal = person("2");
    world.step(Event::Minted(Ok(other)), &mut healthy(HOUR));
    let lease = world.lease().expect("a lease");
    assert_eq!(lease.principal.subject, "2");
    assert_eq!(lease.credential.generation, 2);
}

#[test]
fn in_the_mandatory_window_a_send_waits_for_the_refresh_but_not_for_a_failed_one() {
    let mut world = World::new(0.0);
    world.run(Duration::from_secs(10), healthy(Duration::from_secs(60)));
    let mut stuck = |_: Now| (HOUR, Ok(HOUR));
    world.pass(Duration::from_secs(42));
    world.step(Event::Tick, &mut stuck);
    assert_eq!(world.machine.state, State::Refreshing);
    assert!(world.is_usable() && world.lease().is_none());
    world.attempt = None;
    world.step(Event::Minted(Err(MintError::Transient("timeout".into()))), &mut stuck);
    assert_eq!(world.machine.state, State::Degraded);
    assert!(world.lease().is_some());
}

#[test]
fn stopped_forgets_the_credential_and_wakes_for_nothing() {
    let mut world = World::new(0.5);
    world.run(Duration::from_secs(80), healthy(HOUR));
    world.step(Event::Stop, &mut healthy(HOUR));
    assert!(world.machine.credential.is_none());
    world.step(Event::Refresh, &mut healthy(HOUR));
    assert_eq!(world.attempts.len(), 1);
}

#[test]
fn what_was_minted_while_somebody_logged_out_is_not_used() {
    for in_again in [false, true] {
        let mut world = World::new(0.5);
        world.run(seconds(2.0), &mut |_| (seconds(0.2), Ok(HOUR)));
        let mut slow = |_| (seconds(20.0), Ok(HOUR));
        world.step(Event::Refresh, &mut slow);
        world.run(seconds(10.0), &mut slow);
        assert_eq!(world.attempts.len(), 2, "it is under way");
        world.step(Event::Forget, &mut slow);
        if in_again {
            world.step(Event::Refresh, &mut slow);
        }
        world.run(seconds(300.0), &mut slow);
        // The second attempt's credential was the ended login's.
        let (attempts, generation) = if in_again { (3, 2) } else { (2, 1) };
        assert_eq!((world.attempts.len(), world.machine.generation), (attempts, generation));
        assert_eq!(world.machine.credential.is_some(), in_again);
    }
}

#[test]
fn after_a_logout_nothing_is_sent_and_no_number_is_used_twice() {
    let mut world = World::new(0.5);
    let mut issuer = |_| (seconds(0.2), Ok(HOUR));
    world.run(seconds(2.0), &mut issuer);
    assert_eq!(world.machine.generation, 1);
    world.step(Event::Forget, &mut issuer);
    let current = world.machine.current("device", &Clock::System);
    assert_eq!(current.state, State::NeedsUser);
    assert!(current.credential.is_none() && current.lease().is_none());
    world.run(seconds(600.0), &mut issuer);
    assert_eq!(world.machine.generation, 1, "nobody is asked");
    world.step(Event::Refresh, &mut issuer);
    world.run(seconds(2.0), &mut issuer);
    assert_eq!(world.machine.generation, 2, "somebody logged in again");
}
