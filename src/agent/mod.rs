//! The composition root and supervisor: it takes the configuration apart by name, builds the parts in the order in
//! which they need each other, runs them, and stops them in the order of the flow.
//!
//! No part knows this module, and no part is reached from anywhere but here.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config, Dirs},
    export::Export,
    identity::{self, Identity},
    intake::Intake,
    source::otlp::Receiver,
    spool::{self, Owner, Spool},
    stamp::redact::Redactor,
    workspace::{Env, Workspace},
};

pub mod bridge;
pub mod claim;
pub mod control;
pub mod detach;
pub mod handover;
pub mod notify;
mod owner;
mod part;
mod parts;
pub mod ports;
mod process;
pub mod report;
mod serve;
mod share;
mod signals;
pub mod telemetry;
pub mod turn;

use handover::{Handed, Handles, Will};
use notify::{News, Supervisor};
use part::{Ended, stop};
use report::Facts;
use serve::{Bound, Stop};
use share::Share;
use signals::Signals;
use telemetry::Telemetry;

/// In the text of [`Error::AnotherAgent`], for the starter that reads it from a pipe.
pub const ANOTHER_AGENT: &str = "another agent holds the spool";

/// After SIGTERM and SIGHUP: five seconds in all, of which the last half is for sealing the spool.
const SIGNAL_DEADLINE: Duration = Duration::from_millis(4500);
/// Once another agent has the listening sockets: what is in flight may end; everything else is the other's.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(1);
/// How long the agent that gave its sockets may take to release the spool, however loaded the machine is.
const HANDED_OVER: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const LOCK_LOOK: Duration = Duration::from_millis(2);
/// How long intake stays open after a signal at least: programs flush on the same SIGTERM.
const SIGNAL_GRACE: Duration = Duration::from_millis(700);
/// How often a drain looks whether the spool is empty.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How long what is no stage may take to end.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Everything that a run needs; nothing is read from the environment later.
#[derive(Debug)]
pub struct Plan {
    /// The starter's environment: sources of credentials read it, and what they start gets parts of it.
    pub env: Env,
    /// Resolved and checked.
    pub config: Config,
    /// As it was detected by the starter, which also decided that this is no prebuild.
    pub workspace: Workspace,
    /// Where questions are answered; [`control::socket_path`] says where.
    pub socket: PathBuf,
    /// Standard error is the log at [`log_path`], which is to be kept short.
    pub detached: bool,
    /// The sockets of an agent that is about to release the spool, where this one takes over from it.
    pub handed: Option<Handed>,
    /// Standard input is a pipe, and its end ends the agent.
    pub held: bool,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lock in this directory is held.
    #[error("{ANOTHER_AGENT} {0}: it may be starting or stopping; `tagalong status` tells")]
    AnotherAgent(PathBuf),
    /// This directory cannot be made, read or locked, or a newer version wrote there.
    #[error("the spool in {0} cannot be opened: {1}. Make it writable, or set spool.dir to a directory of its own")]
    Spool(PathBuf, io::Error),
    /// Among the reasons: a path of more than the hundred-odd bytes that a socket's may have.
    #[error("the control socket {0} cannot be made: {1}. Unset or correct XDG_RUNTIME_DIR")]
    Control(PathBuf, io::Error),
    /// It would send to itself, for ever.
    #[error("export.endpoint ({0}) leads back to the agent itself: set it to your team's gateway or vendor")]
    LeadsBack(String),
    /// A part refused its settings, in its own words.
    #[error("{0}")]
    Part(String),
    /// The runtime or the signal handlers could not be set up.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Whatever ends a run.
enum Event {
    Signal(&'static str),
    Asked(Stop),
}

/// The agent's log: where a detached agent's standard error goes.
pub fn log_path(dirs: &Dirs) -> PathBuf {
    dirs.state.join("agent.log")
}

/// The login that the settings ask for, for the command that makes one; none if they ask for another source.
pub fn login_session(config: &Config, workspace: &Workspace) -> Option<identity::source::refresh::Session> {
    parts::login_session(config, workspace)
}

/// One credential without an agent.
///
/// # Errors
/// What the source says, or settings of which no source can be made.
pub async fn mint(
    env: &Env,
    config: &Config,
    workspace: &Workspace,
) -> Result<identity::Admitted, identity::source::MintError> {
    identity::secret::leave_no_core_file();
    let identity = parts::identity(env, config, workspace)
        .map_err(|error| identity::source::MintError::Config(error.to_string()))?;
    Identity::mint_once(identity).await
}

/// Runs an agent until a signal or `tagalong down` ends it. `ready` is called once, when the ports accept.
///
/// # Errors
/// What keeps it from starting. Once it runs, nothing but a signal or a question ends it.
pub fn run(plan: Plan, ready: impl FnOnce() -> io::Result<()>) -> Result<(), Error> {
    identity::secret::leave_no_core_file();
    let log = plan.detached.then(|| log_path(&plan.config.dirs));
    process::init_log(&plan.config.log, log);
    process::raise_descriptors();
    let runtime = process::runtime()?;
    let result = runtime.block_on(async { Agent::build(plan).await?.run(ready).await });
    // A mute keyring or a hanging name lookup must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// All parts, built and not yet running.
struct Agent {
    facts: Arc<Facts>,
    spool: Spool,
    intake: Intake,
    receiver: Receiver,
    identity: Identity,
    export: Option<Export>,
    owner: watch::Sender<Owner>,
    telemetry: Telemetry,
    control: tokio::net::UnixListener,
    socket: Bound,
    share: Option<Share>,
    supervisor: Supervisor,
    /// What the login of the agent before this one comes over.
    will: Option<Will>,
    held: bool,
}

impl Agent {
    /// Builds every part in dependency order. Sockets are bound here, so that their ports are known; nothing runs yet.
    async fn build(plan: Plan) -> Result<Agent, Error> {
        let Plan {
            env,
            config,
            workspace,
            socket,
            detached: _,
            handed,
            held,
        } = plan;
        let session = parts::session_id();
        let patience = handed.as_ref().map_or(Duration::ZERO, |_| HANDED_OVER);
        let spool = open_spool(&config, &workspace, &session, patience).await?;
        let redactor = Redactor::build(&parts::redact(&config)).map_err(|error| Error::Part(error.to_string()))?;
        let (owner, owner_seen) = watch::channel(owner::first(&spool, config.export.is_some()).await);
        let stamps = parts::stamps(&workspace, &session, config.identity.attributes);
        let intake = Intake::new(redactor, stamps, spool.clone(), owner_seen.clone());
        let (listeners, will) = handed.map_or_else(Default::default, |handed| (handed.listeners, handed.will));
        let ports::Listening {
            receiver,
            moved,
            siblings_trouble,
        } = ports::bind(&config, spool.runtime(), intake.clone(), listeners)?;
        let identity = parts::identity(&env, &config, &workspace)?;
        let login = identity.source.login().cloned();
        let (identity, identity_seen) = Identity::build(identity);
        let share = parts::share(&config);
        let export = parts::export(&config)
            .map(Export::build)
            .transpose()
            .map_err(|error| Error::Part(error.to_string()))?;
        let bears = !matches!(config.identity.credential, config::Credential::None);
        if bears && export.as_ref().is_some_and(|export| !export.may_carry_credential()) {
            return Err(Error::Part(
                "a credential goes only over TLS: give export.endpoint as https://, or set identity.credential = \"none\"".to_owned(),
            ));
        }
        // Only now: another process may hold the ports that were wanted, and be the upstream that is meant.
        let mut own = vec![receiver.grpc_addr(), receiver.http_addr()];
        own.extend(receiver.siblings_addr());
        if let Some(export) = &config.export
            && config::leads_to(&export.endpoint, &own)
        {
            return Err(Error::LeadsBack(export.endpoint.to_string()));
        }
        let (control, socket) = serve::listen(&socket).map_err(|error| Error::Control(socket, error))?;
        let facts = Arc::new(Facts {
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            session: session.clone(),
            fingerprint: config.fingerprint().to_owned(),
            spool_dir: config.spool.dir.clone(),
            spool_max_bytes: config.spool.max_bytes,
            endpoint: config.export.as_ref().map(|export| export.endpoint.to_string()),
            wanted_audience: config.identity.wanted_audience().map(str::to_owned),
            reason: config.identity.reason.clone(),
            grpc: receiver.grpc_addr(),
            http: receiver.http_addr(),
            siblings: receiver.siblings_addr(),
            handles: Handles::new(receiver.handles()?),
            moved,
            siblings_trouble,
            workspace,
            spool: spool.clone(),
            owner: owner_seen,
            login: login.clone(),
            ca_file: config.export.as_ref().and_then(|export| export.ca_file.clone()),
            identity: identity_seen,
            export: export.as_ref().map(Export::status),
            ended: Ended::default(),
        });
        let telemetry = Telemetry::build(intake.clone(), &session, {
            let facts = facts.clone();
            Arc::new(move || facts.status())
        })
        .map_err(|error| Error::Part(error.to_string()))?;
        Ok(Agent {
            facts,
            spool,
            intake,
            receiver,
            identity,
            export,
            owner,
            telemetry,
            control,
            socket,
            share,
            supervisor: Supervisor::of(&env),
            will,
            held,
        })
    }

    async fn run(self, ready: impl FnOnce() -> io::Result<()>) -> Result<(), Error> {
        let Agent {
            facts,
            spool,
            intake,
            receiver,
            identity,
            export,
            owner,
            telemetry,
            control,
            socket,
            share,
            supervisor,
            will,
            held,
        } = self;
        let began = facts.started;
        // One token a stage, cancelled in the order of the flow; `background` ends what is no stage.
        let [receiving, exporting, background] = std::array::from_fn(|_| CancellationToken::new());
        let mut signals = Signals::listen(held)?;
        let (ask_stop, mut asked) = mpsc::channel(1);
        let telemetry = Arc::new(telemetry);

        // The spool's thread is there already, and stays as it is.
        process::give_way();
        let mut receiver = spool.runtime().spawn(receiver.run(receiving.clone()));
        let identity = identity.run(background.clone());
        let identity = facts.ended.watch("the identity", identity);
        let keeper = owner::keep(facts.identity.clone(), spool.clone(), owner, background.clone());
        let keeper = facts.ended.watch("the owner's keeper", keeper);
        let witness = report::witness(facts.identity.clone(), Arc::downgrade(&telemetry), background.clone());
        let witness = tokio::spawn(witness);
        let export = export.map(|export| {
            let export = export.run(spool.clone(), facts.identity.clone(), exporting.clone());
            facts.ended.watch("the export", export)
        });
        let control = tokio::spawn(serve::run(control, facts.clone(), ask_stop, background.clone()));
        let share = tokio::spawn(share::run(share, facts.identity.clone(), background.clone()));
        let inherited = tokio::spawn(handover::inherit(will, facts.clone(), background.clone()));
        ready()?;
        supervisor.tell(News::Ready);
        telemetry.event("tagalong.start", began.elapsed(), Vec::new(), None);
        tracing::info!(grpc = %facts.grpc, http = %facts.http, session = facts.session, "accepting telemetry");

        let event = next_event(&mut signals, &mut asked, &mut receiver).await;
        // What is left of the sockets closes with them: senders would wait where nobody accepts.
        let event = event.inspect_err(|_| drop(facts.handles.take()))?;
        facts.stopping.store(true, Ordering::Relaxed);
        let mut heir = None;
        let (deadline, grace, answer) = match event {
            Event::Signal(name) => {
                tracing::info!("{name}: draining");
                (SIGNAL_DEADLINE, Some(SIGNAL_GRACE), None)
            }
            Event::Asked(Stop::Down { deadline, answer }) => {
                tracing::info!("asked to stop: draining");
                (deadline, Some(Duration::ZERO), Some(answer))
            }
            Event::Asked(Stop::HandedOver { heir: other }) => {
                tracing::info!("another agent takes over");
                heir = Some(other);
                (HAND_OVER_DEADLINE, None, None)
            }
        };

        supervisor.tell(News::Stopping);
        // The SDK flushes on a thread of its own; its last batch comes through the intake like all others.
        flush_telemetry(telemetry).await;
        let ends = Instant::now() + deadline;
        if let (Some(grace), true) = (grace, export.is_some()) {
            // The export waits for company until it is told to stop; what is left of the time is for that.
            drain(&facts, grace, ends - deadline / 5).await;
        }
        // Further handles would let connections in that nobody answers.
        drop(facts.handles.take());
        receiving.cancel();
        stop(
            "the receiver",
            receiver,
            // Half of what is left: while the disk is busy it cannot end, and the export can go on.
            (ends.saturating_duration_since(Instant::now()) / 2).max(Duration::from_millis(100)),
        )
        .await;
        intake.close();
        exporting.cancel();
        if let Some(export) = export {
            stop("the export", export, ends.saturating_duration_since(Instant::now())).await;
        }
        // While the lock is held: afterwards the name may be the next agent's already.
        socket.remove();
        spool.close().await;
        // The next agent may send under what this one did; only the login ends with it.
        let credential = facts.credential_left();
        background.cancel();
        let left = facts.left();
        if let Some(answer) = answer {
            let _ = answer.send(left);
        }
        let rest = [
            ("the owner's keeper", keeper),
            ("the witness", witness),
            ("the control socket", control),
            ("the shared credential", share),
            ("what is handed over", inherited),
        ];
        // A refresh that is under way is worth waiting for.
        stop("the identity", identity, identity::LAST_REFRESH + LAST_LOOK).await;
        if let Some(heir) = heir {
            let _ = heir.send(facts.bequeath(credential));
        }
        for (name, task) in rest {
            stop(name, task, LAST_LOOK).await;
        }
        tracing::info!(left = left.bytes, absent = left.absent, "stopped");
        Ok(())
    }
}

/// Waits for what ends a run. Nothing but a panic ends the receiver before: its own, or that of the spool's committer, with
/// whose thread it goes.
async fn next_event(
    signals: &mut Signals,
    asked: &mut mpsc::Receiver<Stop>,
    receiver: &mut JoinHandle<()>,
) -> Result<Event, Error> {
    tokio::select! {
        name = signals.next() => Ok(Event::Signal(name)),
        Some(stop) = asked.recv() => Ok(Event::Asked(stop)),
        _ = receiver => Err(Error::Part("the receiver ended by a fault of tagalong".to_owned())),
    }
}

/// Opens the spool, and waits so long for an agent that is about to release it.
async fn open_spool(config: &Config, workspace: &Workspace, session: &str, patience: Duration) -> Result<Spool, Error> {
    let began = Instant::now();
    let dir = config.spool.dir.clone();
    let config = spool::Config {
        dir: dir.clone(),
        max_bytes: config.spool.max_bytes,
        keep_bytes: config.spool.keep_bytes,
        max_age: config.spool.max_age,
        session: session.to_owned(),
        place: format!("{}\n{}", workspace.id, rustix::process::getuid().as_raw()),
    };
    let opened = loop {
        match Spool::open(config.clone()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && began.elapsed() < patience => {
                tokio::time::sleep(LOCK_LOOK).await;
            }
            opened => break opened,
        }
    };
    let opened = opened.and_then(|spool| claim::mark(&dir, &workspace.place).map(|()| spool));
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::AnotherAgent(dir),
        _ => Error::Spool(dir, error),
    })
}

/// Waits until nothing of whoever is here is unsent and the grace is over, or until the deadline. What can be sent by
/// nobody is not waited for: what principals that are not here left, and what there will be no credential for in time.
async fn drain(facts: &Facts, grace: Duration, ends: Instant) {
    let grace_ends = Instant::now() + grace;
    let mut look = tokio::time::interval(DRAIN_LOOK);
    loop {
        look.tick().await;
        let now = Instant::now();
        let is_done = || facts.left().bytes == 0 || !facts.identity.current().may_send_within(ends - now);
        if now >= ends || (now >= grace_ends && is_done()) {
            return;
        }
    }
}

async fn flush_telemetry(telemetry: Arc<Telemetry>) {
    let flushed = tokio::task::spawn_blocking(move || telemetry.shutdown());
    if timeout(Duration::from_secs(1), flushed).await.is_err() {
        tracing::warn!("the agent's own telemetry was not flushed in time");
    }
}
