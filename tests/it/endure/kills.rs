//! `kill -9` at random moments, again and again.

use std::time::Duration;

use super::{most, setting, shown};
use crate::support::{
    agent::{Home, parties, soon},
    load::{self, Load},
};

/// The most bytes that are in flight, and the least that a span of this load has: a kill repeats no more than that.
const IN_FLIGHT: u64 = 4 * 1024 * 1024;
const SPAN_BYTES: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn kill_9_at_random_moments_loses_nothing_and_repeats_only_what_was_in_flight() {
    let (issuer, upstream) = parties(Duration::from_secs(10)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let config = load::Config {
        senders: 4,
        every: Some(Duration::from_millis(4)),
        ..load::Config::default()
    };
    let load = Load::start(&home.http("v1/traces"), config);
    let kills = setting("TAGALONG_ENDURE_KILLS", 100);
    for _ in 0..kills {
        let mut random = [0; 2];
        getrandom::fill(&mut random).expect("randomness");
        most(
            Duration::from_millis(u64::from(u16::from_le_bytes(random)) % 1000),
            || 0,
        )
        .await;
        home.kill_9();
        home.up();
    }
    let sent = load.stop().await;
    soon(sent.arrive(&upstream)).await;
    home.until(|status| status["spool"]["bytes"] == 0);
    let record = upstream.record();
    println!("endure: {kills} kills: {}", shown(&record, &sent));
    assert_eq!(super::set_aside(&home), (0, 0));
    assert!(record.duplicates() <= kills * IN_FLIGHT / SPAN_BYTES);
    let most_often = record.spans.values().max().copied().unwrap_or_default();
    assert!(most_often <= 1 + kills, "a span came {most_often} times");
}
