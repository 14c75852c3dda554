//! The real executable through minutes of trouble: what `just endure` runs, and `cargo test` leaves out.
//!
//! Each run prints one line of figures. `TAGALONG_ENDURE_KILLS` (100) is how often the agent is killed,
//! `TAGALONG_ENDURE_RESTARTS` (50) how often a workspace is stopped and started,
//! `TAGALONG_ENDURE_SECONDS` (60) how long a fault lasts; what is about credentials lasts twice as long, and logins five
//! times.

mod backlog;
mod disk;
mod faults;
mod hooks;
mod idle;
mod kills;
mod logins;
mod poison;
mod restarts;
mod tokens;

use std::time::Duration;

use tagalong::{demo::upstream::Record, workspace::Env};
use tokio::time::{self, Instant};

use crate::support::{agent::Home, load::Sent};

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    let env = Env::from_process();
    env.get(name).map_or(default, |value| value.parse().expect("a number"))
}

/// How long a fault lasts.
fn length() -> Duration {
    Duration::from_secs(setting("TAGALONG_ENDURE_SECONDS", 60))
}

/// Looks every quarter of a second for so long, and returns the largest figure that was seen.
async fn most(lasts: Duration, mut look: impl FnMut() -> u64) -> u64 {
    let (ends, mut turn) = (Instant::now() + lasts, time::interval(Duration::from_millis(250)));
    let mut most = look();
    while Instant::now() < ends {
        turn.tick().await;
        most = most.max(look());
    }
    most
}

/// What is set aside, in entries and in items.
fn set_aside(home: &Home) -> (u64, u64) {
    let status = home.status();
    let books = status["spool"]["books"].as_object().expect("books");
    let items = books.values().filter_map(|books| books["set_aside"].as_u64()).sum();
    (status["spool"]["set_aside"].as_u64().expect("a number"), items)
}

/// Spans came that often in all, and this often more than once.
fn shown(record: &Record, sent: &Sent) -> String {
    format!(
        "{} accepted, {} lost, {} duplicates, {} refused, {} unanswered",
        sent.spans(),
        sent.missing(record),
        record.duplicates(),
        sent.refused,
        sent.failed
    )
}
