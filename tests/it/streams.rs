//! Streams that take no more: what a command does goes on without them, and its exit code tells.

use std::{fs, process::Stdio};

use crate::support::agent::Home;

/// What a pipe is whose reader has gone.
fn closed() -> Stdio {
    std::io::pipe().expect("a pipe").1.into()
}

/// A device without any space left.
fn full() -> Stdio {
    fs::File::options().write(true).open("/dev/full").expect("Linux").into()
}

/// Exit code where standard error takes nothing.
fn unheard(home: &Home, arguments: &[&str], stderr: Stdio) -> Option<i32> {
    let ended = home.command(arguments).stdout(Stdio::null()).stderr(stderr).status();
    ended.expect("the executable runs").code()
}

/// Exit code, and what was said on standard error.
fn ended(home: &Home, arguments: &[&str], stdout: Stdio) -> (Option<i32>, String) {
    let mut command = home.command(arguments);
    let output = command
        .current_dir(home.path())
        .stdout(stdout)
        .output()
        .expect("the executable runs");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn what_changes_something_does_all_of_it_although_nobody_reads() {
    let home = Home::new();
    fs::create_dir(home.path().join(".git")).expect("a directory");
    home.up();
    assert_eq!(ended(&home, &["init", "gitpod"], closed()), (Some(0), String::new()));
    for file in [".gitpod.yml", "gitpod/install.sh", "gitpod/start.sh"] {
        assert!(home.path().join(file).exists(), "{file}");
    }
    assert_eq!(ended(&home, &["purge"], closed()), (Some(0), String::new()));
    for directory in ["state/tagalong", "run/tagalong"] {
        assert!(!home.path().join(directory).exists(), "{directory}");
    }
}

#[test]
fn what_cannot_be_written_is_a_failure_and_only_after_the_work() {
    let home = Home::new();
    fs::create_dir(home.path().join(".git")).expect("a directory");
    // A hook is none the worse for it.
    assert_eq!(ended(&home, &["up"], full()).0, Some(0));
    assert!(home.pid().is_some(), "the agent runs");
    for command in [&["env"][..], &["status", "--json"], &["init", "gitpod"]] {
        let (code, said) = ended(&home, command, full());
        assert_eq!(code, Some(1), "{command:?}");
        assert!(
            said.starts_with("tagalong: standard output cannot be written: "),
            "{said}"
        );
    }
    assert!(home.path().join(".gitpod.yml").exists());
}

#[test]
fn promise_9_what_cannot_be_said_keeps_no_agent_from_running() {
    for stderr in [closed, full] {
        // Both have something to say: one of the settings that it does not know, one of those that it cannot take.
        let home = Home::new().set("TAGALONG_FOO", "1");
        assert_eq!(unheard(&home, &["up"], stderr()), Some(0));
        assert!(home.pid().is_some(), "the agent runs");
        assert_eq!(unheard(&home, &["spool", "retry", "nonsense"], stderr()), Some(1));
        let home = Home::new().set("TAGALONG_EXPORT_TIMEOUT", "soon");
        assert_eq!(unheard(&home, &["up"], stderr()), Some(0));
        assert_eq!(unheard(&home, &["token"], stderr()), Some(2));
        assert_eq!(unheard(&home, &["logs"], stderr()), Some(1));
    }
}
