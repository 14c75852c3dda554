//! The broken setups that are most likely: of all lines that `doctor` prints, the first that is not in order names the
//! cause, and the one thing to do next.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tagalong::demo::{
    issuer::{self, Issuer},
    upstream::{self, Fault, Upstream},
};

use crate::support::{
    agent::{Home, signal},
    telemetry,
    tls::terminator,
};

/// Nothing listens there: the port is reserved (RFC 6335) and none of ours.
const NOWHERE: &str = "http://127.0.0.1:1";
/// Longer than anything here takes, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first line that is not in order, as `link verdict: found → hint`, and doctor's exit code.
fn first_trouble(home: &Home, arguments: &[&str]) -> String {
    let arguments = [arguments, &["doctor", "--json"]].concat();
    let output = home.run(&arguments);
    let report: Value = serde_json::from_slice(&output.stdout).expect("doctor --json is JSON");
    let links = report["links"].as_array().expect("links");
    let failed = links.iter().any(|link| link["verdict"] == "failed");
    assert_eq!(report["ok"], !failed);
    assert_eq!(output.status.success(), !failed);
    let first = links.iter().find(|link| link["verdict"] != "ok");
    let Some(first) = first else {
        return "all is well".to_owned();
    };
    let text = |key: &str| first[key].as_str().unwrap_or_default().to_owned();
    let line = format!(
        "{} {}: {} → {}",
        text("link"),
        text("verdict"),
        text("found"),
        text("hint")
    );
    line.replace(&home.path().display().to_string(), "HOME")
}

/// Whether a line says all of this.
#[track_caller]
fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

/// Asks until the status is as described; each asking is a process of its own, so this is no busy loop.
#[track_caller]
fn until(home: &Home, what: &str, reached: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let status = home.status();
        if reached(&status) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {status}");
    }
}

fn post(home: &Home) {
    let answer = reqwest::blocking::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
        .post(home.http("v1/traces"))
        .header("content-type", "application/x-protobuf")
        .body(telemetry::traces(&[], telemetry::spans(1)))
        .send()
        .expect("an answer");
    assert!(answer.status().is_success());
}

/// An issuer and an upstream that believes it, and the runtime that they live on.
fn parties() -> (tokio::runtime::Runtime, Issuer, Upstream) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (issuer, upstream) = runtime.block_on(async {
        let issuer = Issuer::start(issuer::Config::default()).await.expect("an issuer");
        let config = upstream::Config {
            issuer: Some(issuer.url()),
            ..upstream::Config::default()
        };
        (issuer, Upstream::start(config).await.expect("an upstream"))
    });
    (runtime, issuer, upstream)
}

/// A shell that points its programs to the running agent, whose ports are none of the usual ones.
fn told(home: Home) -> Home {
    let endpoint = home.http("").trim_end_matches('/').to_owned();
    home.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
}

/// A token of the issuer's in a file, for some audience.
fn token_file(home: &Home, issuer: &Issuer, audience: &str) -> String {
    let path = home.path().join("token");
    let token = home.text(&["demo-token", "--issuer", &issuer.url(), "--audience", audience]);
    fs::write(&path, token).expect("written");
    path.display().to_string()
}

#[test]
fn nothing_is_wrong() {
    let (_runtime, issuer, upstream) = parties();
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    post(&home);
    until(&home, "delivered", |status| {
        status["export"]["delivered"].as_u64() > Some(0)
    });
    assert_eq!(first_trouble(&told(home), &[]), "all is well");
}

/// And what is said then can be done word by word, where there is not even a directory for settings.
#[test]
fn no_endpoint_is_set() {
    let home = Home::new();
    home.up();
    insta::assert_snapshot!(first_trouble(&home, &[]), @"endpoint note: no export.endpoint is set: telemetry is kept on this machine and sent nowhere → `tagalong config set export.endpoint URL`, with your team's gateway or vendor for URL; then `tagalong up`");
    let (_runtime, _issuer, upstream) = parties();
    let said = home.text(&["config", "set", "export.endpoint", &upstream.url()]);
    says(
        &said,
        &[
            "export.endpoint is set in",
            "config/tagalong/config.toml",
            "`tagalong up`",
        ],
    );
    home.up();
    assert!(!first_trouble(&home, &[]).starts_with("endpoint"));
}

/// What is written into a home directory there is gone at the next start.
#[test]
fn no_endpoint_is_set_where_only_the_platform_keeps_settings() {
    let state = tempfile::tempdir().expect("a directory");
    let home = Home::new()
        .set("GITPOD_WORKSPACE_ID", "acme-app-1")
        .set("TAGALONG_HOME", state.path().display().to_string());
    says(
        &first_trouble(&home, &[]),
        &[
            "endpoint note",
            "→ `eval \"$(gp env -e TAGALONG_EXPORT_ENDPOINT=URL)\"`, with",
        ],
    );
}

#[test]
fn what_a_setting_cannot_be_is_not_written() {
    let home = Home::new().set("TAGALONG_EXPORT_TIMEOUT", "5s");
    let refused = home.run(&["config", "set", "export.timeout", "soon"]);
    assert_eq!(refused.status.code(), Some(2));
    says(
        &String::from_utf8_lossy(&refused.stderr),
        &["export.timeout: \"soon\" is not accepted; expected a duration"],
    );
    let unknown = home.run(&["config", "set", "export.timout", "10s"]);
    assert_eq!(unknown.status.code(), Some(2));
    says(&String::from_utf8_lossy(&unknown.stderr), &["export.timeout"]);
    assert!(
        !home.path().join("config").join("tagalong").exists(),
        "nothing is made for it"
    );
    let beaten = home.text(&["config", "set", "export.timeout", "10s"]);
    says(
        &beaten,
        &["but TAGALONG_EXPORT_TIMEOUT says something of it too, and comes first"],
    );
}

#[test]
fn no_agent_runs() {
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", NOWHERE);
    insta::assert_snapshot!(first_trouble(&home, &[]), @"agent failed: none runs here → start it with `tagalong up`");
}

#[test]
fn a_state_directory_cannot_be_made() {
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", NOWHERE);
    fs::write(home.path().join("state"), "in the way").expect("written");
    insta::assert_snapshot!(first_trouble(&home, &[]), @"spool writable failed: the workspace's id cannot be kept: Not a directory (os error 20) → make HOME/state/tagalong a directory that you can write to, or name another one in TAGALONG_HOME");
}

/// What is started without its credential has to be started again: so that is mended first, whatever else is to do.
#[test]
fn a_credential_is_missing_before_the_first_start() {
    let (_runtime, issuer, upstream) = parties();
    let home = Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", upstream.url())
        .set("TAGALONG_IDENTITY_ENV", "TRACES_TOKEN");
    insta::assert_snapshot!(first_trouble(&home, &[]), @"agent note: none runs here → mend the credential below first, then start it with `tagalong up`");
    let output = home.run(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = text.lines().find(|line| line.starts_with("FAIL"));
    says(
        failed.unwrap_or_default(),
        &["credential", "TRACES_TOKEN is not set here"],
    );
    // Then what it says is done, one after the other.
    let token = home.text(&["demo-token", "--issuer", &issuer.url(), "--audience", &upstream.url()]);
    let home = home.set("TRACES_TOKEN", token.trim());
    insta::assert_snapshot!(first_trouble(&home, &[]), @"agent failed: none runs here → start it with `tagalong up`");
    home.up();
    post(&home);
    until(&home, "delivered", |status| {
        status["export"]["delivered"].as_u64() > Some(0)
    });
    says(
        &first_trouble(&told(home), &[]),
        &["credential note", "it cannot be renewed"],
    );
}

#[test]
fn nobody_has_logged_in() {
    let home = Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", NOWHERE)
        .set("TAGALONG_IDENTITY_CREDENTIAL", "device");
    home.up();
    until(&home, "needs-user", |status| {
        status["credential"]["state"] == "needs-user"
    });
    says(
        &first_trouble(&told(home), &[]),
        &["credential failed", "nobody can log in", "→ run `tagalong login`"],
    );
}

#[test]
fn a_setting_is_wrong() {
    let home = Home::new().set("TAGALONG_EXPORT_TIMEOUT", "soon");
    insta::assert_snapshot!(first_trouble(&home, &[]), @r#"settings failed: export.timeout (TAGALONG_EXPORT_TIMEOUT): "soon" is not accepted; expected a duration from 100ms to 10m, such as 200ms, 10s or 1h → correct it where it is written: the name in brackets says where"#);
    assert_eq!(home.run(&["doctor"]).status.code(), Some(2));
}

#[test]
fn the_endpoint_leads_back_to_the_agent() {
    // Not where other tests get their ports from: one of them could have it in the meantime.
    let free = TcpListener::bind("127.77.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let home = Home::new()
        .set("TAGALONG_LISTEN_HTTP", address.clone())
        .set("TAGALONG_EXPORT_ENDPOINT", format!("http://{address}"));
    let output = home.run(&["up"]);
    assert!(output.status.success(), "no hook fails for it");
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["leads back to the agent itself"],
    );
    insta::assert_snapshot!(first_trouble(&home, &[]).replace(&address, "OWN"), @"endpoint failed: http://OWN/ leads back to the agent itself → set export.endpoint to your team's gateway or vendor; programs find the agent by `tagalong env`");
}

#[test]
fn upstream_cannot_be_reached() {
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", NOWHERE);
    home.up();
    insta::assert_snapshot!(first_trouble(&told(home), &[]), @"upstream reachable failed: 127.0.0.1:1: tcp connect error: Connection refused (os error 111) → check export.endpoint, and whether a proxy or a VPN is needed; telemetry waits in the spool");
}

/// One that hangs accepts connections all the same, and nobody is to be told that its ports are somebody else's.
#[test]
fn the_agent_hangs() {
    // Not where other tests get their ports from.
    let free = TcpListener::bind("127.77.0.2:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let home = Home::new().set("TAGALONG_LISTEN_HTTP", address);
    home.up();
    let pid = home.pid().expect("an agent runs");
    signal(pid, Signal::STOP);
    let output = home.run(&["doctor"]);
    signal(pid, Signal::CONT);
    let text = String::from_utf8_lossy(&output.stdout);
    says(
        &text,
        &[
            "FAIL  agent               the agent did not answer",
            "not known while the agent cannot be asked",
        ],
    );
    assert!(!text.contains("another process"), "{text}");
}

/// A URL of it with a certificate, and the authority that signed that.
fn behind_tls(runtime: &tokio::runtime::Runtime, upstream: &Upstream) -> (String, String) {
    let address = upstream.url();
    let behind = address.trim_start_matches("http://").parse().expect("an address");
    runtime.block_on(terminator(behind))
}

/// Does what `doctor` says of a certificate that is not trusted, and looks again.
fn trust(home: Home, authority: String) {
    let ca_file = home.path().join("ca.pem");
    fs::write(&ca_file, authority).expect("written");
    let home = home.set("TAGALONG_EXPORT_CA_FILE", ca_file.display().to_string());
    home.up();
    assert!(!first_trouble(&told(home), &[]).contains("upstream reachable"));
}

#[test]
fn upstreams_certificate_is_not_trusted() {
    let (runtime, _issuer, upstream) = parties();
    let (url, authority) = behind_tls(&runtime, &upstream);
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", url);
    home.up();
    let home = told(home);
    let line = first_trouble(&home, &[]);
    says(
        &line,
        &["upstream reachable failed", "certificate", "→ set export.ca_file"],
    );
    trust(home, authority);
}

/// As in a small image: what certificates there are is asked of these two variables first.
fn without_authorities(home: Home) -> Home {
    home.set("SSL_CERT_FILE", "/nonexistent/file")
        .set("SSL_CERT_DIR", "/nonexistent/directory")
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_machine_has_no_certificates_is_logged_once_and_not_at_each_refresh() {
    let config = issuer::Config {
        lifetime: Duration::from_secs(2),
        ..issuer::Config::default()
    };
    let issuer = Issuer::start(config).await.expect("an issuer");
    let home = without_authorities(Home::new())
        .set("TAGALONG_EXPORT_ENDPOINT", "http://127.0.0.1:1")
        .set(
            "TAGALONG_IDENTITY_URL",
            format!("{}/token?audience={{audience}}", issuer.url()),
        );
    home.up();
    home.until(|status| status["credential"]["rotations"].as_u64() >= Some(2));
    assert_eq!(home.text(&["logs"]).matches("no CA certificates").count(), 1);
}

#[test]
fn the_machine_has_no_certificates_of_authorities() {
    let (runtime, _issuer, upstream) = parties();
    let (url, authority) = behind_tls(&runtime, &upstream);
    let home = without_authorities(Home::new().set("TAGALONG_EXPORT_ENDPOINT", url));
    home.up();
    post(&home);
    let home = told(home);
    insta::assert_snapshot!(first_trouble(&home, &[]).split_once(": ").expect("a link").1.split_once(": ").expect("a place").1, @"this machine has no CA certificates, so no certificate can be believed → install your system's ca-certificates, then run `tagalong down` and `tagalong up`; or set export.ca_file to a PEM file with the authorities that you trust");
    trust(home, authority);
}

#[test]
fn no_span_is_sent_where_a_link_on_its_way_is_broken() {
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", NOWHERE);
    home.up();
    let output = home.run(&["doctor", "--send"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let (_, one_span) = text.split_once("note  one span").expect("the last link");
    insta::assert_snapshot!(one_span.trim(), @r#"
    not tried: the link "upstream reachable" is broken
                              → mend it first, then try again
    "#);
    assert_eq!(output.status.code(), Some(1));
}

/// What is said of the one span, and what to do about it, where upstream has this fault.
fn one_span(fault: Fault) -> String {
    let (_runtime, issuer, upstream) = parties();
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    until(&home, "a credential", |status| status["credential"]["state"] == "fresh");
    // What the agent tells of itself may meet the fault before the span does. Then the span is not tried.
    for _ in 0..10 {
        upstream.set_fault(Fault::None);
        until(&home, "delivered", |status| {
            let books = status["spool"]["books"].as_object().expect("books");
            books.values().all(|books| books["pending"] == 0)
        });
        upstream.set_fault(fault.clone());
        let output = home.run(&["doctor", "--send", "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&output.stdout).expect("doctor --json is JSON");
        let last = report["links"].as_array().and_then(|links| links.last());
        let last = last.expect("links");
        assert_eq!(last["link"], "one span");
        let line = format!("{} → {}", last["found"], last["hint"]);
        if !line.contains("not tried") {
            return line;
        }
    }
    panic!("the span is never tried");
}

#[test]
fn bug_a_lie_a_span_that_does_not_arrive_says_what_keeps_it() {
    let line = one_span(Fault::Http {
        status: 500,
        content_type: "text/plain",
        headers: Vec::new(),
        body: "the disk of upstream is full".into(),
    });
    says(
        &line,
        &[
            "not delivered yet",
            "HTTP 500: the disk of upstream is full",
            "it is sent when upstream takes it",
        ],
    );
    let line = one_span(Fault::Rpc {
        code: 3,
        message: "the third attribute is indecent",
        retry_delay: None,
    });
    says(&line, &["refuses what is sent", "`tagalong spool list` has the reason"]);
}

#[test]
fn loopback_needs_no_authority() {
    let (_runtime, issuer, upstream) = parties();
    let home = without_authorities(Home::new().sending(&upstream.url(), &issuer.url()));
    home.up();
    post(&home);
    until(&home, "delivered", |status| {
        status["export"]["delivered"].as_u64() > Some(0)
    });
    let home = told(home);
    assert_eq!(first_trouble(&home, &[]), "all is well");
    let output = home.run(&["doctor", "--send"]);
    says(
        &String::from_utf8_lossy(&output.stdout),
        &["one span", "delivered; its trace is"],
    );
}

#[test]
fn upstream_refuses_a_token_for_another_audience() {
    let (_runtime, issuer, upstream) = parties();
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", upstream.url());
    let file = token_file(&home, &issuer, "https://elsewhere.example");
    let home = home.set("TAGALONG_IDENTITY_FILE", file);
    home.up();
    post(&home);
    until(&home, "denied", |status| status["credential"]["state"] == "denied");
    let line = first_trouble(&told(home), &[])
        .replace(&upstream.url(), "UPSTREAM")
        .replace(&issuer.url(), "ISSUER");
    insta::assert_snapshot!(line, @"credential failed: upstream refuses the token (traces: HTTP 401: the token is refused: InvalidAudience); it is for https://elsewhere.example, from ISSUER → have tokens minted for UPSTREAM, as identity.audience says; telemetry waits in the spool meanwhile");
}

#[test]
fn upstream_forbids() {
    let (_runtime, issuer, upstream) = parties();
    upstream.set_fault(Fault::Http {
        status: 403,
        content_type: "text/plain",
        headers: Vec::new(),
        body: "not in the group tracing".into(),
    });
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    post(&home);
    until(&home, "denied", |status| status["credential"]["state"] == "denied");
    let line = first_trouble(&told(home), &[]).replace(&issuer.url(), "ISSUER");
    insta::assert_snapshot!(line, @"credential failed: upstream knows the credential and forbids sending: traces: HTTP 403: not in the group tracing → ask upstream's operator to let ada@example.com of ISSUER send; telemetry waits in the spool meanwhile");
}

/// A Gitpod workspace whose state lasts in the test's own directory.
fn in_gitpod(home: Home) -> Home {
    let state = home.path().join("workspace").display().to_string();
    home.set("GITPOD_WORKSPACE_ID", "acme-app-1")
        .set("GITPOD_HOST", "https://gitpod.example")
        .set("SUPERVISOR_ADDR", "127.0.0.1:1")
        .set("TAGALONG_HOME", state)
        .set("TAGALONG_EXPORT_ENDPOINT", "https://otel.invalid")
}

fn until_starved(home: &Home) {
    until(home, "starved", |status| {
        ["starved", "needs-user"].contains(&status["credential"]["state"].as_str().unwrap_or_default())
    });
}

#[test]
fn gp_is_missing() {
    let home = in_gitpod(Home::new());
    home.up();
    until_starved(&home);
    insta::assert_snapshot!(first_trouble(&told(home), &[]), @"credential failed: no token from Gitpod: `gp` is not on the PATH; and over HTTP: the supervisor cannot be reached (no connection) → try `gp idp token --audience https://otel.invalid` in a terminal of the workspace; without `gp` on the PATH, start the agent from such a terminal; telemetry waits in the spool meanwhile");
}

#[test]
fn gp_fails() {
    let home = in_gitpod(Home::new());
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    fs::write(bin.join("gp"), "#!/bin/sh\nexit 1\n").expect("written");
    fs::set_permissions(bin.join("gp"), fs::Permissions::from_mode(0o755)).expect("executable");
    let home = home.set("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    home.up();
    until_starved(&home);
    insta::assert_snapshot!(first_trouble(&told(home), &[]), @"credential failed: no token from Gitpod: `gp idp token` failed (exit status: 1); and over HTTP: the supervisor cannot be reached (no connection) → try `gp idp token --audience https://otel.invalid` in a terminal of the workspace; without `gp` on the PATH, start the agent from such a terminal; telemetry waits in the spool meanwhile");
}

#[test]
fn a_token_was_brought_from_another_workspace() {
    let (runtime, issuer, _) = parties();
    let upstream = runtime.block_on(Upstream::start(upstream::Config::default()));
    let upstream = upstream.expect("an upstream").url();
    issuer.edit(|config| {
        let claims = [("iss", "https://api.gitpod.io/idp"), ("workspace_id", "acme-other-1")];
        let claims = claims.map(|(name, value)| (name.to_owned(), value.into()));
        config.claims.extend(claims);
    });
    let home = in_gitpod(Home::new()).set("TAGALONG_EXPORT_ENDPOINT", upstream.clone());
    let file = token_file(&home, &issuer, &upstream);
    let home = home.set("TAGALONG_IDENTITY_FILE", file);
    home.up();
    until(&home, "fresh", |status| status["credential"]["state"] == "fresh");
    insta::assert_snapshot!(first_trouble(&told(home), &[]), @"claims note: ada@example.com (verified); the token is of the workspace acme-other-1, and this is acme-app-1 → have this workspace's own token minted: a file, a variable or a command's answer was brought from the other");
}

#[test]
fn the_clock_is_wrong() {
    let (_runtime, issuer, upstream) = parties();
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    // What an upstream says whose clock is right, to a machine whose clock is two hours behind it.
    let ahead = std::time::SystemTime::now() + Duration::from_secs(2 * 3600 + 90);
    upstream.set_fault(Fault::Http {
        status: 404,
        content_type: "text/plain",
        headers: vec![("date", httpdate::fmt_http_date(ahead))],
        body: "".into(),
    });
    insta::assert_snapshot!(first_trouble(&told(home), &[]), @"clock failed: this machine's clock is 2 h 1 min behind upstream's → set this machine's clock: tokens begin and end by it");
}

#[test]
fn a_token_file_is_out_of_date() {
    let (runtime, _issuer, upstream) = parties();
    let config = issuer::Config {
        lifetime: Duration::ZERO,
        ..issuer::Config::default()
    };
    let late = runtime.block_on(Issuer::start(config)).expect("an issuer");
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", upstream.url());
    let file = token_file(&home, &late, &upstream.url());
    let home = home.set("TAGALONG_IDENTITY_FILE", file);
    home.up();
    until_starved(&home);
    insta::assert_snapshot!(first_trouble(&told(home), &[]), @"credential failed: the token had already expired when it came: it is an old one, or this machine's clock is ahead of the issuer's → see to it that a fresh token is written to HOME/token; telemetry waits in the spool meanwhile");
}

#[test]
fn the_spools_directory_cannot_be_written() {
    let home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", NOWHERE);
    let file = home.path().join("file");
    fs::write(&file, "in the way").expect("written");
    let home = home.set("TAGALONG_SPOOL_DIR", file.join("spool").display().to_string());
    assert!(home.run(&["up"]).status.success());
    insta::assert_snapshot!(first_trouble(&home, &[]), @"spool writable failed: nothing can be written in HOME/file: it is no directory → make it writable, or set spool.dir to a place that is");
}

#[test]
fn a_port_is_taken() {
    let (_runtime, issuer, upstream) = parties();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("an address").to_string();
    let home = Home::new()
        .sending(&upstream.url(), &issuer.url())
        .set("TAGALONG_LISTEN_HTTP", taken.clone());
    home.up();
    let line = first_trouble(&told(home), &[]);
    says(&line, &["ports note", &format!("{taken} is held by"), "tagalong env"]);
}

#[test]
fn the_agent_runs_with_other_settings() {
    let (_runtime, issuer, upstream) = parties();
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    insta::assert_snapshot!(first_trouble(&home, &["--set", "export.timeout=5s"]), @"agent note: it runs with other settings than those that hold here now → `tagalong up` replaces it by one with these, and loses nothing; `tagalong config` shows them");
}

#[test]
fn a_proxy_is_in_the_way() {
    let home = Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", "https://otel.invalid")
        .set("HTTPS_PROXY", "http://me:canary@127.0.0.1:1");
    home.up();
    let line = first_trouble(&told(home), &[]);
    assert!(!line.contains("canary"), "{line}");
    insta::assert_snapshot!(line, @"upstream reachable failed: otel.invalid:443 by the proxy 127.0.0.1:1 (HTTPS_PROXY): tunnel error: failed to create underlying connection: tcp connect error: Connection refused (os error 111) → correct HTTPS_PROXY, or add otel.invalid to NO_PROXY; then `tagalong down`, `tagalong up`");
}

#[test]
fn programs_are_pointed_past_the_agent() {
    let (_runtime, issuer, upstream) = parties();
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let home = home.set("OTEL_EXPORTER_OTLP_ENDPOINT", "https://vendor.example/v1?key=canary");
    let line = first_trouble(&home, &[]);
    assert!(!line.contains("canary"), "{line}");
    insta::assert_snapshot!(line, @r#"programs failed: OTEL_EXPORTER_OTLP_ENDPOINT leads to vendor.example:443: what is started here goes past the agent → run `eval "$(tagalong env)"` here, and `tagalong init shell` for new shells"#);
    // What `env` sets would not count beside it.
    let here = home.http("");
    let home = home
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", here)
        .set("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://vendor.example/v1/logs");
    insta::assert_snapshot!(first_trouble(&home, &[]), @"programs failed: OTEL_EXPORTER_OTLP_LOGS_ENDPOINT leads to vendor.example:443: what is started here goes past the agent → run `unset OTEL_EXPORTER_OTLP_LOGS_ENDPOINT` here, and take it out of where it is set");
}

#[test]
fn a_credential_command_is_missing() {
    let home = Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", NOWHERE)
        .set("TAGALONG_IDENTITY_EXEC", r#"["/nowhere/mint", "canary"]"#);
    home.up();
    until_starved(&home);
    insta::assert_snapshot!(first_trouble(&told(home), &[]), @"credential failed: the credential command /nowhere/mint cannot be started: No such file or directory (os error 2) → run /nowhere/mint by hand with its arguments: it is to print a token and to exit with 0; telemetry waits in the spool meanwhile");
}
