//! One tagalong's credential for another: the socket that a host forwards into a container.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tagalong::demo::issuer::{Config, Issuer};

use crate::support::agent::Home;

const UPSTREAM: &str = "https://otlp.example.com";

async fn host(issuer: &Issuer, share: &Path) -> Home {
    let home = Home::new()
        .sending(UPSTREAM, &issuer.url())
        .set("TAGALONG_IDENTITY_SHARE", share.display().to_string());
    home.up();
    while home.status()["credential"]["state"] != "fresh" {
        tokio::task::yield_now().await;
    }
    home
}

fn guest(share: &Path) -> Home {
    Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", UPSTREAM)
        .set("TAGALONG_IDENTITY_AGENT", share.display().to_string())
}

fn say(share: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(share).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    writeln!(stream, "{line}").expect("it reads");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sends_under_the_hosts_person() {
    let issuer = Issuer::start(Config::default()).await.expect("a port");
    let directory = tempfile::tempdir().expect("a directory");
    let share = directory.path().join("share.sock");
    let host = host(&issuer, &share).await;
    let guest = guest(&share);
    // Without an agent of its own.
    assert_eq!(guest.text(&["token"]), host.text(&["token"]));
    // And with one.
    guest.up();
    let status = loop {
        let status = guest.status();
        if status["credential"]["state"] == "fresh" {
            break status;
        }
    };
    assert_eq!(status["credential"]["source"], "agent");
    assert_eq!(status["principal"], host.status()["principal"]);
    assert_eq!(guest.text(&["token"]), host.text(&["token"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_answers_one_question_for_its_own_audience() {
    let issuer = Issuer::start(Config::default()).await.expect("a port");
    let directory = tempfile::tempdir().expect("a directory");
    let share = directory.path().join("share.sock");
    let host = host(&issuer, &share).await;
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&share).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ours = say(&share, &format!(r#"{{"audience":"{UPSTREAM}"}}"#));
    let ours: Value = serde_json::from_str(&ours).expect("JSON");
    assert!(ours["token"]["token"].as_str().expect("a token").starts_with("ey"));
    assert_eq!(
        ours["token"].as_object().expect("an object").len(),
        2,
        "a token and its end, nothing that lasts"
    );
    assert_eq!(
        say(&share, r#"{"audience":"https://evil.example"}"#),
        "\"wrong-audience\"\n"
    );
    // The control socket's questions are none here.
    for question in [
        r#"{"stop":{"deadline":1}}"#,
        r#""status""#,
        r#""token""#,
        r#""logout""#,
        "",
        "{",
    ] {
        assert_eq!(say(&share, question), "", "{question}");
    }
    assert!(host.pid().is_some(), "nobody stopped it");
    let elsewhere = guest(&share).set("TAGALONG_IDENTITY_AUDIENCE", "https://evil.example");
    let output = elsewhere.run(&["token"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("another audience"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_hosts_setting_nobody_is_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let guest = guest(&directory.path().join("share.sock"));
    let output = guest.run(&["token"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(4) && text.contains("identity.share"),
        "{text}"
    );
}

#[test]
fn an_agent_that_would_ask_itself_is_a_wrong_setting() {
    let home = Home::new()
        .set("TAGALONG_IDENTITY_SHARE", "/tmp/one.sock")
        .set("TAGALONG_IDENTITY_AGENT", "/tmp/one.sock");
    let output = home.run(&["token"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("identity.share"));
}
