//! Credentials that live for ten seconds, are refused before their time, and cannot be had for a third of it.

use std::time::Duration;

use super::{length, set_aside, shown};
use crate::support::{
    agent::{Home, parties, soon},
    load::{self, Load},
};

const LIFETIME: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just endure"]
async fn ten_second_tokens_under_load_with_refusals_and_an_issuer_that_is_away() {
    let (issuer, upstream) = parties(LIFETIME).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let config = load::Config {
        senders: 8,
        every: Some(Duration::from_millis(20)),
        ..load::Config::default()
    };
    let load = Load::start(&home.http("v1/traces"), config);
    // A third of each lifetime the issuer is away; every seventeen seconds all tokens so far are refused, which at times
    // comes together.
    let thirds = 2 * length().as_secs() * 3 / LIFETIME.as_secs();
    let mut turn = tokio::time::interval(LIFETIME / 3);
    let mut revoked = 0;
    for third in 0..thirds {
        turn.tick().await;
        issuer.set_refuse_minting(third % 3 == 1);
        if third % 5 == 4 {
            issuer.revoke_all().expect("a new key");
            upstream.forget_keys();
            revoked += 1;
        }
    }
    issuer.set_refuse_minting(false);
    let sent = load.stop().await;
    soon(sent.arrive(&upstream)).await;
    // While it is fresh no attempt is under way, so the issuer's figure and the agent's are of the same moment.
    let mut minted = 0;
    let status = home.until(|status| {
        let before = std::mem::replace(&mut minted, issuer.minted());
        before == minted && status["spool"]["bytes"] == 0 && status["credential"]["state"] == "fresh"
    });
    let (record, refused) = (upstream.record(), issuer.refused());
    let [generations, failures] =
        ["generation", "failures"].map(|name| status["credential"][name].as_u64().expect("a number"));
    let pauses = home.text(&["logs"]).matches("sending is paused").count();
    println!(
        "endure: {LIFETIME:?} tokens, revoked {revoked} times: {}; {minted} minted, {generations} generations, {} of them used, {} 401s, {failures} attempts failed, {refused} of them \
         refused, {pauses} answers missed",
        shown(&record, &sent),
        record.tokens.len(),
        record.refused,
    );
    assert_eq!(set_aside(&home), (0, 0));
    assert_eq!((sent.refused, sent.failed), (0, 0));
    // A refusal makes no duplicate. A request whose answer was too late for a busy machine does, and the agent says so.
    assert!(record.duplicates() == 0 || pauses > 0, "no answer was missed");
    // One refresh a generation. A token whose attempt ran out of time belongs to none: that is a failed attempt which the
    // issuer had not refused, and it explains one token.
    assert!(minted >= generations, "{minted} minted for {generations} generations");
    assert!(
        minted - generations <= failures.saturating_sub(refused),
        "{minted} minted for {generations} generations, though only {failures} attempts failed and {refused} were refused"
    );
    assert!(record.refused >= revoked.min(1));
}
