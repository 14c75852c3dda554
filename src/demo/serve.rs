//! A small HTTP server on loopback that can be killed and brought back on its own port.
//!
//! The embedded issuer and upstream are both made of it. It speaks HTTP/1.1 and HTTP/2 with prior knowledge,
//! and it refuses to listen anywhere but on 127.0.0.1: these servers hand out tokens to whoever asks.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// What a handler answers with: bytes, perhaps followed by trailers (gRPC).
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a handler decided. `None` cuts the connection without an answer.
pub type Answer = Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send>>;

type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// A running server. Dropping it closes the listener and every connection.
pub struct Server {
    address: SocketAddr,
    handler: Handler,
    // None while killed.
    running: Mutex<Option<CancellationToken>>,
    // Bound while killed: the system would else give the port to whoever asks for any.
    port: Arc<Mutex<Option<TcpSocket>>>,
}

/// The connection is to be cut without an answer; hyper closes it on any error of the service.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut on purpose")]
struct Cut;

impl Server {
    /// Listens on a free loopback port and serves until dropped. Must be called within a Tokio runtime.
    pub async fn start(handler: impl Fn(Request<Incoming>) -> Answer + Send + Sync + 'static) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let server = Server {
            address: listener.local_addr()?,
            handler: Arc::new(handler),
            running: Mutex::default(),
            port: Arc::default(),
        };
        server.run(listener);
        Ok(server)
    }

    /// Where it listens, or listened before it was killed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and cuts every connection: from now on, connecting is refused. Twice is as good as once.
    pub fn kill(&self) {
        if let Some(running) = lock(&self.running).take() {
            running.cancel();
        }
    }

    /// Listens again, on the same port. Does nothing if it was not killed.
    pub async fn recover(&self) -> io::Result<()> {
        if lock(&self.running).is_some() {
            return Ok(());
        }
        // The accept loop that was killed drops its listener on its next turn, so the port may need a moment.
        let mut tries = 0;
        let listener = loop {
            drop(lock(&self.port).take());
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 1000 => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                Err(error) => return Err(error),
            }
        };
        self.run(listener);
        Ok(())
    }

    fn run(&self, listener: TcpListener) {
        let token = CancellationToken::new();
        *lock(&self.running) = Some(token.clone());
        let (handler, port, address) = (self.handler.clone(), self.port.clone(), self.address);
        tokio::spawn(async move {
            accept(listener, handler, token).await;
            *lock(&port) = bind(address).ok();
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).map(|()| socket)
}

/// Also after a panic elsewhere: what these locks hold is whole at any moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body without trailers.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// An answer with a status, a content type and bytes.
pub fn answer(status: u16, content_type: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body(bytes));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = http::HeaderValue::from_str(content_type) {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}

async fn accept(listener: TcpListener, handler: Handler, token: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // A connection that was gone before it was taken says nothing about the next.
                Err(_) => continue,
            },
        };
        let (handler, token) = (handler.clone(), token.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { answer.await.ok_or(Cut) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = token.cancelled() => {}
                // A peer that goes away is no news here.
                _ = connection => {}
            }
        });
    }
}
