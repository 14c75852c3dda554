//! The other end: takes every request, counts its spans and says yes.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::CONTENT_ENCODING;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tagalong::otlp::{Signal, check};
use tokio::net::TcpListener;

/// A running upstream.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    /// Spans that it said yes to.
    pub spans: Arc<AtomicU64>,
}

impl Upstream {
    /// Listens on a free port of loopback, for as long as the runtime lives.
    pub async fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let spans = Arc::new(AtomicU64::new(0));
        tokio::spawn(serve(listener, spans.clone()));
        Upstream { address, spans }
    }

    pub fn received(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, spans: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let spans = spans.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, spans.clone()));
            let connection = auto::Builder::new(TokioExecutor::new());
            // Whoever sends may hang up.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, spans: Arc<AtomicU64>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let is_gzip = request.headers().contains_key(CONTENT_ENCODING);
    if let Ok(body) = request.into_body().collect().await {
        let mut bytes = body.to_bytes();
        if is_gzip {
            let mut plain = Vec::new();
            GzDecoder::new(&bytes[..]).read_to_end(&mut plain).expect("gzip");
            bytes = plain.into();
        }
        spans.fetch_add(check::count(Signal::Traces, &bytes), Ordering::Relaxed);
    }
    let response = Response::builder().header("content-type", "application/x-protobuf");
    Ok(response.body(Empty::new()).expect("a constant response is valid"))
}
