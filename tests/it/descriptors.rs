//! More connections than the system allows descriptors: whoever is taken is served, and the disk and upstream have theirs.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;

use crate::support::{
    agent::{Home, executable, parties, signal, soon},
    load::{has_span, traces},
    receiver::{PROTOBUF, Version, post},
};

#[tokio::test(flavor = "multi_thread")]
async fn under_more_connections_than_there_are_descriptors_what_is_accepted_rests_and_arrives() {
    let (issuer, upstream) = parties(Duration::from_secs(600)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    // For good: the hard limit, too.
    let mut agent = limited(&home, "ulimit -n 64; exec \"$0\" up --foreground")
        .process_group(0)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    while home.pid().is_none() {
        std::thread::yield_now();
    }
    let to: SocketAddr = home.status()["agent"]["endpoints"]["http"]
        .as_str()
        .and_then(|address| address.parse().ok())
        .expect("an address");
    // Whoever came first stays. The others are kept open once they have asked for something, for longer than this lasts.
    let stream = tokio::net::TcpStream::connect(to).await.expect("a connection");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1");
    let connection = tokio::spawn(connection);
    let mut crowd = Vec::new();
    for number in 1..12 {
        sender.ready().await.expect("it stays open");
        let request = post(
            to,
            Version::Http1,
            "/v1/traces",
            &[PROTOBUF],
            traces(number..number + 1, 1),
        );
        let answer = soon(sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{number}");
        answer.into_body().collect().await.expect("a whole answer");
        crowd.extend((0..20).map(|_| ask(to)));
    }
    soon(upstream.wait(|record| (1..12).all(|number| has_span(record, number)))).await;
    assert!(home.pid().is_some(), "and it answers");
    drop((crowd, sender));
    let _ = connection.await;
    signal(i32::try_from(agent.id()).expect("a pid"), Signal::TERM);
    assert!(agent.wait().expect("it ends").success());
}

#[test]
fn it_takes_as_many_descriptors_as_it_may_have_and_uses() {
    let home = Home::new();
    let up = limited(&home, "ulimit -S -n 256; exec \"$0\" up --strict").output();
    assert!(up.expect("it runs").status.success());
    let pid = home.pid().expect("an agent runs");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("our own process");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let numbers: Vec<u64> = line
        .expect("a line")
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [soft, hard] = numbers[..] else {
        panic!("soft and hard: {limits}")
    };
    assert_eq!(soft, hard.min(4096));
}

/// A connection with a request that nobody reads the answer to.
fn ask(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("there is a queue");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("room");
    stream
}

/// A shell that limits itself, and becomes the executable.
fn limited(home: &Home, script: &str) -> Command {
    let own = home.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", script, &executable()]).env_clear();
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}
