//! Who, and proof: one fresh credential, published with the principal that it speaks for.
//!
//! [`Identity`] mints and publishes, every [`Receiver`] reads the newest value for each send. No credential is ever
//! written anywhere, and nothing here opens a browser or asks a person by itself.

mod admit;
pub mod claims;
pub mod client;
pub mod clock;
pub mod discovery;
pub mod exchange;
pub mod grant;
pub mod keep;
pub mod login;
mod machine;
pub mod proof;
mod receiver;
pub mod rotate;
mod run;
pub mod secret;
pub mod source;
mod timestamp;
pub mod web;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;

pub use admit::Admitted;
pub use receiver::{Receiver, Said, Store};
pub use run::{Config, Identity, LAST_REFRESH};

use crate::workspace::{Trust, hex};
use clock::{Clock, Now};
use secret::Secret;

/// Who the credential speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who says so: the issuer's URL, or what stands for one where the platform or the system says it.
    pub issuer: String,
    /// The stable person id within the issuer.
    pub subject: String,
    /// `user.*`, as they are stamped.
    pub attributes: Vec<(String, String)>,
    /// How much of it is verified.
    pub trust: Trust,
}

impl Principal {
    /// Names the principal's spool: issuer and subject alone, so a changed e-mail changes nothing. 32 hex digits.
    pub fn fingerprint(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.issuer.as_bytes());
        context.update(&[0]);
        context.update(self.subject.as_bytes());
        hex(&context.finish().as_ref()[..16])
    }

    /// Same person of the same issuer, whatever the attributes say now.
    pub fn is_same_person(&self, other: &Principal) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }
}

/// One short-lived token with its expiry and a generation number.
#[derive(Debug)]
pub struct Credential {
    /// None only for `identity.credential = "none"`.
    pub token: Option<Secret>,
    /// 1 for the first; grows by one with each.
    pub generation: u64,
    /// None where nothing says when the token ends.
    pub expiry: Option<clock::Expiry>,
}

impl Credential {
    /// Enough is left of it, by both clocks, for a request to arrive in time.
    pub fn is_usable(&self, now: Now) -> bool {
        self.expiry.is_none_or(|expiry| expiry.is_usable(now))
    }

    fn is_token(&self, token: Option<&Secret>) -> bool {
        let (own, other) = (self.token.as_ref(), token);
        own.is_some() && own.map(Secret::expose) == other.map(Secret::expose)
    }
}

/// The state machine's states (`status` shows them in lower case with dashes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing was asked for yet.
    Boot,
    /// The first credential is being asked for.
    Acquiring,
    /// There is one, and it is not yet time for the next.
    Fresh,
    /// There is one, and the next is being asked for.
    Refreshing,
    /// There is one, and the last attempt to have the next failed.
    Degraded,
    /// There is none, and the last attempt failed: it is tried again.
    Starved,
    /// Upstream refused it with 401, and the next is being asked for.
    Rejected,
    /// Upstream refuses every one: now and then a single request finds out whether it still does.
    Denied,
    /// Only a person helps, by logging in.
    NeedsUser,
    /// No agent runs.
    Stopped,
}

impl State {
    /// Whether data may leave in this state (in `Denied` only the probe may).
    pub fn sends(self) -> bool {
        matches!(self, State::Fresh | State::Refreshing | State::Degraded)
    }
}

/// What is published: state, principal and credential change together.
#[derive(Clone, Debug)]
pub struct Current {
    /// The machine's.
    pub state: State,
    /// None while nobody is known.
    pub principal: Option<Arc<Principal>>,
    /// None while there is none that could be sent with.
    pub credential: Option<Arc<Credential>>,
    /// Why the last attempt failed, without anything secret in it.
    pub trouble: Option<String>,
    /// Name of the source, for `status`.
    pub source: &'static str,
    /// Successful mints after the first.
    pub rotations: u64,
    /// Mints that failed.
    pub failures: u64,
    /// The links of the last attempt, from the source on; empty before the first has ended.
    pub steps: Arc<[exchange::Step]>,
    clock: Clock,
    /// Whether the next `Accepted` would change anything: otherwise thousands a second would be passed on for nothing.
    heeds_acceptance: bool,
    /// How often a probe was accepted: what upstream refused before the last of them, it may take now.
    pub pardons: u64,
    /// In `Denied`: the one permission to try, taken by whoever comes first.
    probe: Option<Arc<std::sync::atomic::AtomicBool>>,
    /// Where nothing can be sent: when a credential is asked for again, by boot time.
    retry: Option<Duration>,
}

/// What a sender holds while it sends: always of one published value.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Whose data may be sent with it.
    pub principal: Arc<Principal>,
    /// What it is sent with.
    pub credential: Arc<Credential>,
}

impl Current {
    /// Before the first mint.
    fn booting(source: &'static str, clock: Clock) -> Current {
        Current {
            state: State::Boot,
            principal: None,
            credential: None,
            trouble: None,
            source,
            rotations: 0,
            failures: 0,
            steps: Arc::from([]),
            clock,
            heeds_acceptance: false,
            pardons: 0,
            probe: None,
            retry: None,
        }
    }

    /// Nothing that a reader could see differs.
    fn is_same(&self, other: &Current) -> bool {
        fn same<T>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
            one.as_ref().map(Arc::as_ptr) == other.as_ref().map(Arc::as_ptr)
        }
        self.state == other.state
            && same(&self.principal, &other.principal)
            && same(&self.credential, &other.credential)
            && same(&self.probe, &other.probe)
            && self.trouble == other.trouble
            && self.rotations == other.rotations
            && self.failures == other.failures
            && self.steps == other.steps
            && self.heeds_acceptance == other.heeds_acceptance
            && self.pardons == other.pardons
            && self.retry == other.retry
    }

    /// Whether anything could be sent within that time: nothing says that it could not, or a credential is asked for again
    /// before it is over.
    pub fn may_send_within(&self, patience: Duration) -> bool {
        self.may_send_by(self.clock.now().boot + patience)
    }

    fn may_send_by(&self, boot: Duration) -> bool {
        self.retry.is_none_or(|retry| retry <= boot)
    }

    /// The lease, if the state allows sending and the credential is usable by both clocks.
    pub fn lease(&self) -> Option<Lease> {
        self.lease_at(self.clock.now())
    }

    fn lease_at(&self, now: Now) -> Option<Lease> {
        if !self.state.sends() || self.is_about_to_be_replaced(now) {
            return None;
        }
        self.usable_at(now)
    }

    /// The published pair, whatever the state, while both clocks allow it.
    fn usable_at(&self, now: Now) -> Option<Lease> {
        let (principal, credential) = (self.principal.as_ref()?, self.credential.as_ref()?);
        credential.is_usable(now).then(|| Lease {
            principal: Arc::clone(principal),
            credential: Arc::clone(credential),
        })
    }

    /// In the mandatory window a send waits for the refresh that is in flight; once that failed it need not.
    fn is_about_to_be_replaced(&self, now: Now) -> bool {
        self.state == State::Refreshing
            && self
                .credential
                .as_ref()
                .and_then(|credential| credential.expiry)
                .is_some_and(|expiry| expiry.remaining(now) < rotate::mandatory(expiry.lifetime))
    }

    /// Takes the probe's turn, if there is one and nobody took it yet.
    fn take_probe(&self) -> Option<Lease> {
        let lease = self.usable_at(self.clock.now())?;
        let turn = self.probe.as_ref()?;
        (!turn.swap(true, std::sync::atomic::Ordering::Relaxed)).then_some(lease)
    }

    /// What is left of the credential by the clock that ends it sooner; none where nothing says.
    pub fn seconds_to_expiry(&self) -> Option<f64> {
        let expiry = self.credential.as_ref()?.expiry?;
        Some(expiry.remaining(self.clock.now()).as_secs_f64())
    }

    /// How far the issuer's clock is ahead of ours, in seconds, where a token or a `Date` told.
    pub fn clock_skew(&self) -> Option<f64> {
        Some(self.credential.as_ref()?.expiry?.skew.seconds())
    }
}

/// What upstream said of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took the data, or judged it.
    Accepted,
    /// 401, or `UNAUTHENTICATED`.
    Unauthenticated,
    /// 403, or `PERMISSION_DENIED`.
    Forbidden,
}
