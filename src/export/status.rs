//! What export says of itself, for `status` and for the agent's own metrics. Never a token, never a payload.

use std::{collections::BTreeMap, time::SystemTime};

use crate::otlp::Signal;

/// A snapshot. Counters run since the start of the process; the spool's books run for ever.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Without what may be secret in it.
    pub endpoint: String,
    /// Of the path, which all signals share.
    pub state: State,
    /// Always all three.
    pub lanes: BTreeMap<Signal, Lane>,
    /// Requests that were sent, whatever became of them.
    pub requests: u64,
    /// Answers that were not a success.
    pub refused: u64,
    /// 401 and `UNAUTHENTICATED` for the newest credential.
    pub unauthenticated_current: u64,
    /// The same for a credential that had been renewed in the meantime.
    pub unauthenticated_stale: u64,
    /// The signal, and what was said against its request; stays after a success.
    pub last_error: Option<String>,
    /// By this machine's clock.
    pub last_error_at: Option<SystemTime>,
    /// By this machine's clock.
    pub last_success: Option<SystemTime>,
}

/// What the path is doing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nobody to send for yet, or no usable credential: the spool grows.
    #[default]
    Waiting,
    /// A credential is there, and nothing is in the way.
    Sending,
    /// One probe goes out at `until`.
    Paused {
        /// What upstream, or the way there, said; fit to be shown.
        reason: String,
        /// When the next probe goes out.
        until: SystemTime,
    },
}

/// One signal.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Lane {
    /// Whether anything is sent of it.
    pub state: LaneState,
    /// Items.
    pub delivered: u64,
    /// Items that upstream counted out in a partial success.
    pub rejected: u64,
    /// Items that upstream refused for good.
    pub set_aside: u64,
    /// What upstream said last about items that it rejected or refused.
    pub last_refusal: Option<String>,
}

/// Whether upstream takes the signal.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum LaneState {
    /// As far as is known, it does.
    #[default]
    Open,
    /// Upstream does not take this signal; it is tried again at `until`.
    NotTaken {
        /// What upstream said to it; fit to be shown.
        reason: String,
        /// When it is tried again.
        until: SystemTime,
    },
}
