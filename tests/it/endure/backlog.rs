//! A start with a gibibyte in the spool: as quick as any, and in as little memory. What counts is the release build:
//! `just endure` runs this one there.

use std::{
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use tagalong::demo::upstream::Fault;

use super::{most, setting, shown};
use crate::support::{
    agent::{Home, parties, signal},
    load::{self, Load},
};

/// From exec to ports that accept, on a warm cache; the debug build is what it is.
const READY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 30 });
/// Under saturating load, in KiB.
const RESIDENT: u64 = 40 * 1024;
/// Requests of 4 MiB.
const LARGE: load::Config = load::Config {
    senders: 4,
    spans: 1000,
    bytes: 4160,
    every: None,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn a_backlog_of_a_gibibyte_costs_neither_time_nor_memory() {
    let (issuer, upstream) = parties(Duration::from_secs(3600)).await;
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_SPOOL_MAX_BYTES", "8GiB");
    home.up();
    upstream.kill();
    let url = home.http("v1/traces");
    let backlog = setting("TAGALONG_ENDURE_BACKLOG", 1 << 30);
    let load = Load::start(&url, LARGE);
    home.until(|status| status["spool"]["bytes"].as_u64() > Some(backlog));
    let mut sent = load.stop().await;

    let address: SocketAddr = url
        .trim_start_matches("http://")
        .split('/')
        .next()
        .and_then(|address| address.parse().ok())
        .expect("an address");
    let mut ready = Vec::new();
    for _ in 0..5 {
        home.kill_9();
        while TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
        let began = Instant::now();
        let mut command = home.command(&["up", "--foreground"]);
        let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
        while TcpStream::connect(address).is_err() {
            assert!(child.try_wait().expect("our child").is_none(), "it ended");
            std::thread::yield_now();
        }
        ready.push(began.elapsed());
        // The ports accept before the control socket answers.
        home.until(|status| status["agent"]["pid"].is_number());
        // Reaped when it is killed.
        std::thread::spawn(move || child.wait());
    }
    ready.sort();

    let resident = home.resident();
    let idle = resident();
    let load = Load::start(&url, LARGE);
    let down = most(super::length() / 6, &resident).await;
    upstream.recover().await.expect("the port again");
    let up = most(super::length() / 6, &resident).await;
    let more = load.stop().await;
    sent.accepted.extend(more.accepted);
    sent.refused += more.refused;
    sent.failed += more.failed;
    let draining = std::cell::Cell::new(0);
    upstream
        .wait(|record| {
            draining.set(draining.get().max(resident()));
            record.delivered() >= sent.spans()
        })
        .await;
    let highest = home.kibibytes("VmHWM");
    println!(
        "endure: backlog of {} MiB: ready after {ready:.1?}; RSS {idle} KiB at the start, at most {down} KiB under load \
         with upstream away, {up} KiB with it back, {} KiB draining, {highest} KiB ever; {}",
        backlog >> 20,
        draining.get(),
        upstream.look(|record| shown(record, &sent)),
    );
    assert_eq!(upstream.look(|record| sent.missing(record)), 0);
    assert!(ready[ready.len() / 2] <= READY, "{ready:?}");
    assert!(highest <= RESIDENT, "{highest} KiB");
    signal(home.pid().expect("an agent runs"), rustix::process::Signal::KILL);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn an_upstream_that_breaks_on_each_large_request_costs_no_memory_either() {
    let (issuer, upstream) = parties(Duration::from_secs(3600)).await;
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_SPOOL_MAX_BYTES", "8GiB");
    home.up();
    upstream.set_fault(Fault::Http {
        status: 500,
        content_type: "text/plain",
        // So that many are tried.
        headers: vec![("retry-after", "1".to_owned())],
        body: "no".into(),
    });
    let load = Load::start(&home.http("v1/traces"), LARGE);
    let resident = home.resident();
    let broken = most(super::length() * 2, &resident).await;
    upstream.set_fault(Fault::None);
    let sent = load.stop().await;
    sent.arrive(&upstream).await;
    let highest = home.kibibytes("VmHWM");
    println!(
        "endure: 500 to requests of 4 MiB: RSS at most {broken} KiB, {highest} KiB ever; {}",
        upstream.look(|record| shown(record, &sent)),
    );
    assert!(highest <= RESIDENT, "{highest} KiB");
}
