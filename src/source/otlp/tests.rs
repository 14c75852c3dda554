//! How long a connection may take, on a clock that jumps. Everything else is told over real sockets, in the integration tests.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::watch,
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::{
    intake::Stamps,
    spool::{self, Spool},
    stamp::{Stamp, redact},
};

const REQUEST: &[u8] =
    b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

fn intake(dir: &tempfile::TempDir, stamps: Stamps) -> Intake {
    let spool = Spool::open(spool::Config {
        dir: dir.path().to_owned(),
        max_bytes: 1 << 20,
        keep_bytes: 0,
        max_age: Duration::from_secs(60),
        session: "session".to_owned(),
        place: "place".to_owned(),
    })
    .expect("a spool");
    let redactor = redact::Redactor::build(&redact::Config::default()).expect("no rules");
    let (_, owner) = watch::channel(spool.pending());
    Intake::new(redactor, stamps, spool, owner)
}

fn door(dir: &tempfile::TempDir) -> Arc<Door> {
    Arc::new(Door {
        intake: intake(dir, Box::new(|| Arc::new(Stamp::default()))),
        limits: Limits {
            budget: Budget::new(1 << 20),
            max_request_bytes: 1 << 20,
        },
        origins: Origins::default(),
        other_users: false,
        retry_after: Duration::from_secs(1),
        refusals: Refusals::default(),
    })
}

/// The far end of a connection that is served, and the graceful shutdown that it hangs on.
fn connect(dir: &tempfile::TempDir, stranger: Option<Peer>, entrance: Entrance) -> (DuplexStream, GracefulShutdown) {
    connect_to(door(dir), stranger, entrance)
}

fn connect_to(door: Arc<Door>, stranger: Option<Peer>, entrance: Entrance) -> (DuplexStream, GracefulShutdown) {
    let (ours, theirs) = duplex(1 << 16);
    let graceful = GracefulShutdown::new();
    let caller = Caller {
        stranger,
        entrance,
        loopback: true,
        refused: CancellationToken::new(),
    };
    tokio::spawn(converse(server(), door, graceful.watcher(), ours, caller));
    (theirs, graceful)
}

/// What comes until the connection is closed, and how long that took.
async fn until_closed(mut stream: DuplexStream) -> (String, Duration) {
    let start = Instant::now();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an orderly end");
    (String::from_utf8_lossy(&answer).into_owned(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed() {
    for start in [&b""[..], b"P", b"PRI * HT", b"POST /v1/traces HTTP/1.1\r\nHos"] {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut stream, _graceful) = connect(&dir, None, Entrance::Own);
        stream.write_all(start).await.expect("room");
        let (answer, took) = until_closed(stream).await;
        assert_eq!(answer, "", "{start:?}");
        assert!(
            took.abs_diff(FIRST_REQUEST) < Duration::from_millis(50),
            "{start:?}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_used_may_idle_longer_than_a_metric_readers_minute() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut stream, _graceful) = connect(&dir, None, Entrance::Own);
    stream.write_all(REQUEST).await.expect("room");
    let (answer, took) = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        took > Duration::from_secs(60) && took < IDLE + Duration::from_secs(1),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_budget_is_told_so_however_much_is_still_unsent() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = door(&dir);
    let _others = door.limits.budget.take(1 << 20).await;
    let (stream, _graceful) = connect_to(door, None, Entrance::Own);
    let (mut receiving, mut sending) = tokio::io::split(stream);
    let body = vec![0; 1 << 20];
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = vec![0; 12];
    let (sent, _) = tokio::join!(
        async {
            sending.write_all(head.as_bytes()).await?;
            sending.write_all(&body).await
        },
        receiving.read_exact(&mut answer),
    );
    assert!(
        sent.is_ok(),
        "a connection that is closed meanwhile looks like one that broke: {sent:?}"
    );
    assert_eq!(answer, b"HTTP/1.1 503");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_told_why_and_does_not_keep_the_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut stream, _graceful) = connect(&dir, Some(Peer::User(1001)), Entrance::Own);
    stream.write_all(REQUEST).await.expect("room");
    let (answer, took) = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("uid 1001's") && answer.contains("listen.other_users"),
        "{answer}"
    );
    assert!(took <= AFTER_REFUSAL + Duration::from_millis(50), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_sends_without_the_key_is_told_so_and_does_not_keep_the_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = "0123456789abcdef";
    let beside = || Entrance::Siblings(Arc::new(Key::new(key.to_owned()).expect("long enough")));
    let with_key = String::from_utf8_lossy(REQUEST).replacen("\r\n", &format!("\r\ntagalong-key: {key}\r\n"), 1);
    for (request, expected, longest) in [
        (REQUEST, "HTTP/1.1 403", AFTER_REFUSAL),
        (with_key.as_bytes(), "HTTP/1.1 200", IDLE),
    ] {
        let (mut stream, _graceful) = connect(&dir, None, beside());
        stream.write_all(request).await.expect("room");
        let (answer, took) = until_closed(stream).await;
        assert!(answer.starts_with(expected), "{answer}");
        assert!(took.abs_diff(longest) < Duration::from_millis(50), "{took:?}");
    }
}

#[tokio::test]
async fn a_request_that_panics_costs_its_own_connection_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let is_first = AtomicBool::new(true);
    let stamps = move || {
        assert!(!is_first.swap(false, Ordering::Relaxed), "a fault");
        Arc::new(Stamp::default())
    };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        grpc: loopback,
        http: loopback,
        allowed_origins: Vec::new(),
        max_request_bytes: 1 << 20,
        other_users: true,
        siblings: None,
        retry_after: Duration::from_secs(1),
        // One for each listener, so the first has to give its place back.
        connections: 2,
    };
    let intake = intake(&dir, Box::new(stamps));
    let receiver = Receiver::bind(config, intake, Budget::new(1 << 20), Vec::new()).expect("ports");
    let to = receiver.http_addr();
    let _running = AbortOnDropHandle::new(tokio::spawn(receiver.run(CancellationToken::new())));
    let span = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"a"}"#;
    let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    let request = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(to).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("room");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an orderly end");
        answers.push(answer);
    }
    assert_eq!(answers[0], "", "nothing was accepted, and nothing is said");
    assert!(answers[1].starts_with("HTTP/1.1 200"), "{answers:?}");
}

#[tokio::test]
async fn bug_half_a_receiver_one_listener_that_panics_ends_the_others() {
    let held = Arc::new(());
    let other = Arc::downgrade(&held);
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        let _held = held;
        std::future::pending().await
    });
    listening.spawn(async { panic!("a fault") });
    let ended = tokio::spawn(until_all_end(listening)).await;
    assert!(ended.expect_err("a fault").is_panic());
    while other.upgrade().is_some() {
        task::yield_now().await;
    }
}
