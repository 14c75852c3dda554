//! The next connection of a listener, whatever kind it is of.

use std::{io, time::Duration};

/// After a failed accept (no descriptors left, mostly), or the loop would do nothing but fail.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until that brings a connection, with a pause after each that cannot be had. May be dropped at any time, if
/// `accept`'s future may.
pub async fn next<T, F: Future<Output = io::Result<T>>>(accept: impl Fn() -> F) -> T {
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bug_spun_between_connections_that_cannot_be_had_there_is_a_pause() {
        let began = tokio::time::Instant::now();
        let asked = Cell::new(0);
        let accepted = next(|| {
            asked.set(asked.get() + 1);
            std::future::ready(match asked.get() {
                1..=3 => Err(io::ErrorKind::QuotaExceeded.into()),
                number => Ok(number),
            })
        });
        assert_eq!(accepted.await, 4);
        assert_eq!(began.elapsed(), 3 * PAUSE);
    }
}
