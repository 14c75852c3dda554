//! Who, and proof: one fresh credential, published with the principal that it speaks for.
use std::{sync::Arc, time::Duration};

pub mod claims;
pub mod client;
pub mod clock;
pub mod rotate;
pub mod secret;
pub mod source;

use crate::workspace::Trust;
use secret::Secret;

/// Who the credential speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub issuer: String,
    /// The stable person id within the issuer.
    pub subject: String,
    /// `user.*`, as they are stamped.
    pub attributes: Vec<(String, String)>,
    pub trust: Trust,
}

impl Principal {
    /// Names the principal's spool: issuer and subject alone, so a changed e-mail changes nothing. 32 hex digits.
    pub fn fingerprint(&self) -> String {
        unimplemented!()
    }
}

/// One short-lived token with its expiry and a generation number.
#[derive(Debug)]
pub struct Credential {
    /// None only for `identity.credential = "none"`.
    pub token: Option<Secret>,
    /// 1 for the first; grows by one with each.
    pub generation: u64,
    pub expiry: Option<clock::Expiry>,
}

/// The state machine's states (`status` shows them in lower case with dashes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Boot,
    Acquiring,
    Fresh,
    Refreshing,
    Degraded,
    Starved,
    Rejected,
    Denied,
    NeedsUser,
    Stopped,
}

/// What is published: state, principal and credential change together.
#[derive(Clone, Debug)]
pub struct Current {
    pub state: State,
    pub principal: Option<Arc<Principal>>,
    pub credential: Option<Arc<Credential>>,
    /// Why the last attempt failed, without anything secret in it.
    pub trouble: Option<String>,
    /// Name of the source, for `status`.
    pub source: &'static str,
    /// Successful mints after the first.
    pub rotations: u64,
    /// Mints that failed.
    pub failures: u64,
}

/// What a sender holds while it sends: always of one published value.
#[derive(Clone, Debug)]
pub struct Lease {
    pub principal: Arc<Principal>,
    pub credential: Arc<Credential>,
}

impl Current {
    /// The lease, if the state allows sending and the credential is usable by both clocks.
    pub fn lease(&self) -> Option<Lease> {
        unimplemented!()
    }
    pub fn seconds_to_expiry(&self) -> Option<f64> {
        unimplemented!()
    }
}

/// What upstream said of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Unauthenticated,
    Forbidden,
}

/// The many readers' half; cheap to clone.
#[derive(Clone, Debug)]
pub struct Receiver {/* watch::Receiver<Current> + mpsc/Notify towards rotate */}

impl Receiver {
    pub fn current(&self) -> Current {
        unimplemented!()
    }
    /// Waits for the next published value.
    pub async fn changed(&mut self) {
        unimplemented!()
    }
    /// Waits for a lease that may be sent under; in `Denied`, only the probe's turn yields one.
    pub async fn lease(&mut self) -> Lease {
        unimplemented!()
    }
    /// Says what upstream answered to a generation; a stale generation's verdict changes nothing.
    pub fn verdict(&self, _generation: u64, _verdict: Verdict) {
        unimplemented!()
    }
    /// A pair that publishes one fixed value for ever: for tests and for callers without rotation.
    pub fn fixed(_principal: Principal, _token: Option<Secret>, _lifetime: Option<Duration>) -> Receiver {
        unimplemented!()
    }
}
