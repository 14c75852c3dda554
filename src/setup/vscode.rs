//! The settings that VS Code keeps on a machine that it is connected to: the agent's ports are not forwarded.
//!
//! For where no file of the repository says so: Coder, and every machine behind SSH. The editor reads them when it
//! connects, and they hold for all who connect to this home directory. Nothing else of them is touched.

use super::{Action, Edit, Error, Plan, Refusal, container, jsonc, read};
use std::path::{Path, PathBuf};

/// Of VS Code's server, which Remote - SSH puts there, and Coder's extension by way of it. It need not have come yet.
const SERVER: &str = ".vscode-server/data/Machine/settings.json";
/// Of code-server, whose directory is there once it has run.
const CODE_SERVER: (&str, &str) = (".local/share/code-server", "Machine/settings.json");
const GROUP: &str = "remote.portsAttributes";

/// `root` is the home directory.
pub(super) fn plan(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let edits = paths(root, file).into_iter().map(|path| edit(path, action));
    Ok(Plan {
        edits: edits.collect::<Result<_, _>>()?,
        next: Vec::new(),
    })
}

fn paths(root: &Path, file: Option<&Path>) -> Vec<PathBuf> {
    if let Some(file) = file {
        return vec![root.join(file)];
    }
    let (directory, name) = CODE_SERVER;
    let directory = root.join(directory);
    let second = directory.is_dir().then(|| directory.join(name));
    [root.join(SERVER)].into_iter().chain(second).collect()
}

fn edit(path: PathBuf, action: Action) -> Result<Edit, Error> {
    let before = read(&path)?;
    let changed = |change: fn(&str) -> Result<String, Refusal>, text: &str| {
        container::past_mark(text, change)
            .map(Some)
            .map_err(|reason| Error::Refused {
                path: path.clone(),
                reason: reason.to_string(),
                by_hand: whole(),
            })
    };
    let after = match (action, before.as_deref()) {
        (Action::Add, None) => Some(whole()),
        (Action::Add, Some(text)) => changed(add, text)?,
        (Action::Remove, Some(text)) if text == whole() => None,
        (Action::Remove, Some(text)) => changed(remove, text)?,
        (Action::Remove, None) => None,
    };
    Ok(Edit { path, before, after })
}

fn add(text: &str) -> Result<String, Refusal> {
    if let Some(filled) = jsonc::fill(text, &whole()) {
        return Ok(filled);
    }
    let mut text = text.to_owned();
    for (port, value) in container::ports() {
        text = jsonc::add(&text, Some(GROUP), port, &value)?;
    }
    Ok(text)
}

fn remove(text: &str) -> Result<String, Refusal> {
    if let Some(before) = jsonc::unfilled(text, &whole()) {
        return Ok(before);
    }
    let mut text = text.to_owned();
    for (port, value) in container::ports().into_iter().rev() {
        text = jsonc::remove(&text, Some(GROUP), port, &value)?;
    }
    jsonc::parse(&text)?;
    Ok(text)
}

/// A new file.
fn whole() -> String {
    format!("{{\n  \"{GROUP}\": {{\n{}\n  }}\n}}\n", container::port_lines())
}
