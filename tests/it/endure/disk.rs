//! A disk that is full: a small one of its own, in a mount namespace that only the agent is in.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use tagalong::{demo::upstream::Record, otlp::Signal};

use super::{set_aside, shown};
use crate::support::{
    agent::{Home, parties, soon},
    load::{self, Load},
    receiver, telemetry,
};

/// Mounts a small file system over `$1`, and becomes what follows.
const MOUNT: &str = "mount -t tmpfs -o size=8m tagalong \"$1\" && shift && exec \"$@\"";

/// Runs `arguments` of the agent where the spool's directory is a small file system.
fn confined(home: &Home, disk: &str, arguments: &[&str]) -> Output {
    let inner = home.command(arguments);
    let mut command = Command::new("unshare");
    command
        .args(["-Urm", "sh", "-c", MOUNT, "sh", disk])
        .arg(inner.get_program());
    command.args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().expect("unshare runs")
}

/// Whether this machine lets anybody mount.
fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-Urm", "mount", "-t", "tmpfs", "tagalong", "/tmp"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn a_full_disk_is_said_survived_and_forgotten() {
    if !may_mount() {
        println!("endure: full disk: left out, because this machine lets nobody mount in a namespace of their own");
        return;
    }
    let (issuer, upstream) = parties(Duration::from_secs(3600)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    let disk = home.path().join("disk").display().to_string();
    fs::create_dir(&disk).expect("a directory");
    let home = home.set("TAGALONG_SPOOL_DIR", disk.clone());
    let output = confined(&home, &disk, &["up", "--strict"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pid = home.pid().expect("an agent runs");
    let inside = PathBuf::from(format!("/proc/{pid}/root{disk}"));

    // It fills up by itself while upstream is away, and empties by itself when it is back.
    upstream.kill();
    let config = load::Config {
        senders: 2,
        bytes: 2000,
        ..load::Config::default()
    };
    let load = Load::start(&home.http("v1/traces"), config);
    home.until(|status| status["spool"]["trouble"].is_string());
    let body = telemetry::request(Signal::Logs, 20_000);
    let called = receiver::call(home.grpc(), Signal::Logs, &body).await;
    assert_eq!(called.grpc_code(), 14, "UNAVAILABLE");
    assert!(called.grpc_details().retry_delay.is_some());
    upstream.recover().await.expect("the port again");
    home.until(|status| status["spool"]["trouble"].is_null());
    let before = upstream.look(Record::delivered);
    soon(upstream.wait(|record| record.delivered() > before + 10_000)).await;

    // Somebody else fills it, and takes that away again.
    fill(&inside.join("ballast"));
    home.until(|status| status["spool"]["trouble"].is_string());
    fs::remove_file(inside.join("ballast")).expect("it is there");
    home.until(|status| status["spool"]["trouble"].is_null());
    let before = upstream.look(Record::delivered);
    soon(upstream.wait(|record| record.delivered() > before + 1000)).await;

    let sent = load.stop().await;
    soon(sent.arrive(&upstream)).await;
    home.until(|status| status["spool"]["bytes"] == 0);
    println!("endure: full disk: {}", upstream.look(|record| shown(record, &sent)));
    assert_eq!(home.pid(), Some(pid), "the same process");
    assert_eq!(set_aside(&home), (0, 0));
    assert!(sent.refused > 0);
    assert_eq!(sent.failed, 0, "every refusal was one that asks to come again");
}

/// Writes until nothing fits any more.
fn fill(path: &std::path::Path) {
    let mut file = fs::File::create(path).expect("a file");
    let mut piece = vec![0; 64 * 1024];
    while !piece.is_empty() {
        if file.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
}
