//! The settings that VS Code keeps on a machine that it is connected to: the agent's ports are not forwarded.
//!
//! For where no file of the repository says so: Coder, and every machine behind SSH. The editor reads them when it
//! connects, and they hold for all who connect to this home directory. Nothing else of them is touched.

use super::{Action, Error, Plan, Refusal, container, edit_json, jsonc};
use std::path::{Path, PathBuf};

/// Of VS Code's server, which Remote - SSH puts there, and Coder's extension by way of it. It need not have come yet.
const SERVER: &str = ".vscode-server/data/Machine/settings.json";
/// Of code-server, whose directory is there once it has run.
const CODE_SERVER: (&str, &str) = (".local/share/code-server", "Machine/settings.json");
const GROUP: &str = "remote.portsAttributes";

/// `root` is the home directory.
pub(super) fn plan(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let new = [whole()];
    let edits = paths(root, file).into_iter();
    let edits = edits.map(|path| edit_json(path, action, &new, &new[0], add, remove));
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
