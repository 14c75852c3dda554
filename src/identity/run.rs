//! The dull loop: wait for the clock, an answer or a reader, step the machine, publish what it says. One attempt at a
//! time, whoever asks; a stop drops it together with every process that it started.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Current, Principal, Receiver, Said, State, Store,
    admit::{Admitted, Terms, admit},
    claims::{Attributes, random_key},
    clock::Clock,
    exchange::{Exchange, Step},
    machine::{Event, Machine},
    secret::Secret,
    source::{Asking, Manner, MintError, Minted, Source},
};

/// Everything that identity is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where credentials come from.
    pub source: Source,
    /// What becomes of the source's token before it is sent.
    pub exchange: Option<Exchange>,
    /// Whom minted tokens are for: the origin of upstream, so that a token sent elsewhere is worth nothing there.
    pub audience: String,
    /// What of the person is stamped.
    pub attributes: Attributes,
    /// The key of `user.hash`. Without one each start has a key, and so pseudonyms, of its own.
    pub pseudonym_key: Option<Secret>,
    /// Who sends where no token says so: [`Principal::platform`] or [`Principal::os_user`].
    pub fallback: Principal,
    /// The only issuer whose tokens are taken.
    pub issuer: Option<String>,
    /// Roots for the issuer, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What time it is.
    pub clock: Clock,
}

/// Keeps one credential fresh.
#[derive(Debug)]
pub struct Identity {
    source: Arc<Source>,
    exchange: Option<Arc<Exchange>>,
    /// The links of the last attempt that ended.
    steps: Arc<[Step]>,
    audience: Arc<str>,
    ca_file: Option<PathBuf>,
    terms: Arc<Terms>,
    clock: Clock,
    machine: Machine,
    store: Store,
}

/// How long a stop waits for a refresh that is under way.
pub const LAST_REFRESH: std::time::Duration = std::time::Duration::from_secs(2);

/// What came of an attempt, with the links that it went through.
type Ended = (Vec<Step>, Result<Admitted, MintError>);
type Attempt = Pin<Box<dyn Future<Output = Ended> + Send>>;

impl Identity {
    /// Mints nothing yet; with no credential to mint, the principal is published already.
    pub fn build(config: Config) -> (Identity, Receiver) {
        // An exchange gives a token of its own at each asking, however its half from the workspace is had.
        let manner = match &config.exchange {
            Some(_) => Manner::Cached,
            None => config.source.manner(),
        };
        let (store, receiver) = Store::new(config.source.name(), config.clock.clone());
        let terms = Terms {
            issuer: config.issuer,
            attributes: config.attributes,
            pseudonym_key: config.pseudonym_key.unwrap_or_else(random_key),
            fallback: config.fallback,
            manner,
        };
        let mut machine = Machine::new(manner);
        if matches!(config.source, Source::None) {
            let nobody = Admitted {
                token: None,
                principal: terms
                    .fallback
                    .clone()
                    .with_attributes(terms.attributes, &terms.pseudonym_key),
                expiry: None,
            };
            machine.step(Event::Minted(Ok(nobody)), config.clock.now(), 0.0);
        }
        let identity = Identity {
            source: Arc::new(config.source),
            exchange: config.exchange.map(Arc::new),
            steps: Arc::from([]),
            audience: config.audience.into(),
            ca_file: config.ca_file,
            terms: Arc::new(terms),
            clock: config.clock,
            machine,
            store,
        };
        identity.publish();
        (identity, receiver)
    }

    /// Until the shutdown, which forgets the credential: cancel it after the last send.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut attempt: Option<Attempt> = None;
        let mut event = Event::Tick;
        loop {
            let now = self.clock.now();
            let stopped = matches!(event, Event::Stop);
            let before = self.machine.state();
            if self.machine.step(event, now, unit()) {
                attempt = Some(self.attempt());
            }
            self.tell(before);
            self.publish();
            if stopped {
                self.finish(attempt).await;
                return;
            }
            let wait = self.machine.wait(self.clock.now());
            event = tokio::select! {
                () = shutdown.cancelled() => Event::Stop,
                said = self.store.said() => match said {
                    Said::Verdict(generation, verdict) => Event::Verdict(generation, verdict),
                    Said::Refresh => Event::Refresh,
                    Said::Forget => Event::Forget,
                },
                (steps, result) = ended(&mut attempt) => {
                    attempt = None;
                    self.steps = steps.into();
                    Event::Minted(result)
                }
                () = tokio::time::sleep(wait) => Event::Tick,
            };
        }
    }

    /// One credential, for a caller that keeps none.
    ///
    /// # Errors
    /// As the source says.
    pub async fn mint_once(config: Config) -> Result<Admitted, MintError> {
        let (identity, _) = Identity::build(config);
        identity.attempt().await.1
    }

    /// A refresh token that was sent is not to be lost with its answer, if that comes soon.
    async fn finish(&self, attempt: Option<Attempt>) {
        if let (Source::Login(_), Some(attempt)) = (&*self.source, attempt)
            && tokio::time::timeout(LAST_REFRESH, attempt).await.is_err()
        {
            tracing::warn!("a refresh was under way and its answer may be lost: the next start may need a login");
        }
    }

    fn attempt(&self) -> Attempt {
        let (source, terms, clock) = (Arc::clone(&self.source), Arc::clone(&self.terms), self.clock.clone());
        let (audience, ca_file) = (Arc::clone(&self.audience), self.ca_file.clone());
        let exchange = self.exchange.clone();
        let asked = clock.now();
        let timeout = self.machine.attempt(asked);
        let held = self.machine.held();
        Box::pin(async move {
            let mut steps = Vec::new();
            let audience = exchange
                .as_ref()
                .map_or(&*audience, |exchange| &exchange.subject_audience);
            let asking = Asking {
                audience,
                ca_file: ca_file.as_deref(),
                timeout,
            };
            let minted = source.mint(&asking).await;
            Step::note(&mut steps, source.name(), audience.to_owned(), &minted);
            let minted = match (minted, &exchange) {
                (Ok(own), Some(exchange)) => {
                    let left = timeout.saturating_sub(clock.now().boot.saturating_sub(asked.boot));
                    swap(exchange, own, &asking, left, &mut steps).await
                }
                (minted, _) => minted,
            };
            let admitted = minted.and_then(|minted| {
                let is_held = held.is_some_and(|held| held.is_token(minted.token.as_ref()));
                admit(minted, &terms, asked, clock.now()).map_err(|error| match (is_held, &exchange) {
                    // It was admitted before: only its end can be what changed since.
                    (true, None) => MintError::Transient(source.ended()),
                    _ => error,
                })
            });
            (steps, admitted)
        })
    }

    fn current(&self) -> Current {
        Current {
            steps: Arc::clone(&self.steps),
            ..self.machine.current(self.source.name(), &self.clock)
        }
    }

    fn publish(&self) {
        self.store.publish_if_changed(self.current());
    }

    /// One line a change, at the level at which somebody should care.
    fn tell(&self, before: State) {
        let current = self.current();
        if current.state == before {
            return;
        }
        let generation = current.credential.as_ref().map(|credential| credential.generation);
        let trouble = current.trouble.as_deref().unwrap_or("");
        match current.state {
            State::Denied | State::NeedsUser => {
                tracing::error!(state = ?current.state, generation, trouble, "nothing is sent");
            }
            State::Degraded | State::Starved | State::Rejected => {
                tracing::warn!(state = ?current.state, generation, trouble, "the credential is in trouble");
            }
            State::Fresh if self.source.manner() != Manner::Once || before == State::Denied => {
                tracing::info!(generation, "the credential is fresh");
            }
            _ => tracing::debug!(state = ?current.state, generation, "the credential's state changed"),
        }
    }
}

/// The exchange within what the source left of the attempt's time.
async fn swap(
    exchange: &Exchange,
    own: Minted,
    asking: &Asking<'_>,
    left: Duration,
    steps: &mut Vec<Step>,
) -> Result<Minted, MintError> {
    if let Ok(swapped) = tokio::time::timeout(left, exchange.swap(own, asking, steps)).await {
        return swapped;
    }
    let late = Err(MintError::Transient(format!(
        "the {} exchange did not answer in time",
        exchange.name()
    )));
    Step::note(steps, exchange.name(), exchange.place(), &late);
    late
}

/// The attempt's end; for ever pending without one.
async fn ended(attempt: &mut Option<Attempt>) -> Ended {
    match attempt {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}

/// Jitter in [0, 1); where the system has no randomness there is none.
fn unit() -> f64 {
    let bits = getrandom::u32().unwrap_or(0);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
