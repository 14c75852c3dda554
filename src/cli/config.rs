//! `tagalong config`: every setting, its value, and where the value came from.

use super::{Context, failure::Failure};
use crate::config::Entry;

/// A longer value does not widen its column.
const WIDEST_VALUE: usize = 48;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let loaded = &context.loaded;
    super::print(format_args!("{}", render(&loaded.entries(), &loaded.notices)));
    Ok(())
}

fn render(entries: &[Entry], notices: &[String]) -> String {
    let keys = entries.iter().map(|entry| entry.key.len()).max().unwrap_or(0);
    let values = entries
        .iter()
        .map(|entry| entry.value.chars().count())
        .max()
        .unwrap_or(0)
        .min(WIDEST_VALUE);
    let mut text = String::new();
    for entry in entries {
        let line = format!("{:keys$}  {:values$}  {}\n", entry.key, entry.value, entry.origin);
        text.push_str(&line);
    }
    if !notices.is_empty() {
        text.push('\n');
    }
    for notice in notices {
        text.push_str(&format!("note: {notice}\n"));
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
        ];
        let notices = ["TAGALONG_FOO is no setting and is not looked at.".to_owned()];
        insta::assert_snapshot!(render(&entries, &notices), @r"
        listen.grpc     127.0.0.1:4317  default
        export.ca_file                  default

        note: TAGALONG_FOO is no setting and is not looked at.
        ");
    }
}
