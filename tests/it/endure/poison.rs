//! One record that upstream never takes, among ten thousand that go with it in one request.

use std::time::Duration;

use tagalong::demo::upstream::{Fault, Record};

use super::{set_aside, shown};
use crate::support::{
    agent::{Home, parties, soon},
    load::{self, Load, has_span},
};

const RECORDS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn one_poison_record_among_ten_thousand_joined_ones_is_set_aside_alone() {
    let (issuer, upstream) = parties(Duration::from_secs(3600)).await;
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_EXPORT_BATCH_BYTES", "4MiB");
    home.up();
    upstream.kill();
    let config = load::Config {
        senders: 64,
        spans: 1,
        ..load::Config::default()
    };
    let load = Load::start(&home.http("v1/traces"), config);
    home.until(|status| status["spool"]["books"]["traces"]["accepted"].as_u64() > Some(RECORDS));
    let mut sent = load.stop().await;
    let poison = sent.accepted[sent.accepted.len() / 2].start;
    upstream.set_fault(Fault::Poison {
        span_id: poison.to_be_bytes().to_vec(),
    });
    upstream.recover().await.expect("the port again");
    sent.accepted.retain(|ids| !ids.contains(&poison));
    soon(sent.arrive(&upstream)).await;
    home.until(|status| status["spool"]["bytes"] == 0);
    let requests = upstream.look(|record| record.requests);
    println!(
        "endure: one poison record: {}; {:?} set aside (entries, items) after {requests} requests",
        upstream.look(|record| shown(record, &sent)),
        set_aside(&home)
    );
    assert_eq!(set_aside(&home), (1, 1));
    assert!(upstream.look(|record| !has_span(record, poison)));
    assert_eq!(upstream.look(Record::duplicates), 0);
}
