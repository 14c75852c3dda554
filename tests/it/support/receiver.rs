//! A running receiver over a real intake and a real spool, and clients that say exactly what they are told to say.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tagalong::{
    intake::Intake,
    otlp::{Signal, budget::Budget, status::Status},
    source::otlp::{Config, Receiver},
    spool::{self, Owner, Record, Spool},
    stamp::{Stamp, redact},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Everything that a test may want otherwise.
pub struct Builder {
    pub config: Config,
    pub spool_bytes: u64,
    pub spool_is_full: bool,
    pub stamp: Stamp,
    pub budget: u32,
}

/// A receiver that serves until it is dropped.
pub struct Running {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub siblings: Option<SocketAddr>,
    pub intake: Intake,
    pub spool: Spool,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<()>,
    pub moved: Vec<tagalong::source::otlp::Moved>,
    _owner: watch::Sender<Owner>,
    _dir: TempDir,
}

impl Default for Builder {
    fn default() -> Builder {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Builder {
            config: Config {
                grpc: loopback,
                http: loopback,
                allowed_origins: Vec::new(),
                max_request_bytes: 1024 * 1024,
                other_users: false,
                siblings: None,
                retry_after: Duration::from_secs(7),
                connections: 1024,
            },
            spool_bytes: 256 * 1024 * 1024,
            spool_is_full: false,
            stamp: Stamp::new(
                vec!["user.", "workspace."],
                vec![("workspace.id".to_owned(), "ws-1".to_owned())],
                vec![("deployment.environment.name".to_owned(), "development".to_owned())],
            ),
            budget: Budget::DEFAULT_BYTES,
        }
    }
}

impl Builder {
    pub fn max_request_bytes(mut self, bytes: usize) -> Builder {
        self.config.max_request_bytes = bytes;
        self
    }

    pub fn allowed_origin(mut self, origin: &str) -> Builder {
        self.config.allowed_origins.push(origin.to_owned());
        self
    }

    /// A spool with no room for anything.
    pub fn full_spool(mut self) -> Builder {
        (self.spool_bytes, self.spool_is_full) = (1 << 20, true);
        self
    }

    pub fn start(self) -> Running {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(spool::Config {
            dir: dir.path().join("spool"),
            max_bytes: self.spool_bytes,
            keep_bytes: 0,
            max_age: Duration::from_secs(3600),
            session: "session".to_owned(),
            place: "place".to_owned(),
        })
        .expect("a spool");
        if self.spool_is_full {
            fill(&spool, self.spool_bytes);
        }
        let rules = redact::Config {
            enabled: true,
            ..redact::Config::default()
        };
        let redactor = redact::Redactor::build(&rules).expect("the built-in rules");
        let stamp = Arc::new(self.stamp);
        let (owner, owners) = watch::channel(spool.pending());
        let intake = Intake::new(redactor, Box::new(move || stamp.clone()), spool.clone(), owners);
        let budget = Budget::new(self.budget);
        let receiver = Receiver::bind(self.config, intake.clone(), budget, Vec::new()).expect("ports");
        let shutdown = CancellationToken::new();
        Running {
            grpc: receiver.grpc_addr(),
            http: receiver.http_addr(),
            siblings: receiver.siblings_addr(),
            moved: receiver.moved(),
            served: tokio::spawn(receiver.run(shutdown.clone())),
            intake,
            spool,
            shutdown,
            _owner: owner,
            _dir: dir,
        }
    }
}

/// Takes all room, as two lanes of which each may take half, and counts no items.
fn fill(spool: &Spool, bytes: u64) {
    for lane in ["one", "another"] {
        let record = vec![0; bytes as usize / 2 - 64];
        let pending = spool.pending();
        // The room is taken at once, and the record is written although nobody waits for it.
        let append = pin!(spool.append(&pending, lane, 0, Bytes::from(record)));
        let begun = append.poll(&mut Context::from_waker(Waker::noop()));
        assert!(!matches!(begun, Poll::Ready(Err(_))), "there is room");
    }
}

impl Running {
    pub fn start() -> Running {
        Builder::default().start()
    }

    /// The oldest record of a signal that nobody has read yet; there must be one.
    pub fn record(&self, signal: Signal) -> Record {
        let reader = self.spool.reader(&self.spool.pending(), signal.as_str());
        let next = reader.expect("a log").try_next();
        next.expect("a readable record").expect("it is there")
    }

    pub fn accepted(&self) -> u64 {
        self.spool.stats().books.values().map(|books| books.accepted).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.served.abort();
    }
}

/// The two versions of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

/// An answer that arrived completely.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Answered {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The body as a `google.rpc.Status` in protobuf.
    pub fn rpc_status(&self) -> Status {
        assert_eq!(self.header("content-type"), Some("application/x-protobuf"));
        Status::from_protobuf(&self.body).expect("a status")
    }

    pub fn grpc_code(&self) -> i32 {
        let value = self
            .headers
            .get("grpc-status")
            .or_else(|| self.trailers.get("grpc-status"));
        value
            .expect("grpc-status")
            .to_str()
            .expect("text")
            .parse()
            .expect("a number")
    }

    /// What stands in `grpc-status-details-bin`.
    pub fn grpc_details(&self) -> Status {
        let details = STANDARD_NO_PAD
            .decode(&self.headers["grpc-status-details-bin"])
            .expect("base64");
        Status::from_protobuf(&details).expect("a status")
    }
}

/// Sends one request over a connection of its own.
pub async fn send<B>(to: SocketAddr, version: Version, request: Request<B>) -> Answered
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let stream = TokioIo::new(TcpStream::connect(to).await.expect("a connection"));
    let response = match version {
        Version::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.expect("HTTP/1");
            tokio::spawn(connection);
            sender.send_request(request).await
        }
        Version::Http2 => {
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
            let (mut sender, connection) = handshake.await.expect("HTTP/2");
            tokio::spawn(connection);
            sender.send_request(request).await
        }
    };
    collect(response.expect("an answer")).await
}

async fn collect(response: Response<Incoming>) -> Answered {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer");
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answered {
        status: parts.status,
        headers: parts.headers,
        body: body.to_bytes(),
        trailers,
    }
}

/// A POST of OTLP/HTTP, with headers as `("name", "value")`.
pub fn post(
    to: SocketAddr,
    version: Version,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Request<Full<Bytes>> {
    let mut request = Request::post(match version {
        Version::Http1 => path.to_owned(),
        Version::Http2 => format!("http://{to}{path}"),
    });
    if version == Version::Http1 && !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header(header::HOST, to.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body)).expect("a request")
}

pub const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// Sends a request of OTLP/HTTP over HTTP/1.1.
pub async fn export(to: SocketAddr, signal: Signal, headers: &[(&str, &str)], body: Vec<u8>) -> Answered {
    let path = format!("/{}", signal.http_path());
    send(to, Version::Http1, post(to, Version::Http1, &path, headers, body)).await
}

/// Makes a unary call with one uncompressed message.
pub async fn call(to: SocketAddr, signal: Signal, message: &[u8]) -> Answered {
    call_framed(to, signal.grpc_path(), &[GRPC], frame(0, message)).await
}

/// Makes a call whose body is framed already.
pub async fn call_framed(to: SocketAddr, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answered {
    let mut all = vec![("te", "trailers")];
    all.extend_from_slice(headers);
    send(to, Version::Http2, post(to, Version::Http2, path, &all, body)).await
}

/// A message with its five-byte prefix.
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message").to_be_bytes();
    [&[flag], &length[..], message].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).expect("memory")
}
