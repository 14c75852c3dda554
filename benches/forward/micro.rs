//! The single steps, in nanoseconds of CPU time per span.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use rustix::time::{ClockId, clock_gettime};
use tagalong::otlp::{Batch, Signal, check};
use tagalong::pieces::PiecesMut;
use tagalong::spool::{self, Owner, Spool};
use tagalong::stamp::Stamp;
use tagalong::stamp::redact::{self, Redactor};
use tokio::task::JoinSet;

use crate::load::CONNECTIONS;
use crate::sample::{self, SPANS, STAMPED};

/// Requests that are gone through, more than a processor's nearer caches hold.
const REQUESTS: u64 = 64;
/// Each row is measured this often; the fastest counts, because whatever disturbs a run only makes it slower.
const ROUNDS: usize = 15;
/// Passes over all requests in one round.
const PASSES: usize = 4;

/// What the steps of the intake cost, in nanoseconds a span.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    pub check: f64,
    pub redact: f64,
    pub stamp: f64,
    /// Checksum, write and sync.
    pub spool: f64,
}

/// Prints one row for each step.
pub fn run() -> Steps {
    let requests: Vec<Bytes> = (0..REQUESTS).map(|seed| Bytes::from(sample::request(seed))).collect();
    let redactor = |patterns: &[&str]| {
        Redactor::build(&redact::Config {
            enabled: true,
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            keys: Vec::new(),
        })
        .expect("the pattern is a regular expression")
    };
    let (built_in, with_pattern) = (redactor(&[]), redactor(&[r"\bticket-\d+"]));
    let searching = redactor(&[r"\b\d{16}\b"]);
    let (intake, export) = stamps();
    let stamp = |stamp: &Stamp, bytes: &Bytes| {
        let (mut out, request) = (PiecesMut::default(), bytes.clone().into());
        out.reserve(stamp.room(&request));
        stamp.write(&request, &mut out).expect("the sample is well-formed");
        black_box(out.freeze());
    };

    println!("ns of CPU time per span");
    let checked = row("check", &requests, |bytes| {
        black_box(check::check(batch(bytes)).expect("the sample is well-formed"));
    });
    let redacted = row("redact, nothing to redact", &requests, |bytes| {
        let (_, count) = black_box(built_in.redact(batch(bytes)));
        assert_eq!(count, 0, "the sample holds no secret");
    });
    let stamped = row("stamp at the intake", &requests, |bytes| stamp(&intake, bytes));
    let exported = row("stamp at the export", &requests, |bytes| stamp(&export, bytes));
    let sum = checked + redacted + stamped + exported;
    print(sum, "all four");
    let yardstick = row("yardstick: decode, add attributes, encode", &requests, |bytes| {
        black_box(decode_and_encode(bytes));
    });
    println!("{:>10.1}x  yardstick to all four", yardstick / sum);
    row(
        "redact, with a pattern of the user's that starts with a literal",
        &requests,
        |bytes| {
            black_box(with_pattern.redact(batch(bytes)));
        },
    );
    row(
        "redact, with one that does not, so that every string is searched",
        &requests,
        |bytes| {
            black_box(searching.redact(batch(bytes)));
        },
    );
    let secret: Vec<Bytes> = requests.iter().map(with_a_secret).collect();
    row("redact, one secret a request", &secret, |bytes| {
        let (_, count) = black_box(built_in.redact(batch(bytes)));
        assert_eq!(count, 1, "one secret was put in");
    });
    let spooled = spool(&requests);
    print(
        spooled,
        "spool, written and synced for as many senders as there are connections",
    );
    println!();
    Steps {
        check: checked,
        redact: redacted,
        stamp: stamped,
        spool: spooled,
    }
}

/// Each sender appends all requests, the next when the last is synced.
fn spool(requests: &[Bytes]) -> f64 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let spool = Spool::open(spool::Config {
        dir: dir.path().join("spool"),
        max_bytes: 1 << 30,
        keep_bytes: 64 << 20,
        max_age: Duration::from_secs(3600),
        session: "bench".to_owned(),
        place: "here".to_owned(),
    })
    .expect("the temporary directory is writable");
    // Nobody reads it, so its oldest make room.
    spool.set_ring(Signal::Traces.as_str(), Some(&owner()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let before = nanos(ClockId::ProcessCPUTime);
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            senders.spawn_on(append_all(spool.clone(), requests.to_vec()), spool.runtime());
        }
        runtime.block_on(senders.join_all());
        let spans = CONNECTIONS as usize * requests.len() * SPANS;
        fastest = fastest.min((nanos(ClockId::ProcessCPUTime) - before) / spans as f64);
    }
    fastest
}

fn owner() -> Owner {
    Owner("bench".to_owned())
}

async fn append_all(spool: Spool, requests: Vec<Bytes>) {
    for bytes in requests {
        let appended = spool
            .append(&owner(), Signal::Traces.as_str(), SPANS as u64, bytes)
            .await;
        appended.expect("the disk takes the bytes");
    }
}

/// A relay's step as libraries offer it: the request becomes objects and those become bytes.
pub fn decode_and_encode(bytes: &[u8]) -> Vec<u8> {
    let mut request = ExportTraceServiceRequest::decode(bytes).expect("the sample is well-formed");
    for group in &mut request.resource_spans {
        let resource = group.resource.get_or_insert_default();
        resource
            .attributes
            .retain(|attribute| STAMPED.iter().all(|(key, _)| *key != attribute.key));
        resource
            .attributes
            .extend(STAMPED.map(|(key, value)| sample::text(key, value)));
    }
    request.encode_to_vec()
}

/// Workspace and repository at the intake, the person at the export, as the agent does it.
fn stamps() -> (Stamp, Stamp) {
    let of = |wanted: fn(&str) -> bool| {
        let pairs = STAMPED.iter().filter(|(key, _)| wanted(key));
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let workspace = of(|key| key.starts_with("workspace."));
    let vcs = of(|key| key.starts_with("vcs."));
    let user = of(|key| key.starts_with("user."));
    (
        Stamp::new(vec!["user.", "workspace."], workspace, vcs),
        Stamp::new(vec!["user."], user, Vec::new()),
    )
}

fn batch(bytes: &Bytes) -> Batch {
    Batch {
        signal: Signal::Traces,
        bytes: bytes.clone(),
    }
}

/// The same request with one span's status telling a password.
fn with_a_secret(bytes: &Bytes) -> Bytes {
    let mut request = ExportTraceServiceRequest::decode(&bytes[..]).expect("the sample is well-formed");
    let span = &mut request.resource_spans[0].scope_spans[0].spans[SPANS / 2];
    span.status.get_or_insert_default().message = "cannot reach postgres://ada:hunter2@db/shop".to_owned();
    Bytes::from(request.encode_to_vec())
}

fn row(name: &str, requests: &[Bytes], mut step: impl FnMut(&Bytes)) -> f64 {
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let before = nanos(ClockId::ThreadCPUTime);
        for _ in 0..PASSES {
            requests.iter().for_each(&mut step);
        }
        let spans = requests.len() * SPANS * PASSES;
        fastest = fastest.min((nanos(ClockId::ThreadCPUTime) - before) / spans as f64);
    }
    print(fastest, name);
    fastest
}

fn print(nanos: f64, name: &str) {
    println!("{nanos:>10.2}   {name}");
}

fn nanos(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
