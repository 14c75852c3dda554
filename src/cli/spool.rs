//! `tagalong spool`: what was set aside and why; send it again, or give it up.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Subcommand as ClapSubcommand;

use super::{
    Context,
    failure::{Failure, Kind},
    screen::Screen,
    status::{bytes_text, duration_text},
};
use crate::{
    agent::control::{Answer, Ask, Entry},
    spool::Spool,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Columns before what stands below an entry.
const BELOW: usize = 2;
const NOTHING: &str = "nothing is set aside";

#[derive(Debug, ClapSubcommand)]
pub(super) enum Command {
    /// List what was set aside, with the reasons
    List {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
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
        Command::List { json } => list(context, json),
        Command::Retry { id } => each(context, &id, "waits to be sent again", |id| Ask::Retry { id }),
        Command::Drop { id } => each(context, &id, "given up", |id| Ask::GiveUp { id }),
    }
}

fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let entries = match entries(context) {
        Err(failure) if failure.kind == Kind::NotRunning => on_disk(&context.loaded.config.spool.dir)?,
        entries => entries?,
    };
    if json {
        // Its fields' docs are those of the type.
        say!("{}", serde_json::json!({ "entries": entries }));
        return Ok(());
    }
    if entries.is_empty() {
        say!("{NOTHING}");
    }
    let screen = Screen::of(&context.env);
    for entry in entries {
        super::print(format_args!("{}", render(&entry, screen, SystemTime::now())));
    }
    Ok(())
}

/// What the running agent says is set aside.
fn entries(context: &Context) -> Result<Vec<Entry>, Failure> {
    match context.ask(&Ask::SetAside, PATIENCE)? {
        Answer::SetAside(entries) => Ok(entries),
        _ => Err(super::unknown_answer()),
    }
}

/// What rests there while no agent runs.
fn on_disk(dir: &Path) -> Result<Vec<Entry>, Failure> {
    let entries = Spool::glance_aside(dir).map_err(|error| {
        Failure::new(Kind::Failed, format!("{} cannot be read: {error}", dir.display()))
            .hint("`tagalong doctor` says what is wrong with it")
    })?;
    Ok(entries.into_iter().map(Entry::from).collect())
}

/// What it is and since when, and below that why.
fn render(entry: &Entry, screen: Screen, now: SystemTime) -> String {
    let items = match entry.items {
        1 => "1 item".to_owned(),
        items => format!("{items} items"),
    };
    let since = UNIX_EPOCH + Duration::from_secs(entry.at);
    let age = now.duration_since(since).map_or(0, |age| age.as_secs());
    let what = format!(
        "{}  {}  {items}, {}, {} ago",
        entry.id,
        entry.signal,
        bytes_text(entry.bytes),
        duration_text(age)
    );
    format!(
        "{}\n{:BELOW$}{}\n",
        screen.wrap(BELOW, &what),
        "",
        screen.wrap(BELOW, &entry.reason)
    )
}

fn each(context: &Context, id: &str, done: &str, ask: impl Fn(String) -> Ask) -> Result<(), Failure> {
    let all = id == "all";
    let ids = if all {
        let entries = entries(context)?;
        if entries.is_empty() {
            say!("{NOTHING}");
        }
        entries.into_iter().map(|entry| entry.id).collect()
    } else {
        vec![id.to_owned()]
    };
    let (mut left, of) = (0, ids.len());
    for id in ids {
        match context.ask(&ask(id.clone()), PATIENCE)? {
            Answer::Done => say!("{id}: {done}"),
            // It keeps nothing from those behind it.
            Answer::Failed(reason) if all => {
                remark!("{id}: {reason}");
                left += 1;
            }
            Answer::Failed(reason) => {
                return Err(Failure::new(Kind::Failed, format!("{id}: {reason}"))
                    .hint("`tagalong spool list` names the entries"));
            }
            _ => return Err(super::unknown_answer()),
        }
    }
    if left > 0 {
        return Err(
            Failure::new(Kind::Failed, format!("{left} of {of} entries are left as they were"))
                .hint("`tagalong spool list` names them; `tagalong spool drop` gives one up"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fits_the_terminal_and_says_how_old_it_is() {
        let entry = Entry {
            id: "9a3cf8e2b1d04475/logs/17".to_owned(),
            signal: "logs".to_owned(),
            items: 1,
            bytes: 2048,
            at: 1_000,
            reason: "upstream answered 400: the attribute `user.name of item 3` is longer than it takes, so it refused"
                .to_owned(),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_000 + 180);
        let screen = Screen {
            colours: false,
            width: Some(60),
        };
        insta::assert_snapshot!(render(&entry, screen, now), @"
        9a3cf8e2b1d04475/logs/17  logs  1 item, 2 KiB, 3 min ago
          upstream answered 400: the attribute `user.name of item 3`
          is longer than it takes, so it refused
        ");
        let screen = Screen::default();
        assert_eq!(render(&entry, screen, now).lines().count(), 2);
        assert!(render(&Entry { items: 2, ..entry }, screen, now).contains("  2 items, 2 KiB, 3 min ago\n"));
    }
}
