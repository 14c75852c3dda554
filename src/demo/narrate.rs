//! What the demonstration says while it runs, and the table at its end.

use std::{io::Write, time::Instant};

use super::Report;

/// Writes lines with the time since the start in front. With `--json` they go to stderr, so that stdout holds one
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

    /// The end: a table for people, or one object for programs.
    pub(super) fn report(&self, report: &Report) -> std::io::Result<()> {
        if self.json {
            let mut stdout = std::io::stdout().lock();
            return writeln!(stdout, "{}", serde_json::to_string(report)?);
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
        Ok(())
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
