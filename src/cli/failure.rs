//! What a person reads when something fails: what happened, then what to do. One place decides the exit code.

use std::process::ExitCode;

use super::screen::Screen;
use crate::config::edit::EditError;

/// Columns before a line that says what to do.
const HINT: usize = 2;

/// The kinds that a script would branch on. Their numbers are public and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1: it did not work.
    Failed,
    /// 2: the command line or a setting is wrong.
    Usage,
    /// 3: no agent runs here.
    NotRunning,
    /// 4: there is no usable credential.
    NoCredential,
    /// 5: data is left in the spool.
    Undelivered,
}

/// A failure with its first line, and hints as the lines after it.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What happened, in one line without a full stop.
    pub message: String,
    /// What to do; one line each, the likeliest first.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure that does not say yet what to do.
    pub fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Adds a line that says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// As it is shown: laid out for `screen`.
    pub(super) fn render(&self, screen: Screen) -> String {
        let mut text = screen.wrap(HINT, &format!("tagalong: {}", self.message));
        for hint in &self.hints {
            text.push_str(&format!("\n{:HINT$}{}", "", screen.wrap(HINT, hint)));
        }
        text
    }

    /// The public number of the kind.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotRunning => 3,
            Kind::NoCredential => 4,
            Kind::Undelivered => 5,
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.render(Screen::default()))
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Failure {
        let hint = match &error {
            EditError::Unreadable(..) => "make it a text file that you may read, and try again",
            EditError::Unwritable(..) => "make it writable, or make room on its disk, and try again",
            EditError::Syntax(_) => "correct it in an editor (`tagalong config` says in which line), and try again",
        };
        Failure::new(Kind::Failed, error.to_string()).hint(hint)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Kind::Failed, error.to_string())
    }
}
