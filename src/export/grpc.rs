//! OTLP/gRPC: tonic's unary call over the same HTTP client as everything else, so TLS, proxies and roots are one stack.
//!
//! A gRPC library makes statuses up: for a connection that broke, for an HTTP error page, for a message that is missing or
//! that it could not read. Data is judged only by what upstream said itself, so the service below tonic reads the verdict
//! where it comes over the wire, in headers or trailers, and tonic's own status decides nothing.
//! Messages pass as bytes; nothing is decoded but the answer.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderValue, Uri, header::USER_AGENT, uri::PathAndQuery};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use percent_encoding::percent_decode;
use tonic::{
    Code,
    client::GrpcService,
    codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use url::Url;

use super::{
    Compression,
    http::{AGENT, ContentKind, authorize, redirect, retry_after, said},
    retry::Answer,
};
use crate::{
    identity::{client::chain, secret::Secret},
    otlp::{
        Signal,
        status::{Response, Status},
    },
    pieces::Pieces,
    seldom::Seldom,
};

/// How calls are made.
#[derive(Debug)]
pub(super) struct Grpc {
    /// With prior knowledge of HTTP/2 where the endpoint is plain HTTP.
    pub plain: reqwest::Client,
    /// HTTP/2 by ALPN.
    pub negotiated: reqwest::Client,
    pub compression: Compression,
    pub headers: HeaderMap,
    /// For the whole exchange; also said to upstream as `grpc-timeout`.
    pub timeout: Duration,
    /// Bytes of an answer's message.
    pub max_response_bytes: usize,
    pub seldom: Seldom<()>,
}

/// One call's way out, and what was seen on its way back.
#[derive(Clone, Debug)]
struct Call {
    client: reqwest::Client,
    headers: HeaderMap,
    timeout: Duration,
    seen: Arc<Mutex<Seen>>,
}

/// What came over the wire, as opposed to what the library says about it.
#[derive(Debug, Default)]
struct Seen {
    http: Option<u16>,
    kind: Option<ContentKind>,
    redirect: Option<String>,
    verdict: Option<Verdict>,
    retry_after: Option<Duration>,
    error: Option<String>,
}

/// What `grpc-status` and the headers beside it say.
#[derive(Debug)]
struct Verdict {
    code: i32,
    message: String,
    retry_delay: Option<Duration>,
}

/// Bytes in, bytes out.
#[derive(Clone, Copy, Debug)]
struct Raw {
    /// The size of the one message that is sent, so that its buffer is allocated once.
    size: usize,
}

impl Grpc {
    pub(super) async fn send(&self, signal: Signal, url: &Url, body: Pieces, token: Option<&Secret>) -> Answer {
        let mut headers = self.headers.clone();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Err(reason) = authorize(&mut headers, token) {
            return Answer::Nothing { reason };
        }
        let Some(origin) = origin(url) else {
            return Answer::Nothing {
                reason: "the endpoint is no URI that gRPC can use".to_owned(),
            };
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let call = Call {
            client: if url.scheme() == "http" {
                &self.plain
            } else {
                &self.negotiated
            }
            .clone(),
            headers,
            timeout: self.timeout,
            seen: seen.clone(),
        };
        // Servers in Go compress an answer as its request was, without asking what the client accepts.
        let mut client = tonic::client::Grpc::with_origin(call, origin)
            .max_decoding_message_size(self.max_response_bytes)
            .accept_compressed(CompressionEncoding::Gzip);
        if self.compression == Compression::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        let codec = Raw { size: body.len() };
        let mut request = tonic::Request::new(body);
        request.set_timeout(self.timeout);
        let path = PathAndQuery::from_static(signal.grpc_path());
        let result = client.unary(request, path, codec).await;
        let seen = lock(&seen);
        answer(result, &seen, &self.seldom)
    }
}

/// Tells upstream's word from the library's.
fn answer(result: Result<tonic::Response<Bytes>, tonic::Status>, seen: &Seen, seldom: &Seldom<()>) -> Answer {
    if let (Some(verdict), None) = (&seen.verdict, &seen.error) {
        return match Code::from(verdict.code) {
            // Without a message it is none of the library's, but a success as one over HTTP without a body.
            Code::Ok => taken(result.map(tonic::Response::into_inner).unwrap_or_default().as_ref()),
            _ => Answer::Grpc {
                code: verdict.code,
                retry_delay: verdict.retry_delay,
                message: verdict.message.clone(),
                response: Response::default(),
            },
        };
    }
    let status = match result {
        Ok(_) => tonic::Status::unknown("an answer without a gRPC status"),
        Err(status) => status,
    };
    match seen.http {
        _ if too_large(&status, seen) => {
            if let Some(times) = seldom.due(()) {
                tracing::warn!(times, "upstream's answer is larger than the limit");
            }
            taken(&[])
        }
        // An answer of HTTP's alone: a proxy's or a gateway's.
        Some(http) if http != 200 => Answer::Http {
            status: http,
            otlp: false,
            retry_after: seen.retry_after,
            message: match (&seen.redirect, seen.kind) {
                (Some(redirect), _) => redirect.clone(),
                (None, Some(ContentKind::Html)) => "a web page".to_owned(),
                (None, _) => "an answer without a gRPC status".to_owned(),
            },
            response: None,
        },
        Some(http) if seen.error.is_none() => Answer::Http {
            status: http,
            otlp: false,
            retry_after: seen.retry_after,
            message: String::new(),
            response: None,
        },
        _ => Answer::Nothing {
            reason: seen.error.clone().unwrap_or_else(|| status.message().to_owned()),
        },
    }
}

/// A success that is too large to read is final all the same (OTLP specification: not retryable).
///
/// The library's own word for it: the one for the message as it comes, the other for what it decompresses to.
fn too_large(status: &tonic::Status, seen: &Seen) -> bool {
    matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
        && seen.verdict.is_none()
        && seen.http == Some(200)
        && seen.error.is_none()
}

/// A message that cannot be read says nothing about a rejection: the status said `OK`.
fn taken(message: &[u8]) -> Answer {
    Answer::Grpc {
        code: Code::Ok.into(),
        retry_delay: None,
        message: String::new(),
        response: Response::from_protobuf(message).unwrap_or_default(),
    }
}

/// Scheme, host, port, and the prefix of the path.
fn origin(url: &Url) -> Option<Uri> {
    let prefix = url.path().trim_end_matches('/');
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    format!(
        "{}://{authority}{}",
        url.scheme(),
        if prefix.is_empty() { "/" } else { prefix }
    )
    .parse()
    .ok()
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nothing panics while it holds this lock")
}

// === impl Verdict ===

impl Verdict {
    /// Reads it, and leaves tonic no more than the code: at details that are no base64 tonic panics, and of a message
    /// that is no UTF-8 it makes a status of its own.
    fn take(headers: &mut HeaderMap) -> Option<Verdict> {
        let message = headers.remove("grpc-message");
        let details = headers.remove("grpc-status-details-bin").and_then(|details| {
            // With or without padding.
            let details = details.to_str().ok()?.trim_end_matches('=');
            Status::from_protobuf(&BASE64_STANDARD_NO_PAD.decode(details).ok()?)
        });
        let code = headers
            .get("grpc-status")?
            .to_str()
            .ok()
            .and_then(|code| code.parse().ok());
        Some(Verdict {
            code: code.unwrap_or(Code::Unknown.into()),
            retry_delay: details.as_ref().and_then(|details| details.retry_delay),
            message: details
                .filter(|details| !details.message.is_empty())
                .map(said)
                .or_else(|| Some(percent_decode(message?.as_bytes()).decode_utf8_lossy().into_owned()))
                .unwrap_or_default(),
        })
    }
}

// === impl Call ===

impl Call {
    async fn run(
        self,
        request: http::Request<tonic::body::Body>,
    ) -> Result<http::Response<UnsyncBoxBody<Bytes, reqwest::Error>>, tonic::Status> {
        let (mut parts, body) = request.into_parts();
        for (name, value) in &self.headers {
            parts.headers.insert(name.clone(), value.clone());
        }
        // A single message: one chunk, so nothing is copied. With its length known, HTTP/2 needs no extra empty frame.
        let body = body.collect().await?.to_bytes();
        let request = http::Request::from_parts(parts, body);
        let mut request = reqwest::Request::try_from(request).map_err(|error| self.broke(error))?;
        *request.timeout_mut() = Some(self.timeout);
        let response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) => return Err(self.broke(error)),
        };
        {
            let mut seen = lock(&self.seen);
            seen.http = Some(response.status().as_u16());
            seen.kind = Some(ContentKind::of(response.headers()));
            seen.redirect = redirect(&response);
            seen.retry_after = retry_after(response.headers());
        }
        let mut response = http::Response::<reqwest::Body>::from(response);
        lock(&self.seen).verdict = Verdict::take(response.headers_mut());
        let (trailers, errors) = (self.seen.clone(), self.seen);
        Ok(response.map(|body| {
            body.map_frame(move |mut frame| {
                if let Some(verdict) = frame.trailers_mut().and_then(Verdict::take) {
                    lock(&trailers).verdict = Some(verdict);
                }
                frame
            })
            .map_err(move |error| {
                let error = error.without_url();
                lock(&errors).error = Some(chain(&error));
                error
            })
            .boxed_unsync()
        }))
    }

    fn broke(&self, error: reqwest::Error) -> tonic::Status {
        let reason = chain(&error.without_url());
        lock(&self.seen).error = Some(reason.clone());
        tonic::Status::unavailable(reason)
    }
}

type Answered = Result<http::Response<UnsyncBoxBody<Bytes, reqwest::Error>>, tonic::Status>;

impl GrpcService<tonic::body::Body> for Call {
    type ResponseBody = UnsyncBoxBody<Bytes, reqwest::Error>;
    type Error = tonic::Status;
    type Future = Pin<Box<dyn Future<Output = Answered> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tonic::Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.clone().run(request))
    }
}

// === impl Raw ===

impl Codec for Raw {
    type Encode = Pieces;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        *self
    }

    fn decoder(&mut self) -> Raw {
        *self
    }
}

impl Encoder for Raw {
    type Item = Pieces;
    type Error = tonic::Status;

    fn encode(&mut self, item: Pieces, out: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        item.into_iter().for_each(|piece| out.put(piece));
        Ok(())
    }

    /// Room for the message and its five-byte prefix.
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.size + 5, 32 * 1024)
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(1024, 32 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_keeps_a_prefix_and_drops_what_grpc_has_no_place_for() {
        let origin = |text: &str| {
            origin(&Url::parse(text).expect("a URL"))
                .expect("an origin")
                .to_string()
        };
        assert_eq!(origin("http://127.0.0.1:4317"), "http://127.0.0.1:4317/");
        assert_eq!(origin("https://[::1]:4317/otlp/?key=a"), "https://[::1]:4317/otlp");
        assert_eq!(origin("https://a.example"), "https://a.example/");
    }
}
