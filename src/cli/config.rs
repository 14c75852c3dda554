//! `tagalong config`: every setting, its value, and where the value came from.

use super::{
    Context,
    failure::Failure,
    screen::{Screen, Tone},
};
use crate::config::Entry;

/// The origin of what nobody set.
const DEFAULT: &str = "default";

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let loaded = &context.loaded;
    let screen = Screen::of(&context.env);
    super::print(format_args!("{}", render(&loaded.entries(), &loaded.notices, screen)));
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
        text.push_str(&screen.wrap(6, &format!("note: {notice}\n")));
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
