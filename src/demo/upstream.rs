//! An OTLP upstream on loopback that checks every bearer and counts what it got.
//!
//! It stands in for a gateway in the demonstration and in tests. It decodes with the generated OTLP types rather than
//! with our own reader, so that a mistake of that reader cannot hide itself here. It takes OTLP/HTTP with protobuf and
//! unary OTLP/gRPC, compressed with gzip, zstd or not at all. It keeps counts and identifiers, never payloads or tokens.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::{
    bearer::Verifier,
    reply::{self, Protocol},
    serve::{Body, Server, lock},
};
use crate::otlp::Signal;

/// What the upstream insists on.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The issuer whose tokens are taken. None: no credential is needed.
    pub issuer: Option<String>,
    /// The audience that tokens must have. None: the upstream's own origin.
    pub audience: Option<String>,
}

/// A running upstream. Dropping it stops it.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    shared: Arc<Shared>,
}

/// How requests are answered instead of being taken.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// No fault: requests are checked and taken.
    #[default]
    None,
    /// This HTTP answer, whatever the protocol, before anything is looked at.
    Http {
        /// Any HTTP status.
        status: u16,
        /// As it stands in the header.
        content_type: &'static str,
        /// Further headers; a `date` here replaces the true one.
        headers: Vec<(&'static str, String)>,
        /// As it is sent.
        body: Bytes,
    },
    /// This gRPC status; over OTLP/HTTP, the same as `google.rpc.Status` under the HTTP status that OTLP maps it to.
    Rpc {
        /// google.rpc.Code.
        code: i32,
        /// What people read.
        message: &'static str,
        /// `RetryInfo`, where upstream asks for a pause.
        retry_delay: Option<Duration>,
    },
    /// The connection is cut without an answer, and nothing is taken.
    Reset,
    /// The request is taken and recorded, and then the connection is cut without an answer.
    TakeThenReset,
    /// Checked and taken, after this delay.
    Delay(Duration),
    /// Taken, but as a partial success that says so many items were rejected. Nothing is recorded.
    Partial {
        /// Any number: what is wrong with it is for the agent to find out.
        rejected: i64,
        /// What people read; alone, it is a warning.
        message: &'static str,
    },
    /// Whatever holds a span of this id is refused as invalid; everything else is taken.
    Poison {
        /// As OTLP has it: eight bytes, or it is no span's.
        span_id: Vec<u8>,
    },
}

/// How much came of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// Deliveries, so a span that came twice counts twice.
    pub spans: u64,
    /// Data points, not metrics.
    pub points: u64,
    /// Log records.
    pub logs: u64,
}

/// What came in, as counts and identifiers.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Requests that reached the upstream, whatever became of them.
    pub requests: u64,
    /// Requests refused for their bearer.
    pub refused: u64,
    /// Requests answered by a [`Fault`].
    pub faulted: u64,
    /// How often each span came, by trace id and span id.
    pub spans: HashMap<(Vec<u8>, Vec<u8>), u64>,
    /// How much came of each `service.name`; the agent's own is among them.
    pub services: BTreeMap<String, Items>,
    /// Data points that came.
    pub points: u64,
    /// Log records that came.
    pub logs: u64,
    /// Hashes of the distinct bearers that were taken.
    pub tokens: BTreeSet<[u8; 32]>,
    /// The persons (`user_id`, else `sub`) whose bearers were taken.
    pub people: BTreeSet<String>,
    /// The distinct resources, each as its string attributes.
    pub resources: BTreeSet<BTreeMap<String, String>>,
    /// The path and headers of the newest request, without `Authorization`.
    pub last: Option<(String, HeaderMap)>,
}

#[derive(Debug)]
struct Shared {
    // None: no credential is needed.
    verifier: Mutex<Option<Arc<Verifier>>>,
    record: Mutex<Record>,
    faults: Mutex<Faults>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Faults {
    // Each answers one request, before `standing` is looked at.
    once: VecDeque<Fault>,
    standing: Fault,
}

impl Items {
    pub(super) fn add(&mut self, more: Items) {
        self.spans += more.spans;
        self.points += more.points;
        self.logs += more.logs;
    }
}

impl Record {
    /// Distinct spans.
    pub fn delivered(&self) -> u64 {
        self.spans.len() as u64
    }

    /// Spans that came once more than they had to.
    pub fn duplicates(&self) -> u64 {
        self.spans.values().map(|count| count - 1).sum()
    }
}

impl Upstream {
    /// Starts an upstream on a free loopback port.
    pub async fn start(config: Config) -> io::Result<Upstream> {
        let shared = Arc::new(Shared {
            verifier: Mutex::new(None),
            record: Mutex::default(),
            faults: Mutex::default(),
            changed: watch::channel(0).0,
        });
        let handler = shared.clone();
        let server = Server::start(move |request| {
            let shared = handler.clone();
            Box::pin(async move { shared.handle(request).await })
        })
        .await?;
        if let Some(issuer) = config.issuer {
            let audience = config
                .audience
                .unwrap_or_else(|| format!("http://{}", server.address()));
            *lock(&shared.verifier) = Some(Arc::new(Verifier::new(issuer, audience)?));
        }
        Ok(Upstream { server, shared })
    }

    /// The OTLP endpoint, without a path; also the origin, and so the default audience.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What came in so far.
    pub fn record(&self) -> Record {
        lock(&self.shared.record).clone()
    }

    /// A look at what came in, without copying it.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&lock(&self.shared.record))
    }

    /// Returns as soon as what came in is as `enough` wants it. The caller sets the time limit.
    pub async fn wait(&self, mut enough: impl FnMut(&Record) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        while !self.look(&mut enough) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// How requests are answered from now on.
    pub fn set_fault(&self, fault: Fault) {
        lock(&self.shared.faults).standing = fault;
    }

    /// How the next requests are answered, one fault each; after them the standing one holds again.
    pub fn fault_once(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.shared.faults).once.extend(faults);
    }

    /// Fetches the issuer's keys again for the next bearer, so that a revoked key is refused at once.
    pub fn forget_keys(&self) {
        if let Some(verifier) = lock(&self.shared.verifier).as_ref() {
            verifier.forget_keys();
        }
    }

    /// Stops listening and cuts every connection.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Listens again, on the same port.
    pub async fn recover(&self) -> io::Result<()> {
        self.server.recover().await
    }
}

impl Shared {
    async fn handle(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        let answer = self.answer(request).await;
        self.changed.send_modify(|count| *count += 1);
        answer
    }

    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        let (head, body) = request.into_parts();
        let protocol = Protocol::of(&head.headers);
        self.note(&head);
        // The body is read before the answer, whatever that is, so that a fault looks like one and not like a reset.
        let body = body.collect().await.ok()?.to_bytes();
        let fault = self.next_fault();
        match &fault {
            Fault::None | Fault::TakeThenReset | Fault::Partial { .. } | Fault::Poison { .. } => {}
            Fault::Delay(delay) => tokio::time::sleep(*delay).await,
            Fault::Reset => {
                lock(&self.record).faulted += 1;
                return None;
            }
            Fault::Http {
                status,
                content_type,
                headers,
                body,
            } => {
                lock(&self.record).faulted += 1;
                return Some(reply::verbatim(*status, content_type, headers, body.clone()));
            }
            Fault::Rpc {
                code,
                message,
                retry_delay,
            } => {
                lock(&self.record).faulted += 1;
                return Some(reply::failure(protocol, *code, message, *retry_delay));
            }
        }
        let verifier = lock(&self.verifier).clone();
        let verified = match verifier {
            None => None,
            Some(verifier) => match verifier.verify(&head.headers).await {
                Ok(verified) => Some(verified),
                Err(reason) => {
                    lock(&self.record).refused += 1;
                    return Some(reply::failure(protocol, reply::UNAUTHENTICATED, &reason, None));
                }
            },
        };
        let Some(signal) = signal_of(head.uri.path(), protocol) else {
            return Some(reply::failure(
                protocol,
                reply::UNIMPLEMENTED,
                "there is no such signal",
                None,
            ));
        };
        let counted = reply::payload(protocol, &head.headers, &body).and_then(|payload| reply::count(signal, &payload));
        let counted = match counted {
            Ok(counted) => counted,
            Err(reason) => return Some(reply::failure(protocol, reply::INVALID_ARGUMENT, &reason, None)),
        };
        if let Fault::Partial { rejected, message } = fault {
            lock(&self.record).faulted += 1;
            return Some(reply::success(protocol, rejected, message));
        }
        if let Fault::Poison { span_id } = &fault
            && counted.spans.iter().any(|(_, span)| span == span_id)
        {
            lock(&self.record).faulted += 1;
            return Some(reply::failure(protocol, reply::INVALID_ARGUMENT, "poison", None));
        }
        let mut record = lock(&self.record);
        if let Some(verified) = verified {
            record.tokens.insert(verified.hash);
            record.people.insert(verified.person);
        }
        for span in counted.spans {
            *record.spans.entry(span).or_default() += 1;
        }
        for (service, items) in counted.services {
            record.points += items.points;
            record.logs += items.logs;
            record.services.entry(service).or_default().add(items);
        }
        record.resources.extend(counted.resources);
        if matches!(fault, Fault::TakeThenReset) {
            record.faulted += 1;
            return None;
        }
        Some(reply::success(protocol, 0, ""))
    }

    fn note(&self, head: &http::request::Parts) {
        let mut headers = head.headers.clone();
        headers.remove(header::AUTHORIZATION);
        let mut record = lock(&self.record);
        record.requests += 1;
        record.last = Some((head.uri.path().to_owned(), headers));
    }

    fn next_fault(&self) -> Fault {
        let mut faults = lock(&self.faults);
        faults.once.pop_front().unwrap_or_else(|| faults.standing.clone())
    }
}

fn signal_of(path: &str, protocol: Protocol) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| match protocol {
        Protocol::Http => path.trim_start_matches('/') == signal.http_path(),
        Protocol::Grpc => path == signal.grpc_path(),
    })
}

#[cfg(test)]
mod tests;
