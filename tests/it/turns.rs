//! Several commands that start, replace and stop the agent of one workspace at the same time.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::Path,
    process::{Child, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::agent::{Home, is_zombie, signal};

/// Long enough for every story; reached only when one fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that is not waited for.
fn begin(home: &Home, arguments: &[&str]) -> Child {
    home.command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The agents of this home, whether they run or wait for something.
fn agents(home: &Home) -> Vec<i32> {
    let state = format!("XDG_STATE_HOME={}", home.path().join("state").display());
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let is_ours = |pid: &i32| {
        let of = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let has = |file: &str, text: &str| of(file).split(|byte| *byte == 0).any(|part| part == text.as_bytes());
        has("environ", &state) && has("cmdline", "--foreground") && !is_zombie(*pid)
    };
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_ours).collect()
}

/// One that was replaced has a moment left in which it holds nothing any more.
fn until_there_are(home: &Home, expected: usize) {
    let began = Instant::now();
    while agents(home).len() != expected {
        assert!(began.elapsed() < PATIENCE, "{:?} run, not {expected}", agents(home));
        std::thread::yield_now();
    }
}

#[test]
fn of_several_that_replace_at_once_each_has_its_turn_and_one_agent_has_the_first_ports() {
    let home = Home::new();
    let first = home.up();
    for round in 0..4 {
        let settings = (0..4).map(|turn| format!("spool.keep_bytes={}MiB", 65 + round * 4 + turn));
        let ups: Vec<Child> = settings
            .map(|set| begin(&home, &["up", "--strict", "--set", &set]))
            .collect();
        for up in ups {
            let output = up.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", said(&output));
            assert!(
                said(&output).starts_with("replaced the running agent"),
                "{}",
                said(&output)
            );
        }
        until_there_are(&home, 1);
        let status = home.status();
        assert_eq!(status["agent"]["pid"], agents(&home)[0]);
        assert_eq!(
            status["agent"]["endpoints"], first["agent"]["endpoints"],
            "round {round}"
        );
        for endpoint in ["grpc", "http"] {
            let address = status["agent"]["endpoints"][endpoint].as_str().expect("an address");
            assert!(TcpStream::connect(address).is_ok(), "{endpoint} accepts");
        }
    }
    assert!(home.run(&["down"]).status.success());
    until_there_are(&home, 0);
    assert_eq!(home.up()["agent"]["endpoints"], first["agent"]["endpoints"]);
}

#[test]
fn bug_a_lie_whoever_asks_for_another_agent_with_the_same_settings_gets_one() {
    let home = Home::new();
    let first = home.up();
    let text = home.text(&["up", "--strict", "--replace"]);
    assert!(text.contains("replaced the running agent: you asked for it"), "{text}");
    let second = home.status();
    assert_ne!(first["agent"]["pid"], second["agent"]["pid"]);
    assert_eq!(first["agent"]["endpoints"], second["agent"]["endpoints"]);
}

#[test]
fn what_waits_when_the_agent_is_stopped_starts_nothing_afterwards() {
    let home = Home::new();
    home.up();
    let file = home.path().join("state/tagalong/spool/turn");
    let turn = fs::File::open(&file).expect("there was a start");
    turn.lock().expect("nobody else starts");
    let settings: Vec<String> = (65..70).map(|size| format!("spool.keep_bytes={size}MiB")).collect();
    let ups: Vec<Child> = settings
        .iter()
        .map(|set| begin(&home, &["up", "--strict", "--set", set]))
        .collect();
    ups.iter().for_each(|up| until_it_waits(up, &file));
    let down = begin(&home, &["down"]);
    until_it_waits(&down, &file);
    turn.unlock().expect("it is held");
    assert!(said(&down.wait_with_output().expect("it ends")).contains("stopped"));
    for up in ups {
        let output = up.wait_with_output().expect("it ends");
        // Those whose turn it was before are stopped with the others.
        let was_stopped = said(&output).contains("nothing was started: somebody stopped the agent");
        assert_eq!(output.status.success(), !was_stopped, "{}", said(&output));
    }
    until_there_are(&home, 0);
    home.up();
}

#[test]
fn a_start_that_is_refused_somebodys_directory_leaves_nothing_there() {
    let home = Home::new();
    let theirs = home.path().join("theirs");
    fs::create_dir_all(theirs.join("app/logs")).expect("directories");
    fs::write(theirs.join("app/logs/one"), "keep me").expect("a file");
    let mut up = home.command(&["up", "--strict"]);
    let output = up.env("TAGALONG_SPOOL_DIR", &theirs).output().expect("it ends");
    assert!(said(&output).contains("that are no spool's"), "{}", said(&output));
    assert_eq!(fs::read_dir(&theirs).expect("a directory").count(), 1);
}

#[test]
fn an_agent_that_was_stopped_before_it_was_there_ends_though_its_starter_is_gone() {
    let home = Home::new();
    home.up();
    home.text(&["down"]);
    // As a starter that is killed before the new process is ready.
    let mut orphan = home.command(&["up", "--foreground", "--detached=1"]);
    let mut orphan = orphan
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut settings = orphan.stdin.take().expect("piped");
    assert!(home.text(&["down"]).contains("no agent runs"));
    settings.write_all(b"[]").expect("it waits for them");
    drop(settings);
    let output = orphan.wait_with_output().expect("it ends");
    assert!(
        said(&output).contains("somebody stopped the agent"),
        "{}",
        said(&output)
    );
    until_there_are(&home, 0);
    home.up();
}

#[test]
fn bug_a_lie_an_agent_that_is_about_to_be_gone_is_not_said_to_run_already() {
    // Nothing listens there, so there is something to drain until the deadline.
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", "http://127.0.0.1:1");
    for by_signal in [false, true] {
        let first = home.up()["agent"]["pid"].clone();
        let down = match by_signal {
            true => {
                signal(home.pid().expect("it runs"), Signal::TERM);
                None
            }
            false => Some(begin(&home, &["down", "--timeout", "2s"])),
        };
        home.until(|status| status["agent"]["stopping"] == true);
        let up = home.run(&["up", "--strict"]);
        assert!(said(&up).starts_with("running: "), "{}", said(&up));
        if let Some(down) = down {
            assert!(said(&down.wait_with_output().expect("it ends")).contains("stopped"));
        }
        until_there_are(&home, 1);
        let second = home.status();
        assert_ne!(second["agent"]["pid"], first);
        assert_eq!(second["agent"]["stopping"], false);
    }
}

/// For its turn: it has the file open.
fn until_it_waits(command: &Child, turn: &Path) {
    let began = Instant::now();
    let waits = || {
        let open = fs::read_dir(format!("/proc/{}/fd", command.id()));
        let mut open = open.into_iter().flatten().flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == turn))
    };
    while !waits() {
        assert!(began.elapsed() < PATIENCE, "it waits");
        std::thread::yield_now();
    }
}
