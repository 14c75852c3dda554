//! The yardstick as a process: a relay that decodes, adds attributes, encodes and sends, and keeps nothing.
//!
//! It answers when upstream has answered, so it syncs nothing and loses nothing that it said yes to. It is this
//! executable, started again with [`MODE`].

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use crate::micro::decode_and_encode;

/// The first argument that makes this executable the relay; the port and the upstream's URL follow.
pub const MODE: &str = "relay";

/// Serves until it is killed.
pub fn run(port: &str, upstream: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let address = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind(address)
            .await
            .expect("the port was free a moment ago");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("{upstream}/v1/traces");
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| relay(request, client.clone(), url.clone()));
                let connection = auto::Builder::new(TokioExecutor::new());
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

async fn relay(
    request: Request<Incoming>,
    client: reqwest::Client,
    url: String,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let status = match request.into_body().collect().await {
        Ok(body) => send(&client, &url, decode_and_encode(&body.to_bytes())).await,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/x-protobuf");
    Ok(response.body(Empty::new()).expect("a constant response is valid"))
}

async fn send(client: &reqwest::Client, url: &str, body: Vec<u8>) -> StatusCode {
    let request = client
        .post(url)
        .header("content-type", "application/x-protobuf")
        .body(body);
    match request.send().await {
        Ok(response) => response.status(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
