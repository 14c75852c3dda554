//! The pipelines' own files: the agent is started before a job's first step and drained after its last.
//!
//! A job's machine goes away with the job, and its spool with it; so the last step waits, for a few seconds at most,
//! until everything has been sent. Permissions and id tokens are not asked for here: setting one of them takes others
//! away, so that is for a person to do, and they are told.

use super::{
    Action, Edit, Error, Plan, Refusal, edit_blocks,
    yaml::{self, Step, What, keys},
};
use std::path::{Path, PathBuf};

const WORKFLOWS: &str = ".github/workflows";
const UP: &str = "tagalong up || true";
const DOWN: &str = "tagalong down || true";
const GITHUB_UP: &str = "name: tagalong\nrun: tagalong up || true\n";
const GITHUB_DOWN: &str = "name: tagalong, send the rest\nif: always()\nrun: tagalong down || true\n";
const AZURE_UP: &str = "\
script: tagalong up || true
displayName: tagalong
env:
  SYSTEM_ACCESSTOKEN: $(System.AccessToken)
";
const AZURE_DOWN: &str = "\
script: tagalong down || true
displayName: tagalong, send the rest
condition: always()
";
const BINARY: &str = "The job's machine or image needs the binary on its PATH: gitpod/install.sh puts it there.";

const DEPLOYED: [Option<&str>; 6] = [
    Some("jobs"),
    None,
    Some("strategy"),
    None,
    Some("deploy"),
    Some("steps"),
];

pub(super) fn gitlab(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = existing(root, file, &[".gitlab-ci.yml", ".gitlab-ci.yaml"])?;
    let by_hand = format!("default:\n  before_script:\n    - {UP}\n  after_script:\n    - {DOWN}\n");
    let edit = edit_blocks(path, action, &by_hand, |text| {
        // The old place, at the top, rules out the new one for the same key.
        let place = |key: &'static str| -> Result<Vec<Step>, Refusal> {
            let is_old = !yaml::paths(text, &[Some(key)])?.is_empty();
            Ok(if is_old { keys(&[key]) } else { keys(&["default", key]) })
        };
        let (before, after) = (place("before_script")?, place("after_script")?);
        let has_default = !yaml::paths(text, &[Some("default")])?.is_empty();
        if !has_default && before.len() == 2 && after.len() == 2 {
            let both = format!("before_script:\n  - {UP}\nafter_script:\n  - {DOWN}\n");
            return yaml::add(text, &[], What::Entry("default"), &both);
        }
        let text = yaml::add(text, &before, What::First, UP)?;
        yaml::add(&text, &after, What::Last, DOWN)
    })?;
    let next = [
        BINARY,
        "A job with a before_script or after_script of its own does not take the default's: add the lines there.",
        "For a token of its own a job needs `id_tokens` with your upstream's origin as `aud`.",
    ];
    Ok(with(vec![edit], action, &next))
}

pub(super) fn azure(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = existing(root, file, &["azure-pipelines.yml", "azure-pipelines.yaml"])?;
    let by_hand = format!(
        "steps:\n{}# … and as the last one:\n{}",
        listed(AZURE_UP),
        listed(AZURE_DOWN)
    );
    let patterns: [&[Option<&str>]; 6] = [
        &[Some("steps")],
        &[Some("jobs"), None, Some("steps")],
        &[Some("stages"), None, Some("steps")],
        &[Some("stages"), None, Some("jobs"), None, Some("steps")],
        // A deployment's steps are below its strategy, of which there are three.
        &DEPLOYED,
        &[&[Some("stages"), None], &DEPLOYED[..]].concat(),
    ];
    let edit = edit_blocks(path, action, &by_hand, |text| {
        in_all(text, &patterns, AZURE_UP, AZURE_DOWN)
    })?;
    Ok(with(vec![edit], action, &[BINARY]))
}

pub(super) fn github(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let paths = match (file, action) {
        (Some(file), _) => vec![existing(root, Some(file), &[])?],
        (None, Action::Add) => vec![only_workflow(root)?],
        // Only marked lines are taken out, of however many.
        (None, Action::Remove) => workflows(root),
    };
    let by_hand = format!(
        "steps:\n{}# … and as the last one:\n{}",
        listed(GITHUB_UP),
        listed(GITHUB_DOWN)
    );
    let edits = paths.into_iter().map(|path| {
        edit_blocks(path, action, &by_hand, |text| {
            in_all(text, &[&[Some("jobs"), None, Some("steps")]], GITHUB_UP, GITHUB_DOWN)
        })
    });
    let edits = edits.collect::<Result<_, _>>()?;
    let next = [
        BINARY,
        "For a token of its own a job needs `permissions: id-token: write`, and names its other permissions beside it.",
    ];
    Ok(with(edits, action, &next))
}

/// Adds a first and a last step to every sequence of steps that the patterns find.
fn in_all(text: &str, patterns: &[&[Option<&str>]], first: &str, last: &str) -> Result<String, Refusal> {
    let mut text = text.to_owned();
    let mut any = false;
    for pattern in patterns {
        for path in yaml::paths(&text, pattern)? {
            text = yaml::add(&text, &path, What::First, first)?;
            text = yaml::add(&text, &path, What::Last, last)?;
            any = true;
        }
    }
    if any {
        Ok(text)
    } else {
        Err(Refusal::Form("it is a file without any steps"))
    }
}

fn existing(root: &Path, file: Option<&Path>, names: &[&str]) -> Result<PathBuf, Error> {
    let path = super::choose(root, file, names);
    if path.exists() {
        Ok(path)
    } else {
        Err(Error::Absent(path))
    }
}

fn only_workflow(root: &Path) -> Result<PathBuf, Error> {
    let mut workflows = workflows(root);
    match workflows.len() {
        0 => Err(Error::Absent(root.join(WORKFLOWS).join("*.yml"))),
        1 => Ok(workflows.remove(0)),
        _ => Err(Error::Several(workflows)),
    }
}

fn workflows(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join(WORKFLOWS)).into_iter().flatten().flatten();
    let mut workflows: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|is| is == "yml" || is == "yaml"))
        .collect();
    workflows.sort();
    workflows
}

fn with(edits: Vec<Edit>, action: Action, next: &[&str]) -> Plan {
    Plan {
        edits,
        next: match action {
            Action::Add => next.iter().map(|line| (*line).to_owned()).collect(),
            Action::Remove => Vec::new(),
        },
    }
}

fn listed(body: &str) -> String {
    let lines = body.lines().enumerate();
    lines
        .map(|(number, line)| format!("{}{line}\n", if number == 0 { "  - " } else { "    " }))
        .collect()
}
