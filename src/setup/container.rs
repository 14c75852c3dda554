//! `devcontainer.json`: a command at every start, the container's id, and the agent's ports, which editors leave alone.
//!
//! `postStartCommand` is the first hook that a prebuild does not reach, and the only one that runs at every start. A
//! command that is there already goes on under a name of its own: the object form runs both.

use super::{Action, Error, Plan, Refusal, edit_json, is_by_hand, jsonc};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

const HOOK: &str = "postStartCommand";
/// A hook that fails keeps those after it from running.
const UP: &str = "tagalong up || true";
const OURS: &str = "tagalong";
/// What the command that was there is called in the object form.
const THEIRS: &str = "before-tagalong";
/// For a repository that has no container yet.
const IMAGE: &str = "mcr.microsoft.com/devcontainers/base:ubuntu";

/// Whether the platform itself says which workspace it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Known,
    /// Then the container's own id is passed on, which stays the same when it is built anew.
    Pass,
}

pub(super) fn plan(action: Action, root: &Path, file: Option<&Path>, id: Id) -> Result<Plan, Error> {
    let paths = find(root, file);
    if paths.len() > 1 && action == Action::Add {
        return Err(Error::Several(paths));
    }
    let new = [id, Id::Known, Id::Pass].map(whole);
    let by_hand = format!("{{\n{}}}\n", ours(id));
    let edits = paths
        .into_iter()
        .map(|path| edit_json(path, action, &new, &by_hand, |text| add(text, id), remove));
    let edits = edits.collect::<Result<_, _>>()?;
    let next = match action {
        Action::Add => vec![
            "The image needs the binary on its PATH: gitpod/install.sh puts it there.".to_owned(),
            "Set TAGALONG_EXPORT_ENDPOINT where you keep your own variables, not in the repository.".to_owned(),
        ],
        Action::Remove => Vec::new(),
    };
    Ok(Plan { edits, next })
}

fn add(text: &str, id: Id) -> Result<String, Refusal> {
    if let Some(filled) = jsonc::fill(text, &whole(id)) {
        return Ok(filled);
    }
    jsonc::parse(text)?;
    let mut text = text.to_owned();
    for (port, value) in ports() {
        text = jsonc::add(&text, Some("portsAttributes"), port, &value)?;
    }
    if id == Id::Pass {
        let (name, value) = own_id();
        text = jsonc::add(&text, Some("containerEnv"), name, &value)?;
    }
    add_hook(&text)
}

fn add_hook(text: &str) -> Result<String, Refusal> {
    match jsonc::value_at(text, HOOK)? {
        Some((_, value)) if is_by_hand(value) => Ok(text.to_owned()),
        Some((range, value)) if !value.starts_with('{') => {
            let (before, expected) = (jsonc::parse(text)?, jsonc::parse(value)?);
            let value = format!("{}{value}}}", opening());
            let after = [&text[..range.start], &value, &text[range.end..]].concat();
            let mut is = jsonc::parse(&after)?;
            let held = is[HOOK][THEIRS].take();
            is[HOOK] = held;
            let is_kept = is == before && is[HOOK] == expected;
            is_kept.then_some(after).ok_or(Refusal::Changes)
        }
        _ => jsonc::add(text, Some(HOOK), OURS, &Json::from(UP)),
    }
}

fn remove(text: &str) -> Result<String, Refusal> {
    let mut ids = [Id::Known, Id::Pass].into_iter();
    if let Some(before) = ids.find_map(|id| jsonc::unfilled(text, &whole(id))) {
        return Ok(before);
    }
    jsonc::parse(text)?;
    let mut text = match jsonc::value_at(text, HOOK)? {
        Some((range, value)) if value.starts_with(&opening()) && value.ends_with('}') => {
            let theirs = &value[opening().len()..value.len() - 1];
            [&text[..range.start], theirs, &text[range.end..]].concat()
        }
        _ => jsonc::remove(text, Some(HOOK), OURS, &Json::from(UP))?,
    };
    let (name, value) = own_id();
    text = jsonc::remove(&text, Some("containerEnv"), name, &value)?;
    for (port, value) in ports().into_iter().rev() {
        text = jsonc::remove(&text, Some("portsAttributes"), port, &value)?;
    }
    jsonc::parse(&text)?;
    Ok(text)
}

fn opening() -> String {
    format!("{{\"{OURS}\": \"{UP}\", \"{THEIRS}\": ")
}

/// As the specification names it: no notice and no forwarding.
pub(super) fn ports() -> [(&'static str, Json); 2] {
    let value = json!({"label": "tagalong", "onAutoForward": "ignore"});
    [("4318", value.clone()), ("4317", value)]
}

fn own_id() -> (&'static str, Json) {
    ("TAGALONG_DEVCONTAINER_ID", Json::from("${devcontainerId}"))
}

/// A new file.
fn whole(id: Id) -> String {
    format!("{{\n  \"image\": \"{IMAGE}\",\n{}}}\n", ours(id))
}

/// What is ours in it.
fn ours(id: Id) -> String {
    let environment = match id {
        Id::Pass => "  \"containerEnv\": {\n    \"TAGALONG_DEVCONTAINER_ID\": \"${devcontainerId}\"\n  },\n",
        Id::Known => "",
    };
    format!(
        "  \"{HOOK}\": {{\n    \"{OURS}\": \"{UP}\"\n  }},\n{environment}  \"portsAttributes\": {{\n{}\n  }}\n",
        port_lines()
    )
}

/// [`ports`] as they stand in a new file.
pub(super) fn port_lines() -> String {
    ["4317", "4318"]
        .map(|port| format!("    \"{port}\": {{ \"label\": \"tagalong\", \"onAutoForward\": \"ignore\" }}"))
        .join(",\n")
}

/// Where the specification looks for it, in its order: several only where they are all in the same place of it.
fn find(root: &Path, file: Option<&Path>) -> Vec<PathBuf> {
    if let Some(file) = file {
        return vec![root.join(file)];
    }
    let fixed = [".devcontainer/devcontainer.json", ".devcontainer.json"].map(|name| root.join(name));
    if let Some(path) = fixed.iter().find(|path| path.exists()) {
        return vec![path.clone()];
    }
    let folders = std::fs::read_dir(root.join(".devcontainer"))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = folders
        .map(|folder| folder.path().join("devcontainer.json"))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    if found.is_empty() {
        found.push(fixed[0].clone());
    }
    found
}
