//! Spool to upstream: read in order, stamp the principal, join, send with the credential of the moment, book the answer.
//!
//! ```text
//!  spool ─▶ lane (one a signal) ─▶ delivery (one a joined request) ─▶ gate ─▶ lease ─▶ http | grpc ─▶ retry::classify
//!             ▲                        │ bisects, sets aside                                              │
//!             └──────── resolve ◀──────┴───────────────────────── verdict ◀───────────────────────────────┘
//! ```
//!
//! - A record is resolved only by an answer of upstream's. Whatever ends before that leaves it in the spool.
//! - Nothing leaves without a lease, or under another principal than the one whose log it was read from (promise 5).
//! - A trouble with the path or with the credential is never a trouble with the data (promise 4).
//! - A bearer goes over TLS or stays on this machine, and never across a redirect (promise 7).
//! - It keeps no queue: what is in memory is a window of requests, whatever the backlog (promise 2).

mod deliver;
mod echo;
mod gate;
mod grpc;
mod http;
mod join;
mod lane;
pub mod retry;
mod send;
pub mod status;
mod target;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::{
    lane::{Lane, Place},
    send::Sender,
    target::Target,
};
pub use self::{status::Status, target::BadEndpoint};
use crate::{
    identity::{self, Principal, client},
    otlp::Signal,
    seldom::Seldom,
    spool::Spool,
};

/// An attempt to connect takes no longer: upstream that is out of reach is tried every four seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The protocol that upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    /// OTLP/HTTP with binary protobuf, over HTTP/1.1 or HTTP/2.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// OTLP/gRPC; HTTP/2 without negotiation where the endpoint is plain HTTP.
    #[serde(rename = "grpc")]
    Grpc,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// What every OTLP server takes.
    #[default]
    Gzip,
    /// As they are.
    None,
}

/// Where to send, and how. [`Config::new`] has the defaults.
#[derive(Clone)]
pub struct Config {
    /// The base endpoint.
    pub endpoint: Url,
    /// Endpoints of single signals; used as they are.
    pub endpoints: BTreeMap<Signal, Url>,
    /// For all signals.
    pub protocol: Protocol,
    /// Of requests.
    pub compression: Compression,
    /// Sent with each request. Values may be secret.
    pub headers: Vec<(String, String)>,
    /// PEM certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// For one whole exchange.
    pub timeout: Duration,
    /// Requests in flight, over all signals; at least 1.
    pub concurrency: usize,
    /// Records are joined up to so many bytes; one larger record goes alone.
    pub batch_bytes: usize,
    /// The longest that a record waits for others to join.
    pub batch_delay: Duration,
    /// A signal that upstream does not take is tried again this often.
    pub not_taken_for: Duration,
    /// What cannot be read of the spool is tried again this often.
    pub unreadable_for: Duration,
    /// The largest request that is sent, before compression.
    pub max_request_bytes: usize,
    /// The most that is read of an answer, decompressed.
    pub max_response_bytes: usize,
}

impl Config {
    /// With the defaults of `default.toml`, no headers and the system's certificates alone.
    pub fn new(endpoint: Url) -> Config {
        Config {
            endpoint,
            endpoints: BTreeMap::new(),
            protocol: Protocol::default(),
            compression: Compression::default(),
            headers: Vec::new(),
            ca_file: None,
            timeout: Duration::from_secs(10),
            concurrency: 4,
            batch_bytes: 512 * 1024,
            batch_delay: Duration::from_millis(200),
            not_taken_for: Duration::from_secs(3600),
            unreadable_for: Duration::from_secs(1),
            max_request_bytes: 64 * 1024 * 1024,
            max_response_bytes: 4 * 1024 * 1024,
        }
    }
}

/// Header values and the endpoint's query stay out: they may be secret.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Config")
            .field("endpoint", &target::shown(&self.endpoint))
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("headers", &names)
            .field("ca_file", &self.ca_file)
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// Why there is no exporter. Header values are never said.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An endpoint that cannot be sent to.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// By the header's name.
    #[error("the header {0:?} has a name or a value that HTTP does not allow")]
    Header(String),
    /// By the header's name.
    #[error("the header {0:?} is set by the agent itself and cannot be configured")]
    ReservedHeader(String),
    /// `ca_file` or a proxy of the environment is not what it should be.
    #[error(transparent)]
    Client(#[from] client::ClientError),
}

/// An exporter that is ready to run.
#[derive(Debug)]
pub struct Export {
    config: Arc<Config>,
    target: Target,
    transport: send::Transport,
    status: Arc<watch::Sender<Status>>,
}

impl Export {
    /// Builds the clients; connects to nothing.
    ///
    /// # Errors
    /// [`BuildError`], in words for the user.
    pub fn build(config: Config) -> Result<Export, BuildError> {
        let target = Target::build(&config.endpoint, &config.endpoints, config.protocol)?;
        let transport = transport(&config, &target)?;
        let status = Status {
            endpoint: target::shown(&config.endpoint),
            lanes: Signal::ALL
                .iter()
                .map(|signal| (*signal, status::Lane::default()))
                .collect(),
            ..Status::default()
        };
        Ok(Export {
            config: Arc::new(config),
            target,
            transport,
            status: Arc::new(watch::Sender::new(status)),
        })
    }

    /// Whether a bearer may go to every endpoint: TLS, or a loopback host. Where it may not, nothing is sent with one.
    pub fn may_carry_credential(&self) -> bool {
        Signal::ALL
            .iter()
            .all(|signal| self.target.may_carry_credential(*signal))
    }

    /// Follows what it does; stays readable after the end.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Sends what the spool holds of the current principal, until `shutdown`.
    ///
    /// After that it goes on with what is there, and returns when nothing is left, when the path is in trouble, or when
    /// no credential is to be had soon. Dropping the future stops at once. Neither loses anything: what has no answer
    /// stays in the spool.
    pub async fn run(self, spool: Spool, mut identity: identity::Receiver, shutdown: CancellationToken) {
        let sender = Arc::new(Sender::new(
            self.config,
            self.target,
            self.transport,
            identity.clone(),
            self.status,
            shutdown.clone(),
        ));
        loop {
            let Some(principal) = principal(&mut identity, &shutdown).await else {
                return;
            };
            tracing::debug!(owner = %principal.fingerprint(), "sending for a principal");
            let stop = CancellationToken::new();
            let mut lanes = JoinSet::new();
            for signal in Signal::ALL {
                let place = Place {
                    signal,
                    principal: principal.clone(),
                    stop: stop.clone(),
                };
                lanes.spawn(Lane::new(sender.clone(), spool.clone(), place).run());
            }
            tokio::select! {
                () = joined(&mut lanes) => {
                    // On the drain, when all is sent; else because the lanes noticed another principal first.
                    if shutdown.is_cancelled() {
                        return;
                    }
                }
                () = another(&mut identity, &principal) => {}
            }
            stop.cancel();
            joined(&mut lanes).await;
        }
    }
}

/// The current principal, or `None` at the shutdown.
async fn principal(identity: &mut identity::Receiver, shutdown: &CancellationToken) -> Option<Arc<Principal>> {
    loop {
        if let Some(principal) = identity.current().principal {
            return Some(principal);
        }
        tokio::select! {
            () = identity.changed() => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

/// Waits until another principal is published.
async fn another(identity: &mut identity::Receiver, than: &Principal) {
    while identity
        .current()
        .principal
        .is_none_or(|principal| principal.is_same_person(than))
    {
        identity.changed().await;
    }
}

/// A lane that panics takes the exporter with it: who waits for that one is told.
async fn joined(lanes: &mut JoinSet<()>) {
    while let Some(ended) = lanes.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

fn transport(config: &Config, target: &Target) -> Result<send::Transport, BuildError> {
    let headers = headers(&config.headers)?;
    let connect_timeout = config.timeout.min(CONNECT_TIMEOUT);
    let client = |prior_knowledge| client::build(config.ca_file.as_deref(), connect_timeout, prior_knowledge);
    Ok(match config.protocol {
        Protocol::HttpProtobuf => send::Transport::Http(http::Http {
            client: client(false)?,
            compression: config.compression,
            headers,
            timeout: config.timeout,
            max_response_bytes: config.max_response_bytes,
            seldom: Seldom::default(),
        }),
        Protocol::Grpc => {
            // Two clients only where the signals' endpoints differ in kind.
            let negotiated = client(false)?;
            let plain = Signal::ALL.iter().any(|signal| target.plain(*signal));
            send::Transport::Grpc(grpc::Grpc {
                plain: if plain { client(true)? } else { negotiated.clone() },
                negotiated,
                compression: config.compression,
                headers,
                timeout: config.timeout,
                max_response_bytes: config.max_response_bytes,
                seldom: Seldom::default(),
            })
        }
    })
}

/// The user's headers, all treated as secret: that is what they are for, mostly.
fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let bad = || BuildError::Header(name.clone());
        let parsed = HeaderName::try_from(name).map_err(|_| bad())?;
        if matches!(
            parsed.as_str(),
            "content-type" | "content-encoding" | "content-length" | "host" | "te" | "user-agent" | "transfer-encoding"
        ) {
            return Err(BuildError::ReservedHeader(name.clone()));
        }
        let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}
