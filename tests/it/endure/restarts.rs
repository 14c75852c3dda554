//! A workspace that is stopped without a word and started again, many times, while telemetry goes on.
//!
//! The workspace is a PID namespace, and stopping it is what a container engine does in the end: its first process is
//! killed, and the kernel kills everything else in there.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{most, set_aside, setting, shown};
use crate::support::{
    agent::{Home, executable, parties, soon},
    load::{self, Load},
};

/// Starts an agent as a hook would, in a workspace that goes on afterwards.
fn start(home: &Home) -> Child {
    let own = home.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["-Urpf", "--mount-proc", "--kill-child", "sh", "-c"]);
    command.arg("\"$TAGALONG\" up --strict >&2 && echo up && exec sleep 1000000");
    command.env_clear().env("TAGALONG", executable());
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut workspace = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare runs");
    let mut said = String::new();
    BufReader::new(workspace.stdout.take().expect("piped"))
        .read_line(&mut said)
        .expect("text");
    assert_eq!(said, "up\n");
    workspace
}

fn may_unshare() -> bool {
    let tried = Command::new("unshare").args(["-Urpf", "--mount-proc", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn a_workspace_that_is_stopped_and_started_loses_nothing_and_each_start_is_a_session() {
    if !may_unshare() {
        println!("endure: restarts: left out, because this machine gives nobody a PID namespace of their own");
        return;
    }
    let (issuer, upstream) = parties(Duration::from_secs(600)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    let restarts = setting("TAGALONG_ENDURE_RESTARTS", 50);
    let (mut sessions, mut load) = (BTreeSet::new(), None);
    for _ in 0..restarts {
        let mut workspace = start(&home);
        let status = home.status();
        sessions.insert(
            status["agent"]["session_id"]
                .as_str()
                .expect("an agent runs")
                .to_owned(),
        );
        let config = load::Config {
            senders: 4,
            every: Some(Duration::from_millis(4)),
            ..load::Config::default()
        };
        // The ports of the first start are taken again, so the senders go on.
        let _ = load.get_or_insert_with(|| Load::start(&home.http("v1/traces"), config));
        let mut random = [0; 2];
        getrandom::fill(&mut random).expect("randomness");
        most(
            Duration::from_millis(200 + u64::from(u16::from_le_bytes(random)) % 600),
            || 0,
        )
        .await;
        workspace.kill().expect("it runs");
        workspace.wait().expect("it ends");
    }
    let mut workspace = start(&home);
    sessions.insert(
        home.status()["agent"]["session_id"]
            .as_str()
            .expect("an agent runs")
            .to_owned(),
    );
    let sent = load.expect("it was started").stop().await;
    soon(sent.arrive(&upstream)).await;
    home.until(|status| status["spool"]["bytes"] == 0);
    let record = upstream.record();
    let seen: BTreeSet<&String> = record
        .resources
        .iter()
        .filter_map(|resource| resource.get("workspace.session.id"))
        .collect();
    println!(
        "endure: {restarts} restarts: {}; {} sessions, {} of them seen upstream",
        shown(&record, &sent),
        sessions.len(),
        seen.len()
    );
    assert_eq!(sessions.len() as u64, restarts + 1, "one a start");
    assert!(seen.iter().all(|session| sessions.contains(*session)));
    assert_eq!(set_aside(&home), (0, 0));
    assert!(sent.spans() > 0);
    workspace.kill().expect("it runs");
    workspace.wait().expect("it ends");
}
