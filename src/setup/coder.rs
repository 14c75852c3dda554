//! A Coder template: a file of our own beside the template's others, which Terraform reads as one.
//!
//! Nothing of the template is parsed but the names that the file has to refer to, and nothing of it is changed.

use super::{Action, Edit, Error, Plan, read};
use std::path::Path;

const FILE: &str = "tagalong.tf";
/// What keeps an editor's forwarding off is worth no word if it cannot be had.
const UP: &str = "tagalong up || true; tagalong init vscode >/dev/null 2>&1 || true";

pub(super) fn plan(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = root.join(file.unwrap_or(Path::new(FILE)));
    let before = read(&path)?;
    let is_ours = before.as_deref().is_none_or(|text| text.starts_with(&heading()));
    let after = match action {
        _ if !is_ours => before.clone(),
        Action::Remove => None,
        Action::Add => Some(text(root, &path)?),
    };
    let next = match action {
        Action::Add => {
            vec!["The workspace's image needs the binary on its PATH: gitpod/install.sh puts it there.".to_owned()]
        }
        Action::Remove => Vec::new(),
    };
    Ok(Plan {
        edits: vec![Edit { path, before, after }],
        next,
    })
}

fn heading() -> String {
    "# Starts tagalong in every workspace, and tells it which one it is. Written by `tagalong init coder`.\n".to_owned()
}

fn text(root: &Path, path: &Path) -> Result<String, Error> {
    let template = template(root, path)?;
    let one = |kind: &str, what: &str| -> Result<String, Error> {
        let mut found = declared(&template, kind, what);
        found.dedup();
        match found.len() {
            1 => Ok(found.remove(0)),
            count => Err(Error::Refused {
                path: path.to_owned(),
                reason: format!("the template has {count} of {kind} \"{what}\", and one is needed"),
                by_hand: script("main", "me", "me"),
            }),
        }
    };
    let agent = one("resource", "coder_agent")?;
    let (workspace, owner) = (one("data", "coder_workspace")?, one("data", "coder_workspace_owner")?);
    Ok(format!("{}\n{}", heading(), script(&agent, &workspace, &owner)))
}

/// Editors come to such a workspace over SSH, with no file of the repository that tells them which ports to leave alone.
/// An agent says neither the workspace's id nor its owner to the processes in it, nor that nobody has claimed it yet.
fn script(agent: &str, workspace: &str, owner: &str) -> String {
    let variable = |name: &str, value: &str| {
        format!(
            "\nresource \"coder_env\" \"{}\" {{\n  agent_id = coder_agent.{agent}.id\n  name     = \"{name}\"\n  \
             value    = {value}\n}}\n",
            name.to_ascii_lowercase()
        )
    };
    let script = format!(
        "resource \"coder_script\" \"tagalong\" {{\n  agent_id     = coder_agent.{agent}.id\n  \
         display_name = \"tagalong\"\n  run_on_start = true\n  script       = \"{UP}\"\n}}\n"
    );
    [
        script,
        variable("CODER_WORKSPACE_ID", &format!("data.coder_workspace.{workspace}.id")),
        variable(
            "CODER_WORKSPACE_OWNER_ID",
            &format!("data.coder_workspace_owner.{owner}.id"),
        ),
        variable(
            "CODER_WORKSPACE_IS_PREBUILD",
            &format!("data.coder_workspace.{workspace}.is_prebuild ? \"true\" : \"false\""),
        ),
    ]
    .concat()
}

/// All files of the template but ours.
fn template(root: &Path, own: &Path) -> Result<String, Error> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|is| is == "tf") && path != own)
        .collect();
    if paths.is_empty() {
        return Err(Error::Absent(root.join("*.tf")));
    }
    paths.sort();
    let texts: Result<Vec<_>, _> = paths.iter().map(|path| read(path)).collect();
    Ok(texts?.into_iter().flatten().collect::<Vec<_>>().join("\n"))
}

/// The names under which something is declared, where the declaration is a line of its own.
fn declared(template: &str, kind: &str, what: &str) -> Vec<String> {
    let lines = template.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter_map(|words| match words.as_slice() {
            [is, of, name, ..] if *is == kind && of.trim_matches('"') == what => {
                Some(name.trim_matches(['"', '{']).trim_matches('"').to_owned())
            }
            _ => None,
        })
        .collect()
}
