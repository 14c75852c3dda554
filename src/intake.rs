//! The one door: check, redact, stamp, spool, answer.
use crate::otlp::Batch;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub items: u64,
    pub rejected: u64,
    pub reason: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The bytes: never send them again.
    #[error("{0}")]
    Malformed(String),
    /// Come again: full disk, full spool, or stopping.
    #[error("{0}")]
    Later(String),
}

/// A cheap handle.
#[derive(Clone, Debug)]
pub struct Intake;

impl Intake {
    /// Returns when the batch is on disk.
    pub async fn take(&self, _batch: Batch) -> Result<Taken, Refused> {
        unimplemented!()
    }
}
