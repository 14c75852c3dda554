//! The OTLP receiver: gRPC and HTTP, protobuf and JSON, on loopback.
//!
//! Both ports answer both protocols, since a sender with the wrong one of two well-known ports is a daily sight.
//! It decompresses and transcodes, hands every batch to the intake, and answers what the intake says.
//! It keeps no queue, decodes no span, authenticates nobody but the operating system's user (`peer`),
//! and takes neither profiles nor streams.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{self, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    intake::Intake,
    otlp::{Batch, budget::Budget, status},
    source::accept,
};

mod answer;
mod body;
mod decode;
mod gate;
mod grpc;
mod peer;
mod ports;
mod refusals;
pub mod siblings;
mod transcode;
mod web;

use answer::{Answer, Refusal};
use body::Limits;
use gate::Origins;
use peer::Peer;
pub use ports::{BindError, Moved};
use refusals::{Cause, Refusals};
use siblings::{Key, Siblings};

/// A new connection must bring a request within this time, or it is closed.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// What a connection is left for its answer, of those who may not send.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// How many of all connections may come in for siblings, as a divisor: whoever reaches their address is not known yet,
/// and is to keep nobody else out.
const SIBLINGS_SHARE: usize = 4;

/// How long a connection of HTTP/1 may idle, or take over the head of a request.
/// Metric readers export once a minute, and a connection that is closed the moment it is used costs its sender a retry.
const IDLE: Duration = Duration::from_secs(150);

/// HTTP/2 finds out about dead peers with pings.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What a sender may have on its way before we read it, in bytes, for each stream and connection of HTTP/2.
/// It is memory that the budget does not see, so it is kept small; loopback has no latency to hide.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Frames this large bring a usual batch in one piece, which need not be joined.
const MAX_FRAME: u32 = 128 * 1024;
/// The same for HTTP/1. What is long keeps the buffer that it came in, so that must not be much longer.
const MAX_READ: usize = 128 * 1024;
const MAX_STREAMS: u32 = 100;

/// What the receiver is built from.
#[derive(Clone, Debug)]
pub struct Config {
    /// `listen.grpc`. An address that is not loopback is only to be found here if the user asked for it.
    pub grpc: SocketAddr,
    /// `listen.http`.
    pub http: SocketAddr,
    /// `listen.allowed_origins`: web origins that may send, `*` for any. None by default.
    pub allowed_origins: Vec<String>,
    /// `listen.max_request_bytes`, for a request as it was sent and for what comes out of it (R2, R3).
    pub max_request_bytes: usize,
    /// `listen.other_users`: whether connections of other users of this machine, and of other machines, are taken.
    pub other_users: bool,
    /// `listen.siblings`: one more address, for those who have the key. None by default.
    pub siblings: Option<Siblings>,
    /// What a sender that is told to come again should wait.
    pub retry_after: Duration,
    /// How many connections are taken at a time; further ones wait in the kernel's queue.
    pub connections: usize,
}

/// A receiver that listens already; connections wait until it runs.
#[derive(Debug)]
pub struct Receiver {
    listeners: Vec<(TcpListener, Entrance)>,
    siblings: Option<Result<SocketAddr, BindError>>,
    grpc: SocketAddr,
    http: SocketAddr,
    moved: Vec<Moved>,
    connections: usize,
    door: Arc<Door>,
}

/// Whom an address is for.
#[derive(Clone, Debug)]
enum Entrance {
    /// The agent's own user.
    Own,
    /// Whoever has the key.
    Siblings(Arc<Key>),
}

/// What every request needs.
#[derive(Debug)]
struct Door {
    intake: Intake,
    limits: Limits,
    origins: Origins,
    other_users: bool,
    retry_after: Duration,
    refusals: Refusals,
}

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
struct Caller {
    /// Whose it is, if they may not send.
    stranger: Option<Peer>,
    entrance: Entrance,
    /// Whether the connection came in on a loopback address.
    loopback: bool,
    /// Once it was told that it may not send.
    refused: CancellationToken,
}

// === impl Receiver ===

impl Receiver {
    /// Listens, and takes other ports where the wanted ones are held. Must be called within the runtime that it will run in.
    ///
    /// Of `handed`, sockets that listen already, those at the wanted addresses are taken and the others closed.
    pub fn bind(
        config: Config,
        intake: Intake,
        budget: Budget,
        mut handed: Vec<std::net::TcpListener>,
    ) -> Result<Receiver, BindError> {
        let (first, grpc, moved) = ports::listen(config.grpc, &mut handed)?;
        let mut listeners = vec![(first, Entrance::Own)];
        let mut all_moved = Vec::from_iter(moved);
        let mut http = grpc;
        // One address for both is fine: it answers both protocols.
        if config.http != config.grpc || config.http.port() == 0 {
            let (second, address, moved) = ports::listen(config.http, &mut handed)?;
            listeners.push((second, Entrance::Own));
            all_moved.extend(moved);
            http = address;
        }
        let siblings = config
            .siblings
            .map(|siblings| open_for(siblings, &mut handed, &mut listeners, &mut all_moved));
        let door = Arc::new(Door {
            intake,
            limits: Limits {
                budget,
                max_request_bytes: config.max_request_bytes,
            },
            origins: Origins::new(config.allowed_origins),
            other_users: config.other_users,
            retry_after: config.retry_after,
            refusals: Refusals::default(),
        });
        Ok(Receiver {
            listeners,
            siblings,
            grpc,
            http,
            moved: all_moved,
            connections: config.connections,
            door,
        })
    }

    /// Where OTLP/gRPC is really listened for.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// Where OTLP/HTTP is really listened for.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where containers next to the workspace can send to; none if they are not wanted, or if the address is not ours.
    pub fn siblings_addr(&self) -> Option<SocketAddr> {
        self.siblings.as_ref()?.as_ref().ok().copied()
    }

    /// Why they are wanted and have no address.
    pub fn siblings_error(&self) -> Option<&BindError> {
        self.siblings.as_ref()?.as_ref().err()
    }

    /// The listeners that could not have the port they were to have.
    pub fn moved(&self) -> Vec<Moved> {
        self.moved.clone()
    }

    /// A further handle of each listening socket, to be handed over: the port is taken as long as one of them lives.
    pub fn handles(&self) -> io::Result<Vec<OwnedFd>> {
        let listeners = self.listeners.iter();
        listeners
            .map(|(listener, _)| listener.as_fd().try_clone_to_owned())
            .collect()
    }

    /// Serves until `shutdown` is cancelled, then answers what is in flight and returns.
    /// How long that may take is the caller's business: dropping the future closes every connection.
    pub async fn run(self, shutdown: CancellationToken) {
        let of_siblings = self.siblings.map_or(0, |_| (self.connections / SIBLINGS_SHARE).max(1));
        let of_own = self.connections.saturating_sub(of_siblings).max(1);
        let [of_own, of_siblings] = [of_own, of_siblings].map(|slots| Arc::new(Semaphore::new(slots)));
        let mut listening = JoinSet::new();
        for (listener, entrance) in self.listeners {
            let slots = match entrance {
                Entrance::Own => of_own.clone(),
                Entrance::Siblings(_) => of_siblings.clone(),
            };
            let (door, shutdown) = (self.door.clone(), shutdown.clone());
            listening.spawn(accept_loop(listener, entrance, door, slots, shutdown));
        }
        until_all_end(listening).await;
    }
}

/// One that panics ends all: the agent ends with its receiver, but half of one would leave senders waiting at a port that
/// nobody accepts at any more.
async fn until_all_end(mut listening: JoinSet<()>) {
    while let Some(ended) = listening.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            panic::resume_unwind(error.into_panic());
        }
    }
}

/// An address that is not there costs its siblings, and nobody else.
fn open_for(
    siblings: Siblings,
    handed: &mut Vec<std::net::TcpListener>,
    listeners: &mut Vec<(TcpListener, Entrance)>,
    all_moved: &mut Vec<Moved>,
) -> Result<SocketAddr, BindError> {
    let (listener, address, moved) = ports::listen(siblings.address, handed)?;
    listeners.push((listener, Entrance::Siblings(Arc::new(siblings.key))));
    all_moved.extend(moved);
    Ok(address)
}

/// Accepts until `shutdown`, closes the listener, and returns when the last of its connections is done.
async fn accept_loop(
    listener: TcpListener,
    entrance: Entrance,
    door: Arc<Door>,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let server = server();
    let mut connections = JoinSet::new();
    let not_accepted = |error: &io::Error| {
        let message = format!("a connection could not be accepted: {error}");
        door.refusals.tell(Cause::Connection, &message);
    };
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await.expect("the slots are never closed");
            (accept::next(|| listener.accept(), not_accepted).await, slot)
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            ((stream, theirs), slot) = next => {
                let (server, door, entrance) = (server.clone(), door.clone(), entrance.clone());
                let watcher = graceful.watcher();
                connections.spawn(async move {
                    let _slot = slot;
                    // Whose connection it is, is asked before its first byte is read.
                    let Ok(caller) = Caller::identify(&door, entrance, &stream, theirs).await else {
                        return;
                    };
                    serve(server, door, watcher, stream, caller).await;
                });
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_READ);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS);
    server
}

/// One connection, to its last byte.
async fn serve(
    server: auto::Builder<TokioExecutor>,
    door: Arc<Door>,
    watcher: Watcher,
    stream: TcpStream,
    caller: Caller,
) {
    // Answers are small and each is waited for.
    let _ = stream.set_nodelay(true);
    converse(server, door, watcher, stream, caller).await;
}

/// Answers request after request of one caller.
async fn converse<S>(server: auto::Builder<TokioExecutor>, door: Arc<Door>, watcher: Watcher, stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let refused = caller.refused.clone();
    let service = service_fn({
        let (asked, door) = (asked.clone(), door.clone());
        move |request| {
            asked.store(true, Ordering::Relaxed);
            let (door, caller) = (door.clone(), caller.clone());
            async move { io::Result::Ok(door.answer(&caller, request).await) }
        }
    });
    let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
    let mut connection = std::pin::pin!(watcher.watch(connection));
    let asked_in_time = async {
        match timeout(FIRST_REQUEST, connection.as_mut()).await {
            Err(_) if asked.load(Ordering::Relaxed) => connection.await,
            Err(_) => Ok(()),
            Ok(outcome) => outcome,
        }
    };
    let given_up = async {
        refused.cancelled().await;
        sleep(AFTER_REFUSAL).await;
    };
    let outcome = tokio::select! {
        outcome = asked_in_time => outcome,
        () = given_up => return,
    };
    if let Err(error) = outcome {
        if !asked.load(Ordering::Relaxed) && is_other_speech(&*error) {
            door.refusals.tell(
                Cause::Speech,
                "a connection begins with something else than HTTP: if an endpoint says https://, write http://",
            );
        }
        tracing::debug!(error, "a connection ended badly");
    }
}

/// Whether the first bytes are no HTTP, as where TLS begins; a connection without any, or with half a request, is none such.
fn is_other_speech(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<hyper::Error>();
    error.is_some_and(|error| error.is_parse() && !error.is_parse_too_large())
}

// === impl Door ===

impl Door {
    async fn answer<B: Body<Data = Bytes>>(&self, caller: &Caller, request: Request<B>) -> Response<Answer> {
        if grpc::is_call(request.headers()) {
            grpc::answer(self, caller, request).await
        } else {
            web::answer(self, caller, request).await
        }
    }

    /// Logs what is refused, and counts it; what the intake refuses, it counts itself.
    fn note(&self, refusal: &Refusal) {
        let (cause, message) = refusal.why();
        self.refusals.tell(cause, message);
        if !refusal.by_intake() {
            self.intake.turned_away();
        }
    }

    /// Hands a batch to the intake; what it says becomes the answer's message (R6, R7).
    async fn take(&self, batch: Batch) -> Result<status::Response, Refusal> {
        let taken = self.intake.take(batch).await?;
        Ok(status::Response {
            rejected: taken.rejected,
            message: taken.reason.to_owned(),
        })
    }
}

// === impl Caller ===

impl Caller {
    async fn identify(door: &Door, entrance: Entrance, stream: &TcpStream, theirs: SocketAddr) -> io::Result<Caller> {
        let ours = stream.local_addr()?;
        let is_known_by_user = matches!(entrance, Entrance::Own) && !door.other_users;
        let peer = match is_known_by_user {
            true => Some(task::spawn_blocking(move || Peer::of(theirs, ours)).await?),
            false => None,
        };
        Ok(Caller {
            stranger: peer.filter(|peer| !peer.may_send_as(rustix::process::geteuid().as_raw())),
            entrance,
            loopback: ours.ip().to_canonical().is_loopback(),
            refused: CancellationToken::new(),
        })
    }

    /// Whether this caller may send this request. It is asked before anything else of the request is looked at.
    fn admitted<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if let Entrance::Siblings(key) = &self.entrance {
            // A page does not know the key, whatever name it was sent to.
            let admitted = key.admits(request.headers());
            return admitted.inspect_err(|_| self.refused.cancel());
        }
        if let Some(stranger) = self.stranger {
            self.refused.cancel();
            return Err(Refusal::forbidden(
                Cause::User,
                format!(
                    "telemetry is taken from the agent's own user only, and this is {stranger}: it would go out under the \
                     wrong name (listen.other_users)"
                ),
            ));
        }
        gate::check_host(request, self.loopback)
    }
}

#[cfg(test)]
mod tests;
