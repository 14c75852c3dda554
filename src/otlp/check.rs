//! Whether the bytes of a request may be kept.
use super::Batch;

/// What a check found to be fit to keep.
#[derive(Debug)]
pub struct Checked {
    /// The batch without its invalid items; the same bytes if there are none.
    pub batch: Batch,
    /// Items kept: spans, data points or log records.
    pub items: u64,
    /// Items taken out, each with an invalid trace or span id.
    pub rejected: u64,
    /// Why items were taken out, in words for the sender's developer. Empty if none was.
    pub reason: &'static str,
}

/// The bytes are no OTLP request of that signal; the message is for the sender's developer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

pub fn check(_batch: Batch) -> Result<Checked, Malformed> {
    unimplemented!()
}

/// How many items a request that passed [`check`] holds.
pub fn count(_signal: super::Signal, _bytes: &[u8]) -> u64 {
    unimplemented!()
}
