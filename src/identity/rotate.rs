//! When to mint again (pure), and the dull loop around it.

use std::time::Duration;

/// Below this, new sends wait for a refresh that is in flight: a sixth of the lifetime, at most 10 minutes. There is
/// no floor in seconds, or a 20-second token would always be there.
pub fn mandatory(lifetime: Duration) -> Duration {
    (lifetime / 6).min(Duration::from_secs(600))
}
