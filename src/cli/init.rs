//! `tagalong init PLATFORM`: writes the integration into the platform's own file, shows it, or takes it out again.
//!
//! It needs no settings and no agent. Either every file of the plan is written or, where something is refused, none.

use std::{
    io::{IsTerminal, Write},
    path::{Component, Path, PathBuf},
};

use super::{
    failure::{Failure, Kind},
    screen,
};
use crate::{
    setup::{self, Action, Edit, Plan, Target},
    workspace::Env,
};

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub target: Target,
    pub dry_run: bool,
    pub remove: bool,
    pub file: Option<PathBuf>,
}

pub(super) fn run(env: &Env, options: &Options) -> Result<(), Failure> {
    let here = std::env::current_dir()?;
    let target = options.target;
    let is_of_home = matches!(target, Target::Shell | Target::Systemd | Target::Vscode);
    let root = match target {
        _ if is_of_home => home(env)?,
        // A template has a directory of its own, wherever the repository begins.
        Target::Coder => here.clone(),
        _ => repository(&here),
    };
    let action = if options.remove { Action::Remove } else { Action::Add };
    let file = match &options.file {
        Some(file) => Some(here.join(file)),
        None if target == Target::Shell => {
            let shell = env.get("SHELL").unwrap_or_default();
            Some(setup::profile(shell, |name| env.get(name).map(PathBuf::from)))
        }
        None => None,
    };
    let plan = setup::plan(target, action, &root, file.as_deref()).map_err(|error| failure(error, action))?;
    let changes: Vec<&Edit> = plan.edits.iter().filter(|edit| edit.before != edit.after).collect();
    for edit in changes.iter().filter(|_| !is_of_home) {
        stays_in(&root, &edit.path)?;
    }
    for edit in &changes {
        let name = edit
            .path
            .strip_prefix(&root)
            .unwrap_or(&edit.path)
            .display()
            .to_string();
        if options.dry_run {
            let diff = diff(&name, edit);
            // Of somebody's repository; to a program it goes as it is, which may be `git apply`.
            let diff = match std::io::stdout().is_terminal() {
                true => screen::without_commands(&diff),
                false => diff,
            };
            super::print(format_args!("{diff}"));
            continue;
        }
        write(edit, &root)?;
        let path = edit.path.display().to_string();
        let name = if is_of_home { path } else { name };
        say!("{} {name}", verb(edit));
    }
    if changes.is_empty() {
        say!("{}", unchanged(&plan, action));
    } else if !options.dry_run {
        for line in &plan.next {
            say!("  {line}");
        }
    }
    Ok(())
}

fn home(env: &Env) -> Result<PathBuf, Failure> {
    let home = env.get("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    home.ok_or_else(|| Failure::new(Kind::Failed, "there is no home directory").hint("set HOME to its absolute path"))
}

/// The top of the checkout that `here` is in, else `here`: the platforms look for their files there.
fn repository(here: &Path) -> PathBuf {
    let top = here.ancestors().find(|dir| dir.join(".git").exists());
    top.unwrap_or(here).to_owned()
}

/// Refuses what is not in the repository that it seems to be in: a link is anybody's who wrote there, and may lead to a
/// file of yours. What `--file` names elsewhere is meant.
fn stays_in(root: &Path, path: &Path) -> Result<(), Failure> {
    if !path.starts_with(root) || path.components().any(|part| part == Component::ParentDir) {
        return Ok(());
    }
    // Of what is not there yet, where it will be.
    let real = path.ancestors().find_map(|part| part.canonicalize().ok());
    match (real, root.canonicalize()) {
        (Some(real), Ok(inside)) if !real.starts_with(&inside) => {
            let message = format!("{} leads out of the repository, to {}", path.display(), real.display());
            Err(Failure::new(Kind::Failed, message)
                .hint("delete the link, or if it is meant, name what it leads to with --file"))
        }
        _ => Ok(()),
    }
}

fn failure(error: setup::Error, action: Action) -> Failure {
    let failure = Failure::new(Kind::Failed, error.to_string());
    match error {
        setup::Error::Absent(_) => failure.hint("make it first, or name another one with --file"),
        setup::Error::Several(_) => failure.hint("name one with --file"),
        setup::Error::Foreign { by_hand, .. } => {
            adding(failure, by_hand).hint("bash, zsh, fish and sh are: --file names a profile of theirs")
        }
        setup::Error::Unreadable(..) => failure.hint("make it readable text, or name another one with --file"),
        setup::Error::Refused { .. } if action == Action::Remove => {
            failure.hint("take out by hand what `tagalong init` wrote into it")
        }
        setup::Error::Refused { by_hand, .. } => adding(failure, &by_hand),
    }
}

fn adding(failure: Failure, by_hand: &str) -> Failure {
    if by_hand.is_empty() {
        return failure;
    }
    let failure = failure.hint("add this by hand:");
    by_hand
        .lines()
        .fold(failure, |failure, line| failure.hint(format!("  {line}")))
}

fn unchanged(plan: &Plan, action: Action) -> &'static str {
    match action {
        Action::Remove => "nothing of tagalong's is there to take out",
        Action::Add if plan.edits.iter().all(|edit| edit.after.is_some()) => "it is there already; nothing to change",
        Action::Add => "nothing to change",
    }
}

fn verb(edit: &Edit) -> &'static str {
    match (&edit.before, &edit.after) {
        (None, _) => "wrote",
        (_, None) => "deleted",
        _ => "changed",
    }
}

fn diff(name: &str, edit: &Edit) -> String {
    let side = |text: &Option<String>, prefix: &str| match text {
        Some(_) => format!("{prefix}/{name}"),
        None => "/dev/null".to_owned(),
    };
    let (before, after) = (
        edit.before.as_deref().unwrap_or_default(),
        edit.after.as_deref().unwrap_or_default(),
    );
    similar::TextDiff::from_lines(before, after)
        .unified_diff()
        .header(&side(&edit.before, "a"), &side(&edit.after, "b"))
        .to_string()
}

/// Whole or not at all: written beside it and renamed. A link to the file stays a link.
fn write(edit: &Edit, root: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Kind::Failed,
            format!("{} cannot be written: {error}", edit.path.display()),
        )
        .hint("make it writable, or add by hand what --dry-run shows")
    };
    let Some(text) = &edit.after else {
        std::fs::remove_file(&edit.path).map_err(failed)?;
        // Made for the file, if nothing else is in it.
        if let Some(parent) = edit.path.parent().filter(|parent| *parent != root) {
            let _ = std::fs::remove_dir(parent);
        }
        return Ok(());
    };
    let path = edit.path.canonicalize().unwrap_or_else(|_| edit.path.clone());
    let dir = path.parent().unwrap_or(root);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let draft = dir.join(format!(".tagalong-init.{}", std::process::id()));
    // Whoever may write into the directory may have laid a link there, to a file of ours.
    let _ = std::fs::remove_file(&draft);
    let written = std::fs::File::create_new(&draft).and_then(|mut file| {
        if let Ok(metadata) = std::fs::metadata(&path) {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&draft, &path)).map_err(|error| {
        let _ = std::fs::remove_file(&draft);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_leads_to_out_of_the_repository_is_not_written() {
        let (repository, home) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("one"));
        let (root, profile) = (repository.path(), home.path().join(".profile"));
        std::fs::write(&profile, "yours").expect("written");
        std::fs::write(root.join("shared.yml"), "theirs").expect("written");
        std::fs::create_dir(root.join("scripts")).expect("made");
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.join(name)).expect("a link");
        link(&profile, ".gitpod.yml");
        link(home.path(), "gitpod");
        link(Path::new("shared.yml"), "azure-pipelines.yml");
        let said = |path: &Path| stays_in(root, path).err().map(|failure| failure.message);
        for name in [".gitpod.yml", "gitpod/install.sh"] {
            let said = said(&root.join(name)).expect("it leads out");
            assert!(said.contains("leads out of the repository, to "), "{said}");
        }
        for name in [
            "azure-pipelines.yml",
            "scripts/start.sh",
            ".gitlab-ci.yml",
            "new/start.sh",
        ] {
            assert_eq!(said(&root.join(name)), None, "{name}");
        }
        for named in [profile, root.join("scripts/../../.profile")] {
            assert_eq!(said(&named), None, "it was named");
        }
    }

    #[test]
    fn a_link_that_lies_where_the_draft_goes_is_not_followed() {
        let root = tempfile::tempdir().expect("a directory");
        let (path, other) = (root.path().join(".gitpod.yml"), root.path().join("other"));
        std::fs::write(&other, "theirs").expect("written");
        let draft = root.path().join(format!(".tagalong-init.{}", std::process::id()));
        std::os::unix::fs::symlink(&other, draft).expect("a link");
        let edit = Edit {
            path: path.clone(),
            before: None,
            after: Some("ours".to_owned()),
        };
        write(&edit, root.path()).expect("written");
        let text = |path| std::fs::read_to_string(path).expect("readable");
        assert_eq!((text(path), text(other)), ("ours".to_owned(), "theirs".to_owned()));
    }
}
