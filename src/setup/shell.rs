//! The profile of a shell, for a plain machine: the agent at every start of a shell, and the environment for SDKs.
//!
//! Nothing is said in a prompt, whatever goes wrong: a shell is not the place to hear of it.

use super::{Action, Error, Plan, Refusal, block, edit_blocks};
use std::path::Path;

/// What all shells of the Bourne family read.
const PROFILE: &str = ".profile";

const POSIX: &str = "\
if command -v tagalong >/dev/null 2>&1; then
    eval \"$(tagalong up --env sh 2>/dev/null)\"
fi
";
const FISH: &str = "\
if command -q tagalong
    tagalong up --env fish 2>/dev/null | source
end
";

/// The profile, below the home directory, of the shell that `$SHELL` names.
pub fn profile(shell: &str) -> &'static Path {
    Path::new(match shell.rsplit('/').next() {
        Some("bash") => ".bashrc",
        Some("zsh") => ".zshrc",
        Some("fish") => ".config/fish/config.fish",
        _ => PROFILE,
    })
}

/// `root` is the home directory. A file's name says which language it is in.
pub(super) fn plan(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = root.join(file.unwrap_or(Path::new(PROFILE)));
    let is_fish = path.extension().is_some_and(|extension| extension == "fish");
    let body = if is_fish { FISH } else { POSIX };
    let edit = edit_blocks(path, action, body, |text| {
        if text.trim_end_matches(['\r', '\n']).ends_with('\\') {
            return Err(Refusal::Form("it has a last line that goes on"));
        }
        Ok(block::insert(text, text.split_inclusive('\n').count(), 0, body))
    })?;
    Ok(Plan {
        edits: vec![edit],
        next: match action {
            Action::Add => vec![
                "New shells start it and say nothing. Run `tagalong up` now: it says what is recorded, under which name, \
                 and where it is sent."
                    .to_owned(),
            ],
            Action::Remove => Vec::new(),
        },
    })
}
