//! Redaction: what must not rest on the disk is taken out of a batch first (promise 8).
//!
//! Nearly every batch holds no secret, so the cost is made to lie where one may be: a prefilter looks through the raw
//! bytes of the request for the literals that every rule needs (`prefilter`), and only a request that has one is
//! walked field by field (`walk`). The rules themselves are tables (`rules`): shapes of well-known credentials,
//! wherever they stand in a string, and attribute keys whose whole value is a secret.
//!
//! What it does not do: it does not look into fields that this crate does not know, nor into compressed or encoded
//! text, nor at keys inside of JSON text; and it does not guess from randomness, which would hit trace ids.

mod prefilter;
mod rules;
mod walk;

use bytes::Bytes;

use crate::otlp::Batch;
use prefilter::Prefilter;
use rules::Rules;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// Built-in rules plus the user's own.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whether anything is redacted at all, by built-in rules or the user's own.
    pub enabled: bool,
    /// Further regular expressions; what they match is replaced, or only what their group named `secret` matches.
    ///
    /// They are matched against each string by itself. One whose matches all start with one of a few texts of four
    /// bytes or more (`ACME-\d+`, `(?i)ticket-\d+`) costs next to nothing; with any other one, such as `\d{16}`, every
    /// string of every batch is searched, which was measured at three microseconds per span.
    pub patterns: Vec<String>,
    /// Further attribute keys (`*` stands for any run of characters), case-sensitive; their values are replaced.
    ///
    /// A key without four bytes in a row that are no `*` costs as much as such a pattern.
    pub keys: Vec<String>,
}

/// The rules, ready to run.
#[derive(Debug)]
pub struct Redactor {
    /// `None` where redaction is switched off.
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    rules: Rules,
    prefilter: Prefilter,
}

/// A rule of the user's that cannot be used; the message names it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadRule(pub String);

impl Redactor {
    /// # Errors
    /// [`BadRule`] if one of the user's patterns is no regular expression or would take too much memory.
    pub fn build(config: &Config) -> Result<Redactor, BadRule> {
        if !config.enabled {
            return Ok(Redactor { active: None });
        }
        Ok(Redactor {
            active: Some(Active {
                // First the rules: they say what is wrong with a pattern.
                rules: Rules::new(&config.patterns, &config.keys)?,
                prefilter: Prefilter::new(&config.patterns, &config.keys),
            }),
        })
    }

    /// The batch with its secrets replaced, and how many were. With none, the same bytes.
    pub fn redact(&self, batch: Batch) -> (Batch, u64) {
        let Some(active) = self
            .active
            .as_ref()
            .filter(|active| active.prefilter.hits(&batch.bytes))
        else {
            return (batch, 0);
        };
        match walk::request(batch.signal, &batch.bytes, &active.prefilter, &active.rules) {
            (Some(bytes), count) => (
                Batch {
                    signal: batch.signal,
                    bytes: Bytes::from(bytes.into_boxed_slice()),
                },
                count,
            ),
            (None, _) => (batch, 0),
        }
    }
}

#[cfg(test)]
mod tests;
