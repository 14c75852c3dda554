//! The profile of a shell, for a plain machine: the agent at every start of a shell, and the environment for SDKs.
//!
//! Nothing is said in a prompt, whatever goes wrong: a shell is not the place to hear of it.

use super::{Action, Error, Plan, block, edit_blocks};
use std::path::Path;

/// The shells that there is a profile for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// `.bashrc`
    Bash,
    /// `.zshrc`
    Zsh,
    /// `config.fish`
    Fish,
    /// `.profile`
    Posix,
}

const POSIX: &str = "\
if command -v tagalong >/dev/null 2>&1; then
    tagalong up >/dev/null 2>&1
    eval \"$(tagalong env 2>/dev/null)\"
fi
";
const FISH: &str = "\
if command -q tagalong
    tagalong up >/dev/null 2>&1
    tagalong env --shell fish 2>/dev/null | source
end
";

// === impl Shell ===

impl Shell {
    /// By the last part of `$SHELL`; anything that is not known has the profile that all of them read.
    pub fn named(program: &str) -> Shell {
        match program.rsplit('/').next() {
            Some("bash") => Shell::Bash,
            Some("zsh") => Shell::Zsh,
            Some("fish") => Shell::Fish,
            _ => Shell::Posix,
        }
    }

    const fn profile(self) -> &'static str {
        match self {
            Shell::Bash => ".bashrc",
            Shell::Zsh => ".zshrc",
            Shell::Fish => ".config/fish/config.fish",
            Shell::Posix => ".profile",
        }
    }
}

/// `root` is the home directory.
pub(super) fn plan(action: Action, shell: Shell, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = root.join(file.unwrap_or(Path::new(shell.profile())));
    let body = if shell == Shell::Fish { FISH } else { POSIX };
    let edit = edit_blocks(path, action, body, |text| {
        Ok(block::insert(text, text.split_inclusive('\n').count(), 0, body))
    })?;
    Ok(Plan {
        edits: vec![edit],
        next: Vec::new(),
    })
}
