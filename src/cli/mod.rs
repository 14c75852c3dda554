//! The command line: parse, find the settings, run one command, decide the exit code.
//!
//! One file a command. No command prints a token but `token`, and none reads the environment but through [`Env`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    config::{Config, ConfigError, Loaded, Locations},
    workspace::{self, Env, Files, Workspace},
};

/// Prints a line.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line on standard error, or does not: `eprintln!` would panic, and the workspace comes first.
macro_rules! remark {
    ($($text:tt)*) => { $crate::cli::output::remark(format_args!($($text)*)) };
}

mod completions;
mod config;
mod consent;
mod demo;
mod doctor;
mod down;
mod env;
pub mod failure;
mod init;
mod login;
mod logs;
mod output;
mod purge;
mod qr;
mod screen;
mod spool;
mod status;
mod token;
mod up;
mod version;

use failure::{Failure, Kind};
use output::print;

/// Set to 1 or true, it makes every command a silent no-op that succeeds.
const DISABLED: &str = "TAGALONG_DISABLED";
/// The workspace's id where none can be kept.
const UNKNOWN: &str = "unknown";

/// Telemetry of this workspace, tagged with who and where, never lost, under a credential that rotates by itself.
#[derive(Debug, Parser)]
#[command(name = "tagalong", version = crate::view::build::named(), propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// Set one setting for this call, as `section.key=value` (see `tagalong config`)
    #[arg(long = "set", value_name = "KEY=VALUE", global = true, display_order = 900)]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole thing on this machine: an issuer, an upstream, 20-second tokens, sample traces
    Demo {
        /// How long it sends
        #[arg(long = "for", value_name = "DURATION", default_value = "60s")]
        duration: String,
        /// End with one JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Start the agent for this workspace if it is not running; returns when it accepts data
    Up {
        /// Stay in the foreground until Ctrl-C, SIGTERM or SIGHUP
        #[arg(long)]
        foreground: bool,
        /// Take the place of an agent that runs already; its ports stay open meanwhile
        #[arg(long)]
        replace: bool,
        /// Fail with an exit code where a hook would rather have none
        #[arg(long)]
        strict: bool,
        /// Print the environment too, as `env` does, and say everything else on standard error
        #[arg(long, value_enum, value_name = "SHELL", conflicts_with = "foreground")]
        env: Option<env::Shell>,
        /// With how often the agent had been stopped when its starter had its turn
        #[arg(long, hide = true, requires = "foreground", value_name = "STOPS")]
        detached: Option<u64>,
        #[arg(long, hide = true, requires = "foreground", conflicts_with = "detached")]
        held: bool,
    },
    /// Drain and stop
    Down {
        /// How long to drain for
        #[arg(long, value_name = "DURATION", default_value = "5s")]
        timeout: String,
    },
    /// Identity, credential, spool and export on one screen
    Status {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check every link from the platform to upstream, and say what to do about each that fails
    Doctor {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
        /// Send one marked span and wait until upstream has answered for it
        #[arg(long)]
        send: bool,
    },
    /// Log in, where the workspace has no credential of its own; ENDPOINT says itself how, if it can
    Login(login::Options),
    /// End the login, at the issuer too, and forget it
    Logout,
    /// Who telemetry leaves for, and how far that can be believed
    Whoami,
    /// Print the current credential, for other tools
    Token {
        /// Who is to read it
        #[arg(long, value_enum, default_value_t = token::Format::Raw)]
        format: token::Format,
    },
    /// Print the environment that makes any OpenTelemetry SDK report here
    Env {
        /// Who is to evaluate it: sh, or dotenv for compose, where nothing is said
        #[arg(long, value_enum)]
        shell: Option<env::Shell>,
        /// Who is to report here
        #[arg(long = "for", value_enum, default_value_t = env::Reader::Here)]
        reader: env::Reader,
    },
    /// Write the integration into a platform's own file
    Init {
        /// Whose file
        platform: crate::setup::Target,
        /// Show what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Take it out again
        #[arg(long)]
        remove: bool,
        /// The file to change, where the platform has several
        #[arg(long, value_name = "FILE")]
        file: Option<std::path::PathBuf>,
    },
    /// What was set aside, and why; send it again, or give it up
    Spool {
        #[command(subcommand)]
        command: spool::Command,
    },
    /// Stop the agent and delete all that rests on this machine: spool, history, tokens, ids
    Purge {
        /// Show what would be deleted, and delete nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// The agent's own log
    Logs {
        /// Go on as it grows
        #[arg(long, short)]
        follow: bool,
    },
    /// Every setting, its value, and where the value came from; or write one into your own file
    Config {
        #[command(subcommand)]
        command: Option<config::Command>,
    },
    /// Which build this is: version, commit and target
    Version {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script
    Completions {
        /// The shell that is to complete
        shell: clap_complete::Shell,
    },
    #[command(name = "demo-token", hide = true)]
    DemoToken {
        #[arg(long)]
        issuer: String,
        #[arg(long)]
        audience: String,
    },
}

/// What every command knows before it begins.
#[derive(Debug)]
pub struct Context {
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
}

/// Parses the process's arguments, runs the command, and decides the exit code.
pub fn main() -> ExitCode {
    let env = Env::from_process();
    let parsed = Cli::try_parse();
    // Help and the version are for whoever asks, also then.
    let asks = parsed.as_ref().is_err_and(|error| !error.use_stderr());
    if env.says_yes(DISABLED) && !asks {
        return ExitCode::SUCCESS;
    }
    let result = match parsed {
        Ok(cli) => run(cli, env),
        Err(error) if !asks && up::is_hook(std::env::args_os()) => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => error.exit(),
    };
    let failure = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    remark!("{}", failure.render(screen::Screen::of_errors(&Env::from_process())));
    failure.exit_code()
}

fn run(cli: Cli, env: Env) -> Result<(), Failure> {
    // Before any setting is read: a prebuild is not even told what is wrong with them.
    let is_hook = match &cli.command {
        Command::Up { .. } | Command::Env { .. } => true,
        // A start script's, in workspaces to which editors come without a file of the repository.
        Command::Init { platform, .. } => *platform == crate::setup::Target::Vscode,
        _ => false,
    };
    if is_hook && workspace::is_prebuild(&env, &Files::system()) {
        return Ok(());
    }
    let done = match cli.command {
        Command::Completions { shell } => {
            completions::run(shell);
            Ok(())
        }
        Command::Version { json } => {
            version::run(json);
            Ok(())
        }
        Command::Demo { duration, json } => demo::run(&env, &duration, json),
        Command::DemoToken { issuer, audience } => demo::token(&issuer, &audience),
        Command::Up {
            foreground,
            replace,
            strict,
            env: shell,
            detached,
            held,
        } => {
            let options = up::Options {
                foreground,
                replace,
                strict,
                detached,
                held,
                logging_in: false,
            };
            // It decides itself what a failure is, that of its output too.
            let context = up::settings(cli.set, detached.is_some()).and_then(|set| Context::load(env, set));
            return up::run(context, options, shell);
        }
        Command::Down { timeout } => down::run(&look(env, cli.set)?, &timeout),
        Command::Status { json } => status::run(&look(env, cli.set)?, json),
        Command::Doctor { json, send } => doctor::run(Context::look(env, cli.set), json, send),
        Command::Login(options) => login::run(Context::load(env, cli.set)?, &options),
        Command::Logout => login::logout(&Context::load(env, cli.set)?),
        Command::Whoami => token::whoami(&Context::load(env, cli.set)?),
        Command::Token { format } => token::run(&Context::load(env, cli.set)?, format),
        Command::Env { shell, reader } => env::run(&look(env, cli.set)?, reader, shell),
        Command::Init {
            platform,
            dry_run,
            remove,
            file,
        } => init::run(
            &env,
            &init::Options {
                target: platform,
                dry_run,
                remove,
                file,
            },
        ),
        Command::Spool { command } => {
            let context = match command {
                spool::Command::List => look(env, cli.set)?,
                _ => Context::load(env, cli.set)?,
            };
            spool::run(&context, command)
        }
        Command::Purge { dry_run } => purge::run(&env, &cli.set, dry_run),
        Command::Logs { follow } => logs::run(&look(env, cli.set)?, follow),
        Command::Config { command: None } => config::run(&look(env, cli.set)?),
        Command::Config {
            command: Some(config::Command::Set { key, value }),
        } => config::set(&env, &key, &value),
    };
    done.and_then(|()| output::end())
}

/// For a command that only looks or stops: says what would keep an agent from starting, and goes on.
fn look(env: Env, set: Vec<String>) -> Result<Context, Failure> {
    let context = Context::look(env, set)?;
    for failure in context.wrong.iter().chain(&context.unkept) {
        remark!("{}", failure.render(screen::Screen::of_errors(&context.env)));
    }
    Ok(context)
}

/// Reads every setting; writes nothing. What is wrong counts as not set, and is said beside.
fn settings(env: &Env, set: &[String], files: &Locations) -> Result<(Loaded, Option<Failure>), Failure> {
    let mut flags = Vec::with_capacity(set.len());
    for flag in set {
        let (key, value) = flag.split_once('=').ok_or_else(|| {
            Failure::new(Kind::Usage, format!("--set {flag} is no setting"))
                .hint("write it as --set section.key=value; `tagalong config` lists the keys")
        })?;
        flags.push((key.to_owned(), value.to_owned()));
    }
    let (loaded, errors) = Config::load_rest(env, &flags, files).map_err(|errors| wrong(&errors))?;
    Ok((loaded, (!errors.is_empty()).then(|| wrong(&errors))))
}

/// All settings that are wrong, at once.
fn wrong(errors: &[ConfigError]) -> Failure {
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
    pub fn load(env: Env, set: Vec<String>) -> Result<Context, Failure> {
        let mut context = Context::look(env, set)?;
        let failure = context.wrong.take().or_else(|| context.unkept.take());
        failure.map_or(Ok(context), Err)
    }

    /// The same for whoever only looks or stops, and needs neither an id nor every setting for that.
    ///
    /// # Errors
    /// All settings that are wrong, at once, where there is no context without them.
    pub fn look(env: Env, set: Vec<String>) -> Result<Context, Failure> {
        let mut files = Locations::of(&env);
        let (mut loaded, mut wrong) = settings(&env, &set, &files)?;
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
        let spool = crate::agent::claim::spool_of(&loaded.config.spool.dir, &workspace.place);
        // The ports of the last start are the agent's own too: an OTEL_* endpoint there is no upstream.
        files.own = crate::agent::ports::remembered(&spool);
        if !files.own.is_empty() {
            (loaded, wrong) = settings(&env, &set, &files)?;
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
            wrong,
            unkept,
        })
    }

    /// The agent's control socket.
    pub fn socket(&self) -> std::path::PathBuf {
        crate::agent::control::socket_path(&self.loaded.config.dirs.runtime, &self.loaded.config.spool.dir)
    }

    /// Asks the running agent; a failure of kind `NotRunning` if there is none.
    pub fn ask(
        &self,
        question: &crate::agent::control::Ask,
        patience: std::time::Duration,
    ) -> Result<crate::agent::control::Answer, Failure> {
        use std::io::ErrorKind;
        crate::agent::control::ask(&self.socket(), question, patience).map_err(|error| match error.kind() {
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

/// The socket, or a directory above it, is not for this user.
fn foreign(socket: &std::path::Path, error: &std::io::Error) -> Failure {
    let message = format!("the control socket {} cannot be reached: {error}", socket.display());
    let directory = socket.parent().unwrap_or(socket).display();
    Failure::new(Kind::Failed, message)
        .hint("unset or correct XDG_RUNTIME_DIR: it names a directory of your own")
        .hint(format!(
            "if it is right, somebody else made {directory}, perhaps with sudo: remove that"
        ))
}

/// Nothing lasts in the state directory.
fn unwritable(what: &str, state: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("{what}: {error}")).hint(format!(
        "make {} a directory that you can write to, or name another one in TAGALONG_HOME",
        state.display()
    ))
}

/// Somebody holds the socket and says nothing.
fn stuck(socket: &std::path::Path, patience: std::time::Duration) -> Failure {
    let kill = match holder(socket) {
        Some(pid) => format!("`kill -9 {pid}`"),
        None => "`kill -9`".to_owned(),
    };
    if patience < std::time::Duration::from_secs(1) {
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
fn holder(socket: &std::path::Path) -> Option<i32> {
    // Tokio's: another library takes the kernel's 0 for a process that cannot be seen from here as a process's number.
    let peer = async { tokio::net::UnixStream::connect(socket).await?.peer_cred() };
    let peer = runtime().ok()?.block_on(peer).ok()?;
    peer.pid().filter(|pid| *pid > 0)
}

/// The running agent is of another version than this command line.
fn unknown_answer() -> Failure {
    Failure::new(Kind::Failed, "the agent gave an answer that this version does not know")
        .hint("run `tagalong up`: it replaces an agent of another version")
}

/// A small runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

fn parse_duration(text: &str) -> Result<std::time::Duration, Failure> {
    crate::config::parse_duration(text)
        .ok_or_else(|| Failure::new(Kind::Usage, format!("{text} is no duration")).hint("write it as 200ms, 10s or 1h"))
}

#[cfg(test)]
mod tests;
