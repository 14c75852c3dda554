//! Two clocks as one value. Wall time jumps and monotonic time stops in suspend, so a credential ends when either
//! of wall time and boot time says so. Nothing here reads a clock but [`Clock::now`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::rotate::TICK;

/// Skews up to this are network delay and rounding (`iat` and `Date` have whole seconds), not a wrong clock.
pub const SKEW_IGNORED: Duration = Duration::from_secs(5);
/// A larger skew than this is a nonsensical header, not a clock.
pub const SKEW_LARGEST: Duration = Duration::from_secs(24 * 3600);
/// A difference between the clocks' advances that is not scheduling noise: a suspend, or a wall clock that was set.
const JUMP: Duration = Duration::from_secs(5);

/// One reading of all clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Jumps when it is set.
    pub wall: SystemTime,
    /// Since boot, suspends included; never jumps back.
    pub boot: Duration,
    /// Since some start; stops in suspend, as timers do.
    pub monotonic: Duration,
}

impl Now {
    /// Whether the machine slept or its wall clock was set between `earlier` and this reading.
    pub fn jumped_since(&self, earlier: Now) -> bool {
        let boot = self.boot.saturating_sub(earlier.boot);
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        boot.abs_diff(monotonic) > JUMP
            || match self.wall.duration_since(earlier.wall) {
                Ok(forward) => forward.abs_diff(boot) > JUMP,
                Err(backward) => backward.duration() + boot > JUMP,
            }
    }
}

/// Where [`Now`] comes from: the machine, or a test.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's two clocks.
    System,
    /// A test's.
    Driven(Driven),
}

/// A clock for tests: it advances with Tokio's (which may be paused) and can be set apart from it.
#[derive(Clone, Debug)]
pub struct Driven {
    start: tokio::time::Instant,
    wall: SystemTime,
    /// Boot offset in ms, wall offset in ms.
    offsets: Arc<Mutex<(u64, i64)>>,
}

impl Driven {
    /// Stands at `wall` now, and booted at the same moment.
    pub fn starting_at(wall: SystemTime) -> Driven {
        Driven {
            start: tokio::time::Instant::now(),
            wall,
            offsets: Arc::default(),
        }
    }
    /// The machine sleeps: wall and boot time go on, timers do not.
    pub fn suspend(&self, slept: Duration) {
        let ms = u64::try_from(slept.as_millis()).unwrap_or(u64::MAX);
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.0 = offsets.0.saturating_add(ms);
        offsets.1 = offsets.1.saturating_add_unsigned(ms);
    }
    /// Somebody sets the wall clock, forward or back.
    pub fn set_wall(&self, by_seconds: i64) {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).1 += by_seconds * 1000;
    }
    fn now(&self) -> Now {
        let monotonic = self.start.elapsed();
        let (boot_ms, wall_ms) = *self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = self.wall + monotonic;
        Now {
            wall: if wall_ms < 0 {
                wall - Duration::from_millis(wall_ms.unsigned_abs())
            } else {
                wall + Duration::from_millis(wall_ms.unsigned_abs())
            },
            boot: monotonic + Duration::from_millis(boot_ms),
            monotonic,
        }
    }
}

impl Clock {
    /// The time by both clocks.
    pub fn now(&self) -> Now {
        match self {
            Clock::System => Now {
                wall: SystemTime::now(),
                boot: crate::system::boot_time(),
                monotonic: monotonic_time(),
            },
            Clock::Driven(driven) => driven.now(),
        }
    }

    /// Waits until so much time has passed since boot. A timer alone would wait a suspend longer.
    pub async fn sleep_until(&self, boot: Duration) {
        loop {
            let left = boot.saturating_sub(self.now().boot);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(TICK)).await;
        }
    }
}

fn monotonic_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// How far the issuer's clock is ahead of ours (or behind).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    amount: Duration,
    behind: bool,
}

impl Skew {
    /// From the issuer's time and ours at the same moment; small differences are none, absurd ones are clamped.
    pub fn between(theirs: SystemTime, ours: SystemTime) -> Skew {
        let (amount, behind) = match theirs.duration_since(ours) {
            Ok(ahead) => (ahead, false),
            Err(late) => (late.duration(), true),
        };
        if amount <= SKEW_IGNORED {
            return Skew::default();
        }
        Skew {
            amount: amount.min(SKEW_LARGEST),
            behind,
        }
    }
    /// The issuer's clock is behind ours. Believing that lengthens a lifetime, so it needs a token that was minted just now.
    pub fn is_behind(&self) -> bool {
        self.behind
    }
    /// Our wall time as the issuer would read it.
    pub fn correct(&self, wall: SystemTime) -> SystemTime {
        let corrected = if self.behind {
            wall.checked_sub(self.amount)
        } else {
            wall.checked_add(self.amount)
        };
        corrected.unwrap_or(wall)
    }
    /// Seconds, positive where the issuer is ahead.
    pub fn seconds(&self) -> f64 {
        if self.behind {
            -self.amount.as_secs_f64()
        } else {
            self.amount.as_secs_f64()
        }
    }
}

/// When a credential ends, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// `exp`, by the issuer's clock.
    pub wall_exp: SystemTime,
    /// Boot time when the credential was obtained.
    pub boot_obtained: Duration,
    /// What was left of it then.
    pub lifetime: Duration,
    /// How far the issuer's clock is ahead of ours.
    pub skew: Skew,
}

impl Expiry {
    /// A credential that was obtained `now` and ends at `wall_exp` by the issuer's clock.
    pub fn new(wall_exp: SystemTime, skew: Skew, now: Now) -> Expiry {
        Expiry {
            wall_exp,
            boot_obtained: now.boot,
            lifetime: wall_exp.duration_since(skew.correct(now.wall)).unwrap_or_default(),
            skew,
        }
    }
    /// A credential of which only the lifetime is known.
    pub fn lasting(lifetime: Duration, now: Now) -> Expiry {
        Expiry {
            wall_exp: now.wall.checked_add(lifetime).unwrap_or(now.wall),
            boot_obtained: now.boot,
            lifetime,
            skew: Skew::default(),
        }
    }
    /// min(by the corrected wall clock, by boot time); a wall clock that jumps back extends nothing.
    pub fn remaining(&self, now: Now) -> Duration {
        let by_wall = self
            .wall_exp
            .duration_since(self.skew.correct(now.wall))
            .unwrap_or_default();
        let by_boot = self
            .lifetime
            .saturating_sub(now.boot.saturating_sub(self.boot_obtained));
        by_wall.min(by_boot)
    }
    /// What has to be left for a request that starts now to arrive in time: a twentieth, between 0.5 s and 30 s.
    pub fn margin(&self) -> Duration {
        (self.lifetime / 20).clamp(Duration::from_millis(500), Duration::from_secs(30))
    }
    /// More than the margin is left, by both clocks.
    pub fn is_usable(&self, now: Now) -> bool {
        self.remaining(now) > self.margin()
    }
}

#[cfg(test)]
mod tests;
