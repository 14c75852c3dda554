//! What the demonstration says while it runs, and the table at its end.

use std::{io::Write, time::Instant};

use super::Report;

/// Writes lines with the time since the start in front. With `--json` they go to stderr, so that stdout is free for one
/// object and nothing else.
#[derive(Debug)]
pub(super) struct Narrator {
    since: Instant,
    json: bool,
}

impl Narrator {
    pub(super) fn new(json: bool) -> Narrator {
        Narrator {
            since: Instant::now(),
            json,
        }
    }

    pub(super) fn say(&self, line: &str) {
        self.line(&format!("{:7.1}s  {line}", self.since.elapsed().as_secs_f64()));
    }

    /// The end: a table for people. Programs get the object from whoever asked for it.
    pub(super) fn report(&self, report: &Report) {
        if self.json {
            return;
        }
        let rows = [
            ("spans accepted from the application", report.accepted),
            ("of these delivered upstream", report.delivered),
            ("lost", report.lost),
            ("delivered more than once", report.duplicates),
            ("tokens seen upstream", report.tokens),
            ("rotations", report.rotations),
            ("requests refused upstream", report.refused),
        ];
        self.line("");
        for (name, value) in rows {
            self.line(&format!("  {name:<38}{value:>10}"));
        }
    }

    fn line(&self, line: &str) {
        // Nobody listening (a closed pipe) is no reason to stop.
        let _ = if self.json {
            writeln!(std::io::stderr().lock(), "{line}")
        } else {
            writeln!(std::io::stdout().lock(), "{line}")
        };
    }
}
