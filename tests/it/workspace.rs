//! A checkout as git itself keeps it, followed through a day's work. Without git on the PATH there is nothing to
//! compare with, and these stories end at once.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tagalong::workspace::vcs::Vcs;

/// A repository with one commit on `main`; none without git.
fn repository() -> Option<tempfile::TempDir> {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("git is not here, so there is nothing to compare with");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), "init --quiet --initial-branch=main");
    git(
        dir.path(),
        "remote add origin https://user:s3cret@gitlab.com/acme/team/app.git",
    );
    git(dir.path(), "commit --quiet --allow-empty --message one");
    Some(dir)
}

#[track_caller]
fn git(dir: &Path, arguments: &str) -> String {
    let identity = [
        "-c",
        "user.name=dev",
        "-c",
        "user.email=dev@example.com",
        "-c",
        "commit.gpgSign=false",
    ];
    let mut command = Command::new("git");
    command.args(identity).args(arguments.split(' ')).current_dir(dir);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "git {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Compares branch and commit with what git says of them, `step` seconds into the day: what was seen before is old.
#[track_caller]
fn agrees_with_git(vcs: &Vcs, dir: &Path, start: Instant, step: u64) {
    let said: BTreeMap<String, String> = vcs
        .attributes_at(start + Duration::from_secs(step))
        .1
        .into_iter()
        .collect();
    assert_eq!(
        said.get("vcs.ref.head.revision").cloned(),
        Some(git(dir, "rev-parse HEAD"))
    );
    let branch = Some(git(dir, "rev-parse --abbrev-ref HEAD")).filter(|branch| branch != "HEAD");
    assert_eq!(said.get("vcs.ref.head.name").cloned(), branch);
    assert_eq!(said["vcs.repository.url.full"], "https://gitlab.com/acme/team/app");
    assert_eq!(said["vcs.owner.name"], "acme/team");
}

#[test]
fn each_of_gits_own_steps_shows_at_the_next_look() {
    let Some(repository) = repository() else { return };
    let dir = repository.path();
    let vcs = Vcs::new(Some(dir.to_owned()));
    let start = Instant::now();
    agrees_with_git(&vcs, dir, start, 0);
    let steps = [
        "commit --quiet --allow-empty --message two",
        "switch --quiet --create feature/deep/name",
        "commit --quiet --allow-empty --message three",
        "pack-refs --all",
        "commit --quiet --allow-empty --message four",
        "commit --quiet --allow-empty --amend --message better",
        "gc --quiet",
        "reset --quiet --hard HEAD~1",
        "checkout --quiet --detach main",
        "switch --quiet main",
        "merge --quiet --no-ff --message merged feature/deep/name",
        "branch --move main trunk",
    ];
    for (second, step) in (1..).zip(steps) {
        git(dir, step);
        agrees_with_git(&vcs, dir, start, second);
    }
}

#[test]
fn a_worktree_and_its_main_checkout_each_say_their_own_branch() {
    let Some(repository) = repository() else { return };
    let dir = repository.path();
    git(dir, "worktree add --quiet -b side beside");
    git(&dir.join("beside"), "commit --quiet --allow-empty --message aside");
    agrees_with_git(
        &Vcs::new(Some(dir.join("beside"))),
        &dir.join("beside"),
        Instant::now(),
        0,
    );
    agrees_with_git(&Vcs::new(Some(dir.to_owned())), dir, Instant::now(), 0);
}

#[test]
fn many_askers_at_once_all_get_the_whole_truth() {
    let Some(repository) = repository() else { return };
    let vcs = Vcs::new(Some(repository.path().to_owned()));
    let expected = vcs.attributes();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| assert_eq!(vcs.attributes(), expected)));
        }
    });
}
