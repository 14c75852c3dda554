//! What every command knows before it begins: settings and workspace, and whom it asks where an agent runs.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use super::failure::{Failure, Kind};
use crate::{
    agent::{
        claim,
        control::{self, Answer, Ask},
        ports,
    },
    config::{Config, ConfigError, Loaded, Locations, leads_to},
    workspace::{self, Env, Workspace},
};

/// The workspace's id where none can be kept.
const UNKNOWN: &str = "unknown";

/// What every command knows before it begins.
#[derive(Debug)]
pub(super) struct Context {
    /// The process's own, read once.
    pub env: Env,
    /// The settings, with where they came from.
    pub loaded: Loaded,
    /// Where this call runs.
    pub workspace: Workspace,
    /// The `--set` flags, to be handed to an agent that this call starts.
    pub set: Vec<String>,
    /// The settings that are wrong: they count as not set, which is enough to look or to stop, and not enough to start.
    pub wrong: Option<Failure>,
    /// Why the workspace's id cannot be kept: then it has none, which is enough for the same.
    pub unkept: Option<Failure>,
    /// What is wrong may say where the spool is: then the agent may be another than the one that is asked here.
    pub unsure: bool,
}

/// Reads every setting; writes nothing. What is wrong counts as not set, and is said beside.
pub(super) fn settings(env: &Env, set: &[String], files: &Locations) -> Result<(Loaded, Vec<ConfigError>), Failure> {
    let mut flags = Vec::with_capacity(set.len());
    for flag in set {
        let (key, value) = flag.split_once('=').ok_or_else(|| no_setting(flag))?;
        flags.push((key.to_owned(), value.to_owned()));
    }
    Config::load_rest(env, &flags, files).map_err(|errors| wrong(&errors))
}

/// What stands behind a key, however it is set off, may be secret.
fn no_setting(flag: &str) -> Failure {
    let key = flag
        .split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c))
        .next();
    let key = key.unwrap_or_default();
    let rest = if key.len() < flag.len() { "…" } else { "" };
    Failure::new(Kind::Usage, format!("--set {key}{rest} is no setting"))
        .hint("write it as --set section.key=value; `tagalong config` lists the keys")
}

/// All settings that are wrong, at once.
pub(super) fn wrong(errors: &[ConfigError]) -> Failure {
    let heading = match errors.len() {
        1 => "a setting is wrong".to_owned(),
        count => format!("{count} settings are wrong"),
    };
    let failure = Failure::new(Kind::Usage, heading);
    errors
        .iter()
        .fold(failure, |failure, error| failure.hint(error.to_string()))
}

impl Context {
    /// Reads every setting and detects the workspace.
    ///
    /// # Errors
    /// All settings that are wrong, at once; or that the workspace's id cannot be kept.
    pub(super) fn load(env: Env, set: Vec<String>) -> Result<Context, Failure> {
        let mut context = Context::look(env, set)?;
        let failure = context.wrong.take().or_else(|| context.unkept.take());
        failure.map_or(Ok(context), Err)
    }

    /// The same for whoever only looks or stops, and needs neither an id nor every setting for that.
    ///
    /// # Errors
    /// All settings that are wrong, at once, where there is no context without them.
    pub(super) fn look(env: Env, set: Vec<String>) -> Result<Context, Failure> {
        let mut files = Locations::of(&env);
        let (mut loaded, mut errors) = settings(&env, &set, &files)?;
        let state = &loaded.config.dirs.state;
        let detect = |config: &workspace::Config| workspace::detect(&env, &files.machine, config, state);
        let wanted = &loaded.config.workspace;
        let (workspace, unkept) = match detect(wanted) {
            Ok(workspace) => (workspace, None),
            Err(error) => {
                let id = Some(UNKNOWN.to_owned());
                let nameless = detect(&workspace::Config { id, ..wanted.clone() })?;
                (
                    nameless,
                    Some(unwritable("the workspace's id cannot be kept", state, &error)),
                )
            }
        };
        let spool = claim::spool_of(&loaded.config.spool.dir, &workspace.place);
        // The ports of the last start are the agent's own too: an OTEL_* endpoint there is no upstream.
        files.own = ports::remembered(&spool);
        let followed = loaded.config.export.as_ref().filter(|export| export.from_otel);
        if followed.is_some_and(|export| leads_to(&export.endpoint, &files.own)) {
            (loaded, errors) = settings(&env, &set, &files)?;
        }
        if spool != loaded.config.spool.dir {
            loaded.notices.push(format!(
                "{} was made in another workspace and is left alone; this one's spool is {}.",
                loaded.config.spool.dir.display(),
                spool.display()
            ));
        }
        loaded.config.spool.dir = spool;
        Ok(Context {
            env,
            loaded,
            workspace,
            set,
            unsure: errors.iter().any(ConfigError::may_hide_the_spool),
            wrong: (!errors.is_empty()).then(|| wrong(&errors)),
            unkept,
        })
    }

    /// The agent's control socket.
    pub(super) fn socket(&self) -> PathBuf {
        control::socket_path(&self.loaded.config.dirs.runtime, &self.loaded.config.spool.dir)
    }

    /// Asks the running agent.
    ///
    /// # Errors
    /// Of kind `NotRunning` if there is none; of kind `Usage` if nobody can tell whether there is.
    pub(super) fn ask(&self, question: &Ask, patience: Duration) -> Result<Answer, Failure> {
        control::ask(&self.socket(), question, patience).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused if self.unsure => unsure(),
            // Reset: it was killed between the question and the answer.
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Failure::new(Kind::NotRunning, "no agent runs for this workspace").hint("start it with `tagalong up`")
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => stuck(&self.socket(), patience),
            ErrorKind::PermissionDenied => foreign(&self.socket(), &error),
            _ => Failure::new(Kind::Failed, format!("the agent cannot be asked: {error}"))
                .hint("see `tagalong logs`; an agent that is stuck is safe to end with `kill -9`"),
        })
    }
}

/// None is where these settings lead, and they are not those that somebody meant.
fn unsure() -> Failure {
    Failure::new(
        Kind::Usage,
        "which spool is meant cannot be told, nor whether its agent runs",
    )
    .hint("correct what is wrong above first: it may say where the spool is")
}

/// The socket, or a directory above it, is not for this user.
pub(super) fn foreign(socket: &Path, error: &io::Error) -> Failure {
    let message = format!("the control socket {} cannot be reached: {error}", socket.display());
    let directory = socket.parent().unwrap_or(socket).display();
    Failure::new(Kind::Failed, message)
        .hint("unset or correct XDG_RUNTIME_DIR: it names a directory of your own")
        .hint(format!(
            "if it is right, somebody else made {directory}, perhaps with sudo: remove that"
        ))
}

/// Nothing lasts in the state directory.
pub(super) fn unwritable(what: &str, state: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("{what}: {error}")).hint(format!(
        "make {} a directory that you can write to, or name another one in TAGALONG_HOME",
        state.display()
    ))
}

/// Somebody holds the socket and says nothing.
pub(super) fn stuck(socket: &Path, patience: Duration) -> Failure {
    let kill = match holder(socket) {
        Some(pid) => format!("`kill -9 {pid}`"),
        None => "`kill -9`".to_owned(),
    };
    if patience < Duration::from_secs(1) {
        let message = format!(
            "the agent that runs here did not answer within {} ms",
            patience.as_millis()
        );
        return Failure::new(Kind::Failed, message)
            .hint("a hook is not held longer; `tagalong status` tells whether it is busy or stuck");
    }
    let message = format!("the agent did not answer within {} s", patience.as_secs_f64());
    Failure::new(Kind::Failed, message).hint(format!(
        "see `tagalong logs`; an agent that is stuck is safe to end with {kill}: nothing that it accepted is lost"
    ))
}

/// The process that listens on a socket, whether it answers or not; none if it is in a container of its own.
fn holder(socket: &Path) -> Option<i32> {
    // Tokio's: another library takes the kernel's 0 for a process that cannot be seen from here as a process's number.
    let peer = async { tokio::net::UnixStream::connect(socket).await?.peer_cred() };
    let peer = super::runtime().ok()?.block_on(peer).ok()?;
    peer.pid().filter(|pid| *pid > 0)
}
