//! The next connection of a listener, whatever kind it is of.

use std::{io, time::Duration};

/// After a failed accept (no descriptors left, mostly), or the loop would do nothing but fail.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until that brings a connection, with a pause after each that cannot be had, the first of which is told. May be
/// dropped at any time, if `accept`'s future may.
pub async fn next<T, F: Future<Output = io::Result<T>>>(accept: impl Fn() -> F, tell: impl Fn(&io::Error)) -> T {
    let mut is_told = false;
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) if !is_told => tell(&error),
            Err(_) => {}
        }
        is_told = true;
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bug_spun_after_a_connection_that_cannot_be_had_there_is_a_pause() {
        let began = tokio::time::Instant::now();
        let asked = Cell::new(0);
        let told = Cell::new(0);
        let accept = || {
            asked.set(asked.get() + 1);
            std::future::ready(match asked.get() {
                1..=3 => Err(io::ErrorKind::QuotaExceeded.into()),
                number => Ok(number),
            })
        };
        assert_eq!(next(accept, |_| told.set(told.get() + 1)).await, 4);
        assert_eq!((told.get(), began.elapsed()), (1, 3 * PAUSE));
    }
}
