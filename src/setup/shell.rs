//! The profile of a shell, for a plain machine: the agent at every start of a shell, and the environment for SDKs.
//!
//! Nothing is said in a prompt, whatever goes wrong: a shell is not the place to hear of it.

use super::{Action, Edit, Error, Plan, Refusal, block, edit_blocks, read};
use std::path::{Path, PathBuf};

/// What all shells of the Bourne family read.
const PROFILE: &str = ".profile";
const BASHRC: &str = ".bashrc";
/// A login bash reads the first of these that is there, and nothing else of the home directory (bash(1), INVOCATION).
/// Only the last one can be made anew without keeping it from another.
const BASH_LOGIN: [&str; 3] = [".bash_profile", ".bash_login", PROFILE];

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
        Some("bash") => BASHRC,
        Some("zsh") => ".zshrc",
        Some("fish") => ".config/fish/config.fish",
        Some("csh" | "tcsh") => ".cshrc",
        _ => PROFILE,
    })
}

/// `root` is the home directory. A file's name says which language it is in.
pub(super) fn plan(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = root.join(file.unwrap_or(Path::new(PROFILE)));
    let mut edits = vec![edit(path.clone(), action)?];
    if path == root.join(BASHRC) {
        let login = match action {
            Action::Add => login_file(root)?.into_iter().collect(),
            Action::Remove => BASH_LOGIN.map(|name| root.join(name)).to_vec(),
        };
        for path in login {
            edits.push(edit(path, action)?);
        }
    }
    Ok(Plan {
        edits,
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

fn edit(path: PathBuf, action: Action) -> Result<Edit, Error> {
    if is_of_csh(&path) && action == Action::Add {
        return Err(Error::Csh(path));
    }
    let is_fish = path.extension().is_some_and(|extension| extension == "fish");
    let body = if is_fish { FISH } else { POSIX };
    edit_blocks(path, action, body, |text| {
        if text.trim_end_matches(['\r', '\n']).ends_with('\\') {
            return Err(Refusal::Form("it has a last line that goes on"));
        }
        Ok(block::insert(text, text.split_inclusive('\n').count(), 0, body))
    })
}

/// tcsh(1), "Startup and shutdown": `.cshrc` or `.tcshrc`, `.login`, and the same of the machine.
fn is_of_csh(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("cshrc") || name.ends_with(".login")
}

/// What a login bash reads, unless that leads on to `.bashrc`, as distributions have it.
fn login_file(root: &Path) -> Result<Option<PathBuf>, Error> {
    let mut all = BASH_LOGIN.iter().map(|name| root.join(name));
    let path = all.find(|path| path.exists()).unwrap_or_else(|| root.join(PROFILE));
    let text = read(&path)?.unwrap_or_default();
    let leads_on = text
        .lines()
        .any(|line| !line.trim_start().starts_with('#') && line.contains(BASHRC));
    Ok((!leads_on).then_some(path))
}
