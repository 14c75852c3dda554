//! The contract of `status --json`: plain values that the agent fills and that anyone may read.
//!
//! Fields are added with a default, never renamed: a new command line must still understand an old agent.
//! Nothing secret has a place in here: there is no field for a token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    identity::State,
    spool::{self, Books},
    workspace::Trust,
};

/// The whole answer; `agent` is null when none runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Null while none runs: the rest is then what settings, platform and disk tell.
    pub agent: Option<Agent>,
    /// Where this is.
    pub workspace: Workspace,
    /// Null until the first credential, and while no agent runs.
    pub principal: Option<Principal>,
    /// What proves it.
    pub credential: Credential,
    /// What waits.
    pub spool: Spool,
    /// What leaves.
    pub export: Export,
}

/// The running process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// As `tagalong --version` says it; another one is replaced by `up`.
    pub version: String,
    /// The commit that it was built from; null where the build did not know. Another one is replaced by `up` too.
    #[serde(default)]
    pub commit: Option<String>,
    /// In the process id namespace that the agent runs in.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime: u64,
    /// `workspace.session.id`: new at each start.
    pub session_id: String,
    /// Where it really listens, which may not be what was set.
    pub endpoints: Endpoints,
    /// It accepts nothing any more, drains and ends.
    #[serde(default)]
    pub stopping: bool,
    /// Ports that were taken, and by whom; also those that are free again, while the agent stays beside them.
    pub moved: Vec<String>,
    /// Parts of it that ended by a fault of tagalong.
    #[serde(default)]
    pub ended: Vec<String>,
    /// Names the settings that this agent runs with; another value means other settings.
    pub config: String,
}

/// Where programs send to, as `host:port`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// Speaks OTLP/HTTP too.
    pub grpc: String,
    /// Speaks OTLP/gRPC too.
    pub http: String,
    /// Where containers next to the workspace send to, with a key; null unless they are wanted and can reach it.
    #[serde(default)]
    pub siblings: Option<String>,
    /// Why `siblings` is null though they are wanted, in words.
    #[serde(default)]
    pub siblings_trouble: Option<String>,
}

/// What was detected, each value with how far it can be believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workspace {
    /// `gitpod`, `codespaces`, `local` and so on: the names that `workspace.platform` takes.
    pub platform: String,
    /// Never empty.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// New at every start of the same workspace, where the platform has such a thing.
    pub instance_id: Option<String>,
    /// Where it is opened in a browser.
    pub url: Option<String>,
    /// Nothing is started here.
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
    /// By field name: `verified`, `platform` or `asserted`; a field that is absent has none.
    pub trust: BTreeMap<String, Trust>,
}

/// Who telemetry leaves for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Principal {
    /// `iss`; where no token says who this is, `platform:NAME` or `os:HOST`.
    pub issuer: String,
    /// The stable person id within the issuer.
    pub subject: String,
    /// `user.*`, as they are stamped.
    pub attributes: BTreeMap<String, String>,
    /// `verified` only where a token says so.
    pub trust: Trust,
}

/// The credential of the moment, without the token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credential {
    /// The value of `identity.credential` that holds, `auto` resolved.
    pub source: String,
    /// `fresh`, `refreshing` and `degraded` send; `stopped` while no agent runs.
    pub state: State,
    /// Seconds until neither clock calls it usable; null if it never ends or there is none.
    pub expires_in: Option<f64>,
    /// 1 for the first of this agent's, 0 before it.
    pub generation: u64,
    /// Successful mints after the first.
    pub rotations: u64,
    /// Mints that failed, since the agent's start.
    pub failures: u64,
    /// Why the last mint failed or upstream refused, in words for people.
    pub trouble: Option<String>,
    /// Who the token says that it is from (`iss`), and for (`aud`), where it is a JWT; read, not verified.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Empty where the token is opaque.
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
    /// Of the source, or of the exchange.
    pub name: String,
    /// Where, or for whom.
    pub with: String,
    /// Why it failed; what comes after it was not tried.
    pub trouble: Option<String>,
    /// Scopes that were asked for and not granted, by the word of whoever was asked.
    #[serde(default)]
    pub not_granted: Vec<String>,
}

/// What rests on the disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spool {
    /// `spool.dir`.
    pub dir: String,
    /// Unsent bytes.
    pub bytes: u64,
    /// `spool.max_bytes`.
    pub max_bytes: u64,
    /// Seconds since the oldest unsent record came in.
    pub oldest_age: Option<u64>,
    /// Entries that upstream refused for good, or that are damaged.
    pub set_aside: u64,
    /// What they take of `max_bytes`.
    #[serde(default)]
    pub set_aside_bytes: u64,
    /// Items by signal.
    pub books: BTreeMap<String, Books>,
    /// Why the disk refuses right now, or why it cannot be read.
    pub trouble: Option<String>,
    /// Why something still waits that came before it was known who is here.
    #[serde(default)]
    pub unadopted: Option<String>,
    /// Signals that have no room left: each takes at most half of `max_bytes`, however empty the rest is.
    #[serde(default)]
    pub full: Vec<String>,
}

impl Spool {
    /// Whether hardly any room is left for anything.
    pub fn is_nearly_full(&self) -> bool {
        self.max_bytes > 0 && spool::is_nearly_full(self.bytes + self.set_aside_bytes, self.max_bytes)
    }

    /// Whether so much is set aside that a full spool stays full until somebody decides about it.
    pub fn is_much_set_aside(&self) -> bool {
        self.set_aside > 0 && spool::is_much_set_aside(self.set_aside_bytes, self.max_bytes)
    }
}

/// What left, in items.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Export {
    /// Null: telemetry is kept as a ring and sent nowhere.
    pub endpoint: Option<String>,
    /// `sending`, `paused`, `waiting` (for a credential) or `off` (no endpoint).
    pub state: String,
    /// Why sending is paused.
    pub trouble: Option<String>,
    /// Seconds until upstream is tried again, while sending is paused.
    #[serde(default)]
    pub next_attempt: Option<u64>,
    /// The sum of the books.
    pub accepted: u64,
    /// Items that upstream took.
    pub delivered: u64,
    /// Items that upstream rejected or that were set aside.
    pub refused: u64,
    /// 401 answers to the credential of the moment, and to an older one.
    pub unauthenticated_current: u64,
    /// Refusals of a credential that had been renewed in the meantime: no trouble at all.
    pub unauthenticated_stale: u64,
    /// Signals that upstream does not take.
    pub not_taken: Vec<String>,
    /// What upstream (or the way there) said against the last request that it did not take.
    #[serde(default)]
    pub last_error: Option<String>,
}
