//! The command line as its user meets it: the real executable, its words, its exit codes.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{net::UnixListener, process::ExitStatusExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{
    agent::{Home, is_zombie, signal},
    telemetry,
};

/// Nothing listens there: the port is reserved (RFC 6335) and none of ours.
const NOWHERE: &str = "http://127.0.0.1:1";
/// Longer than an agent drains, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Exit code and what was said on standard error, with what varies replaced.
fn failure(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?} said something on stdout");
    said(home, &output)
}

fn said(home: &Home, output: &Output) -> String {
    let code = output.status.code().expect("it was not killed");
    let text = String::from_utf8_lossy(&output.stderr).replace(&home.path().display().to_string(), "HOME");
    format!("{}\nexit code {code}", text.trim_end())
}

#[test]
fn no_command_is_a_question_for_help() {
    let output = Home::new().run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: tagalong"));
}

#[test]
fn wrong_words_are_said_with_the_right_ones() {
    let home = Home::new();
    insta::assert_snapshot!(failure(&home, &["upp"]), @"
    error: unrecognized subcommand 'upp'

      tip: a similar subcommand exists: 'up'

    Usage: tagalong [OPTIONS] <COMMAND>

    For more information, try '--help'.
    exit code 2
    ");
    insta::assert_snapshot!(failure(&home, &["env", "--shell", "tcsh"]), @"
    error: invalid value 'tcsh' for '--shell <SHELL>'
      [possible values: sh, fish, json, dotenv]

    For more information, try '--help'.
    exit code 2
    ");
    insta::assert_snapshot!(failure(&home, &["down", "--timeout", "soon"]), @"
    tagalong: soon is no duration
      write it as 200ms, 10s or 1h
    exit code 2
    ");
    insta::assert_snapshot!(failure(&home, &["--set", "export.endpoint", "status"]), @"
    tagalong: --set export.endpoint is no setting
      write it as --set section.key=value; `tagalong config` lists the keys
    exit code 2
    ");
    insta::assert_snapshot!(failure(&home, &["--set", "export.headers: Bearer s3cret", "status"]), @"
    tagalong: --set export.headers… is no setting
      write it as --set section.key=value; `tagalong config` lists the keys
    exit code 2
    ");
}

#[test]
fn promise_9_words_that_up_does_not_know_are_said_and_fail_no_hook() {
    let home = Home::new();
    let ended = |arguments: &[&str]| {
        let text = failure(&home, arguments);
        assert!(text.contains("unexpected argument '--envv' found"), "{text}");
        text.lines().last().expect("the exit code").to_owned()
    };
    for hook in [&["up", "--envv"][..], &["--set", "export.timeout=9s", "up", "--envv"]] {
        assert_eq!(ended(hook), "exit code 0", "{hook:?}");
    }
    for asks in [
        &["up", "--envv", "--strict"][..],
        &["up", "--foreground", "--envv"],
        &["status", "--envv"],
        &["config", "set", "up", "--envv"],
    ] {
        assert_eq!(ended(asks), "exit code 2", "{asks:?}");
    }
}

#[test]
fn wrong_settings_are_said_all_at_once() {
    let home = Home::new()
        .set("TAGALONG_EXPORT_TIMEOUT", "soon")
        .set("TAGALONG_EXPORT_ENDPONT", "https://otel.example.com");
    insta::assert_snapshot!(failure(&home, &["token"]), @r#"
    tagalong: 2 settings are wrong
      export.endpont (TAGALONG_EXPORT_ENDPONT): there is no such setting; did you mean export.endpoint?
      export.timeout (TAGALONG_EXPORT_TIMEOUT): "soon" is not accepted; expected a duration from 100ms to 10m, such as 200ms, 10s or 1h
    exit code 2
    "#);
}

#[test]
fn a_setting_that_is_wrong_keeps_nobody_from_looking_or_from_stopping_the_agent() {
    let home = Home::new();
    home.up();
    let refused = home.run(&["config", "set", "identity.credential", "file"]);
    assert_eq!(refused.status.code(), Some(2));
    for look in [
        &["status"][..],
        &["status", "--json"],
        &["env"],
        &["logs"],
        &["config"],
        &["spool", "list"],
        &["purge", "--dry-run"],
        &["down"],
    ] {
        let output = home.run(look);
        assert!(!output.stdout.is_empty(), "{look:?}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(said(&home, &output), @r#"
            tagalong: a setting is wrong
              identity.credential (HOME/config/tagalong/config.toml): "file" needs identity.file, which is not set
            exit code 0
            "#);
        }
    }
    assert_eq!(home.pid(), None, "down ended it");
    insta::assert_snapshot!(failure(&home, &["env"]), @r#"
    tagalong: a setting is wrong
      identity.credential (HOME/config/tagalong/config.toml): "file" needs identity.file, which is not set
    tagalong: no agent runs for this workspace
      start it with `tagalong up`
    exit code 3
    "#);
    for acts in [
        &["up", "--strict"][..],
        &["token"],
        &["whoami"],
        &["logout"],
        &["purge"],
    ] {
        let text = failure(&home, acts);
        assert!(text.ends_with("which is not set\nexit code 2"), "{acts:?}: {text}");
    }
    assert!(
        home.text(&["config", "set", "identity.file", "/run/token"])
            .contains("is set")
    );
    assert!(said(&home, &home.run(&["status"])).ends_with("exit code 0"));
}

#[test]
fn where_nobody_can_tell_which_spool_is_meant_nobody_says_that_no_agent_runs() {
    let home = Home::new();
    let dir = home.path().join("elsewhere").display().to_string();
    let file = home.path().join("config/tagalong/config.toml");
    home.text(&["config", "set", "spool.dir", &dir]);
    home.up();
    let meant = fs::read_to_string(&file).expect("settings");
    for spoiled in ["[spool]\ndir = 7\n", "[export"] {
        fs::write(&file, spoiled).expect("written");
        for look in [
            &["status"][..],
            &["status", "--json"],
            &["env"],
            &["spool", "list"],
            &["down"],
        ] {
            let text = failure(&home, look);
            assert!(text.contains("which spool is meant cannot be told"), "{look:?}: {text}");
            assert!(text.ends_with("exit code 2"), "{look:?}: {text}");
        }
        assert!(failure(&home, &["purge", "--dry-run"]).ends_with("exit code 2"));
    }
    fs::write(&file, "[spool]\ndir = 'spool'\n").expect("written");
    insta::assert_snapshot!(failure(&home, &["down"]), @r#"
    tagalong: a setting is wrong
      spool.dir (HOME/config/tagalong/config.toml): "spool" is not accepted; expected an absolute path
    tagalong: which spool is meant cannot be told, nor whether its agent runs
      correct what is wrong above first: it may say where the spool is
    exit code 2
    "#);
    fs::write(&file, meant).expect("written");
    assert!(home.pid().is_some());
}

#[test]
fn a_state_directory_that_cannot_be_made_keeps_nobody_from_looking() {
    let home = Home::new();
    fs::write(home.path().join("state"), "in the way").expect("written");
    for look in [&["status"][..], &["config"], &["down"]] {
        let output = home.run(look);
        assert!(!output.stdout.is_empty(), "{look:?}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(said(&home, &output), @"
            tagalong: the workspace's id cannot be kept: Not a directory (os error 20)
              make HOME/state/tagalong a directory that you can write to, or name another one in TAGALONG_HOME
            exit code 0
            ");
        }
    }
    insta::assert_snapshot!(failure(&home, &["logs"]), @"
    tagalong: the workspace's id cannot be kept: Not a directory (os error 20)
      make HOME/state/tagalong a directory that you can write to, or name another one in TAGALONG_HOME
    tagalong: there is no log to read at HOME/state/tagalong/agent.log: Not a directory (os error 20)
      an agent that was started with `tagalong up` writes one
    exit code 1
    ");
    for hook in [&["up"][..], &["up", "--strict"]] {
        let text = failure(&home, hook);
        let (text, code) = text.rsplit_once('\n').expect("an exit code");
        assert_eq!(code, format!("exit code {}", hook.len() - 1), "{hook:?}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(text, @"
            tagalong: the workspace's id cannot be kept: Not a directory (os error 20)
              make HOME/state/tagalong a directory that you can write to, or name another one in TAGALONG_HOME
            ");
        }
    }
    // Where the id is known without it, the log is the first that cannot be written.
    let named = home.set("TAGALONG_WORKSPACE_ID", "ws-1");
    insta::assert_snapshot!(failure(&named, &["up", "--strict"]), @"
    tagalong: the agent's log cannot be written: Not a directory (os error 20)
      make HOME/state/tagalong a directory that you can write to, or name another one in TAGALONG_HOME
    exit code 1
    ");
}

#[test]
fn a_relative_home_is_none_and_whatever_one_stands_in_is_left_alone() {
    let home = Home::new();
    let here = home.path().join("checkout");
    fs::create_dir(&here).expect("a directory");
    let failure = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("HOME", "home").current_dir(&here);
        let output = command
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .output();
        said(&home, &output.expect("it runs"))
    };
    insta::assert_snapshot!(failure(&["status"]), @"
    tagalong: a setting is wrong
      HOME (HOME): there is no home directory; expected an absolute path in HOME or TAGALONG_HOME
    exit code 2
    ");
    insta::assert_snapshot!(failure(&["config", "set", "export.timeout", "5s"]), @"
    tagalong: there is no home directory
      set HOME to its absolute path
    exit code 1
    ");
    insta::assert_snapshot!(failure(&["init", "shell", "--file", ".profile"]), @"
    tagalong: there is no home directory
      set HOME to its absolute path
    exit code 1
    ");
    assert_eq!(fs::read_dir(&here).expect("a directory").count(), 0);
}

#[test]
fn what_cannot_be_set_or_started_says_what_to_do_about_it() {
    let home = Home::new();
    insta::assert_snapshot!(failure(&home, &["config", "set", "export.timout", "10s"]), @"
    tagalong: export.timout: there is no such setting; did you mean export.timeout?
      `tagalong config` lists the settings, with their values
    exit code 2
    ");
    insta::assert_snapshot!(failure(&home, &["config", "set", "nothing.of_ours", "10s"]), @"
    tagalong: nothing.of_ours: there is no such setting
      `tagalong config` lists the settings, with their values
    exit code 2
    ");
    let file = home.path().join("config/tagalong/config.toml");
    fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    fs::write(&file, "[export\n").expect("written");
    insta::assert_snapshot!(failure(&home, &["config", "set", "export.timeout", "10s"]), @"
    tagalong: HOME/config/tagalong/config.toml is no valid TOML, so nothing is written into it
      correct it in an editor (`tagalong config` says in which line), and try again
    exit code 1
    ");
    fs::write(&file, [0xff, 0xfe]).expect("written");
    insta::assert_snapshot!(failure(&home, &["config", "set", "export.timeout", "10s"]), @"
    tagalong: HOME/config/tagalong/config.toml cannot be read: stream did not contain valid UTF-8
      make it a text file that you may read, and try again
    exit code 1
    ");
    fs::remove_file(&file).expect("it is there");
    fs::create_dir_all(file.join("below")).expect("made");
    insta::assert_snapshot!(failure(&home, &["config", "set", "export.timeout", "10s"]), @"
    tagalong: HOME/config/tagalong/config.toml cannot be read: Is a directory (os error 21)
      make it a text file that you may read, and try again
    exit code 1
    ");

    let home = Home::new().set("TMPDIR", "/nowhere/at/all");
    insta::assert_snapshot!(failure(&home, &["demo", "--for", "1s"]), @"
    tagalong: the demo did not run: no directory can be made in /nowhere/at/all: No such file or directory (os error 2)
      it needs a directory in TMPDIR (else /tmp) that it can write in, and ports of 127.0.0.1
    exit code 1
    ");
    insta::assert_snapshot!(failure(&home, &["login", "--yes", "http://ada:s3cret@otel.example"]), @"
    tagalong: a user and password do not belong into the URL: the login is the credential
      write it as https://HOST
    exit code 2
    ");
    insta::assert_snapshot!(failure(&home, &["login", "--yes", "https://127.0.0.1:1"]), @"
    tagalong: the endpoint https://127.0.0.1:1/ cannot be reached (no connection)
      nothing was changed; check the address and the network, and run `tagalong login` again
    exit code 1
    ");
    home.up();
    insta::assert_snapshot!(failure(&home, &["up", "--foreground"]), @"
    tagalong: another agent holds the spool HOME/state/tagalong/spool: it may be starting or stopping; `tagalong status` tells
      with --replace, this one takes its place
    exit code 1
    ");
}

#[test]
fn a_setting_is_taken_out_of_the_users_file_and_what_holds_then_is_said() {
    let home = Home::new();
    home.text(&["config", "set", "export.timeout", "20s"]);
    let file = home.path().join("config/tagalong/config.toml");
    let said = |key: &str| {
        let text = home.text(&["config", "unset", key]);
        text.replace(&home.path().display().to_string(), "HOME")
    };
    insta::assert_snapshot!(said("export.timeout"), @"
    export.timeout is taken out of HOME/config/tagalong/config.toml
      what holds is 10s (default)
    ");
    insta::assert_snapshot!(said("export.timeout"), @"
    export.timeout is not set in HOME/config/tagalong/config.toml
      what holds is 10s (default)
    ");
    insta::assert_snapshot!(failure(&home, &["config", "unset", "export.timout"]), @"
    tagalong: export.timout: there is no such setting; did you mean export.timeout?
      `tagalong config` lists the settings, with their values
    exit code 2
    ");
    // What nobody knows is in the way of every start.
    fs::write(&file, "[export]\ntimout = \"20s\"\n").expect("written");
    assert_eq!(
        said("export.timout"),
        "export.timout is taken out of HOME/config/tagalong/config.toml\n"
    );
    assert_eq!(fs::read_to_string(&file).expect("settings"), "[export]\n");
    // A variable may be anybody's.
    let mut unset = home.command(&["config", "unset", "workspace.name"]);
    let output = unset.env("TAGALONG_WORKSPACE_NAME", "\u{1b}]0;box\u{7}").output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    assert!(
        text.ends_with("what holds is ]0;box (TAGALONG_WORKSPACE_NAME)\n"),
        "{text:?}"
    );
}

#[test]
fn other_tools_get_one_object_by_the_names_of_status() {
    let home = Home::new();
    home.up();
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&home.text(arguments)).expect("one object, and nothing beside it")
    };
    let (whoami, status) = (json(&["whoami", "--json"]), home.status());
    for field in ["workspace", "principal", "credential"] {
        assert_eq!(whoami[field], status[field], "{field}");
    }
    assert_eq!(json(&["spool", "list", "--json"]), serde_json::json!({"entries": []}));
    let settings = json(&["config", "--json"]);
    let first = serde_json::json!({"key": "listen.grpc", "value": "127.0.0.1:0", "origin": "TAGALONG_LISTEN_GRPC"});
    assert_eq!(settings["settings"][0], first);
    assert_eq!(settings["notices"], serde_json::json!([]));
}

#[test]
fn without_an_agent_each_command_says_so() {
    let home = Home::new();
    insta::assert_snapshot!(failure(&home, &["whoami"]), @"
    tagalong: no agent runs for this workspace
      start it with `tagalong up`
    exit code 3
    ");
    insta::assert_snapshot!(failure(&home, &["logs"]), @"
    tagalong: there is no log to read at HOME/state/tagalong/agent.log: No such file or directory (os error 2)
      an agent that was started with `tagalong up` writes one
    exit code 1
    ");
    for command in [
        &["token"][..],
        &["env"],
        &["spool", "retry", "all"],
        &["spool", "drop", "a/logs/1"],
    ] {
        let text = failure(&home, command);
        assert!(
            text.ends_with("start it with `tagalong up`\nexit code 3"),
            "{command:?}: {text}"
        );
    }
    assert_eq!(home.text(&["spool", "list"]), "nothing is set aside\n");
    assert_eq!(home.text(&["down"]), "no agent runs for this workspace\n");
}

#[test]
fn without_a_credential_there_is_no_token_to_print() {
    let home = Home::new();
    home.up();
    insta::assert_snapshot!(failure(&home, &["token"]), @r#"
    tagalong: there is no token: identity.credential is "none" here
      set identity.credential to where tokens come from
    exit code 4
    "#);
    insta::assert_snapshot!(failure(&home, &["spool", "retry", "nonsense"]), @"
    tagalong: nonsense: nothing of this id is set aside
      `tagalong spool list` names the entries
    exit code 1
    ");
    for command in [&["list"][..], &["retry", "all"], &["drop", "all"]] {
        let words = [&["spool"], command].concat();
        assert_eq!(home.text(&words), "nothing is set aside\n", "{command:?}");
    }
    assert!(home.text(&["whoami"]).contains("asserted, not verified"));
}

#[test]
fn an_agent_that_hangs_is_named_with_the_way_to_end_it() {
    let home = Home::new();
    home.up();
    home.text(&["down"]);
    // Whoever holds the socket and never answers looks just like an agent that hangs.
    let spool: PathBuf = home.path().join("state/tagalong/spool");
    let path = tagalong::agent::control::socket_path(&home.path().join("run/tagalong"), &spool);
    // The answer goes out before the agent takes its socket along.
    while path.exists() {
        std::thread::yield_now();
    }
    let _mute = UnixListener::bind(path).expect("a socket");
    let own = format!("kill -9 {}", std::process::id());
    let text = failure(&home, &["status"]).replace(&own, "kill -9 PID");
    insta::assert_snapshot!(text, @"
    tagalong: the agent did not answer within 2 s
      see `tagalong logs`; an agent that is stuck is safe to end with `kill -9 PID`: nothing that it accepted is lost
    exit code 1
    ");
}

#[test]
fn what_waits_on_disk_is_shown_without_an_agent_and_sent_by_the_next() {
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", NOWHERE);
    home.up();
    let body = telemetry::traces(&[], telemetry::spans(7));
    let posted = reqwest::blocking::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
        .post(home.http("v1/traces"))
        .header("content-type", "application/x-protobuf")
        .body(body)
        .send();
    assert!(posted.is_ok_and(|answer| answer.status().is_success()));
    let before = home.status();
    home.kill_9();
    let after = home.status();
    assert!(after["agent"].is_null());
    for key in ["set_aside", "max_bytes", "dir"] {
        assert_eq!(before["spool"][key], after["spool"][key], "{key}");
    }
    let pending = after["spool"]["books"]["traces"]["pending"].as_u64().expect("a number");
    assert!(pending >= 7, "{after}");
    assert!(after["spool"]["bytes"].as_u64() > Some(0));
    assert!(after["spool"]["oldest_age"].is_number());
    let text = home.text(&["status"]);
    assert!(text.contains("wait for the next `tagalong up`"), "{text}");
    let output = {
        home.up();
        home.run(&["down", "--timeout", "0ms"])
    };
    let text = said(&home, &output);
    assert!(text.contains("of telemetry left in the spool"), "{text}");
    assert!(text.ends_with("exit code 5"), "{text}");
}

#[test]
fn what_is_left_out_of_account_is_said_by_up_and_by_config() {
    let home = Home::new().set("TAGALONG_ENDPOINT", "https://otel.example.com");
    let notice = "TAGALONG_ENDPOINT is no setting and is not looked at.";
    assert!(home.text(&["config"]).contains(notice));
    let output = home.run(&["up"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains(notice));
}

#[test]
fn promise_7_config_shows_no_argument_of_the_credential_command() {
    let home = Home::new().set("TAGALONG_IDENTITY_EXEC", r#"["/bin/mint", "--key", "canary-1"]"#);
    let text = home.text(&["config"]);
    assert!(text.contains(r#"["/bin/mint", …]"#), "{text}");
    assert!(!text.contains("canary"), "{text}");
    let wrong = Home::new().set("TAGALONG_IDENTITY_EXEC", r#"["mint", "--key", "canary-2"]"#);
    let output = wrong.run(&["config"]);
    assert!(said(&wrong, &output).contains("identity.exec (TAGALONG_IDENTITY_EXEC): its value is not accepted"));
    let text = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&text).contains("canary"));
}

#[test]
fn env_speaks_each_shell_and_sh_understands_it() {
    let home = Home::new();
    home.up();
    let port = home.http("").trim_end_matches('/').to_owned();
    let form = |shell| {
        home.text(&["env", "--shell", shell])
            .replace(&port, "http://127.0.0.1:PORT")
    };
    insta::assert_snapshot!(form("sh"), @"
    export OTEL_EXPORTER_OTLP_ENDPOINT='http://127.0.0.1:PORT'
    export OTEL_EXPORTER_OTLP_PROTOCOL='http/protobuf'
    export OTEL_TRACES_EXPORTER='otlp'
    export OTEL_METRICS_EXPORTER='otlp'
    export OTEL_LOGS_EXPORTER='otlp'
    ");
    insta::assert_snapshot!(form("fish"), @"
    set -gx OTEL_EXPORTER_OTLP_ENDPOINT 'http://127.0.0.1:PORT'
    set -gx OTEL_EXPORTER_OTLP_PROTOCOL 'http/protobuf'
    set -gx OTEL_TRACES_EXPORTER 'otlp'
    set -gx OTEL_METRICS_EXPORTER 'otlp'
    set -gx OTEL_LOGS_EXPORTER 'otlp'
    ");
    insta::assert_snapshot!(form("dotenv"), @"
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:PORT
    OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
    OTEL_TRACES_EXPORTER=otlp
    OTEL_METRICS_EXPORTER=otlp
    OTEL_LOGS_EXPORTER=otlp
    ");
    insta::assert_snapshot!(form("json"), @r#"{"OTEL_EXPORTER_OTLP_ENDPOINT":"http://127.0.0.1:PORT","OTEL_EXPORTER_OTLP_PROTOCOL":"http/protobuf","OTEL_LOGS_EXPORTER":"otlp","OTEL_METRICS_EXPORTER":"otlp","OTEL_TRACES_EXPORTER":"otlp"}"#);
    let script = format!("{}printf %s \"$OTEL_EXPORTER_OTLP_ENDPOINT\"", home.text(&["env"]));
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stdout), port);
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.text(&["completions", shell]);
        for command in ["status", "doctor", "completions"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(
            !script.contains("demo-token"),
            "{shell}: what is hidden is not completed"
        );
        if ["bash", "zsh", "fish"].contains(&shell) {
            parses(shell, &script);
        }
    }
}

/// The shell reads the script without running it, where the machine has the shell.
fn parses(shell: &str, script: &str) {
    let child = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return };
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(script.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success(), "{shell}");
}

#[test]
fn followed_logs_grow_and_end_at_a_signal() {
    let home = Home::new();
    home.up();
    let mut follower = home
        .command(&["logs", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let mut wait_for = |text: &str| {
        lines
            .by_ref()
            .map(|line| line.expect("a line"))
            .find(|line| line.contains(text))
            .expect("the log goes on")
    };
    wait_for("accepting telemetry");
    home.text(&["down"]);
    wait_for("stopped");
    // The next start goes on in the same log.
    home.up();
    wait_for("accepting telemetry");
    // Not SIGINT, which nobody has who was started in the background of a script.
    signal(i32::try_from(follower.id()).expect("a pid"), Signal::TERM);
    let status = follower.wait().expect("it ends");
    assert_eq!(status.signal(), Some(15), "{status}");
}

#[test]
fn an_agent_that_runs_for_weeks_keeps_its_log_short_and_whoever_follows_it_stays_with_it() {
    // There is always something to say of an upstream that is away.
    let home = Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", NOWHERE)
        .set("TAGALONG_LOG", "tagalong=debug");
    home.up();
    let mut follower = home
        .command(&["logs", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let mut wait_for = |text: &str| {
        let mut lines = lines.by_ref().map(|line| line.expect("a line"));
        lines.find(|line| line.contains(text)).expect("the log goes on")
    };
    wait_for("a probe failed");
    let state = home.path().join("state/tagalong");
    let (log, old) = (state.join("agent.log"), state.join("agent.log.1"));
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
    fs::write(&old, "the one before").expect("room");
    let weeks = format!("{}\nweeks later\n", "x".repeat(5 << 20));
    let mut file = fs::OpenOptions::new().append(true).open(&log).expect("the log");
    file.write_all(weeks.as_bytes()).expect("room");
    wait_for("weeks later");
    wait_for("a probe failed");
    assert!(size(&old) > 5 << 20, "the last one is kept, and no other");
    assert!(size(&log) < 1 << 20);
    // There a panic goes, too.
    let stderr = fs::read_link(format!("/proc/{}/fd/2", home.pid().expect("an agent runs")));
    assert_eq!(stderr.expect("a file"), log);
    signal(i32::try_from(follower.id()).expect("a pid"), Signal::TERM);
    follower.wait().expect("it ends");
}

#[test]
fn a_demo_shows_the_same_whatever_the_environment_says_to_sdks() {
    let home = Home::new().set("OTEL_TRACES_SAMPLER", "always_off");
    let settings = [
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "content-encoding=gzip"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0"),
    ];
    let home = settings
        .into_iter()
        .fold(home, |home, (name, value)| home.set(name, value));
    let mut demo = home.command(&["demo", "--json", "--for", "2s"]);
    let shown = demo.env("TMPDIR", home.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(shown.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("a report");
    assert!(report["accepted"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_demo_that_is_ended_in_the_middle_leaves_neither_a_process_nor_a_file() {
    for (kind, after) in [
        (Signal::INT, "issuer"),
        (Signal::INT, "sample"),
        (Signal::TERM, "spans"),
        (Signal::HUP, "identity"),
    ] {
        let home = Home::new();
        let scratch = home.path().join("tmp");
        fs::create_dir(&scratch).expect("a directory");
        let mut demo = home
            .command(&["demo", "--for", "120s"])
            .env("TMPDIR", &scratch)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(demo.stdout.take().expect("piped"))
            .lines()
            .map(|line| line.expect("a line"));
        let mut told: Vec<String> = Vec::new();
        while !told.last().is_some_and(|line| line.contains(after)) {
            told.push(lines.next().expect("it goes on"));
        }
        signal(i32::try_from(demo.id()).expect("a pid"), kind);
        told.extend(lines);
        demo.wait().expect("it ends");
        assert_eq!(fs::read_dir(&scratch).expect("a directory").count(), 0, "{told:?}");
        let pid = told
            .iter()
            .find_map(|line| line.split_once("pid ")?.1.split(',').next());
        if let Some(pid) = pid {
            let pid: i32 = pid.parse().expect("a number");
            assert!(
                !PathBuf::from(format!("/proc/{pid}")).exists() || is_zombie(pid),
                "{told:?}"
            );
        }
    }
}

#[test]
fn a_demo_whose_report_nobody_reads_is_no_failure() {
    let home = Home::new();
    let mut demo = home
        .command(&["demo", "--json", "--for", "1s"])
        .env("TMPDIR", home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(demo.stdout.take());
    let output = demo.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("pipe"), "{said}");
}

#[test]
fn a_demo_that_is_killed_takes_its_agent_along() {
    let home = Home::new();
    let mut demo = home
        .command(&["demo", "--for", "120s"])
        .env("TMPDIR", home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let pid: i32 = BufReader::new(demo.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("pid ")?.1.split(',').next()?.parse().ok())
        .expect("it says which agent it started");
    demo.kill().expect("it runs");
    demo.wait().expect("it ends");
    let began = Instant::now();
    while PathBuf::from(format!("/proc/{pid}")).exists() && !is_zombie(pid) {
        if began.elapsed() > PATIENCE {
            signal(pid, Signal::KILL);
            panic!("the agent goes on without the demonstration");
        }
        std::thread::yield_now();
    }
}
