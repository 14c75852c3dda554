//! OTLP/HTTP: protobuf and JSON, POSTed to `/v1/traces`, `/v1/metrics` and `/v1/logs`.
//!
//! Every refusal has a `google.rpc.Status` as its body, in the encoding that the request was in (R14, R16);
//! what names neither is answered in JSON, which a person with curl can read.
//! Answers are a few hundred bytes at most, so that neither the response limit (R4) nor response compression (R15, optional) needs code.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{self, HeaderName},
    request::Parts,
};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{
    Caller, Door,
    answer::{Answer, Refusal},
    body::Held,
    decode::{ACCEPTED, Encoding, decode},
    gate,
    transcode::transcode,
};
use crate::otlp::{Batch, Signal, status};

/// How much of a refused body is read and thrown away, and for how long.
/// Closing a connection with unread bytes resets it, and the sender might never see the answer.
const DRAIN_BYTES: usize = 128 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The two encodings of OTLP/HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

/// Answers one request of OTLP/HTTP.
pub(super) async fn answer<B: Body<Data = Bytes>>(
    door: &Door,
    caller: &Caller,
    request: Request<B>,
) -> Response<Answer> {
    let format = Format::of(request.headers());
    let origin = match admit(door, caller, &request) {
        Ok(origin) => origin.cloned(),
        // Whoever may not speak is not listened to either: the rest of the request is left unread.
        Err(refusal) => return refuse(door, format, &refusal),
    };
    let mut response = if origin.is_some() && request.method() == Method::OPTIONS {
        preflight(request.headers())
    } else {
        let (head, body) = request.into_parts();
        let mut body = pin!(body);
        match take(door, &head, body.as_mut()).await {
            Ok(response) => response,
            Err(refusal) => {
                drain(&head, body).await;
                refuse(door, format, &refusal)
            }
        }
    };
    if let Some(origin) = &origin {
        gate::allow_origin(response.headers_mut(), origin);
    }
    response
}

fn admit<'a, B>(door: &Door, caller: &Caller, request: &'a Request<B>) -> Result<Option<&'a HeaderValue>, Refusal> {
    caller.admitted(request)?;
    door.origins.check(request.headers())
}

/// What can be refused before a byte of the body is read.
fn route(head: &Parts) -> Result<(Signal, Format, Encoding), Refusal> {
    let path = head.uri.path();
    let signal = Signal::ALL
        .into_iter()
        .find(|signal| path.strip_prefix('/') == Some(signal.http_path()));
    let signal = signal.ok_or_else(|| {
        Refusal::unknown(match path {
            "/v1development/profiles" | "/v1/profiles" => "profiles are not taken here: traces, metrics and logs are",
            _ => "there is nothing here: OTLP/HTTP goes to /v1/traces, /v1/metrics and /v1/logs",
        })
    })?;
    if head.method != Method::POST {
        return Err(Refusal::method());
    }
    let format = Format::of(&head.headers)
        .ok_or_else(|| Refusal::unsupported("the Content-Type must be application/x-protobuf or application/json"))?;
    let encoding = match head.headers.get(header::CONTENT_ENCODING) {
        None => Encoding::Identity,
        Some(name) => Encoding::parse(name.as_bytes())
            .ok_or_else(|| Refusal::encoding("the Content-Encoding must be identity, gzip or zstd"))?,
    };
    Ok((signal, format, encoding))
}

async fn take<B: Body<Data = Bytes>>(door: &Door, head: &Parts, body: B) -> Result<Response<Answer>, Refusal> {
    let (signal, format, encoding) = route(head)?;
    let held = Held::read(body, &door.limits).await?;
    let mut held = decode(held, encoding, &door.limits).await?;
    if format == Format::Json {
        held = transcode(signal, held, &door.limits).await?;
    }
    let Held { bytes, reserved } = held;
    let taken = door.take(Batch { signal, bytes }).await?;
    drop(reserved);
    Ok(succeed(format, signal, &taken))
}

fn preflight(asked: &HeaderMap) -> Response<Answer> {
    let mut response = Response::new(Answer::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    gate::allow_preflight(response.headers_mut(), asked);
    response
}

fn succeed(format: Format, signal: Signal, taken: &status::Response) -> Response<Answer> {
    let body = match format {
        Format::Protobuf => Bytes::from(taken.to_protobuf()),
        Format::Json => Bytes::from(taken.to_json(signal)),
    };
    let mut response = Response::new(Answer::whole(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, format.content_type());
    response
}

fn refuse(door: &Door, format: Option<Format>, refusal: &Refusal) -> Response<Answer> {
    door.note(refusal);
    let format = format.unwrap_or(Format::Json);
    let status = refusal.http_status(door.retry_after);
    let body = match format {
        Format::Protobuf => Bytes::from(status.to_protobuf()),
        Format::Json => Bytes::from(status.to_json()),
    };
    let mut response = Response::new(Answer::whole(body));
    *response.status_mut() = refusal.http;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, format.content_type());
    if refusal.retryable() {
        // Whole seconds, and never zero, which would mean "at once" (RFC 9110 section 10.2.3).
        let seconds = door.retry_after.as_secs_f64().ceil().max(1.0) as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let hint: Option<(HeaderName, &'static str)> = match refusal.http {
        StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "POST")),
        // No other 415 may have it (RFC 9110 section 12.5.3).
        _ if refusal.by_encoding() => Some((header::ACCEPT_ENCODING, ACCEPTED)),
        _ => None,
    };
    if let Some((name, value)) = hint {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Reads and forgets what is left of a refused request, within limits.
/// Not over HTTP/2, where a stream ends without its connection; nor where the sender waits to be told to go on.
async fn drain<B: Body<Data = Bytes>>(head: &Parts, mut body: Pin<&mut B>) {
    if head.version >= Version::HTTP_2 || head.headers.contains_key(header::EXPECT) {
        return;
    }
    let read = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DRAIN_BYTES {
                break;
            }
        }
    };
    // Nothing hangs on the outcome.
    let _ = timeout(DRAIN_TIME, read).await;
}

// === impl Format ===

impl Format {
    /// By the media type, whatever its parameters; none if it is neither.
    fn of(headers: &HeaderMap) -> Option<Format> {
        let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
        let media_type = value.split(|&byte| byte == b';').next()?.trim_ascii();
        if media_type.eq_ignore_ascii_case(b"application/x-protobuf") {
            Some(Format::Protobuf)
        } else if media_type.eq_ignore_ascii_case(b"application/json") {
            Some(Format::Json)
        } else {
            None
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::Protobuf => "application/x-protobuf",
            Format::Json => "application/json",
        })
    }
}
