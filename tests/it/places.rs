//! The real executable in the places that a platform makes: where nobody is, where it is switched off, and where one
//! snapshot wakes up twice.

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tagalong::{
    agent::claim,
    demo::upstream::{self, Upstream},
    otlp::Signal,
    workspace::{self, Env, Files},
};

use crate::support::{agent::Home, telemetry};

/// What each platform says of a prebuild, and what says it where no platform does.
const PREBUILDS: [(&str, &[(&str, &str)]); 5] = [
    (
        "Gitpod",
        &[("GITPOD_WORKSPACE_ID", "acme-app-abc"), ("GITPOD_HEADLESS", "true")],
    ),
    ("Codespaces", &[("CODESPACES", "true"), ("GITHUB_ACTIONS", "true")]),
    ("Coder", &[("CODER", "true"), ("CODER_WORKSPACE_IS_PREBUILD", "true")]),
    (
        "Ona, told by its prebuild task",
        &[("GITPOD_ENVIRONMENT_ID", "0190"), ("TAGALONG_PREBUILD", "true")],
    ),
    ("an image's build", &[("TAGALONG_PREBUILD", "1")]),
];

fn in_place(variables: &[(&str, &str)]) -> Home {
    let home = Home::new();
    let below = home.path().join("kept").display().to_string();
    variables
        .iter()
        .fold(home, |home, (name, value)| home.set(name, *value))
        .set("TAGALONG_HOME", below)
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn in_a_prebuild_whatever_would_start_something_is_silent_succeeds_and_leaves_no_file() {
    for (platform, variables) in PREBUILDS {
        // Wrong settings too: whoever could mend them is not here.
        for home in [
            in_place(variables),
            in_place(variables).set("TAGALONG_EXPORT_ENDPOINT", "no URL"),
        ] {
            for arguments in [
                &["up"][..],
                &["up", "--strict"],
                &["up", "--foreground"],
                &["env"],
                &["env", "--shell", "json"],
                &["up", "--env", "sh"],
                &["init", "vscode"],
            ] {
                let began = Instant::now();
                let output = home.run(arguments);
                // Milliseconds on an idle machine; nothing in here waits, so anything that does would show even on a loaded one.
                assert!(began.elapsed() < Duration::from_secs(5), "{platform}: {arguments:?}");
                assert!(output.status.success(), "{platform}: {arguments:?}");
                assert!(
                    output.stdout.is_empty() && output.stderr.is_empty(),
                    "{platform}: {output:?}"
                );
                assert_eq!(
                    entries(home.path()),
                    [""; 0],
                    "{platform}: {arguments:?} left something"
                );
            }
        }
    }
}

#[test]
fn switched_off_every_command_is_silent_succeeds_and_leaves_no_file() {
    let home = in_place(&[])
        .set("TAGALONG_DISABLED", "1")
        .set("TAGALONG_EXPORT_ENDPOINT", "no URL");
    let commands = [
        "up",
        "down",
        "status",
        "doctor",
        "whoami",
        "token",
        "env",
        "logs",
        "config",
        "spool list",
        "demo",
        "completions bash",
        "purge",
        "init shell",
        "config set export.timeout 5s",
        "up --env sh",
        "no-such-command",
        "up --no-such-flag",
    ];
    for command in commands {
        let output = home.run(&command.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{command}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{command}: {output:?}"
        );
    }
    assert_eq!(entries(home.path()), [""; 0]);
    assert!(home.text(&["--help"]).contains("Usage"), "help is for whoever asks");
    let on = in_place(&[]).set("TAGALONG_DISABLED", "0");
    assert!(on.text(&["config"]).contains("export.endpoint"));
}

/// A workspace whose upstream cannot be reached, so that what it accepts stays.
fn offline(id: &str) -> Home {
    in_place(&[("GITPOD_WORKSPACE_ID", id), ("GITPOD_OWNER_ID", "u-1")])
        .set("TAGALONG_EXPORT_ENDPOINT", "http://127.0.0.1:1")
        .set("TAGALONG_IDENTITY_CREDENTIAL", "none")
}

fn copy(from: &Home, to: &Home) {
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from.path().join("kept"))
        .arg(to.path())
        .status();
    assert!(copied.expect("cp runs").success());
}

fn pending(status: &Value) -> u64 {
    status["spool"]["books"]["traces"]["pending"].as_u64().unwrap_or(0)
}

#[test]
fn a_snapshot_that_is_resumed_twice_makes_two_sessions_and_no_cursor_has_two_owners() {
    let original = offline("ws-1");
    original.up();
    let body = telemetry::request(Signal::Traces, 3);
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let sent = client
        .post(original.http("v1/traces"))
        .header("content-type", "application/x-protobuf")
        .body(body)
        .send();
    assert!(sent.expect("an answer").status().is_success());
    original.kill_9();

    let (one, other) = (offline("ws-2"), offline("ws-3"));
    copy(&original, &one);
    copy(&original, &other);
    let (first, second, again) = (one.up(), other.up(), original.up());
    let own = |home: &Home, status: &Value| {
        let dir = status["spool"]["dir"].as_str().expect("a directory").to_owned();
        assert!(dir.starts_with(&home.path().display().to_string()), "{dir}");
        dir
    };
    assert_ne!(own(&one, &first), one.path().join("kept/spool").display().to_string());
    assert_ne!(
        own(&other, &second),
        other.path().join("kept/spool").display().to_string()
    );
    assert_eq!(
        own(&original, &again),
        original.path().join("kept/spool").display().to_string()
    );
    let sessions: std::collections::BTreeSet<String> = [&first, &second, &again]
        .iter()
        .map(|status| status["agent"]["session_id"].to_string())
        .collect();
    assert_eq!(sessions.len(), 3);
    assert!(pending(&again) >= 3, "the original still has what it accepted");
    assert!(
        one.path().join("kept/spool").exists(),
        "and the copy is neither sent nor deleted: the original may be gone"
    );
    let notice = one.run(&["up", "--strict"]);
    let notice = String::from_utf8_lossy(&notice.stderr).into_owned();
    assert!(
        notice.contains("was made in another workspace and is left alone"),
        "{notice}"
    );
    one.text(&["--set", "spool.keep_bytes=32MiB", "up", "--strict"]);
    assert_eq!(
        own(&one, &one.status()),
        own(&one, &first),
        "the next start finds its own again"
    );
}

/// A plain machine with a firmware number of its own; all else is as its disk says.
fn machine(root: &Path, firmware: &str) -> Files {
    for (path, text) in [
        ("etc/machine-id", "in the disk that all were made of"),
        ("var/lib/cloud/data/instance-id", "iid-datasource-none"),
        ("proc/sys/kernel/hostname", "dev-vm"),
        ("sys/class/dmi/id/product_uuid", firmware),
    ] {
        let path = root.join(firmware).join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
    Files::below(root.join(firmware))
}

#[test]
fn a_disk_that_two_machines_are_made_of_makes_two_workspaces_with_a_spool_each() {
    let home = tempfile::tempdir().expect("a directory");
    let original = home.path().join("original");
    let start = |state: &Path, firmware: &str| {
        let found = workspace::detect(
            &Env::default(),
            &machine(home.path(), firmware),
            &workspace::Config::default(),
            state,
        )
        .expect("a workspace");
        let spool = claim::spool_of(&state.join("spool"), &found.place);
        (found, spool)
    };
    let (first, spool) = start(&original, "0");
    assert_eq!(spool, original.join("spool"));
    std::fs::create_dir_all(&spool).expect("a directory");
    std::fs::write(spool.join("place"), first.place.to_text()).expect("a file");

    let clones = ["1", "2"].map(|firmware| {
        let state = home.path().join("state").join(firmware);
        std::fs::create_dir_all(state.join("spool")).expect("a directory");
        for kept in ["workspace-id", "spool/place"] {
            std::fs::copy(original.join(kept), state.join(kept)).expect("a copy");
        }
        let (clone, spool) = start(&state, firmware);
        assert_ne!(spool, state.join("spool"), "the copied cursor is not gone on with");
        let (again, the_same) = start(&state, firmware);
        assert_eq!(
            (&again.id, the_same),
            (&clone.id, spool),
            "the next start finds its own again"
        );
        clone.id
    });
    assert!(clones[0] != clones[1] && !clones.contains(&first.id));
    assert_eq!(start(&original, "0").0.id, first.id, "and the original is what it was");
}

#[test]
fn init_shows_a_diff_writes_the_platforms_file_and_takes_it_out_again() {
    let home = Home::new();
    let repository = home.path().join("app");
    std::fs::create_dir_all(repository.join(".git")).expect("a directory");
    std::fs::create_dir_all(repository.join("src")).expect("a directory");
    let file = repository.join(".gitpod.yml");
    let original = "# ours\ntasks:\n  - init: make\n";
    std::fs::write(&file, original).expect("a file");
    let init = |arguments: &[&str]| {
        let mut all = vec!["init", "gitpod"];
        all.extend(arguments);
        let output = home.command(&all).current_dir(repository.join("src")).output();
        output.expect("it runs")
    };
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let shown = said(&init(&["--dry-run"]));
    assert!(
        shown.contains("+++ b/.gitpod.yml") && shown.contains("+  - name: tagalong"),
        "{shown}"
    );
    assert!(shown.contains("--- /dev/null\n+++ b/gitpod/install.sh"), "{shown}");
    assert_eq!(
        std::fs::read_to_string(&file).expect("text"),
        original,
        "a dry run changes nothing"
    );

    assert!(said(&init(&[])).contains("changed .gitpod.yml"));
    assert!(repository.join("gitpod/start.sh").exists());
    assert!(said(&init(&[])).contains("it is there already"));
    assert!(said(&init(&["--remove"])).contains("deleted gitpod/start.sh"));
    assert_eq!(std::fs::read_to_string(&file).expect("text"), original);
    assert!(
        !repository.join("gitpod").exists(),
        "nor is the directory left that was made for the scripts"
    );

    std::fs::write(&file, "tasks: [\n").expect("a file");
    let refused = init(&[]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text.contains("left as it is") && text.contains("add this by hand:"),
        "{text}"
    );
    assert!(!repository.join("gitpod").exists(), "then nothing at all is written");
}

#[test]
fn init_writes_through_a_link_and_keeps_the_files_mode() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new().set("SHELL", "/bin/zsh");
    let dotfiles = home.path().join("dotfiles");
    std::fs::create_dir_all(home.path().join("home")).expect("a directory");
    std::fs::create_dir_all(&dotfiles).expect("a directory");
    std::fs::write(dotfiles.join("zshrc"), "setopt autocd\n").expect("a file");
    std::fs::set_permissions(dotfiles.join("zshrc"), std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let link = home.path().join("home/.zshrc");
    std::os::unix::fs::symlink(dotfiles.join("zshrc"), &link).expect("a link");
    let said = home.text(&["init", "shell"]);
    assert!(said.starts_with(&format!("changed {}\n", link.display())), "{said}");
    assert!(link.is_symlink());
    let metadata = std::fs::metadata(&link).expect("a file");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&link).expect("text").contains("tagalong up"));
    home.text(&["init", "shell", "--remove"]);
    assert_eq!(std::fs::read_to_string(&link).expect("text"), "setopt autocd\n");
}

#[test]
fn the_first_up_says_what_is_recorded_under_which_name_and_where_it_goes_and_says_it_once() {
    let home = offline("ws-1");
    let said = |arguments: &[&str]| {
        let text = home.text(arguments);
        assert_eq!(text.matches("http://").count(), 1, "upstream is named once: {text}");
        let lines = ["recorded: ", "under: ", "sent to: "];
        lines.map(|start| {
            text.lines()
                .find_map(|line| line.trim().strip_prefix(start).map(str::to_owned))
        })
    };
    let [recorded, under, sent] = said(&["up", "--strict"]);
    assert!(recorded.is_some());
    assert_eq!(under.as_deref(), Some("u-1 (the platform's word)"));
    let sent = sent.expect("a place");
    assert!(
        sent.contains("http://127.0.0.1:1/") && sent.contains("TAGALONG_DISABLED=1"),
        "{sent}"
    );
    assert_eq!(said(&["up", "--strict"]), [None, None, None], "not twice");
    home.run(&["down"]);
    assert_eq!(said(&["up", "--strict"]), [None, None, None], "nor at the next start");
    let [_, _, elsewhere] = said(&["--set", "export.endpoint=http://127.0.0.1:2", "up", "--strict"]);
    assert!(
        elsewhere.is_some_and(|line| line.contains(":2")),
        "but when it goes elsewhere"
    );
}

#[test]
fn bug_a_lie_purge_does_not_say_that_nothing_rests_where_it_cannot_look() {
    let home = offline("ws-1");
    home.up();
    home.run(&["down"]);
    let kept = home.path().join("kept");
    let mut purge = home.command(&["purge"]);
    if rustix::process::geteuid().is_root() {
        // Root may look everywhere, so it is somebody else who looks.
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("a mode");
        purge.uid(65534).gid(65534);
    } else {
        std::fs::set_permissions(&kept, Permissions::from_mode(0o000)).expect("a mode");
    }
    let output = purge.output().expect("it runs");
    std::fs::set_permissions(&kept, Permissions::from_mode(0o700)).expect("a mode");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot be told: Permission denied"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    assert!(kept.join("spool/lock").exists());
}

#[test]
fn bug_a_lie_purge_finds_a_spool_whose_lock_is_gone_too() {
    let home = offline("ws-1");
    home.up();
    assert_eq!(home.run(&["down"]).status.code(), Some(5), "there is data");
    let spool = home.path().join("kept/spool");
    // As in a copy, or where a purge was killed.
    std::fs::remove_file(spool.join("lock")).expect("it is there");
    assert!(home.text(&["purge"]).contains("deleted the spool and its history"));
    assert!(!spool.exists());
}

#[test]
fn purge_stops_the_agent_deletes_all_that_rests_here_and_nothing_of_anybody_elses() {
    let home = offline("ws-1").set("TAGALONG_IDENTITY_ATTRIBUTES", "pseudonym");
    home.up();
    let kept = home.path().join("kept");
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let sent = client
        .post(home.http("v1/traces"))
        .header("content-type", "application/x-protobuf")
        .body(telemetry::request(Signal::Traces, 3))
        .send();
    assert!(sent.expect("an answer").status().is_success());
    std::fs::create_dir_all(kept.join("bin")).expect("a directory");
    let run = home.path().join("run/tagalong");
    // What lies beside ours where a directory of somebody's was set, however much it is called like ours.
    for theirs in ["spool/photos", "spool/shop/logs", "spool/new"] {
        std::fs::create_dir_all(kept.join(theirs)).expect("a directory");
    }
    let theirs = [
        "bin/tagalong",
        "notes.txt",
        "spool/photos/cat.jpg",
        "spool/shop/main.rs",
        "spool/place.md",
    ];
    for theirs in theirs
        .map(|name| kept.join(name))
        .into_iter()
        .chain([run.join("notes.txt")])
    {
        std::fs::write(theirs, "theirs").expect("a file");
    }
    for draft in [".workspace-id.0f", ".pseudonym-key.0f", "spool/place.4711.tmp"] {
        std::fs::write(kept.join(draft), "a killed process's").expect("a file");
    }

    let shown = home.text(&["purge", "--dry-run"]);
    assert!(shown.contains("would delete the spool and its history"), "{shown}");
    assert!(home.pid().is_some(), "a dry run stops nothing");

    let said = home.text(&["purge"]);
    for thing in [
        "stopped the agent",
        "the spool and its history",
        "the key of pseudonyms",
        "the agent's log",
    ] {
        assert!(said.contains(thing), "{thing}: {said}");
    }
    assert!(said.contains("had not been sent"), "{said}");
    let left = |dir: &Path| {
        let mut names = entries(dir);
        names.sort();
        names
    };
    assert_eq!(left(&kept), ["bin", "notes.txt", "spool"]);
    assert_eq!(left(&kept.join("spool")), ["new", "photos", "place.md", "shop"]);
    assert_eq!(left(&kept.join("spool/shop")), ["logs", "main.rs"]);
    assert_eq!(left(&run), ["notes.txt"]);
    assert!(home.text(&["purge"]).contains("nothing of tagalong's rests here"));
    assert_eq!(
        left(&kept),
        ["bin", "notes.txt", "spool"],
        "looking for it makes nothing new"
    );
}

#[test]
fn status_says_what_the_platform_says_and_whose_word_it_is() {
    let home = in_place(&[
        ("CODER", "true"),
        ("CODER_WORKSPACE_NAME", "dev"),
        ("CODER_WORKSPACE_ID", "ws-uuid"),
        ("CODER_WORKSPACE_OWNER_ID", "u-uuid"),
    ]);
    let text = home.text(&["status"]);
    for line in [
        "ws-uuid (asserted, not verified)",
        "on coder (the platform's word)",
        "called dev (the platform's word)",
        "created by u-uuid (asserted, not verified)",
    ] {
        assert!(text.contains(line), "{line}: {text}");
        let doctor = home.run(&["doctor"]);
        let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(doctor.contains(line), "{line}: {doctor}");
    }
    let status = home.status();
    assert_eq!(status["workspace"]["trust"]["name"], "platform");
    assert_eq!(status["workspace"]["trust"]["owner"], "asserted");
}

/// What arrived of one request, as its resource's attributes.
async fn arrived(upstream: &Upstream, home: &Home) -> std::collections::BTreeMap<String, String> {
    home.up();
    let body = telemetry::traces(&[("service.name", "tests"), ("user.id", "forged")], telemetry::spans(1));
    let sent = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
        .post(home.http("v1/traces"))
        .header("content-type", "application/x-protobuf")
        .body(body)
        .send();
    assert!(sent.await.expect("an answer").status().is_success());
    home.text(&["down"]);
    let resources = upstream.record().resources;
    let of_tests = |resource: &&std::collections::BTreeMap<String, String>| resource["service.name"] == "tests";
    resources.iter().find(of_tests).expect("it arrived").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ci_job_sends_says_its_run_and_not_that_it_is_for_development() {
    let upstream = Upstream::start(upstream::Config::default()).await.expect("an upstream");
    let home = in_place(&[
        ("GITLAB_CI", "true"),
        ("CI_JOB_ID", "77"),
        ("CI_JOB_NAME", "deploy"),
        ("CI_PIPELINE_ID", "7"),
        ("CI_PROJECT_URL", "https://gitlab.example.com/acme/app"),
        ("CI_COMMIT_REF_NAME", "main"),
        ("CI_COMMIT_SHA", "0123abcd"),
        ("CI_ENVIRONMENT_NAME", "staging"),
        ("GITLAB_USER_ID", "42"),
    ])
    .set("TAGALONG_EXPORT_ENDPOINT", upstream.url())
    .set("TAGALONG_IDENTITY_CREDENTIAL", "none");
    let is = arrived(&upstream, &home).await;
    for (key, value) in [
        ("workspace.platform", "gitlab-ci"),
        ("workspace.id", "77"),
        ("user.id", "42"),
        ("cicd.pipeline.run.id", "7"),
        ("cicd.pipeline.task.name", "deploy"),
        ("cicd.pipeline.task.run.id", "77"),
        ("vcs.repository.url.full", "https://gitlab.example.com/acme/app"),
        ("vcs.ref.head.name", "main"),
        ("vcs.ref.head.revision", "0123abcd"),
        ("service.version", "0123abcd"),
        ("deployment.environment.name", "staging"),
    ] {
        assert_eq!(is.get(key).map(String::as_str), Some(value), "{key}: {is:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_codespace_sends_goes_by_its_name_and_the_person_that_github_names() {
    let upstream = Upstream::start(upstream::Config::default()).await.expect("an upstream");
    let home = in_place(&[
        ("CODESPACES", "true"),
        ("CODESPACE_NAME", "octocat-literate-mld5"),
        ("GITHUB_USER", "octocat"),
        ("GITHUB_REPOSITORY", "acme/app"),
        ("GITHUB_TOKEN", "ghu_canary"),
    ])
    .set("TAGALONG_EXPORT_ENDPOINT", upstream.url())
    .set("TAGALONG_IDENTITY_CREDENTIAL", "none");
    let is = arrived(&upstream, &home).await;
    for (key, value) in [
        ("workspace.platform", "codespaces"),
        ("workspace.id", "octocat-literate-mld5"),
        ("user.id", "octocat"),
        ("vcs.repository.name", "app"),
        ("deployment.environment.name", "development"),
    ] {
        assert_eq!(is.get(key).map(String::as_str), Some(value), "{key}: {is:?}");
    }
    assert!(!is.values().any(|value| value.contains("canary")));
}

#[test]
fn a_profile_gets_the_environment_alone_and_a_person_is_told_when_somebody_can_see_it() {
    let home = Home::new();
    let profile = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        let output = command.stderr(Stdio::null()).output().expect("it runs");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    let first = profile(&["up", "--env", "sh"]);
    assert!(
        first.starts_with("export OTEL_EXPORTER_OTLP_ENDPOINT='http://127.0.0.1:") && first.lines().count() == 5,
        "{first}"
    );
    assert_eq!(profile(&["up", "--env", "sh"]), first, "of the same agent");
    assert_eq!(home.text(&["env"]), first);
    let seen = home.run(&["up", "--env", "fish"]);
    assert!(String::from_utf8_lossy(&seen.stdout).starts_with("set -gx OTEL_EXPORTER_OTLP_ENDPOINT "));
    let said = String::from_utf8_lossy(&seen.stderr);
    assert!(
        said.contains("already running") && said.contains("recorded: "),
        "{said}"
    );
    assert!(!home.text(&["up"]).contains("recorded: "), "once");
}
