//! What each link says of what was seen. The stories with real parts are among the integration tests.

use std::path::PathBuf;

use super::{
    here::Room,
    upstream::{Answered, Probe, Proxy},
    *,
};
use crate::{
    cli::status::tests::{at_rest, at_work},
    identity::State,
};

fn line(link: &Link) -> String {
    render(std::slice::from_ref(link), Screen::default())
}

fn room(free: u64) -> Room {
    Room {
        place: PathBuf::from("/workspace/.tagalong/spool"),
        trouble: None,
        free: Some(free),
    }
}

fn probe(trouble: &str, proxy: Option<bool>) -> Probe {
    Probe {
        url: url::Url::parse("https://otel.example.com/").expect("a URL"),
        proxy: proxy.map(|answers| Proxy {
            variable: "HTTPS_PROXY",
            address: "proxy.corp:3128".to_owned(),
            answers,
        }),
        outcome: Err(trouble.to_owned()),
    }
}

#[test]
fn each_broken_link_says_what_to_do_under_it() {
    let links = [
        Link::ok(Name::Platform, "local"),
        Link::note(Name::Ports, "127.0.0.1:4318 is taken", "nothing to do"),
        Link::failed(Name::Credential, "the file is empty", "write a token into it"),
    ];
    insta::assert_snapshot!(render(&links, Screen::default()), @"
    ok    platform            local
    note  ports               127.0.0.1:4318 is taken
                              → nothing to do
    FAIL  credential          the file is empty
                              → write a token into it
    ");
    let narrow = Screen {
        colours: false,
        width: Some(40),
    };
    insta::assert_snapshot!(render(&links, narrow), @"
    ok    platform
          local
    note  ports
          127.0.0.1:4318 is taken
          → nothing to do
    FAIL  credential
          the file is empty
          → write a token into it
    ");
    let colours = Screen {
        colours: true,
        width: Some(80),
    };
    insta::assert_snapshot!(render(&links, colours).replace('\x1b', "ESC"), @"
    ESC[32mok  ESC[0m  platform            local
    ESC[33mnoteESC[0m  ports               127.0.0.1:4318 is taken
                              → nothing to do
    ESC[31mFAILESC[0m  credential          the file is empty
                              → write a token into it
    ");
}

#[test]
fn json_is_one_object_with_stable_words() {
    let links = vec![
        Link::ok(Name::Reachable, "otel.example.com:443"),
        Link::failed(Name::Spool, "full", "make room"),
    ];
    let report = Report { ok: false, links };
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).expect("JSON"), @r#"
    {
      "ok": false,
      "links": [
        {
          "link": "upstream reachable",
          "verdict": "ok",
          "found": "otel.example.com:443"
        },
        {
          "link": "spool writable",
          "verdict": "failed",
          "found": "full",
          "hint": "make room"
        }
      ]
    }
    "#);
}

#[test]
fn every_link_has_one_name() {
    let names = [
        Name::Settings,
        Name::Platform,
        Name::Endpoint,
        Name::Spool,
        Name::Agent,
        Name::Ports,
        Name::Programs,
        Name::Clock,
        Name::Credential,
        Name::Claims,
        Name::Reachable,
        Name::Accepts,
        Name::OneSpan,
    ];
    let labels: Vec<String> = names.into_iter().map(Name::label).collect();
    insta::assert_snapshot!(labels.join(", "), @"settings, platform, endpoint, spool writable, agent, ports, programs, clock, credential, claims, upstream reachable, upstream accepts, one span");
    assert!(labels.iter().all(|label| !label.is_empty() && label.len() <= NAMES));
}

#[test]
fn a_full_spool_points_to_the_link_that_is_broken() {
    let mut status = at_work();
    status.spool.bytes = status.spool.max_bytes;
    insta::assert_snapshot!(line(&here::spool(&status, &room(1 << 40))), @"
    FAIL  spool writable      full: 1.0 GiB of 1.0 GiB wait to be sent, and senders are told to come again
                              → mend the first broken link below, or raise spool.max_bytes
    ");
    status.spool.bytes = 0;
    insta::assert_snapshot!(line(&here::spool(&status, &room(4096))), @"
    FAIL  spool writable      the disk of /workspace/.tagalong/spool is full: 4 KiB left
                              → make room on that disk, or set spool.dir to another
    ");
    status.spool.trouble = Some("No space left on device (os error 28)".to_owned());
    insta::assert_snapshot!(line(&here::spool(&status, &room(4096))), @"
    FAIL  spool writable      No space left on device (os error 28)
                              → mend or clear the disk of /workspace/.tagalong/spool; senders keep their data until then
    ");
}

#[test]
fn a_directory_that_refuses_is_named() {
    let room = Room {
        trouble: Some("Read-only file system (os error 30)".to_owned()),
        ..room(1 << 40)
    };
    insta::assert_snapshot!(line(&here::spool(&at_rest(), &room)), @"
    FAIL  spool writable      nothing can be written in /workspace/.tagalong/spool: Read-only file system (os error 30)
                              → make it writable, or set spool.dir to a place that is
    ");
}

#[test]
fn an_agent_of_another_version_is_replaced_by_up() {
    let mut status = at_work();
    if let Some(agent) = &mut status.agent {
        agent.version = "0.0.9".to_owned();
    }
    let said = line(&here::agent(&status, None, "c0ffee"));
    insta::assert_snapshot!(said.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @"
    note  agent               version 0.0.9 runs, this is VERSION
                              → `tagalong up` replaces it, and loses nothing
    ");
}

#[test]
fn an_agent_of_another_commit_is_replaced_by_up_though_its_version_is_the_same() {
    let mut status = at_work();
    if let Some(agent) = &mut status.agent {
        agent.commit = Some("0123456789abcdef0123456789abcdef01234567".to_owned());
    }
    let said = line(&here::agent(&status, None, "c0ffee"));
    insta::assert_snapshot!(said.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @"
    note  agent               version VERSION (0123456789ab) runs, this is VERSION (no commit)
                              → `tagalong up` replaces it, and loses nothing
    ");
}

#[test]
fn a_clock_is_held_against_issuer_and_upstream() {
    let mut credential = at_work().credential;
    insta::assert_snapshot!(line(&credential::clock(&credential, Some(2.0))), @"ok    clock               it agrees with those that were asked");
    insta::assert_snapshot!(line(&credential::clock(&credential, Some(-7300.0))), @"
    FAIL  clock               this machine's clock is 2 h 1 min ahead of upstream's
                              → set this machine's clock: tokens begin and end by it
    ");
    credential.clock_skew = Some(400.0);
    insta::assert_snapshot!(line(&credential::clock(&credential, None)), @"
    FAIL  clock               this machine's clock is 6 min behind the issuer's
                              → set this machine's clock: tokens begin and end by it
    ");
}

#[test]
fn a_token_for_the_wanted_audience_that_is_refused_needs_another_audience() {
    let mut status = at_work();
    status.credential.state = State::Denied;
    status.credential.trouble = Some("upstream refuses fresh credentials (401)".to_owned());
    status.export.last_error = Some("traces: HTTP 401: invalid audience".to_owned());
    insta::assert_snapshot!(line(&credential::denied(&status)), @"
    FAIL  credential          upstream refuses the token (traces: HTTP 401: invalid audience); it is for https://otel.example.com, from https://api.gitpod.io/idp
                              → set identity.audience to what upstream expects, if that is not https://otel.example.com; else let it trust https://api.gitpod.io/idp; telemetry waits in the spool meanwhile
    ");
}

#[test]
fn a_token_for_another_audience_is_worth_a_note_while_it_is_taken() {
    let mut status = at_work();
    status.credential.audiences = vec!["sts.example.com".to_owned()];
    insta::assert_snapshot!(line(&credential::claims(&status)), @"
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, have tokens minted for identity.audience, or set that to what they are for
    ");
}

#[test]
fn each_way_that_is_not_open_has_its_remedy() {
    let troubles = [
        ("error sending request: invalid peer certificate: UnknownIssuer", None),
        (
            "error sending request: invalid peer certificate: UnknownIssuer",
            Some(true),
        ),
        (
            "invalid peer certificate: certificate not valid for name \"otel.example.com\"",
            None,
        ),
        (
            "invalid peer certificate: certificate expired: verification time 1 (UNIX)",
            None,
        ),
        ("received corrupt message of type InvalidContentType", None),
        ("tunnel error: unsuccessful", Some(true)),
        ("tcp connect error: Connection refused (os error 111)", Some(false)),
        ("dns error: failed to lookup address information", None),
        ("operation timed out", None),
    ];
    let lines: Vec<String> = troubles
        .into_iter()
        .map(|(trouble, proxy)| line(&upstream::reachable(Some(&probe(trouble, proxy)))))
        .collect();
    insta::assert_snapshot!(lines.concat(), @r#"
    FAIL  upstream reachable  otel.example.com:443: error sending request: invalid peer certificate: UnknownIssuer
                              → set export.ca_file to a PEM file with the certificate of upstream's authority
    FAIL  upstream reachable  otel.example.com:443 by the proxy proxy.corp:3128 (HTTPS_PROXY): error sending request: invalid peer certificate: UnknownIssuer
                              → set export.ca_file to a PEM file with the certificate of the proxy's or upstream's authority
    FAIL  upstream reachable  otel.example.com:443: invalid peer certificate: certificate not valid for name "otel.example.com"
                              → otel.example.com is not a name of that certificate: correct export.endpoint
    FAIL  upstream reachable  otel.example.com:443: invalid peer certificate: certificate expired: verification time 1 (UNIX)
                              → upstream's certificate has expired, or this machine's clock is wrong
    FAIL  upstream reachable  otel.example.com:443: received corrupt message of type InvalidContentType
                              → nobody speaks TLS on that port: does export.endpoint begin with http://?
    FAIL  upstream reachable  otel.example.com:443 by the proxy proxy.corp:3128 (HTTPS_PROXY): tunnel error: unsuccessful
                              → have the proxy let otel.example.com through, or add otel.example.com to NO_PROXY; then `tagalong down`, `tagalong up`
    FAIL  upstream reachable  otel.example.com:443 by the proxy proxy.corp:3128 (HTTPS_PROXY): tcp connect error: Connection refused (os error 111)
                              → correct HTTPS_PROXY, or add otel.example.com to NO_PROXY; then `tagalong down`, `tagalong up`
    FAIL  upstream reachable  otel.example.com:443: dns error: failed to lookup address information
                              → check the name in export.endpoint, and whether this machine has a name server
    FAIL  upstream reachable  otel.example.com:443: operation timed out
                              → check export.endpoint, and whether a proxy or a VPN is needed; telemetry waits in the spool
    "#);
}

#[test]
fn an_open_way_is_said_with_its_proxy() {
    let probe = Probe {
        outcome: Ok(Answered::default()),
        ..probe("", Some(true))
    };
    insta::assert_snapshot!(line(&upstream::reachable(Some(&probe))), @"ok    upstream reachable  otel.example.com:443 by the proxy proxy.corp:3128 (HTTPS_PROXY)");
}

#[test]
fn each_refusal_has_its_remedy() {
    let refusals = [
        ("none", "HTTP 401: no bearer"),
        ("gitpod", "HTTP 404: a web page"),
        ("gitpod", "HTTP 302"),
        ("gitpod", "HTTP 200 with a body that is no OTLP response"),
        ("gitpod", "gRPC UNAVAILABLE: try later"),
        ("gitpod", "HTTP 500: oops"),
    ];
    let lines: Vec<String> = refusals
        .into_iter()
        .map(|(source, trouble)| {
            let mut status = at_work();
            status.credential.source = source.to_owned();
            status.export.trouble = Some(trouble.to_owned());
            line(&upstream::accepts(&status, None))
        })
        .collect();
    insta::assert_snapshot!(lines.concat(), @"
    FAIL  upstream accepts    HTTP 401: no bearer
                              → upstream asks for a credential: set identity.credential; telemetry waits in the spool
    FAIL  upstream accepts    HTTP 404: a web page
                              → check the path of export.endpoint (v1/traces is added to it) and export.protocol; telemetry waits in the spool
    FAIL  upstream accepts    HTTP 302
                              → redirects are never followed: set export.endpoint to where it leads; telemetry waits in the spool
    FAIL  upstream accepts    HTTP 200 with a body that is no OTLP response
                              → a login page or portal answers in upstream's place: check export.endpoint and the network; telemetry waits in the spool
    FAIL  upstream accepts    gRPC UNAVAILABLE: try later
                              → upstream is busy and is tried again by itself; telemetry waits in the spool
    FAIL  upstream accepts    HTTP 500: oops
                              → it is sent when upstream takes it; telemetry waits in the spool
    ");
}
