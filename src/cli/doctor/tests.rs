//! What each link says of what was seen. The stories with real parts are among the integration tests.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    here::Room,
    upstream::{Answered, Probe, Proxy},
    *,
};
use crate::{
    cli::status::tests::{at_rest, at_work},
    config::{Credential, Listen, Siblings},
    identity::{State, claims::tests::jwt},
    view::status::Step,
    workspace::{Env, Trust},
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
        Name::Exchange,
        Name::Claims,
        Name::Reachable,
        Name::Accepts,
        Name::OneSpan,
    ];
    let labels: Vec<String> = names.into_iter().map(Name::label).collect();
    insta::assert_snapshot!(labels.join(", "), @"settings, platform, endpoint, spool writable, agent, ports, programs, clock, credential, exchange, claims, upstream reachable, upstream accepts, one span");
    let readme = include_str!("../../../README.md");
    for label in &labels {
        assert!(
            readme.contains(&format!("`{label}`")),
            "the README does not name {label}"
        );
    }
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
    status.spool.bytes /= 2;
    status.spool.full = vec!["traces".to_owned()];
    insta::assert_snapshot!(line(&here::spool(&status, &room(1 << 40))), @"
    FAIL  spool writable      full for traces, half of it at most: 512.0 MiB of 1.0 GiB wait to be sent, and senders are told to come again
                              → mend the first broken link below, or raise spool.max_bytes
    ");
    (status.spool.bytes, status.spool.set_aside, status.spool.set_aside_bytes) = (12 << 20, 1, 4096);
    insta::assert_snapshot!(line(&here::spool(&status, &room(1 << 40))), @"
    FAIL  spool writable      full for traces, half of it at most: 12.0 MiB of 1.0 GiB wait to be sent, 4 KiB set aside, and senders are told to come again
                              → mend the first broken link below, or raise spool.max_bytes
    ");
    (status.spool.set_aside, status.spool.set_aside_bytes) = (1200, 500 << 20);
    insta::assert_snapshot!(line(&here::spool(&status, &room(1 << 40))), @"
    FAIL  spool writable      full for traces, half of it at most: 12.0 MiB of 1.0 GiB wait to be sent, 500.0 MiB set aside, and senders are told to come again
                              → `tagalong spool list` says why upstream refuses it; `tagalong spool retry all` sends it again, `tagalong spool drop all` gives it up
    ");
    (status.spool.bytes, status.spool.set_aside_bytes, status.spool.full) = (0, 4096, Vec::new());
    insta::assert_snapshot!(line(&here::spool(&status, &room(4096))), @"
    FAIL  spool writable      the disk of /workspace/.tagalong/spool is full: 4 KiB left
                              → make room on that disk, or set spool.dir to another
    ");
    status.spool.unadopted = Some("Input/output error (os error 5)".to_owned());
    insta::assert_snapshot!(line(&here::spool(&status, &room(1 << 40))), @"
    FAIL  spool writable      what came before it was known who is here is not sent yet: Input/output error (os error 5)
                              → mend or clear the disk of /workspace/.tagalong/spool; nothing is lost, and it is tried again
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

/// Nothing answers at these, so nothing is connected to.
fn no_ports() -> Listen {
    Listen {
        grpc: "127.0.0.1:0".parse().expect("an address"),
        http: "127.0.0.1:0".parse().expect("an address"),
        allowed_origins: Vec::new(),
        max_request_bytes: 0,
        other_users: false,
        siblings: Siblings::Off,
    }
}

#[test]
fn an_agent_without_one_of_its_parts_is_broken_and_replaced_by_up() {
    let mut status = at_work();
    if let Some(agent) = &mut status.agent {
        agent.ended = vec!["the identity".to_owned(), "the export".to_owned()];
    }
    let said = line(&here::agent(&status, None, "c0ffee"));
    insta::assert_snapshot!(said, @"
    FAIL  agent               the identity and the export ended by a fault of tagalong
                              → `tagalong up` replaces the agent, and loses nothing
    ");
}

#[test]
fn an_agent_that_does_not_answer_is_no_stranger_on_its_ports() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (status, listen) = (
        at_rest(),
        Listen {
            http: address,
            ..no_ports()
        },
    );
    let held = here::held(&status, &listen, None);
    assert_eq!(held, [address], "without one, it is a stranger who listens there");
    let last = Some(&[address][..]);
    let held = here::held(&status, &listen, last);
    assert_eq!(held, []);
    assert_eq!(here::own_addresses(&status, &listen, last, &held), [address]);
    insta::assert_snapshot!(line(&here::ports(&status, last, &held)), @"
    note  ports               not known while the agent cannot be asked
                              → mend the link above
    ");
}

#[test]
fn containers_that_cannot_send_are_said_with_what_opens_for_them() {
    let mut status = at_work();
    if let Some(agent) = &mut status.agent {
        agent.endpoints.siblings_trouble =
            Some("containers next to this workspace cannot send (listen.siblings): no bridge is here".to_owned());
    }
    insta::assert_snapshot!(line(&here::ports(&status, None, &[])), @"
    note  ports               containers next to this workspace cannot send (listen.siblings): no bridge is here
                              → start the container engine first, then `tagalong down` and `tagalong up`; or set listen.siblings to an IP address of this machine
    ");
}

fn programs(endpoint: Option<&str>, own: &[&str]) -> String {
    let name = |text: &str| ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), text.to_owned());
    let env = Env(endpoint.map(name).into_iter().collect());
    let own: Vec<_> = own.iter().map(|address| address.parse().expect("an address")).collect();
    line(&programs::programs(&env, &at_rest(), &own, None))
}

#[test]
fn programs_that_are_pointed_elsewhere_are_told_where_with_the_port() {
    let own = ["127.0.0.1:4317", "127.0.0.1:4318"];
    insta::assert_snapshot!(programs(None, &own), @"ok    programs            SDKs look for the agent where it listens");
    insta::assert_snapshot!(programs(Some("http://localhost:4319"), &own), @r#"
    FAIL  programs            OTEL_EXPORTER_OTLP_ENDPOINT leads to localhost:4319: what is started here goes past the agent
                              → run `eval "$(tagalong env)"` here, and `tagalong init shell` for new shells
    "#);
    insta::assert_snapshot!(programs(Some("https://ada:pw@otel.example.com/v1?key=pw"), &own), @r#"
    FAIL  programs            OTEL_EXPORTER_OTLP_ENDPOINT leads to otel.example.com:443: what is started here goes past the agent
                              → run `eval "$(tagalong env)"` here, and `tagalong init shell` for new shells
    "#);
}

#[test]
fn where_strangers_hold_the_usual_ports_nobody_says_that_sdks_find_the_agent_there() {
    insta::assert_snapshot!(programs(None, &[]), @"ok    programs            nothing points them elsewhere");
}

#[test]
fn what_stands_where_the_token_file_should_be_is_called_what_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    let missing = |path: &Path| {
        let source = Credential::File(path.to_owned());
        let (found, hint) = credential::missing(&source, &Env::default()).expect("something is wrong");
        format!("{found} → {hint}").replace(&dir.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(missing(&token), @"there is no file DIR/token → see to it that a token is written there, or correct identity.file");
    insta::assert_snapshot!(missing(dir.path()), @"DIR is a directory → make it a file that you may read, or correct identity.file");
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a FIFO");
    insta::assert_snapshot!(missing(&fifo), @"DIR/fifo is not a regular file → make it a file that you may read, or correct identity.file");
    std::fs::write(&token, "a token").expect("written");
    insta::assert_snapshot!(missing(&token.join("below")), @"DIR/token/below cannot be read: Not a directory (os error 20) → make it a file that you may read, or correct identity.file");
    if !rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o000)).expect("mine");
        insta::assert_snapshot!(missing(&token), @"DIR/token cannot be read: Permission denied (os error 13) → make it a file that you may read, or correct identity.file");
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("mine");
    }
    assert_eq!(credential::missing(&Credential::File(token), &Env::default()), None);
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
fn a_refused_token_that_names_no_audience_is_to_be_made_for_one() {
    let mut status = at_work();
    status.credential.state = State::Denied;
    status.credential.issuer = Some("https://sso.example/realms/dev".to_owned());
    status.credential.audiences.clear();
    status.export.last_error = Some("traces: HTTP 401".to_owned());
    insta::assert_snapshot!(line(&credential::denied(&status)), @"
    FAIL  credential          upstream refuses the token (traces: HTTP 401); it is for no audience that it names, from https://sso.example/realms/dev
                              → in Keycloak, give a client scope of this client's a mapper of type Audience whose included custom audience is https://otel.example.com; let upstream trust https://sso.example/realms/dev; telemetry waits in the spool meanwhile
    ");
}

fn said(status: &Status, scopes: &[&str], token: Option<&serde_json::Value>) -> String {
    let token = token.map(|claims| Claims::decode(&jwt(claims)).expect("a token"));
    let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    let asked = claims::Asked {
        scopes: &scopes,
        client_id: Some("workspaces"),
    };
    render(&claims::claims(status, asked, token.as_ref()), Screen::default())
}

/// An hour for a person, as it was asked for.
fn as_asked_for() -> serde_json::Value {
    json!({
        "iss": "https://id.example",
        "sub": "1c9a",
        "aud": "https://otel.example.com",
        "iat": 1_760_000_000,
        "exp": 1_760_003_600,
        "scope": "openid telemetry",
    })
}

/// The line of an issuer's token that is not what was asked for.
fn of(issuer: &str, source: &str, change: impl Fn(&mut Status, &mut serde_json::Value)) -> String {
    let (mut status, mut token) = (at_work(), as_asked_for());
    status.credential.issuer = Some(issuer.to_owned());
    source.clone_into(&mut status.credential.source);
    change(&mut status, &mut token);
    said(&status, &["openid", "offline_access", "telemetry"], Some(&token))
}

const ISSUERS: [(&str, &str); 9] = [
    ("https://sso.example/realms/dev", "device"),
    ("https://login.microsoftonline.com/tenant/v2.0", "browser"),
    ("https://acme.okta.com/oauth2/default", "device"),
    ("https://acme.eu.auth0.com/", "device"),
    ("https://app.gitpod.io", "ona"),
    ("https://gitlab.com", "gitlab"),
    ("https://kubernetes.default.svc", "kubernetes"),
    ("https://accounts.google.com", "gcp"),
    ("https://id.example", "exec"),
];

fn of_each(change: impl Fn(&mut Status, &mut serde_json::Value)) -> String {
    let lines = ISSUERS.map(|(issuer, source)| of(issuer, source, &change));
    lines.concat()
}

#[test]
fn a_token_that_is_as_it_was_asked_for_needs_one_line_and_one_that_cannot_be_read_no_more() {
    insta::assert_snapshot!(of("https://id.example", "device", |_, _| {}), @"ok    claims              ada@example.com (verified)");
    insta::assert_snapshot!(said(&at_work(), &["telemetry"], None), @"ok    claims              ada@example.com (verified)");
}

#[test]
fn a_token_for_another_audience_is_worth_a_note_with_the_issuers_own_setting() {
    let told = of_each(|status, _| status.credential.audiences = vec!["sts.example.com".to_owned()]);
    insta::assert_snapshot!(told, @"
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, in Keycloak, give a client scope of this client's a mapper of type Audience whose included custom audience is https://otel.example.com; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, in Entra, let https://otel.example.com be the Application ID URI of upstream's app registration (Expose an API), and name a scope of its in identity.scopes; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, in Okta, set identity.issuer to the authorization server whose Audience is https://otel.example.com; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, in Auth0, register an API whose identifier is https://otel.example.com; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, have tokens minted for https://otel.example.com, as identity.audience says; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, write `aud: https://otel.example.com` under `id_tokens:` of the job; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, write `audience: https://otel.example.com` into the pod's projected serviceAccountToken; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, have tokens minted for https://otel.example.com, as identity.audience says; or set identity.audience to what they are for
    note  claims              ada@example.com (verified); the token is for sts.example.com, not for https://otel.example.com
                              → if upstream refuses it, have tokens minted for https://otel.example.com, as identity.audience says; or set identity.audience to what they are for
    ");
}

#[test]
fn a_scope_that_was_not_granted_is_named_with_the_issuers_own_setting() {
    let told = of_each(|_, token| token["scope"] = "openid".into());
    insta::assert_snapshot!(told, @"
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → in Keycloak, add the client scope telemetry to this client
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → in Entra, have upstream's app registration expose telemetry (Expose an API), and this client permitted it (API permissions)
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → in Okta, add telemetry to the scopes of the authorization server and to those that a rule of its access policy lets this client request
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → in Auth0, add the permission telemetry to the API, and give it to the person
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → have the issuer grant telemetry to this client, or take it out of identity.scopes
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → have the issuer grant telemetry to this client, or take it out of identity.scopes
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → have the issuer grant telemetry to this client, or take it out of identity.scopes
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → have the issuer grant telemetry to this client, or take it out of identity.scopes
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → have the issuer grant telemetry to this client, or take it out of identity.scopes
    ");
    // Entra and Okta write `scp`; Entra without the API's URI, and everything for `.default`.
    let scopes = ["openid", "api://gateway/telemetry", "api://gateway/.default"];
    for granted in [json!("telemetry other"), json!(["telemetry"])] {
        let mut token = as_asked_for();
        token.as_object_mut().expect("an object").remove("scope");
        token["scp"] = granted;
        assert!(!said(&at_work(), &scopes, Some(&token)).contains("lacks"));
    }
    // An ID token is for the client, and says nothing of scopes.
    let told = of("https://id.example", "device", |_, token| {
        token["scope"] = json!(null);
        token["aud"] = json!(["workspaces", "https://otel.example.com"]);
    });
    assert!(!told.contains("lacks"), "{told}");
}

#[test]
fn an_access_token_that_names_no_audience_or_no_scope_does_not_pass_for_one_that_does() {
    let told = of("https://sso.example/realms/dev", "device", |_, token| {
        token.as_object_mut().expect("an object").remove("aud");
        token.as_object_mut().expect("an object").remove("scope");
    });
    insta::assert_snapshot!(told, @"
    note  claims              ada@example.com (verified); the token names no audience, and was to be for https://otel.example.com
                              → if upstream refuses it, in Keycloak, give a client scope of this client's a mapper of type Audience whose included custom audience is https://otel.example.com
    note  claims              ada@example.com (verified); the token lacks the scope telemetry
                              → in Keycloak, add the client scope telemetry to this client
    ");
}

#[test]
fn what_the_issuer_says_that_it_did_not_grant_is_named_where_the_token_is_opaque() {
    let mut status = at_work();
    status.credential.steps = vec![Step {
        name: "device".to_owned(),
        with: "https://otel.example.com".to_owned(),
        trouble: None,
        not_granted: vec!["telemetry".to_owned()],
    }];
    insta::assert_snapshot!(said(&status, &["openid", "telemetry"], None), @"
    note  claims              ada@example.com (verified); the issuer did not grant the scope telemetry
                              → have the issuer grant telemetry to this client, or take it out of identity.scopes
    ");
}

#[test]
fn a_lifetime_of_more_than_an_hour_is_named_with_the_issuers_own_setting() {
    let told = of_each(|_, token| token["exp"] = (1_760_000_000 + 86_400).into());
    insta::assert_snapshot!(told, @"
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → in Keycloak, lower Access Token Lifespan of the realm (Tokens) or of this client
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → in Entra, assign upstream's application a token lifetime policy with a shorter AccessTokenLifetime; for managed identities there is none
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → in Okta, lower the access token lifetime in the rule of the authorization server's access policy
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → in Auth0, lower Maximum Access Token Lifetime of the API
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → have tokens minted that last an hour at most: whoever steals one has it until its end
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → lower `timeout:` of the job: its token lasts as long as the job may
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → lower expirationSeconds of the pod's projected serviceAccountToken
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → have tokens minted that last an hour at most: whoever steals one has it until its end
    note  claims              ada@example.com (verified); the token lasts 1 d
                              → have tokens minted that last an hour at most: whoever steals one has it until its end
    ");
    let mut status = at_work();
    status.credential.expires_in = Some(7200.0);
    assert!(said(&status, &[], None).contains("lasts 2 h"), "an opaque one too");
    status.credential.expires_in = Some(3610.0);
    assert!(
        !said(&status, &[], None).contains("lasts"),
        "an hour, dated back a little"
    );
}

#[test]
fn a_token_without_a_person_is_named_with_the_issuers_own_setting() {
    let told = of_each(|status, _| {
        status.principal.as_mut().expect("somebody").trust = Trust::Platform;
    });
    insta::assert_snapshot!(told, @"
    note  claims              ada@example.com (the platform's word)
                              → in Keycloak, add the client scope basic to this client, which has the claim sub, if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → let the issuer name the person in the access tokens of this client, or give ID tokens beside opaque ones (openid in identity.scopes), if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → let the issuer name the person in the access tokens of this client, or give ID tokens beside opaque ones (openid in identity.scopes), if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → let the issuer name the person in the access tokens of this client, or give ID tokens beside opaque ones (openid in identity.scopes), if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → have the organisation's OIDC tokens carry the claims of version 3, among them creator_id, if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → the token names nobody: have one minted that does, if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → it speaks for a machine, and cannot name a person: `tagalong login` gives one that does, if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → it speaks for a machine, and cannot name a person: `tagalong login` gives one that does, if upstream is to believe the name
    note  claims              ada@example.com (the platform's word)
                              → the token names nobody: have one minted that does, if upstream is to believe the name
    ");
    // Of an application: there a login is what is missing.
    let told = of("https://sso.example/realms/dev", "exec", |status, _| {
        status.principal.as_mut().expect("somebody").trust = Trust::Platform;
    });
    assert!(told.contains("a client's own token: let a person log in"), "{told}");
}

#[test]
fn a_token_of_another_workspace_is_named() {
    let elsewhere = |claims: &serde_json::Value| said(&at_work(), &[], Some(claims));
    let mut gitpod = json!({
        "iss": "https://api.gitpod.io/idp",
        "user_id": "u",
        "workspace_id": "acme-shop-x1y2z3",
        "aud": "https://otel.example.com",
    });
    assert!(!elsewhere(&gitpod).contains("workspace"), "its own");
    gitpod["workspace_id"] = "acme-other-1".into();
    insta::assert_snapshot!(elsewhere(&gitpod), @"
    note  claims              ada@example.com (verified); the token is of the workspace acme-other-1, and this is acme-shop-x1y2z3
                              → have this workspace's own token minted: a file, a variable or a command's answer was brought from the other
    ");
    let ona = json!({ "iss": "https://app.gitpod.io", "creator_id": "u", "environment_id": "e-2" });
    assert!(elsewhere(&ona).contains("of the workspace e-2, and this is acme-shop-x1y2z3"));
    let job = json!({ "iss": "https://gitlab.com", "user_id": "u", "project_path": "g/p", "job_id": 42 });
    assert!(elsewhere(&job).contains("of the workspace 42,"));
    // A login's token knows of no workspace, whatever it is made to say.
    let login = json!({ "iss": "https://id.example", "sub": "u", "workspace_id": "acme-other-1" });
    assert!(!elsewhere(&login).contains("workspace"));
}

#[test]
fn each_mismatch_has_a_line_of_its_own() {
    let told = of("https://id.example", "device", |status, token| {
        status.credential.audiences = vec!["sts.example.com".to_owned()];
        token["scope"] = "openid".into();
        token["exp"] = (1_760_000_000 + 86_400).into();
    });
    assert_eq!(told.matches("note  claims").count(), 3, "{told}");
}

#[test]
fn each_way_that_is_not_open_has_its_remedy() {
    let troubles = [
        ("invalid peer certificate: UnknownIssuer", None),
        ("invalid peer certificate: UnknownIssuer", Some(true)),
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
    FAIL  upstream reachable  otel.example.com:443: invalid peer certificate: UnknownIssuer
                              → set export.ca_file to a PEM file with the certificate of upstream's authority
    FAIL  upstream reachable  otel.example.com:443 by the proxy proxy.corp:3128 (HTTPS_PROXY): invalid peer certificate: UnknownIssuer
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
fn what_upstream_said_a_while_ago_is_said_with_when_it_is_asked_again() {
    let mut status = at_work();
    status.export.next_attempt = Some(200);
    let lines = ["HTTP 302: it leads to https://b.example/in", "HTTP 429: slowly"].map(|trouble| {
        status.export.trouble = Some(trouble.to_owned());
        line(&upstream::accepts(&status, None))
    });
    insta::assert_snapshot!(lines.concat(), @"
    FAIL  upstream accepts    HTTP 302: it leads to https://b.example/in
                              → redirects are never followed: set export.endpoint to where it leads (v1/traces is added to it); telemetry waits in the spool; upstream is tried again in 3 min, and at once after `tagalong up --replace`
    FAIL  upstream accepts    HTTP 429: slowly
                              → upstream is busy and is tried again by itself; telemetry waits in the spool; upstream is tried again in 3 min
    ");
}

#[test]
fn each_refusal_has_its_remedy() {
    let refusals = [
        ("none", "HTTP 401: no bearer"),
        ("gitpod", "HTTP 404: a web page"),
        ("gitpod", "HTTP 302: it leads to https://b.example/in"),
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
    insta::assert_snapshot!(lines.concat(), @r#"
    FAIL  upstream accepts    HTTP 401: no bearer
                              → upstream asks for a credential: `eval "$(gp env -e TAGALONG_IDENTITY_CREDENTIAL=WHICH)"`, with device (your own login) or auto (what is offered here) for WHICH; then `tagalong up`; telemetry waits in the spool
    FAIL  upstream accepts    HTTP 404: a web page
                              → check the path of export.endpoint (v1/traces is added to it) and export.protocol; telemetry waits in the spool
    FAIL  upstream accepts    HTTP 302: it leads to https://b.example/in
                              → redirects are never followed: set export.endpoint to where it leads (v1/traces is added to it); telemetry waits in the spool
    FAIL  upstream accepts    HTTP 200 with a body that is no OTLP response
                              → a login page or portal answers in upstream's place: check export.endpoint and the network; telemetry waits in the spool
    FAIL  upstream accepts    gRPC UNAVAILABLE: try later
                              → upstream is busy and is tried again by itself; telemetry waits in the spool
    FAIL  upstream accepts    HTTP 500: oops
                              → it is sent when upstream takes it; telemetry waits in the spool
    "#);
    let mut status = at_work();
    status.workspace.platform = "local".to_owned();
    status.credential.source = "none".to_owned();
    status.export.trouble = Some("gRPC UNAUTHENTICATED: no bearer".to_owned());
    let hint = line(&upstream::accepts(&status, None));
    assert!(
        hint.contains("`tagalong config set identity.credential WHICH`, with device"),
        "{hint}"
    );
}

#[test]
fn an_endpoint_that_says_http_where_tls_is_spoken_is_to_say_https() {
    let mut status = at_work();
    for words in [
        "Client sent an HTTP request to an HTTPS server.",
        "The plain HTTP request was sent to HTTPS port",
        "speaking plain HTTP to an SSL-enabled server port",
        "This combination of host and port requires TLS.",
    ] {
        status.export.trouble = Some(format!("HTTP 400: {words}"));
        status.export.endpoint = Some("http://b.example:4318/".to_owned());
        let said = line(&upstream::accepts(&status, None));
        let hint =
            "→ upstream speaks TLS on that port: write https:// in export.endpoint; telemetry waits in the spool";
        assert!(said.contains(hint), "{said}");
        status.export.endpoint = Some("https://b.example:4318/".to_owned());
        let said = line(&upstream::accepts(&status, None));
        assert!(!said.contains("write https://"), "a proxy behind it is meant: {said}");
    }
}

/// As servers of TLS do it that have no words for plain HTTP; over HTTP/2 none has any.
#[test]
fn whoever_hangs_up_on_plain_http_may_want_https() {
    for trouble in [
        "client error (SendRequest): connection error: stream closed because of a broken pipe",
        "client error (Canceled): operation was canceled: connection closed",
    ] {
        let mut asked = probe(trouble, None);
        let hint = "→ it hangs up on plain HTTP: if it speaks TLS, write https:// in export.endpoint; else check export.protocol";
        assert!(
            !line(&upstream::reachable(Some(&asked))).contains(hint),
            "it is https://"
        );
        asked.url = "http://otel.example.com:4317/".parse().expect("a URL");
        let said = line(&upstream::reachable(Some(&asked)));
        assert!(said.contains(hint), "{said}");
    }
}
