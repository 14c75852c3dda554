//! The real executable between the hooks, terminals and supervisors that start it and go away.

use std::{
    ffi::OsString,
    fs,
    io::Read,
    os::unix::{net::UnixDatagram, process::CommandExt},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpriority_process, kill_process_group};

use crate::support::{
    agent::{Home, client, executable, is_zombie, parties, post, signal, soon},
    load::{has_span, traces},
};

/// A shell that runs `script`, where `$TAGALONG` is the executable, as a platform's hook would.
fn hook(home: &Home, script: &str) -> Command {
    let own = home.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", script]).env_clear().env("TAGALONG", executable());
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn whoever_waits_for_the_end_of_any_inherited_descriptor_is_not_held() {
    let home = Home::new();
    // Editors and task runners leave descriptors open that nobody knows of.
    let mut up = hook(&home, "exec 7>&1 9>&2; exec \"$TAGALONG\" up --strict")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let _kept = up.stdin.take();
    let mut said = String::new();
    up.stderr
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    up.stdout
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    assert!(up.wait().expect("it ends").success(), "{said}");
    let pid = home.pid().expect("an agent runs");
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("our own process")
        .flatten();
    let pipes: Vec<_> = open
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .collect();
    assert!(pipes.is_empty(), "{pipes:?}");
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).expect("a directory").to_str(),
        Some("/")
    );
}

#[test]
fn promise_7_a_setting_of_the_command_line_is_in_no_argument_of_the_agent() {
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", "http://127.0.0.1:9");
    let up = |key: &str| home.text(&["up", "--strict", "--set", &format!("export.headers=x-api-key={key}")]);
    up("canary1");
    for (key, said) in [("canary1", "already running"), ("canary2", "other settings")] {
        assert!(up(key).contains(said), "{key}");
        let pid = home.pid().expect("an agent runs");
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("our own process");
            assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "{file}");
        }
    }
}

#[test]
fn what_it_sends_gives_way_to_the_programs_around_it_and_to_what_it_takes() {
    let home = Home::new();
    home.up();
    let pid = home.pid().expect("an agent runs");
    // Linux keeps it by thread: a thread's number asks for that thread's (getpriority(2)).
    let niceness = |task: Option<i32>| getpriority_process(task.and_then(Pid::from_raw)).expect("a thread that lives");
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("our own process")
        .flatten();
    let taking = tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "spool\n"));
    let number = |name: OsString| name.to_string_lossy().parse().expect("a thread's number");
    let taking = taking.map(|task| niceness(Some(number(task.file_name()))));
    let own = niceness(None);
    assert_eq!(taking.collect::<Vec<_>>(), [own]);
    assert_eq!(niceness(Some(pid)), (own + 5).min(19));
}

#[test]
fn it_survives_the_hooks_group_being_hung_up_and_killed() {
    for kind in [Signal::HUP, Signal::TERM, Signal::KILL] {
        let home = Home::new();
        let mut group = hook(&home, "\"$TAGALONG\" up --strict && echo up; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("it starts");
        let mut out = group.stdout.take().expect("piped");
        let mut said = String::new();
        while !said.ends_with("up\n") {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).expect("it speaks"), 1, "{said}");
            said.push(char::from(byte[0]));
        }
        let pid = home.pid().expect("an agent runs");
        let leader = Pid::from_raw(i32::try_from(group.id()).expect("a pid")).expect("not 0");
        kill_process_group(leader, kind).expect("our own group");
        group.wait().expect("it ends");
        assert_eq!(home.pid(), Some(pid), "{kind:?}");
        end(group);
    }
}

#[test]
fn closed_descriptors_a_reader_that_is_gone_and_an_empty_environment_make_no_difference() {
    for script in [
        "exec \"$TAGALONG\" up <&- >&- 2>&-",
        "\"$TAGALONG\" up | true",
        "unset HOME XDG_RUNTIME_DIR PATH; exec \"$TAGALONG\" up",
        "cd /proc/self && exec \"$TAGALONG\" up",
    ] {
        let home = Home::new();
        let kept = home.path().join("kept").display().to_string();
        let home = home.set("TAGALONG_HOME", kept);
        let status = hook(&home, script).stdin(Stdio::null()).status().expect("it runs");
        assert!(status.success(), "{script}");
        let runtime = if script.starts_with("unset") {
            "-u XDG_RUNTIME_DIR"
        } else {
            ""
        };
        let ask = format!("exec env {runtime} \"$TAGALONG\" status --json");
        let output = hook(&home, &ask).output().expect("it runs");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let pid = status["agent"]["pid"].as_i64();
        signal(i32::try_from(pid.expect(script)).expect("a pid"), Signal::KILL);
    }
}

#[test]
fn an_agent_that_hangs_holds_no_hook_and_fails_none() {
    let home = Home::new();
    home.up();
    let pid = home.pid().expect("an agent runs");
    signal(pid, Signal::STOP);
    let began = Instant::now();
    let Output { status, stderr, .. } = home.run(&["up"]);
    let took = began.elapsed();
    let strict = home.run(&["up", "--strict"]);
    signal(pid, Signal::CONT);
    assert!(status.success());
    let said = String::from_utf8_lossy(&stderr);
    assert!(said.contains("did not answer within 75 ms"), "{said}");
    // Far from what is promised, and as far from an answer that does not come: other programs run here too.
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(strict.status.code(), Some(1), "whoever wants to know is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_sighup_drain() {
    for kind in [Signal::TERM, Signal::HUP] {
        let (issuer, upstream) = parties(Duration::from_secs(600)).await;
        // What is accepted waits for company for longer than the story lasts.
        let home = Home::new()
            .sending(&upstream.url(), &issuer.url())
            .set("TAGALONG_EXPORT_BATCH_DELAY", "60s");
        home.up();
        home.until(|status| status["credential"]["state"] == "fresh");
        assert!(post(&client(), &home.http("v1/traces"), traces(1..6, 10)).await);
        let pid = home.pid().expect("an agent runs");
        signal(pid, kind);
        while std::path::Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid) {
            std::thread::yield_now();
        }
        soon(upstream.wait(|record| has_span(record, 5))).await;
    }
}

#[test]
fn a_supervisor_is_told_when_it_is_ready_and_when_it_stops() {
    let home = Home::new();
    let path = home.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    supervisor
        .set_read_timeout(Some(Duration::from_secs(120)))
        .expect("a timeout");
    let told = || {
        let mut text = [0; 64];
        let length = supervisor.recv(&mut text).expect("it is told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    // One that a hook started is nobody's service, whoever supervises the hook.
    assert!(
        home.command(&["up", "--strict"])
            .env("NOTIFY_SOCKET", &path)
            .status()
            .expect("it runs")
            .success()
    );
    let before = home.pid().expect("an agent runs");
    let mut service = home
        .command(&["up", "--foreground", "--replace"])
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    assert_eq!(told(), "READY=1\n");
    let own = i32::try_from(service.id()).expect("a pid");
    assert_eq!(home.pid(), Some(own), "it took over");
    while std::path::Path::new(&format!("/proc/{before}")).exists() && !is_zombie(before) {
        std::thread::yield_now();
    }
    signal(own, Signal::TERM);
    assert_eq!(told(), "STOPPING=1\n");
    assert!(service.wait().expect("it ends").success());
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nobody() {
    let home = Home::new();
    let mut agent = home
        .command(&["up", "--foreground"])
        .env("TAGALONG_LOG", "debug")
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let own = i32::try_from(agent.id()).expect("a pid");
    home.until(|status| status["agent"]["pid"] == own);
    // As with `tagalong up --foreground 2>&1 | head`, or a log on a full disk.
    drop(agent.stderr.take());
    assert!(post(&client(), &home.http("v1/traces"), traces(1..6, 10)).await);
    signal(own, Signal::TERM);
    assert!(agent.wait().expect("it ends").success());
}
