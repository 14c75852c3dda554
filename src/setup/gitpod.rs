//! Gitpod Classic's `.gitpod.yml` and Ona's `automations.yaml`.

use super::{
    Action, Edit, Error, Plan, choose, edit_blocks, read,
    yaml::{self, What, keys},
};
use std::path::Path;

/// The scripts that the task runs: the product's own, so that a repository needs nothing else.
const SCRIPTS: [(&str, &str); 2] = [
    ("gitpod/install.sh", include_str!("../../gitpod/install.sh")),
    ("gitpod/start.sh", include_str!("../../gitpod/start.sh")),
];

/// `init` runs in prebuilds too, and only installs; `command` runs at every start and never in a prebuild.
const TASK: &str = concat!(
    "name: tagalong\n",
    "init: TAGALONG_VERSION=",
    env!("CARGO_PKG_VERSION"),
    " sh gitpod/install.sh || true\n",
    "command: . gitpod/start.sh || true\n"
);
const PORTS: &str = "name: tagalong\nport: 4317-4318\nonOpen: ignore\nvisibility: private\n";

/// Neither trigger is among what Ona runs in a prebuild; the second brings the agent back after a stop. Ona keeps a
/// service by its process, so the agent stays in the foreground, and drains on the SIGTERM that ends it.
const SERVICE: &str = "\
name: tagalong
description: Sends this environment's telemetry, tagged with who and where
triggeredBy:
  - postDevcontainerStart
  - postEnvironmentStart
commands:
  start: exec tagalong up --foreground
";

pub(super) fn classic(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = choose(root, file, &[".gitpod.yml"]);
    let by_hand = format!("tasks:\n{}ports:\n{}", listed(TASK), listed(PORTS));
    let main = edit_blocks(path, action, &by_hand, |text| {
        let text = yaml::add(text, &keys(&["tasks"]), What::Last, TASK)?;
        yaml::add(&text, &keys(&["ports"]), What::Last, PORTS)
    })?;
    let mut edits = Vec::new();
    for (name, text) in SCRIPTS {
        edits.extend(script(action, root, name, text, &main)?);
    }
    edits.push(main);
    let next = match action {
        Action::Add => vec![
            "Set TAGALONG_EXPORT_ENDPOINT in your Gitpod variables; no key belongs there or in the repository."
                .to_owned(),
        ],
        Action::Remove => Vec::new(),
    };
    Ok(Plan { edits, next })
}

/// A script that somebody has changed is theirs: neither replaced nor deleted.
fn script(action: Action, root: &Path, name: &str, text: &str, main: &Edit) -> Result<Option<Edit>, Error> {
    let path = root.join(name);
    let before = read(&path)?;
    let after = match (action, before.as_deref()) {
        // Only where the task that runs it is ours too.
        (Action::Add, None) if main.before != main.after => Some(text.to_owned()),
        (Action::Remove, Some(is)) if is == text && main.before != main.after => None,
        _ => return Ok(None),
    };
    Ok(Some(Edit { path, before, after }))
}

pub(super) fn ona(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = choose(root, file, &[".ona/automations.yaml", ".gitpod/automations.yaml"]);
    let by_hand = format!("services:\n  tagalong:\n{}", indented(SERVICE, "    "));
    let edit = edit_blocks(path, action, &by_hand, |text| {
        yaml::add(text, &keys(&["services"]), What::Entry("tagalong"), SERVICE)
    })?;
    let next = match action {
        Action::Add => vec![
            "The environment's image needs the binary: gitpod/install.sh puts it there.".to_owned(),
            "`tagalong init devcontainer` keeps editors from forwarding the agent's ports.".to_owned(),
        ],
        Action::Remove => Vec::new(),
    };
    Ok(Plan {
        edits: vec![edit],
        next,
    })
}

fn listed(body: &str) -> String {
    let lines = body.lines().enumerate();
    lines
        .map(|(number, line)| format!("{}{line}\n", if number == 0 { "  - " } else { "    " }))
        .collect()
}

fn indented(body: &str, blanks: &str) -> String {
    body.lines().map(|line| format!("{blanks}{line}\n")).collect()
}
