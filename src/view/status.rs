//! The contract of `status --json`: plain values that the agent fills and that anyone may read.
//!
//! Fields are added with a default, never renamed: a new command line must still understand an old agent.
//! Nothing secret has a place in here: there is no field for a token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{identity::State, spool::Books, workspace::Trust};

/// The whole answer; `agent` is null when none runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub agent: Option<Agent>,
    pub workspace: Workspace,
    pub principal: Option<Principal>,
    pub credential: Credential,
    pub spool: Spool,
    pub export: Export,
}

/// The running process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    pub version: String,
    pub pid: u32,
    /// Seconds since the start.
    pub uptime: u64,
    pub session_id: String,
    pub endpoints: Endpoints,
    /// Ports that were taken, and by whom.
    pub moved: Vec<String>,
    /// Names the settings that this agent runs with; another value means other settings.
    pub config: String,
}

/// Where programs send to, as `host:port`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    pub grpc: String,
    pub http: String,
}

/// What was detected, each value with how far it can be believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workspace {
    pub platform: String,
    pub id: String,
    pub name: Option<String>,
    pub instance_id: Option<String>,
    pub url: Option<String>,
    pub prebuild: bool,
    /// The repository that it was made for, as a web address without anything secret in it.
    #[serde(default)]
    pub repository: Option<String>,
    /// The branch or tag that it was made for.
    #[serde(default)]
    pub reference: Option<String>,
    /// The platform's word for who created it.
    #[serde(default)]
    pub owner: Option<String>,
    pub trust: BTreeMap<String, Trust>,
}

/// Who telemetry leaves for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Principal {
    pub issuer: String,
    pub subject: String,
    pub attributes: BTreeMap<String, String>,
    pub trust: Trust,
}

/// The credential of the moment, without the token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credential {
    pub source: String,
    pub state: State,
    /// Seconds until neither clock calls it usable; null if it never ends or there is none.
    pub expires_in: Option<f64>,
    pub generation: u64,
    pub rotations: u64,
    pub failures: u64,
    pub trouble: Option<String>,
    /// Who the token says that it is from (`iss`), and for (`aud`), where it is a JWT; read, not verified.
    #[serde(default)]
    pub issuer: Option<String>,
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The audience that tokens are asked for.
    #[serde(default)]
    pub wanted_audience: Option<String>,
    /// Seconds that the issuer's clock is ahead of this machine's, where a token or an answer told.
    #[serde(default)]
    pub clock_skew: Option<f64>,
    /// Why this is the source, where nobody said so: one sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// What the last attempt went through, from the source to the last exchange.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One link from the platform to the token that upstream sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    /// Where, or for whom.
    pub with: String,
    /// Why it failed; what comes after it was not tried.
    pub trouble: Option<String>,
}

/// What rests on the disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spool {
    pub dir: String,
    /// Unsent bytes.
    pub bytes: u64,
    pub max_bytes: u64,
    /// Seconds since the oldest unsent record came in.
    pub oldest_age: Option<u64>,
    /// Entries that upstream refused for good, or that are damaged.
    pub set_aside: u64,
    /// Items by signal.
    pub books: BTreeMap<String, Books>,
    pub trouble: Option<String>,
}

/// What left, in items.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Export {
    pub endpoint: Option<String>,
    /// `sending`, `paused`, `waiting` (for a credential) or `off` (no endpoint).
    pub state: String,
    pub trouble: Option<String>,
    pub accepted: u64,
    pub delivered: u64,
    /// Items that upstream rejected or that were set aside.
    pub refused: u64,
    /// 401 answers to the credential of the moment, and to an older one.
    pub unauthenticated_current: u64,
    pub unauthenticated_stale: u64,
    /// Signals that upstream does not take.
    pub not_taken: Vec<String>,
    /// What upstream (or the way there) said against the last request that it did not take.
    #[serde(default)]
    pub last_error: Option<String>,
}
