//! One request out, one judged answer back: the gate, the lease, the transport, and what the verdict tells others.
//!
//! Everything that is a trouble of the path or of the credential is dealt with here, by waiting and sending the same
//! again; only verdicts on the data come out.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Config, Status, echo,
    gate::{Gate, Turn},
    grpc::Grpc,
    http::Http,
    lane::Place,
    retry::{self, Answer, Reach, Trouble, Verdict},
    status,
    target::Target,
};
use crate::{
    identity::{self, Lease, State, secret::Secret},
    otlp::{Signal, status::Response},
    pieces::Pieces,
    seldom::Seldom,
};

/// On the drain, a credential that is being renewed is waited for no longer.
const DRAIN_LEASE: Duration = Duration::from_secs(2);

/// A signal that upstream took before is called not taken only after so long: a gateway may be in the middle of a change.
const MISSING_FOR: Duration = Duration::from_secs(60);

/// The closed set of ways out.
#[derive(Debug)]
pub(super) enum Transport {
    Http(Http),
    Grpc(Grpc),
}

/// What is left of an answer once path and credential are dealt with.
#[derive(Debug)]
pub(super) enum Judged {
    Taken(Response),
    Data(String),
    Size(String),
    /// 500 or `INTERNAL`; the gate is closed for it unless others passed since the request's last one.
    Broken(String),
}

/// Why there is no judgement.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Another principal, or the drain found the way blocked: what is not answered for stays in the spool.
    Left,
    /// Upstream does not take this signal.
    NotTaken(String),
    /// What waited cannot be read again.
    Unreadable(io::Error),
}

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Sender {
    pub config: Arc<Config>,
    pub gate: Gate,
    pub identity: identity::Receiver,
    pub shutdown: CancellationToken,
    pub seldom: Seldom<(&'static str, Signal)>,
    window: Arc<Semaphore>,
    target: Target,
    transport: Transport,
    status: Arc<watch::Sender<Status>>,
    /// Requests of each signal that upstream took.
    passed: watch::Sender<BTreeMap<Signal, u64>>,
    /// The newest generation that upstream refused, and how many pardons there had been.
    refused: Mutex<(u64, u64)>,
    /// The first "not found" since a signal was taken last, and how many requests of other signals had been taken then.
    missing: Mutex<BTreeMap<Signal, (Instant, u64)>>,
}

/// How many requests upstream took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub of_signal: u64,
    of_others: u64,
}

impl Sender {
    pub(super) fn new(
        config: Arc<Config>,
        target: Target,
        transport: Transport,
        identity: identity::Receiver,
        status: Arc<watch::Sender<Status>>,
        shutdown: CancellationToken,
    ) -> Sender {
        Sender {
            window: Arc::new(Semaphore::new(config.concurrency.max(1))),
            gate: Gate::new(identity.clock(), status.clone()),
            config,
            identity,
            shutdown,
            seldom: Seldom::default(),
            target,
            transport,
            status,
            passed: watch::Sender::default(),
            refused: Mutex::default(),
            missing: Mutex::default(),
        }
    }

    /// Waits for one more request's place in the window; `in_flight` is how many the lane has.
    ///
    /// While the gate is closed, a lane may have two beyond the window: else requests of one signal that fail could fill
    /// the window, and nothing else could show that the path is fine. These get `None`.
    pub(super) async fn place_in_window(&self, in_flight: usize) -> Option<OwnedSemaphorePermit> {
        let mut changes = self.gate.changes();
        loop {
            if let Ok(permit) = self.window.clone().try_acquire_owned() {
                return Some(permit);
            }
            if in_flight < 2 && self.gate.is_closed() {
                return None;
            }
            tokio::select! {
                permit = self.window.clone().acquire_owned() => return permit.ok(),
                _ = changes.changed() => {}
            }
        }
    }

    /// How many requests upstream took until now.
    pub(super) fn passed(&self, signal: Signal) -> Passed {
        let counts = self.passed.borrow();
        let of_signal = counts.get(&signal).copied().unwrap_or_default();
        Passed {
            of_signal,
            of_others: counts.values().sum::<u64>() - of_signal,
        }
    }

    /// Waits until one more request of the signal passes than `than`.
    pub(super) async fn another_passes(&self, signal: Signal, than: Passed) {
        let mut passed = self.passed.subscribe();
        // A closed channel cannot be: the sender is here.
        let _ = passed
            .wait_for(|counts| counts.get(&signal).is_some_and(|count| *count > than.of_signal))
            .await;
    }

    /// Sends until upstream judges the data. `passed_at` is how many requests had passed at this one's last 500.
    pub(super) async fn judge(
        &self,
        place: &Place,
        bytes: &Pieces,
        passed_at: Option<Passed>,
    ) -> Result<Judged, NoAnswer> {
        loop {
            let turn = self.turn(place).await?;
            let lease = self.lease(place).await?;
            if lease.credential.token.is_some() && !self.target.may_carry_credential(place.signal) {
                turn.failed(&unsafe_endpoint(), random());
                continue;
            }
            let generation = lease.credential.generation;
            let answer = self
                .transmit(place.signal, bytes, lease.credential.token.as_ref())
                .await;
            let verdict = retry::classify(answer);
            self.note(&verdict, place.signal);
            match verdict {
                Verdict::Taken(response) => {
                    turn.fine();
                    self.taken(place.signal, generation);
                    return Ok(Judged::Taken(response));
                }
                Verdict::Data(reason) => {
                    turn.fine();
                    return Ok(Judged::Data(reason));
                }
                Verdict::Size(reason) => {
                    turn.fine();
                    return Ok(Judged::Size(reason));
                }
                // There is none to blame.
                Verdict::Credential(trouble) | Verdict::Forbidden(trouble) if lease.credential.token.is_none() => {
                    turn.failed(&trouble, random());
                }
                Verdict::Credential(_) => self.unauthenticated(generation),
                Verdict::Forbidden(trouble) => {
                    self.identity.verdict(generation, identity::Verdict::Forbidden);
                    turn.failed(&trouble, random());
                }
                Verdict::NotFound(trouble) => {
                    if self.is_not_taken(place.signal) {
                        return Err(NoAnswer::NotTaken(trouble.reason));
                    }
                    let trouble = Trouble {
                        about: Some(place.signal),
                        ..trouble
                    };
                    turn.failed(&trouble, random());
                }
                Verdict::Path(trouble) if trouble.suspect => {
                    // While others pass, of whatever signal, the path is fine and this request is not.
                    let passed = self.passed(place.signal);
                    if passed_at.is_none_or(|at| at == passed) {
                        turn.failed(&trouble, random());
                    }
                    return Ok(Judged::Broken(trouble.reason));
                }
                Verdict::Path(trouble) => turn.failed(&trouble, random()),
            }
        }
    }

    /// What became of items, for `status`.
    pub(super) fn count(&self, signal: Signal, change: impl FnOnce(&mut status::Lane)) {
        self.status
            .send_modify(|status| change(status.lanes.entry(signal).or_default()));
    }

    /// A turn at the gate. On the drain nobody waits at a closed one.
    async fn turn(&self, place: &Place) -> Result<Turn<'_>, NoAnswer> {
        tokio::select! {
            biased;
            () = place.stop.cancelled() => Err(NoAnswer::Left),
            turn = self.gate.turn(place.signal) => Ok(turn),
            () = self.shutdown.cancelled() => Err(NoAnswer::Left),
        }
    }

    /// A lease of the lane's own principal, newer than what upstream refused.
    async fn lease(&self, place: &Place) -> Result<Lease, NoAnswer> {
        let patience = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(DRAIN_LEASE).await;
        };
        let lease = tokio::select! {
            biased;
            () = place.stop.cancelled() => return Err(NoAnswer::Left),
            lease = self.usable_lease() => lease,
            () = patience => return Err(NoAnswer::Left),
        };
        if !lease.principal.is_same_person(&place.principal) {
            return Err(NoAnswer::Left);
        }
        Ok(lease)
    }

    async fn usable_lease(&self) -> Lease {
        let mut identity = self.identity.clone();
        loop {
            if identity.current().lease().is_none() {
                self.enter(status::State::Waiting);
            }
            let lease = identity.lease().await;
            let current = identity.current();
            let refused = *self.refused.lock().expect("nothing panics while it holds this lock");
            let is_news = (lease.credential.generation, current.pardons) > refused;
            // In `Denied` a lease is the one probe that identity allows, also with a refused generation.
            if is_news || current.state == State::Denied {
                self.enter(status::State::Sending);
                return lease;
            }
            self.enter(status::State::Waiting);
            identity.changed().await;
        }
    }

    /// Moves between waiting and sending; what the gate says stands above both.
    fn enter(&self, state: status::State) {
        self.status.send_if_modified(|status| {
            let changes = status.state != state && !matches!(status.state, status::State::Paused { .. });
            if changes {
                status.state = state;
            }
            changes
        });
    }

    async fn transmit(&self, signal: Signal, bytes: &Pieces, token: Option<&Secret>) -> Answer {
        let url = self.target.url(signal);
        let mut answer = match &self.transport {
            Transport::Http(http) => http.send(url, bytes.clone(), token).await,
            Transport::Grpc(grpc) => grpc.send(signal, url, bytes.clone(), token).await,
        };
        echo::conceal(&mut answer, token, &self.config.headers, url);
        answer
    }

    fn note(&self, verdict: &Verdict, signal: Signal) {
        let reason = match verdict {
            Verdict::Taken(_) => None,
            Verdict::Data(reason) | Verdict::Size(reason) => Some((reason, true)),
            Verdict::Credential(trouble)
            | Verdict::Forbidden(trouble)
            | Verdict::NotFound(trouble)
            | Verdict::Path(trouble) => Some((&trouble.reason, trouble.reach == Reach::Answering)),
        };
        self.status.send_modify(|status| {
            status.requests += 1;
            let now = SystemTime::now();
            match reason {
                None => status.last_success = Some(now),
                Some((reason, answered)) => {
                    status.refused += u64::from(answered);
                    status.last_error = Some(format!("{}: {reason}", signal.as_str()));
                    status.last_error_at = Some(now);
                }
            }
        });
    }

    fn taken(&self, signal: Signal, generation: u64) {
        self.identity.verdict(generation, identity::Verdict::Accepted);
        let mut missing = self.missing.lock().expect("nothing panics while it holds this lock");
        missing.remove(&signal);
        drop(missing);
        self.passed
            .send_modify(|counts| *counts.entry(signal).or_default() += 1);
    }

    fn unauthenticated(&self, generation: u64) {
        let current = self.identity.current();
        let mut refused = self.refused.lock().expect("nothing panics while it holds this lock");
        *refused = (*refused).max((generation, current.pardons));
        drop(refused);
        let is_stale = current
            .credential
            .is_some_and(|credential| credential.generation > generation);
        self.status.send_modify(|status| {
            if is_stale {
                status.unauthenticated_stale += 1;
            } else {
                status.unauthenticated_current += 1;
            }
        });
        self.identity.verdict(generation, identity::Verdict::Unauthenticated);
    }

    /// Whether "not found" is about the signal: another signal was taken since the first of them.
    ///
    /// What was taken before does not count: an upstream whose routes are gone altogether says the same for each signal.
    fn is_not_taken(&self, signal: Signal) -> bool {
        let passed = self.passed(signal);
        let mut missing = self.missing.lock().expect("nothing panics while it holds this lock");
        let (since, seen) = *missing.entry(signal).or_insert((Instant::now(), passed.of_others));
        passed.of_others > seen && (passed.of_signal == 0 || since.elapsed() >= MISSING_FOR)
    }
}

fn unsafe_endpoint() -> Trouble {
    let reason = "the endpoint is plain HTTP to another machine, and a credential goes there over TLS only";
    Trouble::answering(reason.to_owned(), None)
}

/// In `[0, 1)`. Without randomness the jitter is the middle: a fleet then comes back together, nothing worse.
fn random() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}
