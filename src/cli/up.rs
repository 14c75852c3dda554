//! `tagalong up`: exactly one agent for this workspace, with these settings, of this version.
//!
//! It never fails a hook: unless `--strict` is given, what goes wrong is said and the exit code is 0.

use std::time::{Duration, Instant};

use super::{
    Context, consent,
    failure::{Failure, Kind},
    screen::Screen,
};
use crate::{
    agent::{
        self,
        control::{Answer, Ask},
        detach,
    },
    view::{
        build,
        status::{Endpoints, Status},
    },
    workspace::Env,
};

/// How long an answer over the control socket may take before the agent counts as stuck.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a replaced agent may drain.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub foreground: bool,
    pub strict: bool,
    pub detached: bool,
}

impl Options {
    /// In the background, and with an error where there is one.
    pub(super) fn strict() -> Options {
        Options {
            foreground: false,
            strict: true,
            detached: false,
        }
    }
}

pub(super) fn run(context: Result<Context, Failure>, options: Options) -> Result<(), Failure> {
    let outcome = context.and_then(|context| start(&context, options));
    match outcome {
        // Promise 9: the workspace comes first. A foreground agent has a supervisor that wants to know.
        Err(failure) if !options.strict && !options.foreground => {
            eprintln!("{}", failure.render(Screen::of_errors(&Env::from_process())));
            Ok(())
        }
        other => other,
    }
}

/// One agent with these settings, or why there is none.
pub(super) fn start(context: &Context, options: Options) -> Result<(), Failure> {
    // A detached agent's starter has said them.
    for notice in context.loaded.notices.iter().filter(|_| !options.detached) {
        eprintln!("tagalong: {notice}");
    }
    if options.foreground {
        return foreground(context, options.detached);
    }
    if let Some(status) = running(context)? {
        let Some(reason) = why_replace(context, &status) else {
            say!("already running: {}", summary(&status));
            tell(context, &status);
            return Ok(());
        };
        say!("replacing the running agent: {reason}");
        stop(context)?;
    }
    background(context)?;
    let status = running(context)?
        .ok_or_else(|| Failure::new(Kind::Failed, "the agent started and went away").hint("see `tagalong logs`"))?;
    say!("running: {}", summary(&status));
    let screen = Screen::of(&context.env);
    for moved in status.agent.iter().flat_map(|agent| &agent.moved) {
        say!("  {}", screen.wrap(2, moved));
    }
    let identity = &context.loaded.config.identity;
    if identity.is_single() {
        let text = format!(
            "the {} credential cannot be renewed: what is left when it ends waits in the spool for the next start",
            identity.credential.as_str()
        );
        say!("  {}", screen.wrap(2, &text));
    }
    tell(context, &status);
    Ok(())
}

/// What is recorded, under which name, and where it goes: at the first start, and when that has changed.
fn tell(context: &Context, status: &Status) {
    let Some(lines) = consent::untold(context, status.principal.as_ref()) else {
        return;
    };
    let screen = Screen::of(&context.env);
    for line in lines {
        say!("  {}", screen.wrap(2, &line));
    }
    consent::told(context);
}

/// The running agent's status, or none if none runs.
fn running(context: &Context) -> Result<Option<Status>, Failure> {
    match context.ask(&Ask::Status, PATIENCE) {
        Ok(Answer::Status(status)) => Ok(Some(*status)),
        Ok(_) => Err(Failure::new(Kind::Failed, "the running agent speaks another language")
            .hint("stop it with `kill` and run `tagalong up` again")),
        Err(failure) if failure.kind == Kind::NotRunning => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn why_replace(context: &Context, status: &Status) -> Option<String> {
    let agent = status.agent.as_ref()?;
    if let Some((theirs, ours)) = build::differs(agent) {
        return Some(format!("it is version {theirs}, this is {ours}"));
    }
    (agent.config != context.loaded.config.fingerprint()).then(|| "it runs with other settings".to_owned())
}

fn stop(context: &Context) -> Result<(), Failure> {
    let deadline = u64::try_from(DRAIN.as_millis()).expect("a few seconds fit");
    if let Answer::Left { bytes: bytes @ 1.. } = context.ask(&Ask::Stop { deadline }, DRAIN + PATIENCE)? {
        say!("  {bytes} bytes stay in the spool for the new one");
    }
    Ok(())
}

fn background(context: &Context) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let mut arguments: Vec<String> = ["up", "--foreground", "--detached"].map(str::to_owned).to_vec();
    arguments.extend(context.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
    let log = agent::log_path(&context.loaded.config.dirs);
    let began = Instant::now();
    loop {
        let error = match detach::spawn(&program, &arguments, &log) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Thirty hooks may start at once: one gets the lock, the others find its agent.
        if !error.to_string().contains(agent::ANOTHER_AGENT) || began.elapsed() > DRAIN {
            return Err(Failure::new(Kind::Failed, format!("the agent did not start: {error}"))
                .hint(format!("its log is {}", log.display())));
        }
        if running(context)?.is_some() {
            return Ok(());
        }
    }
}

fn foreground(context: &Context, detached: bool) -> Result<(), Failure> {
    if detached {
        detach::leave_session();
    }
    let plan = agent::Plan {
        env: context.env.clone(),
        config: context.loaded.config.clone(),
        workspace: context.workspace.clone(),
        socket: context.socket(),
    };
    let result = agent::run(plan, || {
        if detached {
            detach::say_ready()
        } else {
            announce(context)
        }
    });
    result.map_err(|error| {
        if detached {
            let _ = detach::say_failure(&error.to_string());
        }
        Failure::new(Kind::Failed, error.to_string())
    })
}

/// In the foreground, a person reads where it listens.
fn announce(context: &Context) -> std::io::Result<()> {
    eprintln!(
        "tagalong: ready; ask it with `tagalong status` (socket {})",
        context.socket().display()
    );
    for line in consent::untold(context, None).into_iter().flatten() {
        eprintln!("  {line}");
    }
    consent::told(context);
    Ok(())
}

/// Where it listens, and where what it accepts goes.
fn summary(status: &Status) -> String {
    let Some(agent) = &status.agent else {
        return "no agent".to_owned();
    };
    let upstream = match &status.export.endpoint {
        Some(endpoint) => format!("sends to {endpoint}"),
        None => "no export.endpoint is set: telemetry is kept here as a ring and sent nowhere".to_owned(),
    };
    let Endpoints { grpc, http, .. } = &agent.endpoints;
    format!("pid {}, OTLP/gRPC {grpc}, OTLP/HTTP {http}\n  {upstream}", agent.pid)
}
