//! Senders that go on whatever happens, and know afterwards which of their spans were accepted.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use opentelemetry_proto::tonic::trace::v1::Span;
use tagalong::demo::upstream::{Record, Upstream};
use tokio::{sync::watch, task::JoinSet, time};

use super::{
    agent::{answer, client},
    telemetry,
};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many send at the same time.
    pub senders: usize,
    /// Spans in a request.
    pub spans: u64,
    /// Bytes of a span's name.
    pub bytes: usize,
    /// Between two requests of one sender; none: as fast as answers come.
    pub every: Option<Duration>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            senders: 1,
            spans: 20,
            bytes: 16,
            every: None,
        }
    }
}

/// The next span's id: no two loads share one, so that what came can be told apart.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Senders under way.
pub struct Load {
    stop: watch::Sender<bool>,
    senders: JoinSet<Sent>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Sent {
    /// The ids of the spans of each accepted request.
    pub accepted: Vec<Range<u64>>,
    /// Requests that were told to come again.
    pub refused: u64,
    /// Requests without an answer, or with one that is neither.
    pub failed: u64,
}

impl Load {
    /// Begins to post traces to `url`.
    pub fn start(url: &str, config: Config) -> Load {
        let (stop, stopped) = watch::channel(false);
        let mut senders = JoinSet::new();
        for _ in 0..config.senders {
            senders.spawn(send(url.to_owned(), config, stopped.clone()));
        }
        Load { stop, senders }
    }

    /// Ends it.
    pub async fn stop(self) -> Sent {
        self.stop.send_replace(true);
        let mut all = Sent::default();
        for sent in self.senders.join_all().await {
            all.accepted.extend(sent.accepted);
            all.refused += sent.refused;
            all.failed += sent.failed;
        }
        all
    }
}

impl Sent {
    /// Accepted spans.
    pub fn spans(&self) -> u64 {
        self.accepted.iter().map(|ids| ids.end - ids.start).sum()
    }

    /// Returns when every accepted span came. What was found is not looked for again, and nothing before enough came:
    /// upstream takes nothing while it is looked at, and there may be millions.
    pub async fn arrive(&self, upstream: &Upstream) {
        let enough = self.spans();
        let mut rest = self.accepted.iter().cloned().flatten().peekable();
        let arrived = upstream.wait(|record| {
            if record.delivered() < enough {
                return false;
            }
            while rest.next_if(|id| has_span(record, *id)).is_some() {}
            rest.peek().is_none()
        });
        arrived.await;
    }

    /// Accepted spans that did not come to upstream.
    pub fn missing(&self, record: &Record) -> usize {
        let ids = self.accepted.iter().cloned().flatten();
        ids.filter(|id| !has_span(record, *id)).count()
    }
}

/// Whether the span of this number came.
pub fn has_span(record: &Record, id: u64) -> bool {
    record.spans.contains_key(&(vec![0x11; 16], id.to_be_bytes().to_vec()))
}

/// A request of spans with these numbers as their ids, each with a name of `bytes`.
pub fn traces(ids: Range<u64>, bytes: usize) -> Vec<u8> {
    let name = "a name that says a lot ".repeat(bytes / 23 + 1);
    let span = |id: u64| Span {
        span_id: id.to_be_bytes().to_vec(),
        ..telemetry::span(&name[..bytes], 8)
    };
    telemetry::traces(&[], ids.map(span).collect())
}

async fn send(url: String, config: Config, mut stopped: watch::Receiver<bool>) -> Sent {
    let (client, mut sent) = (client(), Sent::default());
    let mut turn = time::interval(config.every.unwrap_or(Duration::from_millis(1)));
    turn.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    while !*stopped.borrow_and_update() {
        if config.every.is_some() {
            turn.tick().await;
        }
        let first = NEXT.fetch_add(config.spans, Ordering::Relaxed);
        let ids = first..first + config.spans;
        match answer(&client, &url, traces(ids.clone(), config.bytes)).await {
            Some(answer) if answer.status().is_success() => sent.accepted.push(ids),
            Some(answer) if answer.status() == 503 => sent.refused += 1,
            _ => sent.failed += 1,
        }
    }
    sent
}
