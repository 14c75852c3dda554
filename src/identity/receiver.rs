//! The pair between the one who publishes credentials and the many who read them. The readers' half can say what
//! upstream answered; it cannot change what is published.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

use super::{
    Credential, Current, Lease, Principal, State, Verdict,
    clock::{Clock, Expiry},
    secret::Secret,
};

/// How often a waiting sender looks again when only the clocks keep a credential from use: they can be set back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What readers tell the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Upstream's answer to the credential of a generation.
    Verdict(u64, Verdict),
    /// Somebody wants a new credential now.
    Refresh,
    /// The person logged out: the credential of the moment is not to be used any more.
    Forget,
}

/// The publisher's half.
#[derive(Debug)]
pub struct Store {
    current: watch::Sender<Current>,
    said: mpsc::UnboundedReceiver<Said>,
}

impl Store {
    /// A pair with nothing published yet.
    pub fn new(source: &'static str, clock: Clock) -> (Store, Receiver) {
        let (sender, receiver) = watch::channel(Current::booting(source, clock));
        let (say, said) = mpsc::unbounded_channel();
        let store = Store { current: sender, said };
        let receiver = Receiver {
            current: receiver,
            say,
            held: None,
        };
        (store, receiver)
    }

    /// Publishes a fresh credential of the next generation: for callers that rotate by hand.
    pub fn rotate(&self, principal: Principal, token: Option<Secret>, lifetime: Option<Duration>) {
        let mut next = self.current.borrow().clone();
        let generation = next.credential.as_ref().map_or(0, |credential| credential.generation) + 1;
        let now = next.clock.now();
        next.state = State::Fresh;
        next.rotations = generation - 1;
        next.principal = Some(Arc::new(principal));
        next.credential = Some(Arc::new(Credential {
            token,
            generation,
            expiry: lifetime.map(|lifetime| Expiry::lasting(lifetime, now)),
        }));
        self.current.send_replace(next);
    }

    /// Publishes what is new; readers are woken by nothing else.
    pub(super) fn publish_if_changed(&self, next: Current) {
        self.current.send_if_modified(|held| {
            let changed = !held.is_same(&next);
            if changed {
                *held = next;
            }
            changed
        });
    }

    /// Publishes another state of the same credential: for callers that rotate by hand.
    pub fn set_state(&self, state: State) {
        self.current.send_modify(|current| current.state = state);
    }

    /// The next thing that a reader says; for ever pending once there is no reader.
    pub async fn said(&mut self) -> Said {
        match self.said.recv().await {
            Some(said) => said,
            None => std::future::pending().await,
        }
    }
}

/// The many readers' half; cheap to clone.
#[derive(Clone, Debug)]
pub struct Receiver {
    current: watch::Receiver<Current>,
    say: mpsc::UnboundedSender<Said>,
    /// Keeps the channel of a `fixed` pair open.
    held: Option<Arc<Store>>,
}

impl Receiver {
    /// What is published now.
    pub fn current(&self) -> Current {
        self.current.borrow().clone()
    }

    /// What time it is.
    pub fn clock(&self) -> Clock {
        self.current.borrow().clock.clone()
    }

    /// Waits for the next published value.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            // The publisher is gone, so nothing changes any more.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a lease that may be sent under; in `Denied`, only the probe's turn yields one.
    pub async fn lease(&mut self) -> Lease {
        loop {
            let only_clocks_forbid = {
                let current = self.current.borrow_and_update();
                if let Some(lease) = current.lease().or_else(|| current.take_probe()) {
                    return lease;
                }
                current.state.sends() && current.credential.is_some()
            };
            if only_clocks_forbid {
                // Either outcome leads back to the look above.
                let _ = tokio::time::timeout(LOOK_AGAIN, self.changed()).await;
            } else {
                self.changed().await;
            }
        }
    }

    /// Says what upstream answered to a generation; a stale generation's verdict changes nothing.
    pub fn verdict(&self, generation: u64, verdict: Verdict) {
        {
            let current = self.current.borrow();
            let is_stale = current
                .credential
                .as_ref()
                .is_none_or(|credential| credential.generation != generation);
            if is_stale || (verdict == Verdict::Accepted && !current.heeds_acceptance) {
                return;
            }
        }
        // Nobody listens to a `fixed` pair or after the stop.
        let _ = self.say.send(Said::Verdict(generation, verdict));
    }

    /// Asks for a new credential now; what comes of it is published.
    pub fn refresh(&self) {
        let _ = self.say.send(Said::Refresh);
    }

    /// Ends the use of the credential of the moment: its person logged out.
    pub fn forget(&self) {
        let _ = self.say.send(Said::Forget);
    }

    /// A pair that publishes one fixed value for ever: for tests and for callers without rotation.
    pub fn fixed(principal: Principal, token: Option<Secret>, lifetime: Option<Duration>) -> Receiver {
        let (store, mut receiver) = Store::new("fixed", Clock::System);
        store.rotate(principal, token, lifetime);
        receiver.held = Some(Arc::new(store));
        receiver
    }
}
