//! The promises against the real executable: started as a user starts it, judged by what leaves it and what it leaves.
//!
//! Promises 1 and 9 are told in `agent`; what needs minutes is told in `endure`.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use serde_json::Value;
use tagalong::{
    demo::{
        issuer::Issuer,
        upstream::{Fault, Upstream},
    },
    otlp::Signal,
};

use crate::support::{
    agent::{Home, answer, client, parties, post, soon},
    load::{has_span, traces},
    receiver, telemetry,
};

/// Long enough that nothing expires in a story that is not about expiry.
const LONG: Duration = Duration::from_secs(3600);

/// The books of one signal balance, and these are they.
fn books(status: &Value, signal: Signal) -> [u64; 6] {
    let books = &status["spool"]["books"][signal.as_str()];
    let read =
        ["accepted", "delivered", "rejected", "set_aside", "expired", "pending"].map(|name| books[name].as_u64());
    let books = read.map(Option::unwrap_or_default);
    assert_eq!(books[0], books[1..].iter().sum::<u64>(), "the books balance: {books:?}");
    books
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_memory_does_not_grow_with_the_backlog() {
    let (issuer, upstream) = parties(LONG).await;
    upstream.kill();
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let (url, client) = (home.http("v1/traces"), client());
    let send = async |requests: std::ops::Range<u64>| {
        for request in requests {
            assert!(post(&client, &url, traces(request * 20..request * 20 + 20, 40_000)).await);
        }
    };
    // By then the buffers have the size that they need.
    send(0..20).await;
    let before = home.kibibytes("VmRSS");
    send(20..60).await;
    let (backlog, after) = (home.status()["spool"]["bytes"].as_u64(), home.kibibytes("VmRSS"));
    assert!(backlog > Some(45_000_000), "{backlog:?}");
    // A fifth of what the backlog grew by is noise of the allocator; a second queue would be all of it.
    assert!(after < before + 6 * 1024, "from {before} KiB to {after} KiB");
    upstream.recover().await.expect("the port again");
    soon(upstream.wait(|record| record.delivered() >= 1200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_full_is_said_in_both_protocols_and_ends_with_the_outage() {
    let (issuer, upstream) = parties(LONG).await;
    upstream.kill();
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_SPOOL_MAX_BYTES", "1MiB");
    home.up();
    let (url, client) = (home.http("v1/logs"), client());
    let body = || telemetry::request(Signal::Logs, 1000);
    let mut accepted = 0;
    let refused = loop {
        let answer = answer(&client, &url, body()).await.expect("an answer");
        if !answer.status().is_success() {
            break answer;
        }
        accepted += 1000;
    };
    assert_eq!(refused.status(), 503);
    let wait = refused.headers()["retry-after"].to_str().expect("text").parse::<u64>();
    assert!(wait.is_ok_and(|seconds| seconds > 0));
    let called = receiver::call(home.grpc(), Signal::Logs, &body()).await;
    assert_eq!(called.grpc_code(), 14, "UNAVAILABLE");
    assert!(called.grpc_details().retry_delay.is_some());
    let status = home.status();
    assert_eq!(
        books(&status, Signal::Logs),
        [accepted, 0, 0, 0, 0, accepted],
        "what was accepted waits"
    );
    assert_eq!(
        status["spool"]["full"],
        serde_json::json!(["logs"]),
        "and whoever looks is told"
    );

    upstream.recover().await.expect("the port again");
    soon(upstream.wait(|record| record.logs >= accepted)).await;
    home.until(|status| books(status, Signal::Logs)[5] == 0);
    assert!(post(&client, &url, body()).await, "there is room again");
    soon(upstream.wait(|record| record.logs == accepted + 1000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_what_upstream_refuses_for_good_is_set_aside_counted_and_shown() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let (url, client) = (home.http("v1/logs"), client());
    let settled =
        |items| move |status: &Value| books(status, Signal::Logs)[5] == 0 && books(status, Signal::Logs)[0] == items;
    upstream.set_fault(Fault::Rpc {
        code: 3,
        message: "the third attribute is indecent",
        retry_delay: None,
    });
    assert!(post(&client, &url, telemetry::request(Signal::Logs, 3)).await);
    assert_eq!(books(&home.until(settled(3)), Signal::Logs), [3, 0, 0, 3, 0, 0]);
    upstream.set_fault(Fault::Partial {
        rejected: 2,
        message: "two are too old",
    });
    assert!(post(&client, &url, telemetry::request(Signal::Logs, 5)).await);
    assert_eq!(books(&home.until(settled(8)), Signal::Logs), [8, 3, 2, 3, 0, 0]);
    upstream.set_fault(Fault::None);

    let said = home.text(&["down"]);
    assert!(said.contains("set aside: `tagalong spool list` says why"), "{said}");
    // Read from the disk; the agent knows the entry by the same id.
    let listed = home.text(&["spool", "list"]);
    assert!(listed.contains("the third attribute is indecent"), "{listed}");
    let line = listed
        .lines()
        .find(|line| line.contains("logs"))
        .expect("an entry of logs");
    let id = line.split_whitespace().next().expect("an id");
    let json: Value = serde_json::from_str(&home.text(&["spool", "list", "--json"])).expect("JSON");
    let mut entries = json["entries"].as_array().expect("entries").iter();
    let entry = entries.find(|entry| entry["id"] == id).expect("the same entry");
    assert_eq!((&entry["signal"], &entry["items"]), (&"logs".into(), &3.into()));
    home.up();
    assert!(home.text(&["spool", "list"]).starts_with(id), "the agent lists it too");
    let said = home.text(&["spool", "retry", id]);
    assert_eq!(said, format!("{id}: waits to be sent again\n"));
    soon(upstream.wait(|record| record.logs == 3)).await;
    assert_eq!(books(&home.until(settled(8)), Signal::Logs), [8, 6, 2, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_an_entry_that_cannot_be_sent_again_keeps_none_behind_it_from_it() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    upstream.set_fault(Fault::Rpc {
        code: 3,
        message: "no such tenant",
        retry_delay: None,
    });
    let (url, client) = (home.http("v1/logs"), client());
    assert!(post(&client, &url, telemetry::request(Signal::Logs, 3)).await);
    home.until(|status| books(status, Signal::Logs)[3] == 3);
    upstream.set_fault(Fault::None);
    let listed = home.text(&["spool", "list"]);
    let (log, _) = listed.split_once("/logs/").expect("an entry of logs");
    let aside = format!("state/tagalong/spool/{log}/logs/set-aside");
    fs::write(home.path().join(aside).join("0-0-0"), "what a bad disk left").expect("a file");

    let retried = home.run(&["spool", "retry", "all"]);
    assert_eq!(retried.status.code(), Some(1));
    let said = String::from_utf8(retried.stderr).expect("text");
    let left = format!("{log}/logs/0-0-0: the set-aside entry is damaged\ntagalong: 1 of ");
    assert!(said.starts_with(&left), "{said}");
    soon(upstream.wait(|record| record.logs == 3)).await;
    home.text(&["spool", "drop", "all"]);
    assert_eq!(home.text(&["spool", "list"]), "nothing is set aside\n");
}

/// What the files below a directory take on the disk.
fn taken(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, found)| {
            if found.is_dir() {
                taken(&path)
            } else {
                found.blocks() * 512
            }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_an_upstream_that_refuses_everything_fills_the_spool_and_no_disk() {
    const MIB: u64 = 1024 * 1024;
    let (issuer, upstream) = parties(LONG).await;
    upstream.set_fault(Fault::Rpc {
        code: 3,
        message: "no such tenant",
        retry_delay: None,
    });
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_SPOOL_MAX_BYTES", "1MiB");
    home.up();
    let (url, client) = (home.http("v1/logs"), client());
    let body = || telemetry::request(Signal::Logs, 20);
    let mut accepted = 0;
    let full = |status: &Value| status["spool"]["full"] == serde_json::json!(["logs"]);
    // Whoever is told to come again does, until room comes no more.
    let called = soon(async {
        loop {
            let answer = answer(&client, &url, body()).await.expect("an answer");
            match answer.status().as_u16() {
                200 => accepted += 20,
                code => assert_eq!(code, 503),
            }
            let status = home.status();
            if full(&status) && status["spool"]["set_aside_bytes"].as_u64() >= Some(MIB / 8) {
                let called = receiver::call(home.grpc(), Signal::Logs, &body()).await;
                if called.grpc_code() != 0 {
                    break called;
                }
                accepted += 20;
            }
        }
    })
    .await;
    assert_eq!(called.grpc_code(), 14, "UNAVAILABLE");
    assert!(called.grpc_details().retry_delay.is_some());
    assert_eq!(books(&home.status(), Signal::Logs)[..2], [accepted, 0]);
    assert!(
        taken(&home.path().join("state")) < 2 * MIB,
        "with what is in the open segment and the log"
    );
    assert!(home.text(&["spool", "list"]).contains("no such tenant"));
    let doctor = String::from_utf8(home.run(&["doctor"]).stdout).expect("text");
    assert!(doctor.contains("`tagalong spool drop all` gives it up"), "{doctor}");

    let log = home.text(&["logs"]);
    let said = log.lines().filter(|line| line.contains("it is set aside")).count();
    assert!((1..10).contains(&said), "{said} lines");

    upstream.set_fault(Fault::None);
    home.text(&["spool", "drop", "all"]);
    home.until(|status| books(status, Signal::Logs)[5] == 0 && !full(status));
    assert!(post(&client, &url, body()).await, "there is room again");
    home.until(|status| books(status, Signal::Logs)[1] >= 20);
}

/// Every token that was minted so far is refused from now on.
fn revoke(issuer: &Issuer, upstream: &Upstream) {
    issuer.revoke_all().expect("a new key");
    upstream.forget_keys();
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_4_a_refused_credential_is_replaced_once_however_many_requests_were_refused() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_EXPORT_BATCH_DELAY", "0ms");
    home.up();
    let (url, client) = (home.http("v1/logs"), client());
    assert!(post(&client, &url, telemetry::request(Signal::Logs, 10)).await);
    soon(upstream.wait(|record| record.logs == 10)).await;
    assert_eq!(issuer.minted(), 1);
    revoke(&issuer, &upstream);
    for _ in 0..20 {
        assert!(post(&client, &url, telemetry::request(Signal::Logs, 10)).await);
    }
    soon(upstream.wait(|record| record.logs >= 210)).await;
    assert_eq!(issuer.minted(), 2, "one refresh");
    let status = home.until(|status| books(status, Signal::Logs)[5] == 0);
    assert_eq!(books(&status, Signal::Logs), [210, 210, 0, 0, 0, 0]);
    assert_eq!(
        upstream.look(|record| record.logs),
        210,
        "each was resent only where it was refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_4_without_a_usable_credential_the_spool_grows_and_nothing_is_given_up() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let (url, client) = (home.http("v1/logs"), client());
    assert!(post(&client, &url, telemetry::request(Signal::Logs, 10)).await);
    soon(upstream.wait(|record| record.logs == 10)).await;
    issuer.set_refuse_minting(true);
    revoke(&issuer, &upstream);
    for _ in 0..20 {
        assert!(post(&client, &url, telemetry::request(Signal::Logs, 10)).await);
    }
    let status = home.until(|status| status["credential"]["failures"].as_u64() > Some(0));
    assert_eq!(books(&status, Signal::Logs), [210, 10, 0, 0, 0, 200]);
    issuer.set_refuse_minting(false);
    soon(upstream.wait(|record| record.logs == 210)).await;
    let status = home.until(|status| books(status, Signal::Logs)[5] == 0);
    assert_eq!(books(&status, Signal::Logs), [210, 210, 0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_5_nothing_leaves_without_a_name_and_nothing_under_anothers() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    let client = client();
    // Nobody knows yet who this is.
    issuer.edit(|config| config.subject = "ada".to_owned());
    issuer.set_refuse_minting(true);
    home.up();
    assert!(post(&client, &home.http("v1/traces"), traces(1..6, 10)).await);
    let status = home.until(|status| status["credential"]["failures"].as_u64() > Some(0));
    assert!(status["principal"].is_null());
    assert_eq!(upstream.look(|record| record.requests), 0);

    // Ada it is, and what waited was hers. Then upstream goes away, and she leaves more behind.
    issuer.set_refuse_minting(false);
    soon(upstream.wait(|record| record.delivered() >= 5)).await;
    upstream.kill();
    assert!(post(&client, &home.http("v1/traces"), traces(100..105, 10)).await);
    home.kill_9();

    let be = |subject: &str| issuer.edit(|config| config.subject = subject.to_owned());
    be("grace");
    upstream.recover().await.expect("the port again");
    home.up();
    assert!(post(&client, &home.http("v1/traces"), traces(200..205, 10)).await);
    soon(upstream.wait(|record| has_span(record, 204))).await;
    assert_eq!(home.status()["principal"]["subject"], "grace");
    home.kill_9();
    assert!(
        upstream.look(|record| !has_span(record, 100)),
        "ada's left under grace's name"
    );

    // Nor is it waited for: nobody who is here could send it.
    home.up();
    home.until(|status| status["principal"]["subject"] == "grace");
    let said = home.text(&["down", "--timeout", "1h"]);
    assert!(said.contains("and of others here"), "{said}");

    be("ada");
    home.up();
    soon(upstream.wait(|record| has_span(record, 104))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_there_was_no_upstream_stays_here_when_there_is_one() {
    let (issuer, upstream) = parties(LONG).await;
    let client = client();
    let home = Home::new();
    home.up();
    assert!(post(&client, &home.http("v1/traces"), traces(1..6, 10)).await);
    home.kill_9();

    let home = home.sending(&upstream.url(), &issuer.url());
    home.up();
    assert!(post(&client, &home.http("v1/traces"), traces(100..105, 10)).await);
    soon(upstream.wait(|record| has_span(record, 104))).await;
    let books = |status: &serde_json::Value, of: &str| status["spool"]["books"]["traces"][of].as_u64();
    let status = home.until(|status| books(status, "pending") == Some(0));
    assert!(books(&status, "expired") >= Some(5), "{status:#}");
    assert!(
        upstream.look(|record| !has_span(record, 1)),
        "it was said to be sent nowhere"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_what_waits_for_an_upstream_waits_also_while_none_is_set() {
    let (issuer, upstream) = parties(LONG).await;
    upstream.kill();
    let client = client();
    let home = Home::new()
        .set("TAGALONG_SPOOL_KEEP_BYTES", "0")
        .sending(&upstream.url(), &issuer.url());
    home.up();
    assert!(post(&client, &home.http("v1/traces"), traces(1..6, 10)).await);
    home.until(|status| status["principal"].is_object());
    home.kill_9();

    let home = home.set("TAGALONG_EXPORT_ENDPOINT", "");
    assert!(home.up()["export"]["endpoint"].is_null());
    assert!(
        home.text(&["status"])
            .contains("what was accepted for one waits in the spool")
    );
    assert!(post(&client, &home.http("v1/traces"), traces(100..105, 10)).await);
    home.text(&["down"]);

    upstream.recover().await.expect("the port again");
    let home = home.set("TAGALONG_EXPORT_ENDPOINT", upstream.url());
    home.up();
    soon(upstream.wait(|record| has_span(record, 5))).await;
    assert!(
        upstream.look(|record| !has_span(record, 100)),
        "it was said to be sent nowhere"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_a_sender_cannot_speak_for_somebody_else() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    let status = home.up();
    let forged = [
        ("service.name", "shop"),
        ("user.id", "mallory"),
        ("user.email", "mallory@example.com"),
        ("user.department", "board"),
        ("workspace.id", "another"),
        ("workspace.anything", "goes"),
    ];
    let body = telemetry::traces(&forged, telemetry::spans(1));
    assert!(post(&client(), &home.http("v1/traces"), body).await);
    soon(upstream.wait(|record| record.services.contains_key("shop"))).await;
    let resource = upstream.look(|record| {
        let mut shop = record
            .resources
            .iter()
            .filter(|resource| resource.get("service.name").is_some_and(|name| name == "shop"));
        shop.next().cloned().expect("the shop's resource")
    });
    assert_eq!(resource["user.email"], "ada@example.com");
    assert_eq!(
        Some(resource["workspace.id"].as_str()),
        status["workspace"]["id"].as_str()
    );
    assert_ne!(resource["user.id"], "mallory");
    assert!(!resource.contains_key("user.department") && !resource.contains_key("workspace.anything"));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_the_token_is_in_no_file_no_argument_no_environment_and_no_core_file() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_LOG", "trace");
    home.up();
    let (url, client) = (home.http("v1/logs"), client());
    assert!(post(&client, &url, telemetry::request(Signal::Logs, 1)).await);
    soon(upstream.wait(|record| record.logs == 1)).await;
    let token = home.text(&["token"]).trim().to_owned();
    // One 401 as well: refusals are what gets logged.
    revoke(&issuer, &upstream);
    assert!(post(&client, &url, telemetry::request(Signal::Logs, 1)).await);
    soon(upstream.wait(|record| record.logs == 2)).await;
    let (pid, second) = (
        home.pid().expect("an agent runs"),
        home.text(&["token"]).trim().to_owned(),
    );
    assert_ne!(token, second);
    for token in [token, second] {
        let signature = token.rsplit('.').next().expect("a signature");
        assert!(signature.len() > 40);
        assert_eq!(home.files_with(signature), [""; 0].map(std::path::PathBuf::from));
        // Of what is in memory no core file is written.
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("our own process");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
        assert!(matches!(words[4..6], ["1", "1"] | ["0", "0"]), "{words:?}");
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("our own process");
            assert!(!String::from_utf8_lossy(&bytes).contains(signature), "{file}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_an_upstream_that_a_repository_can_set_gets_no_bearer() {
    let (issuer, upstream) = parties(LONG).await;
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_EXPORT_ENDPOINT", "")
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.url());
    home.up();
    assert!(post(&client(), &home.http("v1/logs"), telemetry::request(Signal::Logs, 1)).await);
    soon(upstream.wait(|record| record.requests > 0)).await;
    upstream.look(|record| assert!(record.tokens.is_empty() && record.refused == record.requests));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_8_what_is_redacted_never_reaches_the_disk() {
    let (issuer, upstream) = parties(LONG).await;
    upstream.kill();
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let canary = ["glpat-", "canary7canary7canar7"].concat();
    let mut span = telemetry::span("GET /", 8);
    span.attributes = vec![
        telemetry::attribute("http.request.header.private-token", &canary),
        telemetry::attribute("db.password", "canary8canary8"),
        telemetry::attribute("url.full", "https://ada:canary9canary9@example.com/?x=1"),
    ];
    let body = telemetry::traces(&[("service.name", "shop")], vec![span]);
    assert!(post(&client(), &home.http("v1/traces"), body).await);
    for secret in [&canary[6..], "canary8canary8", "canary9canary9"] {
        assert_eq!(
            home.files_with(secret),
            [""; 0].map(std::path::PathBuf::from),
            "{secret}"
        );
    }
    assert!(
        !home.files_with("db.password").is_empty(),
        "the search finds what is there"
    );
    home.kill_9();
    upstream.recover().await.expect("the port again");
    home.up();
    soon(upstream.wait(|record| record.services.contains_key("shop"))).await;
}
