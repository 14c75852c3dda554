//! `tagalong up`: exactly one agent for this workspace, with these settings, of this version.
//!
//! It never fails a hook: unless `--strict` is given, what goes wrong is said and the exit code is 0.

use std::{
    ffi::OsString,
    io::{ErrorKind, Write},
    time::{Duration, Instant},
};

use clap::CommandFactory;

use super::{
    Cli, Context, consent,
    env::Shell,
    failure::{Failure, Kind},
    login, output,
    screen::Screen,
    status,
};
use crate::{
    agent::{
        self,
        control::{Answer, Ask},
        detach,
        handover::{self, Handed},
        turn::{self, Turn},
    },
    identity::secret::leave_no_core_file,
    view::{
        build,
        status::{Endpoints, Status},
    },
    workspace::Env,
};

/// How long an answer over the control socket may take before the agent counts as stuck.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same where a hook waits, which is to be held for a tenth of a second at most.
const HOOK_PATIENCE: Duration = Duration::from_millis(75);
/// How long a start may take. It takes milliseconds; a machine that is busy with its own start takes longer.
const START: Duration = Duration::from_secs(120);
/// The same where a hook waits.
const HOOK_START: Duration = Duration::from_secs(5);
/// How long another agent that holds the lock may take until it answers, or is gone.
const LOCKED: Duration = Duration::from_secs(5);
/// What it is left for that, before one is started again.
const AGAIN: Duration = Duration::from_millis(50);
/// Why an agent that was about to start does not.
const STOPPED: &str = "nothing was started: somebody stopped the agent while this waited for its turn";

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub foreground: bool,
    pub replace: bool,
    pub strict: bool,
    /// By a starter in whose turn the agent had been stopped so often.
    pub detached: Option<u64>,
    /// The end of standard input ends the agent.
    pub held: bool,
    /// Somebody is about to log in, so nobody is told to.
    pub logging_in: bool,
}

impl Options {
    /// In the background, and with an error where there is one, for a login that is under way.
    pub(super) fn logging_in() -> Options {
        Options {
            foreground: false,
            replace: false,
            strict: true,
            detached: None,
            held: false,
            logging_in: true,
        }
    }

    fn patience(self) -> Duration {
        if self.strict { PATIENCE } else { HOOK_PATIENCE }
    }

    /// How long a start may take, its first answer included.
    fn start(self) -> Duration {
        if self.strict { START } else { HOOK_START }
    }
}

/// With a shell, standard output is for that shell alone: one question to the agent then does for both, so that a profile
/// waits once for an agent that hangs.
pub(super) fn run(context: Result<Context, Failure>, options: Options, shell: Option<Shell>) -> Result<(), Failure> {
    let outcome = match shell {
        None => context.and_then(|context| start(&context, options).map(drop)),
        Some(shell) => context.and_then(|context| {
            let mut stdout = std::fs::File::from(rustix::io::dup(std::io::stdout()).map_err(std::io::Error::from)?);
            rustix::stdio::dup2_stdout(std::io::stderr()).map_err(std::io::Error::from)?;
            let status = start(&context, options)?;
            let text = status.map_or_else(String::new, |status| super::env::of(&status, shell));
            output::note(stdout.write_all(text.as_bytes()));
            Ok(())
        }),
    };
    match outcome.and_then(|()| output::end()) {
        // Promise 9: the workspace comes first. A foreground agent has a supervisor that wants to know.
        Err(failure) if !options.strict && !options.foreground => {
            remark!("{}", failure.render(Screen::of_errors(&Env::from_process())));
            Ok(())
        }
        other => other,
    }
}

/// Whether these are the words of a hook, also where they make no command line: the first that names a command is `up`,
/// and nothing says that somebody wants to know.
pub(super) fn is_hook(words: impl Iterator<Item = OsString>) -> bool {
    let cli = Cli::command();
    let mut words = words.skip_while(|word| !cli.get_subcommands().any(|command| command.get_name() == word));
    words.next().is_some_and(|word| word == "up") && !words.any(|word| word == "--strict" || word == "--foreground")
}

/// The `--set` flags: its own, or of a detached agent its starter's.
pub(super) fn settings(own: Vec<String>, detached: bool) -> Result<Vec<String>, Failure> {
    Ok(if detached { detach::settings()? } else { own })
}

/// One agent with these settings, or why there is none. What it says of itself is none if it ran in the foreground.
pub(super) fn start(context: &Context, options: Options) -> Result<Option<Status>, Failure> {
    // A detached agent's starter has said them.
    for notice in context.loaded.notices.iter().filter(|_| options.detached.is_none()) {
        let text = format!("tagalong: {notice}");
        remark!("{}", Screen::of_errors(&context.env).wrap(2, &text));
    }
    if options.foreground {
        return foreground(context, options).map(|()| None);
    }
    let stops = turn::stops(&context.loaded.config.spool.dir);
    let mut turn = None;
    let began = Instant::now();
    let replaced = loop {
        let status = running(context, options.patience())?;
        let ends = status.as_ref().is_some_and(is_stopping);
        if ends && turn.is_some() && began.elapsed() < LOCKED {
            std::thread::park_timeout(AGAIN);
            continue;
        }
        // One that is about to be gone is none: nothing would run afterwards.
        let status = status.filter(|_| !ends);
        let reason = status.as_ref().and_then(|status| why_replace(context, status));
        let reason = reason.or_else(|| (status.is_some() && options.replace).then(|| "you asked for it".to_owned()));
        if let (Some(status), None) = (status, &reason) {
            report(context, "already running", &status);
            if !options.logging_in {
                login::say_if_nobody(context, &status);
            }
            return Ok(Some(status));
        }
        if turn.is_some() {
            break reason;
        }
        // What runs may be another one by then.
        turn = Some(wait_for_turn(context, options, stops)?);
    };
    background(context, options, stops, replaced.is_some())?;
    let status = running(context, options.start())?
        .ok_or_else(|| Failure::new(Kind::Failed, "the agent started and went away").hint("see `tagalong logs`"))?;
    drop(turn);
    if let Some(reason) = &replaced {
        say!("replaced the running agent: {reason}");
    }
    report(context, "running", &status);
    // A login may still be on its way from the agent that was replaced.
    if !options.logging_in && replaced.is_none() {
        login::say_if_nobody(context, &status);
    }
    Ok(Some(status))
}

/// Waits until no other command starts, replaces or stops the agent, which had been stopped so often when this one began.
/// None where the file for that cannot be had: then the agent cannot have its spool either, and says why.
fn wait_for_turn(context: &Context, options: Options, stops: u64) -> Result<Option<Turn>, Failure> {
    let turn = match Turn::take(&context.loaded.config.spool.dir, options.start()) {
        Ok(turn) => turn,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let seconds = options.start().as_secs();
            let message = format!("another command has been starting or stopping the agent for {seconds} s");
            return Err(Failure::new(Kind::Failed, message).hint(
                "run `tagalong up` again; `tagalong status` tells what runs, and `tagalong logs` why it takes so long",
            ));
        }
        Err(_) => return Ok(None),
    };
    if turn.stops()? == stops {
        return Ok(Some(turn));
    }
    Err(Failure::new(Kind::Failed, STOPPED).hint("run `tagalong up` again if there is to be one"))
}

/// What runs, and at the first start what that means for whoever reads it.
fn report(context: &Context, word: &str, status: &Status) {
    let screen = Screen::of(&context.env);
    let untold = consent::untold(context, status.principal.as_ref());
    say!("{}", screen.wrap(2, &format!("{word}: {}", summary(status))));
    match &untold {
        // They say where it is sent to.
        Some(lines) => lines.iter().for_each(|line| say!("  {}", screen.wrap(2, line))),
        None => say!("  {}", screen.wrap(2, &destination(status))),
    }
    if let Some(agent) = &status.agent {
        for text in agent.moved.iter().chain(&agent.endpoints.siblings_trouble) {
            say!("  {}", screen.wrap(2, text));
        }
    }
    let identity = &context.loaded.config.identity;
    if identity.is_single() {
        let text = format!(
            "the {} credential cannot be renewed: what is left when it ends waits in the spool for the next start",
            identity.credential.as_str()
        );
        say!("  {}", screen.wrap(2, &text));
    }
    if untold.is_some() {
        consent::told(context);
    }
}

/// The running agent's status, or none if none runs.
fn running(context: &Context, patience: Duration) -> Result<Option<Status>, Failure> {
    match context.ask(&Ask::Status, patience) {
        Ok(Answer::Status(status)) => Ok(Some(*status)),
        Ok(_) => Err(Failure::new(Kind::Failed, "the running agent speaks another language")
            .hint("stop it with `kill` and run `tagalong up` again")),
        Err(failure) if failure.kind == Kind::NotRunning => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn is_stopping(status: &Status) -> bool {
    status.agent.as_ref().is_some_and(|agent| agent.stopping)
}

fn why_replace(context: &Context, status: &Status) -> Option<String> {
    let agent = status.agent.as_ref()?;
    if let Some((theirs, ours)) = build::differs(agent) {
        return Some(format!("it was version {theirs}, this is {ours}"));
    }
    if let Some(fault) = status::fault(agent) {
        return Some(fault);
    }
    (agent.config != context.loaded.config.fingerprint()).then(|| "it ran with other settings".to_owned())
}

fn background(context: &Context, options: Options, stops: u64, replace: bool) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let detached = format!("--detached={stops}");
    let mut arguments = vec!["up", "--foreground", &detached];
    arguments.extend(replace.then_some("--replace"));
    let dirs = &context.loaded.config.dirs;
    let log = agent::log_path(dirs);
    let began = Instant::now();
    loop {
        let file = detach::open_log(&log)
            .map_err(|error| super::context::unwritable("the agent's log cannot be written", &dirs.state, &error))?;
        let error = match detach::spawn(&program, &arguments, &context.set, file, options.start()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Another version's start, or one whose starter is gone, may be faster.
        if !error.to_string().contains(agent::ANOTHER_AGENT) || began.elapsed() > LOCKED {
            return Err(Failure::new(Kind::Failed, format!("the agent did not start: {error}"))
                .hint(format!("its log is {}", log.display())));
        }
        for pause in [Duration::ZERO, AGAIN] {
            std::thread::park_timeout(pause);
            let status = running(context, options.patience())?;
            if status.is_some_and(|status| !is_stopping(&status) && why_replace(context, &status).is_none()) {
                return Ok(());
            }
        }
    }
}

/// Its sockets, if there is an agent to take over from.
fn take_over(context: &Context) -> Result<Option<Handed>, Failure> {
    let Some(agent) = running(context, PATIENCE)?.and_then(|status| status.agent) else {
        return Ok(None);
    };
    Ok(handover::take(&context.socket(), &agent.session_id, LOCKED)?)
}

fn foreground(context: &Context, options: Options) -> Result<(), Failure> {
    let Options {
        replace,
        detached,
        held,
        ..
    } = options;
    // A detached agent's starter waited for it, and has it until this one is ready, or until it is killed.
    let mut turn = None;
    let spool = &context.loaded.config.spool.dir;
    let is_detached = detached.is_some();
    if is_detached {
        detach::leave_session();
    } else {
        turn = wait_for_turn(context, options, turn::stops(spool))?;
    }
    // A login may come with the sockets.
    leave_no_core_file();
    let handed = if replace { take_over(context) } else { Ok(None) };
    let handed = handed.inspect_err(|failure| {
        if is_detached {
            let _ = detach::say_failure(&failure.message);
        }
    })?;
    let mut env = context.env.clone();
    if is_detached {
        // Of the hook's supervisor, who did not start this one.
        env.0.remove(agent::notify::VARIABLE);
    }
    let plan = agent::Plan {
        env,
        config: context.loaded.config.clone(),
        workspace: context.workspace.clone(),
        socket: context.socket(),
        detached: is_detached,
        handed,
        held,
    };
    let result = agent::run(plan, || {
        drop(turn);
        match detached {
            // Whoever stops it from now on finds its socket.
            Some(stops) if turn::stops(spool) != stops => Err(std::io::Error::other(STOPPED)),
            Some(_) => detach::say_ready(),
            None => announce(context),
        }
    });
    result.map_err(|error| {
        if is_detached {
            let _ = detach::say_failure(&error.to_string());
        }
        let failure = Failure::new(Kind::Failed, error.to_string());
        match error {
            agent::Error::AnotherAgent(_) if !replace => failure.hint("with --replace, this one takes its place"),
            agent::Error::AnotherAgent(_) => failure.hint("try again when it has ended"),
            _ => failure,
        }
    })
}

/// In the foreground, a person reads where it listens.
fn announce(context: &Context) -> std::io::Result<()> {
    remark!(
        "tagalong: ready; ask it with `tagalong status` (socket {})",
        context.socket().display()
    );
    for line in consent::untold(context, None).into_iter().flatten() {
        remark!("  {line}");
    }
    consent::told(context);
    Ok(())
}

/// Where it listens.
fn summary(status: &Status) -> String {
    let Some(agent) = &status.agent else {
        return "no agent".to_owned();
    };
    let Endpoints { grpc, http, .. } = &agent.endpoints;
    format!("pid {}, OTLP/gRPC {grpc}, OTLP/HTTP {http}", agent.pid)
}

/// Where what it accepts goes.
fn destination(status: &Status) -> String {
    match &status.export.endpoint {
        Some(endpoint) => format!("sends to {endpoint}"),
        None => status::nowhere(status).to_owned(),
    }
}
