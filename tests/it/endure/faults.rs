//! An upstream that is in trouble for a minute, in each of the ways that are known, while telemetry goes on.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tagalong::demo::upstream::{Fault, Record, Upstream};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinHandle, time::Instant};

use super::{length, most, set_aside, shown};
use crate::support::{
    agent::{Home, parties, soon},
    load::{self, Load},
};

/// How far the resident memory may move, in KiB.
const FLAT: u64 = 8 * 1024;

/// What is wrong with upstream.
enum Trouble {
    /// Connections are refused.
    Down,
    /// Whoever connects gets bytes that are no HTTP.
    Babble,
    Answers(Fault),
}

fn http(status: u16, content_type: &'static str, body: &'static [u8]) -> Trouble {
    Trouble::Answers(Fault::Http {
        status,
        content_type,
        headers: Vec::new(),
        body: Bytes::from_static(body),
    })
}

/// Whether sending has to begin again within five seconds: an upstream that could not be reached is looked for often.
#[derive(PartialEq)]
enum Back {
    Soon,
    AfterItsPause,
}

macro_rules! faults {
    ($($name:ident: $trouble:expr, $back:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes minutes: just endure"]
            async fn $name() {
                endure(stringify!($name), $trouble, Back::$back).await;
            }
        )*
    };
}

faults! {
    down: Trouble::Down, Soon;
    resetting: Trouble::Answers(Fault::Reset), Soon;
    silent: Trouble::Answers(Fault::Delay(Duration::from_secs(3600))), Soon;
    babbling: Trouble::Babble, Soon;
    slow: Trouble::Answers(Fault::Delay(Duration::from_secs(3))), Soon;
    answering_garbage: http(200, "application/x-protobuf", &[0x0f; 4000]), AfterItsPause;
    answering_403: http(403, "text/plain", b"no"), AfterItsPause;
    answering_404: http(404, "text/plain", b"no"), AfterItsPause;
    answering_500: http(500, "text/plain", b"no"), AfterItsPause;
    answering_with_a_page: http(200, "text/html; charset=utf-8", b"<html>Please log in</html>"), AfterItsPause;
}

async fn endure(name: &str, trouble: Trouble, back: Back) {
    let (issuer, upstream) = parties(Duration::from_secs(3600)).await;
    let home = Home::new().sending(&upstream.url(), &issuer.url());
    home.up();
    let config = load::Config {
        senders: 2,
        spans: 20,
        bytes: 200,
        every: Some(Duration::from_millis(20)),
    };
    let load = Load::start(&home.http("v1/traces"), config);
    // Until every buffer has the size that it needs.
    most(length() / 6, || 0).await;
    soon(upstream.wait(|record| record.delivered() > 0)).await;
    let resident = home.resident();
    let before = resident();
    let babbler = begin(&trouble, &upstream).await;
    let highest = most(length(), &resident).await;
    let status = home.status();
    end(babbler, &upstream).await;
    let ended = Instant::now();
    let delivered = upstream.look(Record::delivered);
    upstream.wait(|record| record.delivered() > delivered).await;
    let again = ended.elapsed();
    let sent = load.stop().await;
    sent.arrive(&upstream).await;
    println!(
        "endure: {name}: {}; RSS from {before} KiB to at most {highest} KiB, {} KiB after the backlog of {} KiB; sending again after {:.1} s",
        upstream.look(|record| shown(record, &sent)),
        resident(),
        status["spool"]["bytes"].as_u64().unwrap_or_default() / 1024,
        again.as_secs_f64(),
    );
    assert_eq!(set_aside(&home), (0, 0));
    assert_eq!((sent.refused, sent.failed), (0, 0));
    assert!(
        highest.abs_diff(before) <= FLAT,
        "RSS went from {before} to {highest} KiB"
    );
    assert!(
        back == Back::AfterItsPause || again <= Duration::from_secs(5),
        "{again:?}"
    );
}

async fn begin(trouble: &Trouble, upstream: &Upstream) -> Option<JoinHandle<()>> {
    match trouble {
        Trouble::Down => upstream.kill(),
        Trouble::Babble => {
            upstream.kill();
            let address = upstream
                .url()
                .trim_start_matches("http://")
                .parse()
                .expect("an address");
            return Some(tokio::spawn(babble(address)));
        }
        Trouble::Answers(fault) => upstream.set_fault(fault.clone()),
    }
    None
}

async fn end(babbler: Option<JoinHandle<()>>, upstream: &Upstream) {
    if let Some(babbler) = babbler {
        babbler.abort();
        let _ = babbler.await;
    }
    upstream.set_fault(Fault::None);
    upstream.recover().await.expect("the port again");
}

/// Takes every connection and says what is no HTTP.
async fn babble(address: SocketAddr) {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            // The one that was killed has not quite let go.
            Err(_) => tokio::task::yield_now().await,
        }
    };
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(&[0xff; 500]).await;
    }
}
