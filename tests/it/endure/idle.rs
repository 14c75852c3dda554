//! An agent with nothing to do: whether it would keep a workspace awake that is to fall asleep.

use std::{fs, time::Duration};

use super::most;
use crate::support::agent::{Home, parties};

/// How often any of its threads may be woken in a minute. The clock is looked at twice, metrics are read once.
const WAKES: u64 = 12;

/// How often the threads of a process have waited for something.
fn waits(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let statuses = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    statuses
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn an_idle_agent_neither_wakes_up_nor_sends() {
    let (issuer, upstream) = parties(Duration::from_secs(3600)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let pid = home.pid().expect("an agent runs");
    // The start and the last figures have to be said, and connections to be closed.
    most(Duration::from_secs(200), || 0).await;
    let (before, requests) = (waits(pid), upstream.look(|record| record.requests));
    most(Duration::from_secs(60), || 0).await;
    let wakes = waits(pid) - before;
    let sent = upstream.look(|record| record.requests) - requests;
    println!("endure: idle: {wakes} wake-ups and {sent} requests in a minute");
    assert_eq!(sent, 0);
    assert!(wakes <= WAKES, "{wakes}");
}
