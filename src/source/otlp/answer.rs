//! What a sender is told: a refusal once for both protocols, and the body that carries any answer.
//!
//! Which HTTP status and which gRPC code say the same thing is decided here and nowhere else;
//! how they are written on the wire is the business of `web` and `grpc`.

use std::{
    borrow::Cow,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::refusals::Cause;
use crate::{intake::Refused, otlp::status::Status};

/// `google.rpc.Code`, as far as we say it.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// Why a request was not taken, in the terms of both protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) http: StatusCode,
    code: i32,
    message: Cow<'static, str>,
    kind: Kind,
    cause: Cause,
    /// The intake refused it, and has counted that.
    by_intake: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Final, and nothing more to say.
    Plain,
    /// Final, because of the bytes: a `BadRequest` detail goes with it (R10, R17).
    Bytes,
    /// Final, because of the compression: those that are known go with it.
    Encoding,
    /// Come again (R9, R11).
    Later,
}

/// The body of an answer: at most one piece, then trailers if there are any.
#[derive(Debug, Default)]
pub(super) struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

// === impl Refusal ===

impl Refusal {
    fn new(http: StatusCode, code: i32, kind: Kind, cause: Cause, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            http,
            code,
            message: message.into(),
            kind,
            cause,
            by_intake: false,
        }
    }

    /// The request is well-formed HTTP, but no OTLP: 400 and `INVALID_ARGUMENT`.
    pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            code::INVALID_ARGUMENT,
            Kind::Bytes,
            Cause::Bytes,
            message,
        )
    }

    /// 503 and `UNAVAILABLE`: the same bytes may be taken later.
    pub(super) fn later(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code::UNAVAILABLE,
            Kind::Later,
            Cause::Pace,
            message,
        )
    }

    /// 413 and `RESOURCE_EXHAUSTED`: more than one request may have.
    pub(super) fn too_large(limit: usize) -> Refusal {
        Refusal::of_size(format!(
            "the request is larger than {limit} bytes, compressed or not (listen.max_request_bytes): send smaller batches"
        ))
    }

    /// 413 and `RESOURCE_EXHAUSTED`, which is final as long as no `RetryInfo` goes with it (R2, R3).
    fn of_size(message: String) -> Refusal {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            code::RESOURCE_EXHAUSTED,
            Kind::Plain,
            Cause::Size,
            message,
        )
    }

    /// 403 and `PERMISSION_DENIED`.
    pub(super) fn forbidden(cause: Cause, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(
            StatusCode::FORBIDDEN,
            code::PERMISSION_DENIED,
            Kind::Plain,
            cause,
            message,
        )
    }

    /// 404 and `UNIMPLEMENTED`: what gRPC calls an unknown method is an unknown path in HTTP.
    pub(super) fn unknown(message: &'static str) -> Refusal {
        Refusal::new(
            StatusCode::NOT_FOUND,
            code::UNIMPLEMENTED,
            Kind::Plain,
            Cause::Path,
            message,
        )
    }

    /// 405. HTTP alone can get this: a gRPC call that is no POST is no gRPC call.
    pub(super) fn method() -> Refusal {
        let message = "only POST is taken here";
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            code::UNIMPLEMENTED,
            Kind::Plain,
            Cause::Path,
            message,
        )
    }

    /// 415 and `UNIMPLEMENTED`: a compression that is not known here.
    pub(super) fn encoding(message: &'static str) -> Refusal {
        Refusal {
            kind: Kind::Encoding,
            ..Refusal::unsupported(message)
        }
    }

    /// 415 and `UNIMPLEMENTED`: a media type that is not known here.
    pub(super) fn unsupported(message: &'static str) -> Refusal {
        Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            code::UNIMPLEMENTED,
            Kind::Plain,
            Cause::Type,
            message,
        )
    }

    /// Whether the intake refused what is refused; else it never saw it.
    pub(super) fn by_intake(&self) -> bool {
        self.by_intake
    }

    /// What is wrong, and in which words.
    pub(super) fn why(&self) -> (Cause, &str) {
        (self.cause, &self.message)
    }

    /// Whether it is the compression that is not known here.
    pub(super) fn by_encoding(&self) -> bool {
        self.kind == Kind::Encoding
    }

    /// Whether the sender should come again with the same bytes.
    pub(super) fn retryable(&self) -> bool {
        self.kind == Kind::Later
    }

    /// The `google.rpc.Status`. Over HTTP, where no code says "no such path", 404 is `NOT_FOUND`.
    pub(super) fn status(&self, retry_after: Duration) -> Status {
        Status {
            code: self.code,
            message: self.message.clone().into_owned(),
            retry_delay: (self.kind == Kind::Later).then_some(retry_after),
            bad_request: (self.kind == Kind::Bytes).then(|| self.message.clone().into_owned()),
        }
    }

    /// As [`Refusal::status`], with the code that fits the HTTP status best.
    pub(super) fn http_status(&self, retry_after: Duration) -> Status {
        let mut status = self.status(retry_after);
        status.code = match self.http {
            StatusCode::NOT_FOUND => code::NOT_FOUND,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => code::INVALID_ARGUMENT,
            _ => status.code,
        };
        status
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        let refusal = match refused {
            Refused::Malformed(message) => Refusal::malformed(message),
            Refused::TooLarge { .. } => Refusal::of_size(refused.to_string()),
            Refused::Later(message) => Refusal {
                cause: Cause::Spool,
                ..Refusal::later(message)
            },
        };
        Refusal {
            by_intake: true,
            ..refusal
        }
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn whole(data: Bytes) -> Answer {
        Answer {
            data: (!data.is_empty()).then_some(data),
            trailers: None,
        }
    }

    pub(super) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Answer {
        Answer {
            data: Some(data),
            trailers: Some(trailers),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.trailers.is_some() {
            // An exact size would become a `content-length`, which gRPC answers do not carry.
            return SizeHint::default();
        }
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
