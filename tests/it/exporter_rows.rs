//! The exporter's rows of the OTLP conformance table, each by its number. Where the product deviates, the test says so.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tagalong::{
    export::{
        Compression, Config, Protocol,
        retry::{self, Reach},
        status,
    },
    otlp::Signal,
};

use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    exporting::{Rig, config, spans},
    upstream::{Say, Upstream},
};

const PROTOCOLS: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::Grpc];

fn status(http: u16, code: i32) -> Say {
    Say::Status {
        http,
        code,
        message: "no",
        retry: None,
    }
}

#[tokio::test]
async fn e1_a_request_over_the_limit_is_not_sent_but_split_and_what_is_left_is_recorded() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.append("traces", 2, spans(["small".to_owned(), "x".repeat(4000)]))
            .await;
        let config = Config {
            max_request_bytes: 2000,
            ..config(&upstream.url(), protocol)
        };
        rig.run(config).drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.set_aside), (1, 1));
        assert!(upstream.seen().iter().all(|seen| seen.body.len() <= 2000));
    }
}

#[tokio::test]
async fn e2_an_answer_over_the_limit_is_not_retried() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| Say::Http {
        status: 200,
        headers: vec![("content-type", "application/x-protobuf".to_owned())],
        body: vec![0; 100_000].into(),
    })
    .await;
    rig.append_spans(["a"]).await;
    let config = Config {
        max_response_bytes: 50_000,
        ..config(&upstream.url(), Protocol::HttpProtobuf)
    };
    rig.run(config).drain().await;
    assert_eq!((rig.books("traces").delivered, upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn e2_an_answer_over_the_limit_is_not_retried_over_grpc() {
    let rig = Rig::new();
    let message: &'static str = "x".repeat(100_000).leak();
    let upstream = Upstream::start(move |_| Say::Partial { rejected: 0, message }).await;
    rig.append_spans(["a"]).await;
    let config = Config {
        max_response_bytes: 50_000,
        ..config(&upstream.url(), Protocol::Grpc)
    };
    rig.run(config).drain().await;
    assert_eq!((rig.books("traces").delivered, upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn e2_the_limit_holds_for_what_an_answer_decompresses_to() {
    let rig = Rig::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 5_000_000]).expect("compressed");
    let bomb = Bytes::from(encoder.finish().expect("compressed"));
    let upstream = Upstream::start(move |_| Say::Http {
        status: 200,
        headers: vec![
            ("content-type", "application/x-protobuf".to_owned()),
            ("content-encoding", "gzip".to_owned()),
        ],
        body: bomb.clone(),
    })
    .await;
    rig.append_spans(["a"]).await;
    rig.run(config(&upstream.url(), Protocol::HttpProtobuf)).drain().await;
    assert_eq!((rig.books("traces").delivered, upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn e3_the_window_bounds_the_requests_in_flight() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Hang).await;
        rig.append_spans((0..20).map(|n| format!("span-{n}"))).await;
        let config = Config {
            concurrency: 3,
            batch_bytes: 1,
            timeout: Duration::from_secs(1),
            ..config(&upstream.url(), protocol)
        };
        let mut running = rig.run(config);
        running.until(|status| status.requests == 3).await;
        assert_eq!(upstream.seen().len(), 3);
        upstream.script(|_| Say::Ok);
        running
            .until(|status| status.lanes[&Signal::Traces].delivered == 20)
            .await;
        running.drain().await;
        assert_eq!(rig.books("traces").delivered, 20);
    }
}

#[tokio::test]
async fn e4_a_drain_waits_for_what_is_pending() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.append_spans((0..200).map(|n| format!("span-{n}"))).await;
        let config = Config {
            batch_bytes: 500,
            batch_delay: Duration::from_secs(3600),
            ..config(&upstream.url(), protocol)
        };
        rig.run(config).drain().await;
        assert_eq!(rig.books("traces").delivered, 200);
    }
}

#[tokio::test]
async fn e5_partial_success_is_not_retried() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Partial {
            rejected: 1,
            message: "one is too old",
        })
        .await;
        rig.append("traces", 2, spans(["a", "b"])).await;
        rig.run(config(&upstream.url(), protocol)).drain().await;
        let books = rig.books("traces");
        assert_eq!((books.delivered, books.rejected, upstream.seen().len()), (1, 1, 1));
    }
}

#[tokio::test]
async fn e5_an_empty_partial_success_is_full_success() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Partial {
            rejected: 0,
            message: "",
        })
        .await;
        rig.append_spans(["a"]).await;
        rig.run(config(&upstream.url(), protocol)).drain().await;
        assert_eq!(rig.books("traces").delivered, 1);
    }
}

#[tokio::test]
async fn e6_what_is_refused_for_good_is_not_retried_and_counted() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| status(400, 3)).await;
        rig.append_spans(["a"]).await;
        let running = rig.run(config(&upstream.url(), protocol));
        let found = running.status.clone();
        running.drain().await;
        assert_eq!((rig.books("traces").set_aside, upstream.seen().len()), (1, 1));
        assert_eq!(found.borrow().lanes[&Signal::Traces].set_aside, 1);
    }
}

/// The codes that OTLP calls retryable are retried. Of those that it calls final, we deviate: only `INVALID_ARGUMENT`
/// judges the data, the others judge the path or the credential.
#[tokio::test]
async fn e7_grpc_codes_that_are_retryable_are_retried_with_the_same_bytes() {
    for code in [1, 4, 10, 11, 14, 15, 2, 5, 6, 9] {
        let rig = Rig::new();
        let mut refused = false;
        let upstream = Upstream::start(move |_| {
            if std::mem::replace(&mut refused, true) {
                Say::Ok
            } else {
                status(503, code)
            }
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(config(&upstream.url(), Protocol::Grpc));
        running.until(|status| status.last_success.is_some()).await;
        running.drain().await;
        let seen = upstream.seen();
        assert_eq!((rig.books("traces").delivered, seen.len()), (1, 2), "{code}");
        assert_eq!(seen[0].body, seen[1].body);
    }
}

#[tokio::test]
async fn e7_a_status_in_the_headers_alone_is_upstreams_word_too() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| Say::TrailersOnly { code: 3 }).await;
    rig.append_spans(["a"]).await;
    rig.run(config(&upstream.url(), Protocol::Grpc)).drain().await;
    assert_eq!(rig.books("traces").set_aside, 1);
}

#[tokio::test]
async fn e7_a_status_that_a_client_would_make_up_never_condemns_data() {
    // gRPC's libraries make INTERNAL of HTTP 400 and UNIMPLEMENTED of 404, and UNKNOWN of an answer that is no gRPC at all.
    for code in [200, 400, 422] {
        let rig = Rig::new();
        let upstream = Upstream::start(move |_| Say::Http {
            status: code,
            headers: vec![("content-type", "application/grpc".to_owned())],
            body: Bytes::new(),
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(config(&upstream.url(), Protocol::Grpc));
        running.until_paused().await;
        running.drain().await;
        let books = rig.books("traces");
        assert_eq!((books.pending, books.set_aside), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn e7_a_status_counts_also_where_what_stands_around_it_cannot_be_read() {
    for (code, set_aside) in [("3", 1), ("0", 0)] {
        let rig = Rig::new();
        let upstream = Upstream::start(move |_| Say::Http {
            status: 200,
            headers: vec![
                ("content-type", "application/grpc".to_owned()),
                ("grpc-status", code.to_owned()),
                ("grpc-message", "no %FF%".to_owned()),
                ("grpc-status-details-bin", "no base64!".to_owned()),
            ],
            body: Bytes::new(),
        })
        .await;
        rig.append_spans(["a"]).await;
        rig.run(config(&upstream.url(), Protocol::Grpc)).drain().await;
        let books = rig.books("traces");
        assert_eq!((books.set_aside, books.pending), (set_aside, 0), "{code}");
    }
}

/// As a success over HTTP that has no body.
#[tokio::test]
async fn e7_ok_without_a_message_is_a_success() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| Say::TrailersOnly { code: 0 }).await;
    rig.append_spans(["a"]).await;
    rig.run(config(&upstream.url(), Protocol::Grpc)).drain().await;
    assert_eq!((rig.books("traces").delivered, upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn e8_and_e10_a_throttled_client_throttles_itself() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Status {
            http: 503,
            code: 14,
            message: "later",
            retry: Some(Duration::from_secs(600)),
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(config(&upstream.url(), protocol));
        let found = running.until_paused().await;
        let status::State::Paused { until, .. } = found.state else {
            unreachable!("just seen")
        };
        let wait = until
            .duration_since(std::time::SystemTime::now())
            .expect("in the future");
        assert!(wait > Duration::from_secs(590), "{wait:?}");
        running.drain().await;
        assert_eq!(upstream.seen().len(), 1);
    }
}

/// OTLP calls 401, 408 and 500 final. We deviate on purpose: they judge the credential and the path.
#[tokio::test]
async fn e9_http_codes_that_are_retryable_are_retried_with_the_same_bytes() {
    for code in [429, 502, 503, 504, 408, 405] {
        let rig = Rig::new();
        let mut refused = false;
        let upstream = Upstream::start(move |_| {
            if std::mem::replace(&mut refused, true) {
                Say::Ok
            } else {
                status(code, 14)
            }
        })
        .await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(config(&upstream.url(), Protocol::HttpProtobuf));
        running.until(|status| status.last_success.is_some()).await;
        running.drain().await;
        let seen = upstream.seen();
        assert_eq!((rig.books("traces").delivered, seen.len()), (1, 2), "{code}");
        assert_eq!(seen[0].body, seen[1].body);
    }
}

#[tokio::test]
async fn e9_a_bad_request_is_not_retried() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| status(400, 3)).await;
    rig.append_spans(["a"]).await;
    rig.run(config(&upstream.url(), Protocol::HttpProtobuf)).drain().await;
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn e11_transient_errors_are_retried_with_exponential_backoff_and_jitter() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| status(503, 14)).await;
        rig.append_spans(["a"]).await;
        let mut running = rig.run(config(&upstream.url(), protocol));
        let mut refused = 0;
        // Equal jitter: half of the figure is certain, the other half is chance; and the figure doubles.
        for figure in [1.0, 2.0] {
            let found = running
                .until(|status| status.refused > refused && matches!(status.state, status::State::Paused { .. }))
                .await;
            refused = found.refused;
            let (status::State::Paused { until, .. }, Some(failed)) = (found.state, found.last_error_at) else {
                unreachable!("just seen")
            };
            let wait = until.duration_since(failed).expect("later").as_secs_f64();
            assert!((figure / 2.0..figure + 3.0).contains(&wait), "{wait} of {figure}");
        }
        running.drain().await;
        assert_eq!(rig.books("traces").pending, 1);
    }
    // How it goes on is pure.
    let wait = |last: u64, random| retry::backoff(Some(Duration::from_secs(last)), Reach::Answering, None, random).1;
    assert_eq!((wait(8, 0.0).as_secs(), wait(8, 1.0).as_secs()), (8, 16));
    assert_eq!(wait(100_000, 1.0), retry::ANSWERING_CAP);
}

/// A way to `upstream` that counts connections.
async fn counting_relay(upstream: SocketAddr) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(upstream).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (url, count)
}

#[tokio::test]
async fn e12_connections_are_kept_alive() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        let (front, connections) = counting_relay(upstream.address()).await;
        let mut running = rig.run(config(&front, protocol));
        for n in 1..=5 {
            rig.append_spans(["a"]).await;
            running.until(|status| status.requests == n).await;
        }
        running.drain().await;
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn e13_a_gzip_body_says_so() {
    for (protocol, header) in [
        (Protocol::HttpProtobuf, "content-encoding"),
        (Protocol::Grpc, "grpc-encoding"),
    ] {
        for (compression, said) in [(Compression::Gzip, Some("gzip")), (Compression::None, None)] {
            let rig = Rig::new();
            let upstream = Upstream::start(|_| Say::Ok).await;
            // Large enough for both ways to compress.
            rig.append(
                "traces",
                2000,
                spans((0..2000).map(|n| format!("a name that is long enough {n}"))),
            )
            .await;
            let config = Config {
                compression,
                ..config(&upstream.url(), protocol)
            };
            rig.run(config).drain().await;
            let seen = upstream.seen();
            assert_eq!(seen[0].header(header), said);
            assert_eq!(seen[0].span_names().len(), 2000);
            if protocol == Protocol::HttpProtobuf {
                assert_eq!(seen[0].header("content-type"), Some("application/x-protobuf"));
            }
        }
    }
}

#[tokio::test]
async fn e13_an_answer_may_be_compressed_as_its_request_was() {
    let rig = Rig::new();
    // Servers in Go do so without asking what the client accepts.
    let upstream = Upstream::start(|_| Say::Partial {
        rejected: 1,
        message: "no room for this one",
    })
    .await;
    rig.append_spans(["a"]).await;
    rig.run(config(&upstream.url(), Protocol::Grpc)).drain().await;
    assert_eq!((rig.books("traces").rejected, upstream.seen().len()), (1, 1));
}

/// There is one upstream, but a signal may have an endpoint of its own. That is another destination: its records are
/// queued, answered for and kept apart from the others'.
#[tokio::test]
async fn e14_each_destination_has_its_own_queue_and_answers() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let (upstream, of_logs) = (
            Upstream::start(|_| Say::Ok).await,
            Upstream::start(|_| status(400, 3)).await,
        );
        rig.append_spans(["a", "b"]).await;
        rig.append("logs", 1, spans(["refused"])).await;
        let mut config = config(&upstream.url(), protocol);
        let endpoint = of_logs.url().parse().expect("a URL");
        config.endpoints.insert(Signal::Logs, endpoint);
        rig.run(config).drain().await;
        let (traces, logs) = (rig.books("traces"), rig.books("logs"));
        assert_eq!((traces.delivered, traces.set_aside), (2, 0));
        assert_eq!((logs.delivered, logs.set_aside), (0, 1));
        assert_eq!((upstream.seen().len(), of_logs.seen().len()), (1, 1));
    }
}

#[tokio::test]
async fn e15_no_empty_request_is_sent() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.append("traces", 0, Bytes::new()).await;
        rig.run(config(&upstream.url(), protocol)).drain().await;
        assert!(upstream.seen().is_empty());
        assert_eq!(rig.spool.stats().bytes, 0, "it is answered for all the same");
    }
}

#[tokio::test]
async fn e16_the_user_agent_names_product_and_exporter() {
    for protocol in PROTOCOLS {
        let rig = Rig::new();
        let upstream = Upstream::start(|_| Say::Ok).await;
        rig.append_spans(["a"]).await;
        rig.run(config(&upstream.url(), protocol)).drain().await;
        let version = env!("CARGO_PKG_VERSION");
        let agent = format!("tagalong/{version} OTel-OTLP-Exporter-Rust/{version}");
        assert_eq!(upstream.seen()[0].header("user-agent"), Some(agent.as_str()));
    }
}

#[tokio::test]
async fn e17_paths_are_those_of_the_endpoint_rules() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| Say::Ok).await;
    rig.append_spans(["a"]).await;
    rig.append("logs", 1, spans(["b"])).await;
    let mut config = config(&format!("{}/otlp", upstream.url()), Protocol::HttpProtobuf);
    config.headers = vec![("x-tenant".to_owned(), "team".to_owned())];
    config
        .endpoints
        .insert(Signal::Logs, upstream.url().parse().expect("a URL"));
    rig.run(config).drain().await;
    let mut paths: Vec<_> = upstream.seen().into_iter().map(|seen| seen.path).collect();
    paths.sort();
    assert_eq!(paths, ["/", "/otlp/v1/traces"]);
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.header("x-tenant") == Some("team"))
    );
}

#[tokio::test]
async fn e17_a_grpc_endpoint_may_have_a_prefix() {
    let rig = Rig::new();
    let upstream = Upstream::start(|_| Say::Ok).await;
    rig.append_spans(["a"]).await;
    rig.run(config(&format!("{}/otlp/", upstream.url()), Protocol::Grpc))
        .drain()
        .await;
    let path = "/otlp/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert_eq!(upstream.seen()[0].path, path);
}
