//! Containers next to the workspace: what they send arrives like everything else, if they have the key.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use tagalong::{
    otlp::Signal,
    source::otlp::siblings::{Key, Siblings},
};
use tokio::{net::TcpStream, time::timeout};

use crate::support::{
    agent::Home,
    receiver::{Builder, GRPC, PROTOBUF, call_framed, export, frame},
    telemetry,
};

const KEY: &str = "canary-0123456789abcdef";

/// Not an address of another machine, but another one than the agent's own two.
fn beside() -> Builder {
    let mut builder = Builder::default();
    builder.config.siblings = Some(Siblings {
        address: SocketAddr::from(([127, 0, 0, 2], 0)),
        key: Key::new(KEY.to_owned()).expect("long enough"),
    });
    builder
}

#[tokio::test]
async fn whoever_has_the_key_may_send_under_whatever_name_the_address_goes_and_is_stamped_like_all_others() {
    let receiver = beside().start();
    let to = receiver.siblings.expect("an address");
    let body = || telemetry::traces(&[("workspace.id", "forged")], telemetry::spans(1));
    let headers = [PROTOBUF, ("tagalong-key", KEY), ("host", "host.docker.internal:4318")];
    let answer = export(to, Signal::Traces, &headers, body()).await;
    assert_eq!(answer.status, 200);
    let record = receiver.record(Signal::Traces);
    let (_, attributes) = telemetry::read_traces(&record.bytes.to_bytes());
    assert!(
        attributes.contains(&("workspace.id".to_owned(), "ws-1".to_owned())),
        "{attributes:?}"
    );
    let answer = call_framed(
        to,
        Signal::Traces.grpc_path(),
        &[GRPC, ("tagalong-key", KEY)],
        frame(0, &body()),
    )
    .await;
    assert_eq!(answer.grpc_code(), 0);
}

#[tokio::test]
async fn without_the_key_nobody_may_send_there_and_nobody_is_told_it() {
    let receiver = beside().start();
    let to = receiver.siblings.expect("an address");
    let body = telemetry::request(Signal::Traces, 1);
    for headers in [
        &[PROTOBUF][..],
        &[PROTOBUF, ("tagalong-key", "wrong")],
        &[PROTOBUF, ("authorization", KEY)],
        &[PROTOBUF, ("tagalong-key", KEY), ("tagalong-key", KEY)],
    ] {
        let answer = export(to, Signal::Traces, headers, body.clone()).await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
    }
    let answer = call_framed(to, Signal::Traces.grpc_path(), &[GRPC], frame(0, &body)).await;
    assert_eq!(answer.grpc_code(), 7, "PERMISSION_DENIED");
    assert_eq!(receiver.accepted(), 0);
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], body).await;
    assert_eq!(answer.status, 200, "the workspace itself needs none");
}

#[tokio::test]
async fn an_address_that_is_not_this_machines_costs_nobody_else_anything() {
    let mut builder = beside();
    if let Some(siblings) = &mut builder.config.siblings {
        siblings.address = SocketAddr::from(([203, 0, 113, 1], 0));
    }
    let receiver = builder.start();
    assert_eq!(receiver.siblings, None);
    let body = telemetry::request(Signal::Traces, 1);
    assert_eq!(
        export(receiver.http, Signal::Traces, &[PROTOBUF], body).await.status,
        200
    );
}

#[tokio::test]
async fn however_many_knock_there_without_the_key_the_workspaces_own_programs_are_let_in() {
    let mut builder = beside();
    builder.config.connections = 8;
    let receiver = builder.start();
    let to = receiver.siblings.expect("an address");
    let mut crowd = Vec::new();
    for _ in 0..32 {
        crowd.push(TcpStream::connect(to).await.expect("a queue"));
    }
    let body = telemetry::request(Signal::Traces, 1);
    for _ in 0..4 {
        let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], body.clone());
        // Long before one of the crowd is given up that asks for nothing.
        let answer = timeout(Duration::from_secs(5), answer).await;
        assert_eq!(answer.expect("it does not wait").status, 200);
    }
}

#[test]
fn where_containers_cannot_be_let_in_up_status_and_doctor_say_why() {
    // Nobody's (RFC 5737).
    let home = Home::new().set("TAGALONG_LISTEN_SIBLINGS", "203.0.113.1");
    let why = "containers next to this workspace cannot send (listen.siblings): cannot listen on 203.0.113.1:0";
    for command in [&["up"][..], &["status"], &["doctor"], &["env", "--for", "compose"]] {
        let output = home.run(command);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(why), "{command:?}: {said}");
    }
}

/// An address of this machine that is not loopback; none in a network namespace with nothing else.
fn reachable() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn env_for_compose_gives_an_address_and_a_key_that_open_and_says_what_to_set_where_it_is_off() {
    let off = Home::new();
    let refused = off.run(&["env", "--for", "compose"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("listen.siblings = \"auto\""));
    let Some(address) = reachable() else {
        eprintln!("this machine has no address but loopback, so nobody could reach it");
        return;
    };
    let home = Home::new().set("TAGALONG_LISTEN_SIBLINGS", address.to_string());
    home.up();
    let text = home.text(&["env", "--for", "compose"]);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
    };
    let endpoint = value("OTEL_EXPORTER_OTLP_ENDPOINT");
    assert!(endpoint.starts_with(&format!("http://{address}:")), "{endpoint}");
    let header = value("OTEL_EXPORTER_OTLP_HEADERS");
    let (name, key) = header.split_once('=').expect("a name and a value");
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let send = |key: Option<&str>| {
        let request = client
            .post(format!("{endpoint}/v1/traces"))
            .header("content-type", "application/x-protobuf")
            .body(telemetry::request(Signal::Traces, 1));
        let request = key.into_iter().fold(request, |request, key| request.header(name, key));
        request.send().expect("an answer").status().as_u16()
    };
    assert_eq!((send(Some(key)), send(None)), (200, 403));
    let again = home.text(&["env", "--for", "compose", "--shell", "json"]);
    assert!(again.contains(key), "the key stays the same");
    assert!(!home.text(&["env"]).contains(key) && !home.text(&["config"]).contains(key));
}
