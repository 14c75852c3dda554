//! How text is laid out for whoever looks: colours and the terminal's width on a terminal, plain long lines elsewhere.
//!
//! Words are wrapped, never cut: ids and URLs are there to be copied. What stands between backticks is one word.

use std::{io::IsTerminal, os::fd::AsFd};

use crate::workspace::Env;

/// Narrower than this, a label gets a line of its own.
const NARROW: usize = 60;

/// What text is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Screen {
    /// Whether ANSI colours are understood and wanted.
    pub(super) colours: bool,
    /// In columns; none where lines may be as long as they are.
    pub(super) width: Option<usize>,
}

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Label,
    Good,
    Notable,
    Bad,
}

impl Screen {
    /// Standard output as it is now. `NO_COLOR` (no-color.org) and `TERM=dumb` switch colours off.
    pub(super) fn of(env: &Env) -> Screen {
        Screen::of_stream(&std::io::stdout(), env)
    }

    /// The same of standard error, where failures are said.
    pub(super) fn of_errors(env: &Env) -> Screen {
        Screen::of_stream(&std::io::stderr(), env)
    }

    fn of_stream(stream: &(impl IsTerminal + AsFd), env: &Env) -> Screen {
        if !stream.is_terminal() {
            return Screen::default();
        }
        let size = rustix::termios::tcgetwinsize(stream).ok();
        Screen {
            colours: env.get("NO_COLOR").is_none() && env.get("TERM") != Some("dumb"),
            // A terminal that does not know its size says 0.
            width: size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0),
        }
    }

    /// The text in a tone's colour.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Label => "1",
            Tone::Good => "32",
            Tone::Notable => "33",
            Tone::Bad => "31",
        };
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn is_narrow(self) -> bool {
        self.is_narrower_than(NARROW)
    }

    pub(super) fn is_narrower_than(self, columns: usize) -> bool {
        self.width.is_some_and(|width| width < columns)
    }

    /// The text's words in lines that leave `indent` columns free; each line but the first begins with them.
    ///
    /// A line of a file, to be copied, begins with blanks: it stays as it is. What would command the terminal is left out,
    /// because much of what is shown was said by others; and none of their lines looks like one of ours.
    pub(super) fn wrap(self, indent: usize, text: &str) -> String {
        let text = without_commands(text);
        let lines = text.trim_end_matches('\n').split('\n');
        let wrapped: Vec<String> = lines.map(|line| self.wrap_line(indent, line)).collect();
        wrapped.join(&format!("\n{:indent$}", ""))
    }

    fn wrap_line(self, indent: usize, text: &str) -> String {
        if text.starts_with(' ') {
            return text.to_owned();
        }
        let room = self
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(indent).max(1));
        let mut wrapped = String::new();
        let mut column = 0;
        for word in words(text) {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > room {
                wrapped.push('\n');
                wrapped.extend(std::iter::repeat_n(' ', indent));
                column = 0;
            } else if column > 0 {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(word);
            column += length;
        }
        wrapped
    }
}

/// The text without what would command the terminal.
pub(super) fn without_commands(text: &str) -> String {
    text.replace(|letter: char| letter.is_control() && !matches!(letter, '\n' | '\t'), "")
}

/// Split at blanks, but not between backticks: a command that is broken in two is no command.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(width: usize) -> Screen {
        Screen {
            width: Some(width),
            colours: false,
        }
    }

    #[test]
    fn words_are_wrapped_below_the_indent_and_never_cut() {
        assert_eq!(
            columns(16).wrap(4, "see `tagalong logs` of acme-app-0123456789"),
            "see\n    `tagalong logs`\n    of\n    acme-app-0123456789"
        );
        assert_eq!(columns(3).wrap(4, "a b"), "a\n    b");
    }

    #[test]
    fn no_value_commands_the_terminal_or_looks_like_a_line_of_ours() {
        let text = "called \u{1b}]0;box\u{7}\u{9b}1m\r\n\tand";
        assert_eq!(Screen::default().wrap(2, text), "called ]0;box1m\n  \tand");
        assert_eq!(Screen::default().wrap(2, "  \u{1b}c"), "  c");
    }

    #[test]
    fn a_line_that_begins_with_blanks_keeps_all_of_them() {
        for screen in [Screen::default(), columns(12)] {
            let line = "    - init: make  it";
            assert_eq!(screen.wrap(2, line), line);
        }
    }

    #[test]
    fn without_a_terminal_lines_are_whole_and_plain() {
        let screen = Screen::default();
        let long = "word ".repeat(100);
        assert_eq!(screen.wrap(4, &long), long);
        assert_eq!(screen.paint(Tone::Bad, "FAIL"), "FAIL");
    }
}
