//! What the agent says of itself: the status, the token for other tools, and the spans of its own events.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::KeyValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    control::{Answer, LoggedIn, Passed},
    handover::{Handles, Login},
    part::Ended,
    serve::Left,
    telemetry::Telemetry,
};
use crate::{
    export::status::{LaneState, State as ExportState, Status as ExportStatus},
    identity::{
        Current, Receiver, State,
        claims::Claims,
        exchange,
        keep::Shown,
        source::{Minted, refresh::Session},
    },
    spool::{Owner, Spool},
    view::{
        build,
        status::{Agent, Credential, Endpoints, Export, Principal, Spool as SpoolStatus, Status, Step, Workspace},
    },
    workspace::{self, Trust},
};

/// Where everything that a status says is found. Shared by the control socket and the agent's own telemetry.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) started: Instant,
    /// Set once it is about to end.
    pub(super) stopping: AtomicBool,
    pub(super) session: String,
    pub(super) fingerprint: String,
    pub(super) spool_dir: PathBuf,
    pub(super) spool_max_bytes: u64,
    pub(super) endpoint: Option<String>,
    pub(super) wanted_audience: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) siblings: Option<SocketAddr>,
    /// Of the listening sockets, for an agent that replaces this one.
    pub(super) handles: Handles,
    pub(super) moved: Vec<String>,
    pub(super) siblings_trouble: Option<String>,
    pub(super) workspace: workspace::Workspace,
    pub(super) spool: Spool,
    /// Whose log is written now.
    pub(super) owner: watch::Receiver<Owner>,
    pub(super) identity: Receiver,
    /// The login that credentials are minted from, where that is the source.
    pub(super) login: Option<Session>,
    /// Roots for the issuer, besides the system's.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) export: Option<watch::Receiver<ExportStatus>>,
    pub(super) ended: Ended,
}

impl Facts {
    pub(super) fn status(&self) -> Status {
        let current = self.identity.current();
        let spool = self.spool_status();
        Status {
            agent: Some(Agent {
                version: build::VERSION.to_owned(),
                commit: Some(build::COMMIT.to_owned()).filter(|commit| !commit.is_empty()),
                pid: std::process::id(),
                uptime: self.started.elapsed().as_secs(),
                session_id: self.session.clone(),
                stopping: self.stopping.load(Ordering::Relaxed),
                endpoints: Endpoints {
                    grpc: self.grpc.to_string(),
                    http: self.http.to_string(),
                    siblings: self.siblings.map(|address| address.to_string()),
                    siblings_trouble: self.siblings_trouble.clone(),
                },
                moved: self.moved.clone(),
                ended: self.ended.names(),
                config: self.fingerprint.clone(),
            }),
            workspace: self.workspace_status(&current),
            principal: current.principal.as_ref().map(|principal| Principal {
                issuer: principal.issuer.clone(),
                subject: principal.subject.clone(),
                attributes: principal.attributes.iter().cloned().collect(),
                trust: principal.trust,
            }),
            credential: Credential {
                wanted_audience: self.wanted_audience.clone(),
                reason: self.reason.clone(),
                ..credential_status(&current)
            },
            export: self.export_status(&spool),
            spool,
        }
    }

    /// What was detected; what the credential of the moment says too is more than the platform's word.
    fn workspace_status(&self, current: &Current) -> Workspace {
        let token = current
            .credential
            .as_ref()
            .and_then(|credential| credential.token.as_ref());
        match token.and_then(|token| Claims::decode(token.expose())) {
            Some(claims) => confirmed_status(&self.workspace, &claims),
            None => workspace_status(&self.workspace),
        }
    }

    /// The token of the moment, if it may be used.
    pub(super) fn token(&self) -> Answer {
        let current = self.identity.current();
        let lease = current.lease();
        let token = lease.as_ref().and_then(|lease| lease.credential.token.as_ref());
        Answer::Token {
            token: token.map(Into::into),
            expires_in: current.seconds_to_expiry(),
            principal: lease.map(|lease| lease.principal.subject.clone()).unwrap_or_default(),
            audience: self.wanted_audience.clone(),
        }
    }

    /// Takes in what a login brought, or looks for what rests since.
    pub(super) async fn login(&self, brought: Option<LoggedIn>) -> Answer {
        let Some(session) = &self.login else {
            return Answer::Failed(
                "this agent's credentials come from no login: start it again with `tagalong up`".to_owned(),
            );
        };
        if let Some(brought) = brought {
            let shown = if brought.shows_id { Shown::Id } else { Shown::Access };
            let minted = Minted {
                fresh: true,
                not_granted: brought.not_granted,
                ..minted(brought.token, brought.lifetime)
            };
            if let Err(error) = session.begin(brought.refresh.map(Into::into), shown, minted).await {
                return Answer::Failed(error.to_string());
            }
        }
        self.identity.refresh();
        Answer::Done
    }

    /// The token of the moment and what is left of it, for the agent that takes this one's place.
    pub(super) fn credential_left(&self) -> (Option<Passed>, Option<f64>) {
        let current = self.identity.current();
        // What came of an exchange is not what a login gives.
        let lease = current.lease().filter(|_| current.steps.len() < 2);
        let token = lease.as_ref().and_then(|lease| lease.credential.token.as_ref());
        (token.map(Into::into), current.seconds_to_expiry())
    }

    /// The login, if it rests in this process alone. To be asked for when nothing here renews it any more.
    pub(super) fn bequeath(&self, (token, lifetime): (Option<Passed>, Option<f64>)) -> Option<Login> {
        let session = self.login.as_ref()?;
        let login = session.resting().in_memory()?;
        Some(Login {
            name: session.app().name(),
            refresh: (&login.refresh).into(),
            shows_id: login.shown == Shown::Id,
            not_granted: login.not_granted,
            token,
            lifetime,
        })
    }

    /// Goes on with the login of the agent before this one, if it is the one that this one was set for: a refresh token
    /// goes to the issuer that gave it, for what it was given for.
    pub(super) async fn inherit(&self, login: Login) {
        let of_this = |session: &&Session| session.app().name() == login.name;
        let Some(session) = self.login.as_ref().filter(of_this) else {
            tracing::warn!("the login of the agent before this one was for other settings, and ended with it");
            return;
        };
        let shown = if login.shows_id { Shown::Id } else { Shown::Access };
        let not_granted = login.not_granted;
        let minted = login.token.map(|token| Minted {
            not_granted: not_granted.clone(),
            ..minted(token, login.lifetime)
        });
        let taken = session.take_over(login.refresh.into(), shown, not_granted, minted);
        match taken.await {
            Ok(()) => self.identity.refresh(),
            Err(error) => tracing::warn!(%error, "the login of the agent before this one is lost"),
        }
    }

    /// Ends the login, at the issuer too if it can be told.
    pub(super) async fn logout(&self) -> Answer {
        let Some(session) = &self.login else {
            return Answer::Failed("this agent's credentials come from no login".to_owned());
        };
        match session.end(self.ca_file.as_deref()).await {
            Ok(revoked) => {
                self.identity.forget();
                Answer::LoggedOut {
                    was_in: revoked.is_some(),
                    revoked: revoked.unwrap_or(false),
                }
            }
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    /// What waits for upstream, where there is one.
    pub(super) fn left(&self) -> Left {
        if self.export.is_none() {
            return Left::default();
        }
        let bytes = self.spool.unsent_of(&self.owner.borrow());
        Left {
            bytes,
            absent: self.spool.stats().bytes.saturating_sub(bytes),
        }
    }

    fn spool_status(&self) -> SpoolStatus {
        let stats = self.spool.stats();
        SpoolStatus {
            dir: self.spool_dir.display().to_string(),
            bytes: stats.bytes,
            max_bytes: self.spool_max_bytes,
            oldest_age: stats
                .oldest
                .map(|oldest| SystemTime::now().duration_since(oldest).map_or(0, |age| age.as_secs())),
            set_aside: stats.set_aside,
            set_aside_bytes: stats.set_aside_bytes,
            books: stats.books,
            trouble: stats.trouble,
            unadopted: stats.unadopted,
            full: stats.full,
        }
    }

    fn export_status(&self, spool: &SpoolStatus) -> Export {
        let total = |read: fn(&crate::spool::Books) -> u64| spool.books.values().map(read).sum();
        let books = Export {
            endpoint: self.endpoint.clone(),
            state: "off".to_owned(),
            accepted: total(|books| books.accepted),
            delivered: total(|books| books.delivered),
            refused: total(|books| books.rejected + books.set_aside),
            ..Export::default()
        };
        let Some(export) = &self.export else { return books };
        let export = export.borrow();
        let (state, paused, next) = match &export.state {
            ExportState::Waiting => ("waiting", None, None),
            ExportState::Sending => ("sending", None, None),
            ExportState::Paused { reason, until } => ("paused", Some(reason.clone()), Some(*until)),
        };
        let next = next.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
        let not_taken = export
            .lanes
            .iter()
            .filter(|(_, lane)| matches!(lane.state, LaneState::NotTaken { .. }))
            .map(|(signal, _)| signal.as_str().to_owned())
            .collect();
        Export {
            state: state.to_owned(),
            trouble: paused,
            next_attempt: next.map(|left| left.as_secs()),
            unauthenticated_current: export.unauthenticated_current,
            unauthenticated_stale: export.unauthenticated_stale,
            not_taken,
            last_error: export.last_error.clone(),
            ..books
        }
    }
}

/// What was detected, as the status shows it; also for a status without an agent.
pub fn workspace_status(workspace: &workspace::Workspace) -> Workspace {
    Workspace {
        platform: workspace.platform.as_str().to_owned(),
        id: workspace.id.clone(),
        name: workspace.name.clone(),
        instance_id: workspace.instance_id.clone(),
        url: workspace.url.clone(),
        prebuild: workspace.prebuild,
        repository: workspace.repository.as_ref().and_then(|remote| remote.url.clone()),
        reference: workspace.reference.clone(),
        owner: workspace.owner.clone(),
        trust: workspace
            .trust
            .iter()
            .map(|(field, trust)| ((*field).to_owned(), *trust))
            .collect(),
    }
}

/// The same, with what the credential's claims confirm.
pub fn confirmed_status(workspace: &workspace::Workspace, claims: &Claims) -> Workspace {
    let mut status = workspace_status(workspace);
    let confirmed = claims.confirmed(workspace).into_iter();
    status
        .trust
        .extend(confirmed.map(|field| (field.to_owned(), Trust::Verified)));
    status
}

/// A token of which only that is known.
fn minted(token: Passed, seconds: Option<f64>) -> Minted {
    Minted {
        lifetime: seconds
            .filter(|seconds| (0.0..=1e9).contains(seconds))
            .map(Duration::from_secs_f64),
        ..Minted::bare(token.into())
    }
}

fn credential_status(current: &Current) -> Credential {
    let token = current
        .credential
        .as_ref()
        .and_then(|credential| credential.token.as_ref());
    let claims = token.and_then(|token| Claims::decode(token.expose()));
    Credential {
        source: current.source.to_owned(),
        state: current.state,
        expires_in: current.seconds_to_expiry(),
        generation: current
            .credential
            .as_ref()
            .map_or(0, |credential| credential.generation),
        rotations: current.rotations,
        failures: current.failures,
        trouble: current.trouble.clone(),
        issuer: claims.as_ref().and_then(|claims| claims.text("iss")),
        audiences: claims.as_ref().map_or_else(Vec::new, |claims| {
            claims.audiences().into_iter().map(str::to_owned).collect()
        }),
        wanted_audience: None,
        clock_skew: current.clock_skew(),
        reason: None,
        steps: current.steps.iter().map(step).collect(),
    }
}

fn step(step: &exchange::Step) -> Step {
    Step {
        name: step.name.to_owned(),
        with: step.with.clone(),
        trouble: step.trouble.clone(),
        not_granted: step.not_granted.clone(),
    }
}

/// One span for each rotation and for each time that the credential's state turns bad.
pub(super) async fn witness(
    mut identity: Receiver,
    telemetry: std::sync::Weak<Telemetry>,
    shutdown: CancellationToken,
) {
    let (mut generation, mut state, mut since) = (0, State::Boot, Instant::now());
    loop {
        tokio::select! {
            () = identity.changed() => {}
            () = shutdown.cancelled() => return,
        }
        let Some(telemetry) = telemetry.upgrade() else { return };
        let current = identity.current();
        let new_generation = current
            .credential
            .as_ref()
            .map_or(generation, |credential| credential.generation);
        if new_generation != generation {
            let number = KeyValue::new(
                "tagalong.credential.generation",
                i64::try_from(new_generation).unwrap_or(i64::MAX),
            );
            telemetry.event("tagalong.rotate", since.elapsed(), vec![number], None);
            tracing::info!(generation = new_generation, "a new credential");
            (generation, since) = (new_generation, Instant::now());
        }
        if current.state != state {
            state = current.state;
            if matches!(state, State::Starved | State::Denied | State::NeedsUser) {
                let trouble = current.trouble.clone().unwrap_or_default();
                telemetry.event("tagalong.credential", since.elapsed(), Vec::new(), Some(trouble));
            }
        }
    }
}
