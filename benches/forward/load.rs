//! Senders: each sends its next request as soon as the last one was answered.
//!
//! The HTTP client is a few lines of its own, so that the machine's time goes to what is measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::sample;

/// Connections that send at the same time.
pub const CONNECTIONS: u64 = 4;
/// Requests that each connection sends in turn.
const REQUESTS: u64 = 16;

/// What the senders saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Spans of requests that were accepted.
    pub spans: u64,
    /// Requests that were answered with something else than 200.
    pub refused: u64,
    /// How long each answer took.
    pub latencies: Vec<Duration>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

/// The value that `share` of the `sorted` ones do not exceed.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// What is sent, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub how_long: Duration,
    /// Spans in one request.
    pub spans: usize,
    /// Requests a second over all connections; as fast as answers come if there is none.
    pub rate: Option<u32>,
}

/// Sends to `address`.
pub async fn run(address: SocketAddr, load: Load) -> Seen {
    let start = Instant::now();
    let mut senders = JoinSet::new();
    for connection in 0..CONNECTIONS {
        senders.spawn(sender(address, connection, start, load));
    }
    let mut seen = Seen::default();
    while let Some(one) = senders.join_next().await {
        let one = one.expect("a sender does not panic");
        seen.spans += one.spans;
        seen.refused += one.refused;
        seen.latencies.extend(one.latencies);
    }
    seen.elapsed = start.elapsed();
    seen
}

async fn sender(address: SocketAddr, connection: u64, start: Instant, load: Load) -> Seen {
    let requests: Vec<Vec<u8>> = (0..REQUESTS)
        .map(|index| post(address, &sample::request_of(load.spans, connection * REQUESTS + index)))
        .collect();
    let mut stream = TcpStream::connect(address).await.expect("the receiver listens");
    stream.set_nodelay(true).expect("a connected socket takes options");
    let mut pace = load.rate.map(|rate| {
        let period = Duration::from_secs(1) * CONNECTIONS as u32 / rate;
        // The connections take turns.
        let first = tokio::time::Instant::from_std(start) + period * connection as u32 / CONNECTIONS as u32;
        tokio::time::interval_at(first, period)
    });
    let mut seen = Seen::default();
    let mut buffer = Vec::new();
    for request in requests.iter().cycle() {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let sent = Instant::now();
        if sent >= start + load.how_long {
            break;
        }
        stream.write_all(request).await.expect("the receiver reads");
        if read_answer(&mut stream, &mut buffer).await {
            seen.spans += load.spans as u64;
        } else {
            seen.refused += 1;
        }
        seen.latencies.push(sent.elapsed());
    }
    seen
}

fn post(address: SocketAddr, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads one answer, and whether it was 200.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.expect("the receiver answers");
        assert!(read > 0, "the receiver hung up");
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = answer.parse(buffer) {
            let length = answer
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
            if buffer.len() >= head + length.unwrap_or(0) {
                return answer.code == Some(200);
            }
        }
    }
}
