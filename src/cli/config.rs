//! `tagalong config`: every setting, its value, and where the value came from; and one of them written into the user's
//! own file, so that nobody has to know where that is and what its sections are.

use clap::{
    Subcommand,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};

use super::{
    Context,
    context::wrong,
    failure::{Failure, Kind},
    screen::{Screen, Tone},
};
use crate::{
    config::{self, Config, Entry, Locations, edit},
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

/// The origin of what nobody set.
const DEFAULT: &str = "default";

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let loaded = &context.loaded;
    let screen = Screen::of(&context.env);
    super::print(format_args!("{}", render(&loaded.entries(), &loaded.notices, screen)));
    Ok(())
}

/// Says where it wrote it, and what still keeps it from counting.
pub(super) fn set(env: &Env, key: &str, text: &str) -> Result<(), Failure> {
    let files = Locations::of(env);
    let Some(file) = &files.user else {
        return Err(Failure::new(Kind::Failed, "there is no home directory").hint("set HOME to its absolute path"));
    };
    let new = edit::new(key, text).map_err(|error| {
        Failure::new(Kind::Usage, format!("{key}: {}", error.problem))
            .hint("`tagalong config` lists the settings, with their values")
    })?;
    edit::set(file, &[(key, new)])?;
    say!("{key} is set in {}", file.display());
    // What is wrong beside it is worth knowing now.
    let loaded = Config::load(env, &[], &files).map_err(|errors| wrong(&errors))?;
    let entries = loaded.entries();
    let origin = entries.iter().find(|entry| entry.key == key).map(|entry| &entry.origin);
    match origin {
        _ if loaded.locked.iter().any(|locked| locked == key) => {
            say!("  but it is locked on this machine: what /etc says of it holds");
        }
        Some(origin) if *origin != file.display().to_string() => {
            say!("  but {origin} says something of it too, and comes first");
        }
        _ => say!("  `tagalong up` starts an agent with it, or puts one in the place of the agent that runs"),
    }
    Ok(())
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
