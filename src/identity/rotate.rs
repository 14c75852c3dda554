//! When to mint again: pure functions of lifetimes, counts and a unit of jitter in [0, 1).
//!
//! Half of each lifetime is left for an issuer's outage. Nothing here has a fixed buffer in minutes: with one, a token
//! that lives no longer than the buffer would be minted again at once and for ever.

use std::time::Duration;

/// After an error that only a change of settings or a person mends.
pub const AFTER_CONFIG_ERROR: Duration = Duration::from_secs(30 * 60);
/// The longest sleep: timers stop in suspend, so both clocks are looked at this often.
pub const TICK: Duration = Duration::from_secs(30);
/// No attempt takes longer, and a credential that is still good is never waited away by one.
pub const ATTEMPT: Duration = Duration::from_secs(30);
/// Generations refused in a row after which more of them are not the answer.
pub const REFUSALS: u32 = 3;
/// Attempts in a row to replace a refused credential that fail before it is probed with: some seconds.
pub const UNREPLACED: u32 = 4;
/// The least distance between any two attempts.
pub const LEAST_GAP: Duration = Duration::from_millis(500);
/// The least distance between probes.
pub const PROBE_FIRST: Duration = Duration::from_secs(4);
const PROBE_LAST: Duration = Duration::from_secs(300);

/// How long after a credential was obtained the next is minted: L/2 - U(0, L/20).
pub fn refresh_at(lifetime: Duration, unit: f64) -> Duration {
    lifetime / 2 - (lifetime / 20).mul_f64(unit.clamp(0.0, 1.0))
}

/// Below this, new sends wait for a refresh that is in flight: a sixth of the lifetime, at most 10 minutes. There is
/// no floor in seconds, or a 20-second token would always be there.
pub fn mandatory(lifetime: Duration) -> Duration {
    (lifetime / 6).min(Duration::from_secs(600))
}

/// The least distance between attempts: a twelfth of the lifetime, from 0.5 s to 10 s.
pub fn least_gap(lifetime: Option<Duration>) -> Duration {
    let longest = Duration::from_secs(10);
    lifetime.map_or(longest, |lifetime| (lifetime / 12).clamp(LEAST_GAP, longest))
}

/// After the `failures`th failure in a row, with a credential that can still be used.
pub fn retry_while_usable(failures: u32, remaining: Duration, unit: f64) -> Duration {
    let doubled = doubled(Duration::from_secs(10), failures, Duration::from_secs(300));
    equal_jitter(doubled.min(remaining / 4), unit)
}

/// After the `failures`th failure in a row, with nothing to send under: a second, then twice as much each time. At most a
/// minute, and at most a lifetime, because with the jitter that is as often as an issuer is asked which answers: whoever
/// mints for 15 seconds is not kept from sending for a minute after it came back.
pub fn retry_while_starved(failures: u32, lifetime: Option<Duration>, unit: f64) -> Duration {
    let longest = Duration::from_secs(60);
    let most = lifetime.map_or(longest, |lifetime| lifetime.clamp(Duration::from_secs(10), longest));
    equal_jitter(doubled(Duration::from_secs(1), failures, most), unit)
}

/// How long after the last attempt a refused credential is replaced: at once, and more slowly if the replacements
/// are refused too although others were taken in between.
pub fn forced_gap(forced_before: u32, lifetime: Option<Duration>) -> Duration {
    match forced_before {
        0 => LEAST_GAP,
        again => doubled(least_gap(lifetime), again, Duration::from_secs(300)),
    }
}

/// Between two looks at something that somebody else renews: one file is cheap to read, so short lives are seen in time.
pub fn look_again(lifetime: Option<Duration>, usable: bool) -> Duration {
    if usable {
        lifetime.map_or(Duration::from_secs(10), |lifetime| {
            (lifetime / 12).clamp(LEAST_GAP, Duration::from_secs(10))
        })
    } else {
        Duration::from_secs(5)
    }
}

/// After somebody's cache gave the token again that is held already: a quarter of what is left, at most 5 min.
pub fn ask_cache_again(lifetime: Option<Duration>, remaining: Duration) -> Duration {
    (remaining / 4).min(Duration::from_secs(300)).max(least_gap(lifetime))
}

/// Between the probes of `Denied`: from 4 s to 5 min.
pub fn probe_gap(probes: u32) -> Duration {
    doubled(PROBE_FIRST, probes, PROBE_LAST)
}

/// After a suspend many machines wake at once.
pub fn after_resume(lifetime: Option<Duration>, unit: f64) -> Duration {
    let most = Duration::from_secs(5);
    lifetime
        .map_or(most, |lifetime| most.min(lifetime / 12))
        .mul_f64(unit.clamp(0.0, 1.0))
}

/// How long one attempt may take, given what is left of a credential that can be used.
pub fn attempt(remaining: Option<Duration>) -> Duration {
    remaining.map_or(ATTEMPT, |remaining| {
        (remaining / 3).clamp(Duration::from_secs(1), ATTEMPT)
    })
}

/// `first` for the first time, twice as much for each further one.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    let exponent = times.saturating_sub(1).min(16);
    (first * 2u32.pow(exponent)).min(most)
}

fn equal_jitter(delay: Duration, unit: f64) -> Duration {
    delay / 2 + (delay / 2).mul_f64(unit.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
