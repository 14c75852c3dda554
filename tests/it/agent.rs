//! The real executable, from `up` to `down`, and what is left of its promises when it is killed.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use tagalong::demo::upstream::Record;

use crate::support::{
    agent::{Home, client, is_zombie, parties, post, signal, soon},
    load::{self, Load},
    telemetry,
};

/// Long enough for every story; reached only when one fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the agent is killed under load.
const KILLS: usize = 10;

#[test]
fn up_is_idempotent_and_down_says_what_is_left() {
    let home = Home::new();
    let first = home.up();
    let again = home.text(&["up", "--strict"]);
    assert!(again.starts_with("already running"), "{again}");
    assert_eq!(home.pid().map(i64::from), first["agent"]["pid"].as_i64());
    assert!(home.text(&["down"]).contains("kept here and sent nowhere"));
    assert!(home.status()["agent"].is_null());
    assert!(home.text(&["down"]).contains("no agent runs"));
}

#[test]
fn an_agent_whose_state_was_deleted_leaves_the_next_ones_socket_alone() {
    let home = Home::new();
    home.up();
    let first = home.pid().expect("an agent runs");
    fs::remove_dir_all(home.path().join("state")).expect("the state is there");
    home.text(&["up", "--strict", "--set", "export.timeout=3s"]);
    let began = Instant::now();
    while Path::new(&format!("/proc/{first}")).exists() && !is_zombie(first) {
        assert!(began.elapsed() < PATIENCE, "the first one ends");
        std::thread::yield_now();
    }
    assert!(home.pid().is_some_and(|pid| pid != first));
    assert!(home.run(&["down"]).status.success());
    assert!(home.status()["agent"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn down_does_not_wait_for_a_credential_that_is_not_asked_for_before_its_time_is_over() {
    let home = Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", "http://127.0.0.1:1")
        .set("TAGALONG_IDENTITY_ENV", "A_TOKEN_THAT_NOBODY_SET");
    home.up();
    home.until(|status| status["credential"]["state"] == "needs-user");
    assert!(post(&client(), &home.http("v1/traces"), load::traces(1..4, 1)).await);
    let ended = home.run(&["down", "--timeout", "20m"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("left in the spool"), "{said}");
    home.up();
    let pending = home.status()["spool"]["books"]["traces"]["pending"].as_u64();
    assert!(
        pending >= Some(3),
        "the next start has what this one was given: {pending:?}"
    );
}

#[test]
fn up_lets_go_of_the_pipes_and_the_session_that_it_was_started_in() {
    let home = Home::new();
    let mut up = home
        .command(&["up"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Reading to the end returns only if the agent does not hold the pipes.
    let mut text = String::new();
    up.stdout
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("text");
    up.stderr
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("text");
    assert!(up.wait().expect("it ends").success());
    let pid = home.pid().expect("an agent runs");
    assert_ne!(session("self"), session(&pid.to_string()));
}

/// The session of a process. The kernel says 0 of a session that was begun outside a container.
fn session(process: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, after_the_name) = stat.rsplit_once(')').expect("a name in brackets");
    after_the_name.split_whitespace().nth(3).expect("a session").to_owned()
}

#[test]
fn other_settings_drain_and_replace_the_running_agent() {
    let home = Home::new();
    let first = home.up();
    let text = home.text(&["--set", "spool.max_bytes=128MiB", "up", "--strict"]);
    assert!(
        text.contains("replaced the running agent: it ran with other settings"),
        "{text}"
    );
    let second = home.status();
    assert_ne!(first["agent"]["pid"], second["agent"]["pid"]);
    assert_eq!(second["spool"]["max_bytes"], 128 * 1024 * 1024);
    assert_eq!(
        first["agent"]["endpoints"], second["agent"]["endpoints"],
        "the ports are taken again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_agent_is_replaced_its_ports_refuse_nobody_and_nothing_is_lost() {
    let (issuer, upstream) = parties(Duration::from_secs(600)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    let first = home.up();
    let load = Load::start(
        &home.http("v1/traces"),
        load::Config {
            senders: 4,
            every: Some(Duration::from_millis(4)),
            ..load::Config::default()
        },
    );
    // Each of these is a connection of its own, as a sender's is that has just started.
    let address: std::net::SocketAddr = first["agent"]["endpoints"]["grpc"]
        .as_str()
        .and_then(|address| address.parse().ok())
        .expect("an address");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let knocking = std::thread::spawn(move || {
        let (mut knocks, mut refused) = (0_u32, 0_u32);
        // A storm of them would keep the agent busy with asking the kernel whose they are.
        while stopped.recv_timeout(Duration::from_millis(100)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            knocks += 1;
            refused += u32::from(std::net::TcpStream::connect(address).is_err());
        }
        (knocks, refused)
    });
    for size in ["65MiB", "66MiB", "67MiB"] {
        let before = upstream.look(Record::delivered);
        soon(upstream.wait(|record| record.delivered() > before + 20)).await;
        let set = format!("spool.keep_bytes={size}");
        let text = home.text(&["--set", &set, "up", "--strict"]);
        assert!(text.contains("replaced the running agent"), "{text}");
    }
    stop.send(()).expect("it listens");
    let (knocks, refused) = knocking.join().expect("it ends");
    let sent = load.stop().await;
    assert!(knocks > 0);
    assert_eq!(refused, 0, "of {knocks}");
    // A connection that idles may be closed the moment it is used again; then the sender has no answer, and knows.
    soon(sent.arrive(&upstream)).await;
    assert_eq!(sent.refused, 0, "{} accepted, {} unanswered", sent.spans(), sent.failed);
    assert_eq!(home.status()["agent"]["endpoints"], first["agent"]["endpoints"]);
}

#[test]
fn when_down_returns_the_socket_is_gone_and_the_spool_is_free() {
    let home = Home::new();
    home.up();
    let run = home.path().join("run/tagalong");
    let sockets = || fs::read_dir(&run).expect("a directory").count();
    assert_eq!(sockets(), 1);
    home.text(&["down"]);
    assert_eq!(sockets(), 0);
    let lock = fs::File::open(home.path().join("state/tagalong/spool/lock")).expect("a file");
    assert!(lock.try_lock().is_ok());
}

#[test]
fn thirty_that_start_at_once_make_one_agent() {
    let home = Home::new();
    let starting: Vec<_> = (0..30)
        .map(|_| {
            home.command(&["up", "--strict"])
                .stdout(Stdio::null())
                .spawn()
                .expect("it starts")
        })
        .collect();
    for mut up in starting {
        assert!(up.wait().expect("it ends").success());
    }
    let pid = home.pid();
    assert!(pid.is_some());
    assert!(home.text(&["up", "--strict"]).starts_with("already running"));
    assert_eq!(home.pid(), pid);
}

#[test]
fn while_the_spool_is_held_starts_are_few_and_the_first_after_that_is_the_agent() {
    let home = Home::new();
    home.up();
    home.text(&["down"]);
    let lock = fs::File::open(home.path().join("state/tagalong/spool/lock")).expect("a file");
    lock.try_lock().expect("nobody holds it");
    let began = Instant::now();
    let mut up = home
        .command(&["up", "--strict"])
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let refused = || {
        let log = fs::read_to_string(home.path().join("state/tagalong/agent.log")).unwrap_or_default();
        log.matches("another agent holds the spool").count()
    };
    while refused() < 3 {
        assert!(up.try_wait().expect("a child").is_none(), "it goes on trying");
        std::thread::yield_now();
    }
    assert!(began.elapsed() > Duration::from_millis(100), "it waits between them");
    lock.unlock().expect("it is held");
    assert!(up.wait().expect("it ends").success());
    assert!(home.pid().is_some());
}

#[test]
fn a_taken_port_is_said_with_its_holder_and_another_is_taken() {
    // Not where other tests get their ports from: one of them could have it in the meantime.
    let holder = TcpListener::bind("127.77.0.3:0").expect("a port");
    let taken = holder.local_addr().expect("an address").to_string();
    let home = Home::new().set("TAGALONG_LISTEN_HTTP", taken.clone());
    let status = home.up();
    let got = status["agent"]["endpoints"]["http"]
        .as_str()
        .expect("an address")
        .to_owned();
    assert_ne!(got, taken);
    let moved = status["agent"]["moved"][0].as_str().expect("it is said").to_owned();
    assert!(
        moved.contains(&taken) && moved.contains(&got) && moved.contains(&std::process::id().to_string()),
        "{moved}"
    );
    assert!(home.text(&["env"]).contains(&got));

    // Whoever wonders why it is not the usual port is told after a restart, too.
    home.text(&["down"]);
    drop(holder);
    let status = home.up();
    assert_eq!(status["agent"]["endpoints"]["http"], got.as_str());
    let kept = status["agent"]["moved"][0].as_str().expect("it is said").to_owned();
    assert!(
        kept.starts_with(&format!("{taken} was held by")) && kept.contains(&std::process::id().to_string()),
        "{kept}"
    );
    home.text(&["down"]);
    let holder = TcpListener::bind(&taken).expect("it is free");
    let status = home.up();
    let moved = status["agent"]["moved"][0].as_str().expect("it is said");
    assert!(moved.starts_with(&format!("{taken} is held by")), "{moved}");

    // Who wants it back is told how.
    home.text(&["down"]);
    drop(holder);
    let note = home.path().join("state/tagalong/spool/ports.json");
    assert!(kept.contains(&format!("remove {},", note.display())), "{kept}");
    fs::remove_file(note).expect("it is there");
    assert_eq!(home.up()["agent"]["endpoints"]["http"], taken.as_str());
}

#[test]
fn promise_9_in_a_prebuild_up_says_nothing_and_leaves_nothing() {
    let home = Home::new()
        .set("GITPOD_WORKSPACE_ID", "acme-app-1")
        .set("GITPOD_HEADLESS", "true");
    let home = {
        let path = home.path().join("tagalong").display().to_string();
        home.set("TAGALONG_HOME", path)
    };
    for command in [&["up"][..], &["up", "--foreground"], &["env"]] {
        let output = home.run(command);
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    assert_eq!(std::fs::read_dir(home.path()).expect("a directory").count(), 0);
}

#[test]
fn promise_9_a_start_that_fails_fails_no_hook() {
    let home = Home::new()
        .set("TAGALONG_EXPORT_TIMEOUT", "soon")
        .set("TAGALONG_SPOOL_MAX_BYTES", "plenty");
    let output = home.run(&["up"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("export.timeout") && text.contains("spool.max_bytes"),
        "all at once: {text}"
    );
    assert_eq!(home.run(&["up", "--strict"]).status.code(), Some(2));
}

#[test]
fn a_runtime_directory_that_cannot_be_made_is_said_with_the_variable_that_names_it() {
    let home = Home::new().set("XDG_RUNTIME_DIR", "/proc/nonexistent");
    let output = home.run(&["up"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/proc/nonexistent/tagalong/"), "{text}");
    assert!(text.contains("Unset or correct XDG_RUNTIME_DIR"), "{text}");
}

#[test]
fn a_runtime_directory_that_another_user_made_first_is_neither_used_nor_believed() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give a directory away.
    }
    let home = Home::new();
    home.up();
    let run = home.path().join("run/tagalong");
    let give_to = |user| std::os::unix::fs::chown(&run, Some(user), None).expect("root may");
    let refused = |command: &[&str]| {
        give_to(65_534);
        let output = home.run(command);
        give_to(0);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
        let said = format!("{} belongs to user 65534", run.display());
        assert!(
            text.contains(&said) && text.contains("XDG_RUNTIME_DIR"),
            "{command:?}: {text}"
        );
    };
    for command in [&["up", "--strict"][..], &["status"], &["token"], &["down"]] {
        refused(command);
    }
    home.text(&["down"]);
    refused(&["up", "--strict"]);
    refused(&["up", "--strict", "--foreground"]);
}

#[test]
fn sigterm_and_sighup_end_it_within_five_seconds() {
    for kind in [Signal::TERM, Signal::HUP] {
        let home = Home::new();
        home.up();
        let pid = home.pid().expect("an agent runs");
        let began = Instant::now();
        signal(pid, kind);
        while std::path::Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid) {
            std::thread::yield_now();
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(home.status()["agent"].is_null());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_spans_arrive_under_the_person_and_the_workspace() {
    let (issuer, upstream) = parties(Duration::from_secs(20)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let body = telemetry::traces(&[("service.name", "shop"), ("user.id", "mallory")], telemetry::spans(5));
    assert!(post(&client(), &home.http("v1/traces"), body).await);
    soon(upstream.wait(|record| record.services.get("shop").is_some_and(|shop| shop.spans == 5))).await;
    let status = home.status();
    assert_eq!(status["principal"]["trust"], "verified");
    assert!(home.text(&["whoami"]).contains("verified"));
    let doctor = home.run(&["doctor", "--send"]);
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_audience_is_not_printed_in_place_of_the_one_that_is_asked_for() {
    let (issuer, upstream) = parties(Duration::from_secs(600)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    home.until(|status| status["credential"]["state"] == "fresh");
    let refused = home.run(&["--set", "identity.audience=https://other.example", "token"]);
    assert!(refused.stdout.is_empty());
    assert_eq!(refused.status.code(), Some(4));
    let text = String::from_utf8_lossy(&refused.stderr).replace(&upstream.url(), "UPSTREAM");
    insta::assert_snapshot!(text, @"
    tagalong: the running agent's token is for UPSTREAM, and these settings ask for https://other.example
      run `tagalong up`: it puts an agent with these settings in its place
    ");
    // Whoever names no audience wants the agent's.
    let mut bare = home.command(&["token"]);
    bare.env_remove("TAGALONG_EXPORT_ENDPOINT");
    let token = bare.output().expect("it runs").stdout;
    assert_eq!(String::from_utf8_lossy(&token), home.text(&["token"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_no_output_but_tokens_holds_the_token() {
    let (issuer, upstream) = parties(Duration::from_secs(600)).await;
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_LOG", "trace");
    home.up();
    assert!(
        post(
            &client(),
            &home.http("v1/traces"),
            telemetry::traces(&[], telemetry::spans(1))
        )
        .await
    );
    soon(upstream.wait(|record| record.delivered() >= 1)).await;
    let token = home.text(&["token"]).trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "a JWT");
    let signature = token.rsplit('.').next().expect("a signature");
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["doctor"],
        &["whoami"],
        &["config"],
        &["env"],
        &["logs"],
        &["spool", "list"],
    ] {
        let output = home.run(command);
        let text = [output.stdout, output.stderr].concat();
        assert!(
            !String::from_utf8_lossy(&text).contains(signature),
            "{command:?} holds the token"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_kill_9_under_load_loses_nothing_that_was_accepted() {
    let (issuer, upstream) = parties(Duration::from_secs(10)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let load = Load::start(&home.http("v1/traces"), load::Config::default());
    for kill in 0..KILLS {
        // Something arrived since the last kill: the agent is in the middle of its work.
        let before = upstream.look(Record::delivered);
        soon(upstream.wait(|record| record.delivered() > before + 20)).await;
        home.kill_9();
        let status = home.up();
        assert!(status["agent"]["pid"].is_number(), "kill {kill}");
    }
    let sent = load.stop().await;
    assert!(sent.spans() > 0);
    soon(sent.arrive(&upstream)).await;
    assert!(
        home.text(&["down"])
            .contains("everything that was accepted has been sent")
    );
}
