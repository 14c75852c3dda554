//! OTLP/gRPC: the three unary `Export` methods, framed by hand on the HTTP/2 that is there anyway.
//!
//! A unary call is one POST with a five-byte prefix before its message, and an answer whose verdict stands in trailers
//! (gRPC over HTTP/2). That is little enough to do without a second server stack, and it hands the bytes over undecoded.
//! The HTTP status is always 200. Nothing is streamed, nothing reflected, and no health service is offered.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header};
use http_body::Body;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{
    Caller, Door,
    answer::{Answer, Refusal},
    body::{Held, Message},
    decode::{ACCEPTED, Encoding, decode},
};
use crate::otlp::{Batch, Signal, status};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// In `grpc-message`, besides what is no ASCII: all that does not print, and what begins an escape.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// An uncompressed message of no bytes: full success.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// Whether a request is a gRPC call, by its content type (`application/grpc`, `application/grpc+proto`; not `application/grpc-web`).
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let rest = value.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Answers one call.
pub(super) async fn answer<B: Body<Data = Bytes>>(
    door: &Door,
    caller: &Caller,
    request: Request<B>,
) -> Response<Answer> {
    match take(door, caller, request).await {
        Ok(taken) => succeed(&taken),
        Err(refusal) => refuse(door, &refusal),
    }
}

async fn take<B: Body<Data = Bytes>>(
    door: &Door,
    caller: &Caller,
    request: Request<B>,
) -> Result<status::Response, Refusal> {
    let (signal, encoding) = route(door, caller, &request)?;
    let Message { held, compressed } = Message::read(request.into_body(), &door.limits).await?;
    let Held { bytes, reserved } = match (compressed, encoding) {
        (false, _) => held,
        (true, Encoding::Identity) => {
            return Err(Refusal::malformed(
                "the message is marked as compressed, but grpc-encoding names no compression",
            ));
        }
        (true, encoding) => decode(held, encoding, &door.limits).await?,
    };
    let response = door.take(Batch { signal, bytes }).await?;
    drop(reserved);
    Ok(response)
}

/// What can be refused before a byte of the message is read.
fn route<B>(door: &Door, caller: &Caller, request: &Request<B>) -> Result<(Signal, Encoding), Refusal> {
    caller.admitted(request)?;
    door.origins.check(request.headers())?;
    if request.version() < Version::HTTP_2 || request.method() != Method::POST {
        return Err(Refusal::unsupported("a gRPC call is a POST over HTTP/2"));
    }
    let path = request.uri().path();
    let signal = Signal::ALL.into_iter().find(|signal| signal.grpc_path() == path);
    let signal = signal.ok_or_else(|| {
        Refusal::unknown("there is no such method here: traces, metrics and logs are exported, profiles are not taken")
    })?;
    if is_json(request.headers()) {
        return Err(Refusal::unsupported(
            "messages are protobuf here: JSON goes over OTLP/HTTP",
        ));
    }
    let encoding = match request.headers().get(GRPC_ENCODING) {
        None => Encoding::Identity,
        Some(name) => Encoding::parse(name.as_bytes())
            .ok_or_else(|| Refusal::encoding("the grpc-encoding must be identity, gzip or zstd"))?,
    };
    Ok((signal, encoding))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    value.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc+json"))
}

fn succeed(taken: &status::Response) -> Response<Answer> {
    let message = taken.to_protobuf();
    let data = if message.is_empty() {
        EMPTY_MESSAGE
    } else {
        let mut framed = Vec::with_capacity(EMPTY_MESSAGE.len() + message.len());
        framed.push(0);
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(&message);
        Bytes::from(framed)
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Answer::with_trailers(data, trailers));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// A verdict without a message stands in the headers alone ("Trailers-Only").
fn refuse(door: &Door, refusal: &Refusal) -> Response<Answer> {
    door.note(refusal);
    let status = refusal.status(door.retry_after);
    let mut response = Response::new(Answer::default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(GRPC_STATUS, HeaderValue::from(status.code));
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    if let Ok(message) = HeaderValue::try_from(utf8_percent_encode(&status.message, ESCAPED).to_string()) {
        headers.insert(GRPC_MESSAGE, message);
    }
    // Base64 without padding is what gRPC asks senders to emit.
    if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status.to_protobuf())) {
        headers.insert(GRPC_DETAILS, details);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_for_people_survives_the_header() {
        let escaped = |message| utf8_percent_encode(message, ESCAPED).to_string();
        assert_eq!(escaped("field 1: 100% wrong\n"), "field 1: 100%25 wrong%0A");
        assert_eq!(escaped("größer"), "gr%C3%B6%C3%9Fer");
    }

    #[test]
    fn grpc_web_is_no_grpc() {
        let with = |value| HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
        assert!(is_call(&with("application/grpc")));
        assert!(is_call(&with("application/grpc+proto")));
        assert!(is_call(&with("application/grpc; charset=utf-8")));
        assert!(!is_call(&with("application/grpc-web")));
        assert!(!is_call(&with("application/x-protobuf")));
        assert!(!is_call(&HeaderMap::new()));
    }
}
