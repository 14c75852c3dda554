//! A login whose issuer is away for a third of every lifetime, and then for longer than one.

use std::time::Duration;

use tagalong::demo::upstream::{self, Record, Upstream};
use tokio::time::{self, Instant};

use super::{length, set_aside, shown};
use crate::{
    login::log_in,
    support::{
        agent::{Home, soon},
        load::{self, Load},
        provider::{Outage, Provider, Settings},
    },
};

const LIFETIME: Duration = Duration::from_secs(15);
/// A pause that somebody would call one. What a busy machine kept us from looking comes on top.
const PAUSE: Duration = Duration::from_secs(2);

/// How long nothing new came to upstream, at most, while `during` went on; and how long this looked away, at most.
async fn longest_gap<T>(upstream: &Upstream, during: impl Future<Output = T>) -> (Duration, Duration, T) {
    tokio::pin!(during);
    let (mut longest, mut last, mut seen) = (Duration::ZERO, Instant::now(), upstream.look(Record::delivered));
    let (mut turn, mut looked, mut away) = (
        time::interval(Duration::from_millis(10)),
        Instant::now(),
        Duration::ZERO,
    );
    loop {
        tokio::select! {
            value = &mut during => return (longest.max(last.elapsed()), away, value),
            _ = turn.tick() => {}
        }
        away = away.max(looked.elapsed());
        looked = Instant::now();
        let now = upstream.look(Record::delivered);
        if now > seen {
            longest = longest.max(last.elapsed());
            (last, seen) = (Instant::now(), now);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn an_issuer_that_is_away_for_a_third_of_every_lifetime_and_then_for_longer_than_one() {
    let provider = Provider::with(Settings {
        expires_in: LIFETIME.as_secs().into(),
        ..Settings::default()
    })
    .await;
    provider.set_lifetime(LIFETIME);
    let config = upstream::Config {
        issuer: Some(provider.url()),
        audience: Some(provider.url()),
    };
    let upstream = Upstream::start(config).await.expect("an upstream");
    provider.set_audience(&provider.url());
    let home = Home::new()
        .set("TAGALONG_IDENTITY_KEEP", "file")
        .set("TAGALONG_IDENTITY_AUDIENCE", provider.url());
    log_in(&home, &provider);
    // The provider described itself as the upstream; what is sent goes to one that checks tokens.
    let home = home.set("TAGALONG_EXPORT_ENDPOINT", upstream.url());
    home.up();
    let config = load::Config {
        senders: 4,
        every: Some(Duration::from_millis(20)),
        ..load::Config::default()
    };
    let load = Load::start(&home.http("v1/traces"), config);
    soon(upstream.wait(|record| record.delivered() > 0)).await;

    let thirds = 5 * length().as_secs() * 3 / LIFETIME.as_secs();
    let away = async {
        let mut turn = time::interval(LIFETIME / 3);
        turn.tick().await;
        for third in 0..thirds {
            provider.set_outage(match third % 6 {
                1 => Outage::Answers,
                4 => Outage::Cuts,
                _ => Outage::None,
            });
            turn.tick().await;
        }
        provider.set_outage(Outage::None);
    };
    let (gap, looked_away, ()) = longest_gap(&upstream, away).await;
    let of = |status: &serde_json::Value, name: &str| status["credential"][name].as_u64().expect("a number");
    let status = home.until(|status| status["credential"]["state"] == "fresh");
    let starved = home.text(&["logs"]).matches("Starved").count();
    println!(
        "endure: away for a third of every {LIFETIME:?}, {thirds} thirds: longest gap {gap:?} (looked away for {looked_away:?}), starved \
         {starved} times; {} \
         generations, {} attempts failed, {} requests turned away",
        of(&status, "generation"),
        of(&status, "failures"),
        provider.seen().turned_away,
    );
    assert!(
        looked_away < LIFETIME / 6,
        "this machine stood still for {looked_away:?}, which no token of {LIFETIME:?} outlasts beside an outage: run it again"
    );
    assert_eq!(starved, 0, "there always was a credential to send under");
    assert!(gap < PAUSE + 2 * looked_away, "{gap:?}");

    let turned_away = provider.seen().turned_away;
    provider.set_outage(Outage::Answers);
    let (gap, _, grown) = longest_gap(&upstream, async {
        super::most(3 * LIFETIME, || 0).await;
        home.status()["spool"]["bytes"].as_u64().expect("a number")
    })
    .await;
    let starved = home.status()["credential"]["state"].clone();
    let asked = provider.seen().turned_away - turned_away;
    provider.set_outage(Outage::None);
    let back = Instant::now();
    let sent = load.stop().await;
    soon(sent.arrive(&upstream)).await;
    let caught_up = back.elapsed();
    home.until(|status| status["spool"]["bytes"] == 0);
    let (record, seen) = (upstream.record(), provider.seen());
    println!(
        "endure: away for {:?}: {}; longest gap {gap:?}, {grown} bytes waited, asked {asked} times, caught up in {caught_up:?}",
        3 * LIFETIME,
        shown(&record, &sent),
    );
    assert_eq!(starved, "starved");
    assert!(
        caught_up < 2 * LIFETIME,
        "a short lifetime is not followed by a long wait: {caught_up:?}"
    );
    assert!(gap > LIFETIME && grown > 0, "nothing is sent without a credential");
    assert_eq!(set_aside(&home), (0, 0));
    assert_eq!((sent.refused, sent.failed), (0, 0));
    assert_eq!((record.refused, seen.reused, provider.alive()), (0, 0, 1));
}
