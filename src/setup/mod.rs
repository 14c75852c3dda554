//! What `tagalong init` writes into a platform's own file: the smallest thing that brings the agent along, and that keeps
//! the platform's port pop-ups and an editor's automatic forwarding off the agent's ports.
//!
//! Texts in, texts out; the command writes them. Every change is checked before anybody sees it: the file is parsed
//! before and after, and what was there must still be there, value by value. A file that cannot be parsed, or that is
//! shaped in a way that is not understood, is refused with what to add by hand. What was added is taken out again byte
//! for byte, as long as nobody has written into it.
//! It never reads settings, and never writes where something of ours stands that it did not write.

use std::path::{Path, PathBuf};

mod block;
mod ci;
mod coder;
mod container;
mod gitpod;
mod jsonc;
mod shell;
mod systemd;
#[cfg(test)]
mod tests;
mod vscode;
mod yaml;

pub use shell::profile;

/// Whose file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// `.gitpod.yml`, and the two scripts that its tasks run
    Gitpod,
    /// `.ona/automations.yaml`
    Ona,
    /// `devcontainer.json`
    Devcontainer,
    /// `devcontainer.json`, for Codespaces, which names its workspaces itself
    Codespaces,
    /// A file of its own beside a Coder template's others
    Coder,
    /// `.gitlab-ci.yml`
    Gitlab,
    /// `azure-pipelines.yml`
    AzureDevops,
    /// A workflow below `.github/workflows`
    GithubActions,
    /// The profile of your shell
    Shell,
    /// A service of the user's systemd
    Systemd,
    /// VS Code's own settings on this machine, for whoever connects to it
    Vscode,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put it in, or bring it up to date.
    Add,
    /// Take it out.
    Remove,
}

/// One file and what becomes of it; `None` is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Where it is.
    pub path: PathBuf,
    /// What is there now.
    pub before: Option<String>,
    /// What is to be there.
    pub after: Option<String>,
}

/// The edits, and what is left for a person to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are to be made; those that change nothing are among them.
    pub edits: Vec<Edit>,
    /// Sentences.
    pub next: Vec<String>,
}

/// Why a file is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such file, and making one would be more than bringing the agent along.
    #[error("there is no {0} to extend")]
    Absent(PathBuf),
    /// Several files could be meant.
    #[error("there are several files to choose from: {}", names(.0))]
    Several(Vec<PathBuf>),
    /// A file in the language of a shell that is not written for.
    #[error("{path} is left as it is: {shell} is not supported")]
    Foreign {
        /// The file that was left as it is.
        path: PathBuf,
        /// Whose it is.
        shell: &'static str,
        /// What a person may add; empty where there is nothing.
        by_hand: &'static str,
    },
    /// The file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, String),
    /// It cannot be parsed, or not be extended without touching something else.
    #[error("{path} is left as it is: {reason}")]
    Refused {
        /// The file that was left as it is.
        path: PathBuf,
        /// In words for people.
        reason: String,
        /// What a person may add.
        by_hand: String,
    },
}

/// Why a text is not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("it cannot be parsed ({0})")]
    Unparsable(String),
    #[error("{0} is written in a way that cannot be extended safely")]
    Shape(String),
    #[error("{0}")]
    Form(&'static str),
    #[error("what is in it would change")]
    Changes,
}

/// Works out the edits for `target` in the directory `root`; `file` names the file where the platform has several.
///
/// # Errors
/// Why nothing can be done; then nothing is to be written at all.
pub fn plan(target: Target, action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let plan = match target {
        Target::Gitpod => gitpod::classic(action, root, file),
        Target::Ona => gitpod::ona(action, root, file),
        Target::Devcontainer => container::plan(action, root, file, container::Id::Pass),
        Target::Codespaces => container::plan(action, root, file, container::Id::Known),
        Target::Coder => coder::plan(action, root, file),
        Target::Gitlab => ci::gitlab(action, root, file),
        Target::AzureDevops => ci::azure(action, root, file),
        Target::GithubActions => ci::github(action, root, file),
        Target::Systemd => systemd::plan(action, root, file),
        Target::Vscode => vscode::plan(action, root, file),
        Target::Shell => shell::plan(action, root, file),
    };
    match plan {
        // What is not there need not be taken out.
        Err(Error::Absent(_)) if action == Action::Remove => Ok(Plan::default()),
        plan => plan,
    }
}

/// Whether somebody has brought the agent along by hand already; doing it twice would start it twice.
fn is_by_hand(text: &str) -> bool {
    ["tagalong up", "gitpod/start.sh"]
        .iter()
        .any(|call| text.contains(call))
}

/// None if there is no such file.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Unreadable(path.to_owned(), error.to_string())),
    }
}

/// The first of `names` that is there, else the first.
fn choose(root: &Path, file: Option<&Path>, names: &[&str]) -> PathBuf {
    if let Some(file) = file {
        return root.join(file);
    }
    let candidates = names.iter().map(|name| root.join(name));
    candidates
        .clone()
        .find(|path| path.exists())
        .unwrap_or_else(|| candidates.clone().next().unwrap_or_default())
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

/// One text file that is edited by marked blocks: taken out first, so that adding brings up to date.
fn edit_blocks(
    path: PathBuf,
    action: Action,
    by_hand: &str,
    add: impl FnOnce(&str) -> Result<String, Refusal>,
) -> Result<Edit, Error> {
    let before = read(&path)?;
    let refuse = |reason: Refusal| Error::Refused {
        path: path.clone(),
        reason: reason.to_string(),
        by_hand: by_hand.to_owned(),
    };
    let text = before.as_deref().unwrap_or_default();
    let is_yaml = path.extension().is_some_and(|is| is == "yml" || is == "yaml");
    if is_yaml && yaml::marks_are_a_value(text) {
        return Err(refuse(Refusal::Form("it has a value that holds our marks")));
    }
    let without = block::remove(text);
    let after = match action {
        Action::Remove => without.text(before.is_some()),
        Action::Add if is_by_hand(without.remaining()) => before.clone(),
        Action::Add => {
            let added = add(without.remaining()).map_err(refuse)?;
            let is_new = before.is_none() || without.was_new();
            Some(if is_new { block::mark_new(&added) } else { added })
        }
    };
    Ok(Edit { path, before, after })
}

/// One file of JSON with comments. Where there is none the first of `new` is written, and what is still one of them is
/// taken out with the file.
fn edit_json(
    path: PathBuf,
    action: Action,
    new: &[String],
    by_hand: &str,
    add: impl FnOnce(&str) -> Result<String, Refusal>,
    remove: impl FnOnce(&str) -> Result<String, Refusal>,
) -> Result<Edit, Error> {
    let before = read(&path)?;
    let edited = match (action, before.as_deref()) {
        (Action::Add, None) => Ok(new.first().cloned()),
        (Action::Add, Some(text)) => past_mark(text, add).map(Some),
        // Nothing of ours goes without our name, and what is somebody else's need not be JSON.
        (Action::Remove, Some(text)) if !text.to_ascii_lowercase().contains("tagalong") => Ok(before.clone()),
        (Action::Remove, Some(text)) if !new.iter().any(|new| new == text) => past_mark(text, remove).map(Some),
        (Action::Remove, _) => Ok(None),
    };
    match edited {
        Ok(after) => Ok(Edit { path, before, after }),
        Err(reason) => Err(Error::Refused {
            path,
            reason: reason.to_string(),
            by_hand: by_hand.to_owned(),
        }),
    }
}

/// The mark of the byte order is no part of JSON, but some editors write it before.
fn past_mark(text: &str, edit: impl FnOnce(&str) -> Result<String, Refusal>) -> Result<String, Refusal> {
    match text.strip_prefix('\u{feff}') {
        Some(text) => Ok(format!("\u{feff}{}", edit(text)?)),
        None => edit(text),
    }
}
