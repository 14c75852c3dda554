//! Who may send, where the receiver listens, and what the promises say about a batch on its way to the disk.

use std::{net::TcpListener, os::unix::process::CommandExt as _, process::Command};

use http::{StatusCode, Version as HttpVersion};
use tagalong::otlp::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    log::Log,
    receiver::{Builder, GRPC, JSON, PROTOBUF, Running, Version, call, call_framed, export, post, send},
    telemetry::{attribute, read_traces, request, span, spans, traces},
};

/// A user that owns nothing, on every Unix.
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn a_name_that_was_rebound_to_loopback_is_403() {
    let receiver = Running::start();
    for host in [
        "evil.example",
        "evil.example:4318",
        "localhost.evil.example",
        "192.168.0.1",
    ] {
        let answer = export(receiver.http, Signal::Traces, &[PROTOBUF, ("host", host)], Vec::new()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{host}");
    }
    for host in [
        "localhost",
        "localhost:4318",
        "app.localhost",
        "127.0.0.1:1",
        "[::1]:4318",
    ] {
        let answer = export(receiver.http, Signal::Traces, &[PROTOBUF, ("host", host)], Vec::new()).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn no_web_page_may_send_unless_its_origin_is_allowed() {
    let origin = ("origin", "http://localhost:3000");
    let closed = Running::start();
    let answer = export(closed.http, Signal::Traces, &[PROTOBUF, origin], Vec::new()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.header("access-control-allow-origin"), None);

    let open = Builder::default().allowed_origin("http://localhost:3000").start();
    let answer = export(open.http, Signal::Traces, &[PROTOBUF, origin], Vec::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    let answer = export(
        open.http,
        Signal::Traces,
        &[PROTOBUF, ("origin", "http://localhost:3001")],
        Vec::new(),
    )
    .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_preflight_of_an_allowed_page_is_answered() {
    let receiver = Builder::default().allowed_origin("http://localhost:3000").start();
    let headers = [
        ("origin", "http://localhost:3000"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-team"),
    ];
    let mut preflight = post(receiver.http, Version::Http1, "/v1/traces", &headers, Vec::new());
    *preflight.method_mut() = http::Method::OPTIONS;
    let answer = send(receiver.http, Version::Http1, preflight).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("content-type,x-team")
    );
}

#[tokio::test]
async fn another_users_connection_is_refused_unless_it_is_wanted() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can start a process of somebody else; the table's reader has tests of its own.
    }
    for (other_users, expected) in [(false, "HTTP/1.1 403"), (true, "HTTP/1.1 200")] {
        let mut builder = Builder::default();
        builder.config.other_users = other_users;
        let receiver = builder.start();
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; printf 'POST /v1/traces HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/x-protobuf\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3",
            receiver.http.port()
        );
        let run = move || {
            Command::new("bash")
                .args(["-c", &script])
                .uid(NOBODY)
                .gid(NOBODY)
                .current_dir("/")
                .output()
        };
        let output = tokio::task::spawn_blocking(run).await.expect("a thread").expect("bash");
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(answer.starts_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_left_to_its_holder_and_another_is_reported() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let wanted = holder.local_addr().expect("an address");
    let mut builder = Builder::default();
    builder.config.http = wanted;
    let receiver = builder.start();
    assert_ne!(receiver.http, wanted);
    let [moved] = &receiver.moved[..] else {
        panic!("one listener moved: {:?}", receiver.moved);
    };
    assert_eq!((moved.wanted, moved.got), (wanted, receiver.http));
    let held_by = moved.held_by.as_deref().expect("a holder");
    assert!(held_by.contains(&std::process::id().to_string()), "{held_by}");
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], Vec::new()).await;
    assert_eq!(answer.status, StatusCode::OK, "the other port works");
}

#[tokio::test]
async fn one_address_may_serve_both_protocols() {
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let mut builder = Builder::default();
    (builder.config.grpc, builder.config.http) = (free, free);
    let receiver = builder.start();
    assert_eq!((receiver.grpc, receiver.http), (free, free));
    assert!(receiver.moved.is_empty());
    assert_eq!(call(free, Signal::Traces, b"").await.grpc_code(), 0);
}

#[tokio::test]
async fn a_sender_may_wait_to_be_told_to_go_on() {
    let receiver = Builder::default().max_request_bytes(1000).start();
    let mut stream = tokio::net::TcpStream::connect(receiver.http)
        .await
        .expect("a connection");
    let head = |length: usize| {
        format!(
            "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let body = request(Signal::Traces, 1);
    stream.write_all(head(body.len()).as_bytes()).await.expect("a head");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("an interim answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).await.expect("a body");
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");

    let mut stream = tokio::net::TcpStream::connect(receiver.http)
        .await
        .expect("a connection");
    stream.write_all(head(1001).as_bytes()).await.expect("a head");
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(
        &answer, b"HTTP/1.1 413 Pa",
        "and is spared the body that is refused anyway"
    );
}

#[tokio::test]
async fn a_stopping_receiver_answers_what_is_in_flight_and_closes() {
    let receiver = Running::start();
    let mut stream = tokio::net::TcpStream::connect(receiver.http)
        .await
        .expect("a connection");
    let body = request(Signal::Traces, 1);
    // With `Expect`, the interim answer shows that the request is being worked on.
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("a head");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("an interim answer");
    receiver.shutdown.cancel();
    while tokio::net::TcpStream::connect(receiver.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!receiver.served.is_finished());
    stream.write_all(&body).await.expect("a body");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer and the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn a_receiver_that_is_given_up_closes_what_it_held() {
    let receiver = Running::start();
    let mut stream = tokio::net::TcpStream::connect(receiver.http)
        .await
        .expect("a connection");
    stream
        .write_all(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        .await
        .expect("a head");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("an interim answer");
    // As a caller does whose deadline is over.
    receiver.served.abort();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.is_empty(), "no answer is made up for what was not taken");
}

#[tokio::test]
async fn promise_1_an_accepted_batch_can_be_read_back_at_once() {
    let receiver = Running::start();
    let answer = export(receiver.http, Signal::Traces, &[PROTOBUF], traces(&[], spans(3))).await;
    assert_eq!((answer.status, receiver.accepted()), (StatusCode::OK, 3));
    let record = receiver.record(Signal::Traces);
    assert_eq!((record.items, read_traces(&record.bytes.to_bytes()).0), (3, spans(3)));
}

#[tokio::test]
async fn promise_2_many_large_requests_share_a_budget_that_holds_one() {
    let receiver = Builder {
        budget: 600_000,
        ..Builder::default()
    }
    .start();
    let body = request(Signal::Traces, 10_000);
    let sending: Vec<_> = (0..16)
        .map(|_| tokio::spawn(export(receiver.http, Signal::Traces, &[PROTOBUF], body.clone())))
        .collect();
    let mut accepted = 0;
    for sent in sending {
        match sent.await.expect("a task").status {
            StatusCode::OK => accepted += 10_000,
            status => assert_eq!(
                status,
                StatusCode::SERVICE_UNAVAILABLE,
                "those who waited too long may come again"
            ),
        }
    }
    assert!(accepted > 0);
    assert_eq!(receiver.accepted(), accepted);
}

#[tokio::test]
async fn what_is_turned_away_at_the_door_is_counted() {
    let receiver = Builder::default().max_request_bytes(1000).start();
    let to = receiver.http;
    let foreign = [PROTOBUF, ("host", "evil.example")];
    let refused = [
        export(to, Signal::Logs, &foreign, request(Signal::Logs, 1)).await,
        send(
            to,
            Version::Http1,
            post(to, Version::Http1, "/v1/profiles", &[PROTOBUF], Vec::new()),
        )
        .await,
        export(to, Signal::Logs, &[PROTOBUF], request(Signal::Logs, 1000)).await,
        export(to, Signal::Logs, &[("content-type", "text/plain")], Vec::new()).await,
        export(to, Signal::Logs, &[JSON], b"[]".to_vec()).await,
        call(receiver.grpc, Signal::Logs, &request(Signal::Logs, 1000)).await,
        // This one the intake sees, and counts as malformed.
        export(to, Signal::Logs, &[PROTOBUF], vec![0xff]).await,
    ];
    let codes = refused.map(|answer| answer.status.as_u16());
    assert_eq!(codes, [403, 404, 413, 415, 400, 200, 400]);
    let counts = receiver.intake.counts();
    assert_eq!((counts.turned_away, counts.malformed), (6, 1));
}

#[tokio::test]
async fn the_agents_own_log_says_once_why_each_kind_of_request_was_refused() {
    let log = Log::default();
    let _captured = log.capture();
    let receiver = Builder::default().max_request_bytes(1000).start();
    let (to, logs) = (receiver.http, Signal::Logs);
    let text = ("content-type", "text/plain");
    for _ in 0..3 {
        export(to, logs, &[PROTOBUF, ("host", "collector:4318")], Vec::new()).await;
        export(to, logs, &[PROTOBUF, ("origin", "http://a.example")], Vec::new()).await;
        export(to, logs, &[text], Vec::new()).await;
        send(
            to,
            Version::Http1,
            post(to, Version::Http1, "/", &[PROTOBUF], Vec::new()),
        )
        .await;
        export(to, logs, &[PROTOBUF], request(logs, 1000)).await;
        // The second of these is seen by the intake alone.
        call_framed(receiver.grpc, logs.grpc_path(), &[GRPC], vec![0]).await;
        call(receiver.grpc, logs, b"no protobuf at all").await;
        // TLS, from a sender whose endpoint says https.
        let mut tls = tokio::net::TcpStream::connect(to).await.expect("a connection");
        tls.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            .await
            .expect("room");
        tls.read_to_end(&mut Vec::new()).await.expect("it is closed");
    }
    let full = Builder::default().full_spool().start();
    export(full.http, logs, &[PROTOBUF], request(logs, 1)).await;
    let told = log.text();
    for line in [
        "refused: the request was sent to a name that is not this machine's: send to 127.0.0.1",
        "refused: web pages may send only if their origin is in listen.allowed_origins",
        "refused: the Content-Type must be application/x-protobuf or application/json",
        "refused: there is nothing here: OTLP/HTTP goes to /v1/traces",
        "refused: the request is larger than 1000 bytes, compressed or not (listen.max_request_bytes)",
        "refused: the call ended before its message was complete; the sender is told to drop it",
        "refused: a connection begins with something else than HTTP: if an endpoint says https://, write http://",
        "refused: the spool is full; senders are told to come again, and `tagalong doctor` says",
    ] {
        assert_eq!(told.matches(line).count(), 1, "{line}\n{told}");
    }
    assert_eq!(told.matches("telemetry is refused").count(), 8, "{told}");
    export(to, logs, &[PROTOBUF], request(logs, 1)).await;
    assert_eq!(
        log.text().matches("WARN").count(),
        8,
        "what is taken is nobody's business"
    );
}

#[tokio::test]
async fn promise_3_a_full_spool_is_said_and_nothing_is_counted_as_accepted() {
    let receiver = Builder::default().full_spool().start();
    for _ in 0..2 {
        let answer = export(receiver.http, Signal::Logs, &[PROTOBUF], request(Signal::Logs, 1)).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let counts = receiver.intake.counts();
    assert_eq!((counts.full, counts.accepted.total(), receiver.accepted()), (2, 0, 0));
}

#[tokio::test]
async fn promise_6_what_a_sender_says_about_user_and_workspace_is_replaced() {
    let receiver = Running::start();
    let spoofed = [
        ("user.id", "root"),
        ("user.email", "boss@example.com"),
        ("workspace.id", "somebody-elses"),
        ("workspace.name", "also not true"),
        ("service.name", "shop"),
        ("deployment.environment.name", "staging"),
    ];
    let message = traces(&spoofed, spans(1));
    export(receiver.http, Signal::Traces, &[PROTOBUF], message).await;
    let (_, mut attributes) = read_traces(&receiver.record(Signal::Traces).bytes.to_bytes());
    attributes.sort();
    let expected = [
        ("deployment.environment.name", "staging"),
        ("service.name", "shop"),
        ("workspace.id", "ws-1"),
    ];
    assert_eq!(
        attributes,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
}

#[tokio::test]
async fn promise_8_a_secret_is_gone_before_the_batch_rests() {
    let receiver = Running::start();
    let mut login = span("login", 8);
    login.attributes.push(attribute(
        "http.request.header.authorization",
        "Bearer very-secret-indeed",
    ));
    export(receiver.http, Signal::Traces, &[PROTOBUF], traces(&[], vec![login])).await;
    let record = receiver.record(Signal::Traces);
    assert!(!String::from_utf8_lossy(&record.bytes.to_bytes()).contains("very-secret-indeed"));
    assert_eq!(receiver.intake.counts().redacted, 1);
}

#[tokio::test]
async fn http_1_0_is_answered_too() {
    let receiver = Running::start();
    let mut old = post(receiver.http, Version::Http1, "/v1/traces", &[PROTOBUF], Vec::new());
    *old.version_mut() = HttpVersion::HTTP_10;
    assert_eq!(send(receiver.http, Version::Http1, old).await.status, StatusCode::OK);
}
