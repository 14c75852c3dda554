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

/// What a person may add to the profile of a shell that is not written for.
const NU: &str = "\
if (which tagalong | is-not-empty) {
    tagalong up --env json err> /dev/null | from json | default {} | load-env
}
";
const ELVISH: &str = "\
if (has-external tagalong) {
    try {
        var told = (tagalong up --env json 2>/dev/null | from-json)
        for name [(keys $told)] { set-env $name $told[$name] }
    } catch e { }
}
";
const XONSH: &str = "\
import json, shutil
if shutil.which('tagalong', path=':'.join($PATH)):
    for name, value in json.loads($(tagalong up --env json 2>/dev/null) or '{}').items():
        ${...}[name] = value
";

/// The profile, below the home directory if it is relative, of the shell that `$SHELL` names; `directory` is what a
/// variable says.
pub fn profile(shell: &str, directory: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let below = |name, or: &str| {
        let said = directory(name).filter(|path| path.is_absolute());
        said.unwrap_or_else(|| PathBuf::from(or))
    };
    match shell.rsplit('/').next() {
        Some("bash") => PathBuf::from(BASHRC),
        // zsh(1), "Startup/shutdown files".
        Some("zsh") => below("ZDOTDIR", "").join(".zshrc"),
        // fish(1), "Configuration files", and the others' manuals.
        Some("fish") => below("XDG_CONFIG_HOME", ".config").join("fish/config.fish"),
        Some("nu") => below("XDG_CONFIG_HOME", ".config").join("nushell/config.nu"),
        Some("elvish") => below("XDG_CONFIG_HOME", ".config").join("elvish/rc.elv"),
        Some("xonsh") => PathBuf::from(".xonshrc"),
        Some("csh" | "tcsh") => PathBuf::from(".cshrc"),
        _ => PathBuf::from(PROFILE),
    }
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
    if let (Some((shell, by_hand)), Action::Add) = (foreign(&path), action) {
        return Err(Error::Foreign { path, shell, by_hand });
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

/// Whose the file is, by its name, where that is a shell that is not written for; and what a person may add.
fn foreign(path: &Path) -> Option<(&'static str, &'static str)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let known = [
        // tcsh(1), "Startup and shutdown": `.cshrc` or `.tcshrc`, `.login`, and the same of the machine.
        (&["cshrc", ".login"][..], "csh", ""),
        (&[".nu"], "nu", NU),
        (&[".elv"], "elvish", ELVISH),
        (&["xonshrc", ".xsh"], "xonsh", XONSH),
    ];
    let (_, shell, by_hand) = known.into_iter().find(|(ends, ..)| is(ends))?;
    Some((shell, by_hand))
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
