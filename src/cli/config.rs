//! `tagalong config`: every setting, its value, and where the value came from; and one of them written into the user's
//! own file or taken out of it, so that nobody has to know where that is and what its sections are.

use clap::{
    Subcommand,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};

use serde::Serialize;

use super::{
    Context, NoSettings,
    context::wrong,
    failure::{Failure, Kind},
    screen::{Screen, Tone},
};
use crate::{
    config::{self, Config, ConfigError, Entry, Locations, edit},
    workspace::Env,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write one setting into your own file, which is made if there is none
    Set {
        /// Which one, as `section.key`
        #[arg(value_parser = Keys, hide_possible_values = true)]
        key: String,
        /// Its value; a list as ["a", "b"], or as a,b where no item can hold a comma
        value: String,
        #[command(flatten)]
        _none: NoSettings,
    },
    /// Take one setting out of your own file again
    Unset {
        /// Which one, as `section.key`
        #[arg(value_parser = Keys, hide_possible_values = true)]
        key: String,
        #[command(flatten)]
        _none: NoSettings,
    },
}

/// Any text: what is no key is refused with the closest that is. What a shell offers is the keys.
#[derive(Clone, Debug)]
struct Keys;

impl TypedValueParser for Keys {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(config::keys().map(PossibleValue::new)))
    }
}

/// What `config --json` prints.
#[derive(Serialize)]
struct Listed<'a> {
    settings: &'a [Entry],
    /// What was left out of account, as sentences.
    notices: &'a [String],
}

/// The origin of what nobody set.
const DEFAULT: &str = "default";

pub(super) fn run(context: &Context, json: bool) -> Result<(), Failure> {
    let (settings, notices) = (&context.loaded.entries(), &context.loaded.notices);
    if json {
        let listed = Listed { settings, notices };
        say!("{}", serde_json::to_string(&listed).map_err(std::io::Error::from)?);
    } else {
        super::print(format_args!("{}", render(settings, notices, Screen::of(&context.env))));
    }
    Ok(())
}

/// Changes the user's own file, and says what that comes to.
pub(super) fn write(env: &Env, command: &Command) -> Result<(), Failure> {
    let files = Locations::of(env);
    let Some(file) = &files.user else {
        return Err(Failure::new(Kind::Failed, "there is no home directory").hint("set HOME to its absolute path"));
    };
    let key = match command {
        Command::Set { key, value, .. } => {
            let new = edit::new(key, value).map_err(|error| refused(key, &error))?;
            edit::set(file, &[(key, new)])?;
            say!("{key} is set in {}", file.display());
            key
        }
        Command::Unset { key, .. } => {
            let is_known = config::keys().any(|known| known == key);
            match edit::unset(file, key)? {
                // Also what is no setting, and so keeps every agent from starting.
                true => say!("{key} is taken out of {}", file.display()),
                false if is_known => say!("{key} is not set in {}", file.display()),
                false => edit::new(key, "").map(drop).map_err(|error| refused(key, &error))?,
            }
            key
        }
    };
    // What is wrong beside it is worth knowing now.
    let loaded = Config::load(env, &[], &files).map_err(|errors| wrong(&errors))?;
    let entries = loaded.entries();
    let Some(Entry { value, origin, .. }) = entries.iter().find(|entry| entry.key == key) else {
        return Ok(());
    };
    let value = if value.is_empty() { "-" } else { value };
    match command {
        _ if loaded.locked.iter().any(|locked| locked == key) => {
            say!("  but it is locked on this machine: what /etc says of it holds");
        }
        Command::Unset { .. } => {
            let holds = format!("what holds is {value} ({origin})");
            say!("  {}", Screen::of(env).wrap(2, &holds));
        }
        Command::Set { .. } if *origin != file.display().to_string() => {
            say!("  but {origin} says something of it too, and comes first");
        }
        Command::Set { .. } => {
            say!("  `tagalong up` starts an agent with it, or puts one in the place of the agent that runs");
        }
    }
    Ok(())
}

fn refused(key: &str, error: &ConfigError) -> Failure {
    Failure::new(Kind::Usage, format!("{key}: {}", error.problem))
        .hint("`tagalong config` lists the settings, with their values")
}

/// `section.key  value (origin)`; what somebody set stands out where there are colours.
fn render(entries: &[Entry], notices: &[String], screen: Screen) -> String {
    let keys = entries.iter().map(|entry| entry.key.len()).max().unwrap_or(0);
    let indent = if screen.is_narrow() { 2 } else { keys + 2 };
    let mut text = String::new();
    for Entry { key, value, origin } in entries {
        let value = if value.is_empty() { "-" } else { value };
        let said = screen.wrap(indent, &format!("{value} ({origin})"));
        let label = if screen.is_narrow() {
            format!("{key}\n  ")
        } else {
            format!("{key:keys$}  ")
        };
        let label = match origin.as_str() {
            DEFAULT => label,
            _ => screen.paint(Tone::Label, &label),
        };
        text.push_str(&format!("{label}{said}\n"));
    }
    if !notices.is_empty() {
        text.push('\n');
    }
    for notice in notices {
        text.push_str(&format!("{}\n", screen.wrap(6, &format!("note: {notice}"))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_tools_get_what_people_see() {
        let listed = Listed {
            settings: &[Entry {
                key: "export.headers",
                value: "x-team=...".to_owned(),
                origin: "TAGALONG_EXPORT_HEADERS".to_owned(),
            }],
            notices: &["TAGALONG_FOO is no setting and is not looked at.".to_owned()],
        };
        let json = serde_json::to_string(&listed).expect("JSON");
        insta::assert_snapshot!(json, @r#"{"settings":[{"key":"export.headers","value":"x-team=...","origin":"TAGALONG_EXPORT_HEADERS"}],"notices":["TAGALONG_FOO is no setting and is not looked at."]}"#);
    }

    #[test]
    fn notices_stand_below_the_settings() {
        let entry = |key, value: &str, origin: &str| Entry {
            key,
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        let entries = [
            entry("listen.grpc", "127.0.0.1:4317", "default"),
            entry("export.ca_file", "", "default"),
            entry("spool.dir", "/workspace/.tagalong/spool", "from the state directory"),
        ];
        let notices = ["TAGALONG_FOO is no setting and is not looked at.".to_owned()];
        insta::assert_snapshot!(render(&entries, &notices, Screen::default()), @"
        listen.grpc     127.0.0.1:4317 (default)
        export.ca_file  - (default)
        spool.dir       /workspace/.tagalong/spool (from the state directory)

        note: TAGALONG_FOO is no setting and is not looked at.
        ");
        let narrow = Screen {
            colours: true,
            width: Some(40),
        };
        insta::assert_snapshot!(render(&entries, &notices, narrow).replace('\x1b', "ESC"), @"
        listen.grpc
          127.0.0.1:4317 (default)
        export.ca_file
          - (default)
        ESC[1mspool.dir
          ESC[0m/workspace/.tagalong/spool (from the
          state directory)

        note: TAGALONG_FOO is no setting
              and is not looked at.
        ");
    }
}
