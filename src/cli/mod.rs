//! The command line: parse, find the settings, run one command, decide the exit code.
//!
//! One file a command. No command prints a token but `token`, and none reads the environment but through [`Env`].

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::workspace::{self, Env, Files};

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
mod context;
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

use context::Context;
use failure::{Failure, Kind};
use output::print;

/// Set to 1 or true, it makes every command a silent no-op that succeeds.
const DISABLED: &str = "TAGALONG_DISABLED";

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
        #[command(flatten)]
        _none: NoSettings,
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
    Whoami {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
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
        #[command(flatten)]
        _none: NoSettings,
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
    /// Every setting, its value, and where the value came from; or write one into your own file, or take it out
    Config {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        command: Option<config::Command>,
    },
    /// Which build this is: version, commit and target
    Version {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        _none: NoSettings,
    },
    /// Print a completion script
    Completions {
        /// The shell that is to complete
        shell: clap_complete::Shell,
        #[command(flatten)]
        _none: NoSettings,
    },
    #[command(name = "demo-token", hide = true)]
    DemoToken {
        #[arg(long)]
        issuer: String,
        #[arg(long)]
        audience: String,
    },
}

/// For a command that reads no setting: `--set` is no fault there either, and nobody is told of it.
#[derive(Args, Debug)]
struct NoSettings {
    #[arg(id = "set", long = "set", hide = true)]
    _set: Vec<String>,
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
        Command::Completions { shell, .. } => {
            completions::run(shell);
            Ok(())
        }
        Command::Version { json, .. } => {
            version::run(json);
            Ok(())
        }
        Command::Demo { duration, json, .. } => demo::run(&env, &duration, json),
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
        Command::Whoami { json } => token::whoami(&Context::load(env, cli.set)?, json),
        Command::Token { format } => token::run(&Context::load(env, cli.set)?, format),
        Command::Env { shell, reader } => env::run(&look(env, cli.set)?, reader, shell),
        Command::Init {
            platform,
            dry_run,
            remove,
            file,
            ..
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
                spool::Command::List { .. } => look(env, cli.set)?,
                _ => Context::load(env, cli.set)?,
            };
            spool::run(&context, command)
        }
        Command::Purge { dry_run } => purge::run(&env, &cli.set, dry_run),
        Command::Logs { follow } => logs::run(&look(env, cli.set)?, follow),
        Command::Config { json, command: None } => config::run(&look(env, cli.set)?, json),
        Command::Config {
            command: Some(command), ..
        } => config::write(&env, &command),
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
