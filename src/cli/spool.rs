//! `tagalong spool`: what was set aside and why; send it again, or give it up.

use std::time::Duration;

use clap::Subcommand as ClapSubcommand;

use super::{
    Context,
    failure::{Failure, Kind},
};
use crate::agent::control::{Answer, Ask};

const PATIENCE: Duration = Duration::from_secs(10);
const NOTHING: &str = "nothing is set aside";

#[derive(Debug, ClapSubcommand)]
pub(super) enum Command {
    /// List what was set aside, with the reasons
    List,
    /// Send an entry (or `all`) again
    Retry {
        /// As `list` names it, or `all`
        id: String,
    },
    /// Give an entry (or `all`) up for good
    Drop {
        /// As `list` names it, or `all`
        id: String,
    },
}

pub(super) fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => list(context),
        Command::Retry { id } => each(context, &id, "waits to be sent again", |id| Ask::Retry { id }),
        Command::Drop { id } => each(context, &id, "given up", |id| Ask::GiveUp { id }),
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let Answer::SetAside(entries) = context.ask(&Ask::SetAside, PATIENCE)? else {
        return Err(super::unknown_answer());
    };
    if entries.is_empty() {
        say!("{NOTHING}");
    }
    for entry in entries {
        let at = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(entry.at));
        say!(
            "{}  {}  {} items, {} bytes  {at}\n  {}",
            entry.id,
            entry.signal,
            entry.items,
            entry.bytes,
            entry.reason
        );
    }
    Ok(())
}

fn each(context: &Context, id: &str, done: &str, ask: impl Fn(String) -> Ask) -> Result<(), Failure> {
    let ids = if id == "all" {
        let Answer::SetAside(entries) = context.ask(&Ask::SetAside, PATIENCE)? else {
            return Err(super::unknown_answer());
        };
        if entries.is_empty() {
            say!("{NOTHING}");
        }
        entries.into_iter().map(|entry| entry.id).collect()
    } else {
        vec![id.to_owned()]
    };
    for id in ids {
        match context.ask(&ask(id.clone()), PATIENCE)? {
            Answer::Done => say!("{id}: {done}"),
            Answer::Failed(reason) => {
                return Err(Failure::new(Kind::Failed, format!("{id}: {reason}"))
                    .hint("`tagalong spool list` names the entries"));
            }
            _ => return Err(super::unknown_answer()),
        }
    }
    Ok(())
}
