//! What upstream's answer means for the data, and how long to wait. Pure: no IO, no clock, no randomness of its own.
//!
//! The table is the one of the product, not OTLP's: OTLP calls 401, 403, 404 and 500 final for the data, but they judge
//! the credential, the configuration or the server, and the same bytes will be welcome once that is mended.
//! Only 400, 422 and `INVALID_ARGUMENT`, said by upstream itself, condemn data; not a 400 that says "too large", or "TLS".

use std::time::Duration;

use crate::otlp::{Signal, status::Response};

/// Upstream that cannot be reached is tried at least this often, so that sending resumes soon after its return.
pub const UNREACHED_CAP: Duration = Duration::from_secs(4);
/// Upstream that answers, and refuses, is left alone for longer and longer, up to this.
pub const ANSWERING_CAP: Duration = Duration::from_secs(300);
/// The most that `Retry-After` or `RetryInfo` can ask for.
pub const HINT_CAP: Duration = Duration::from_secs(3600);
/// The first wait.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How much of upstream's message is kept, in characters.
const REASON_CHARS: usize = 512;

/// What Go's `http.MaxBytesReader` says of a body over the limit. The OpenTelemetry Collector answers so with 400,
/// where OTLP wants 413: data that fits in parts would be set aside whole.
const GO_TOO_LARGE: &str = "http: request body too large";

/// What servers in Go, nginx, Apache and Tomcat answer with 400 where they want TLS: they saw nothing of the data, which an
/// endpoint with `http://` in place of `https://` would otherwise set aside to the last record.
const WANTS_TLS: [&str; 4] = [
    "Client sent an HTTP request to an HTTPS server",
    "The plain HTTP request was sent to HTTPS port",
    "speaking plain HTTP to an SSL-enabled server port",
    "This combination of host and port requires TLS",
];

/// What came back for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP answer that carries no gRPC status.
    Http {
        /// 100 to 599.
        status: u16,
        /// Whether whoever answered speaks OTLP over HTTP. An HTML page or an answer to a gRPC call does not.
        otlp: bool,
        /// As the header said, at most [`HINT_CAP`].
        retry_after: Option<Duration>,
        /// What the body says for people; untrusted.
        message: String,
        /// For 2xx: what the body says, or `None` if it is no OTLP response.
        response: Option<Response>,
    },
    /// A gRPC status that came over the wire.
    Grpc {
        /// google.rpc.Code; any number that came.
        code: i32,
        /// `RetryInfo` among the details.
        retry_delay: Option<Duration>,
        /// `grpc-message`, decoded; untrusted.
        message: String,
        /// What the message of an OK says; the default otherwise.
        response: Response,
    },
    /// No answer: not connected, reset, timed out, or an error that the client library made up.
    Nothing {
        /// What the client library or the system said.
        reason: String,
    },
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answered for. What was rejected is counted, never resent.
    Taken(Response),
    /// The data: bisect down to the record and set it aside.
    Data(String),
    /// The size: bisect down to the item.
    Size(String),
    /// The credential: get a newer one and send the same again.
    Credential(Trouble),
    /// The credential is good and may not do this: no refresh helps.
    Forbidden(Trouble),
    /// Upstream may not take this signal; that it takes another decides.
    NotFound(Trouble),
    /// The path: pause everything, probe.
    Path(Trouble),
}

/// Why the path is paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Fit to be shown.
    pub reason: String,
    /// Decides how long the pauses grow.
    pub reach: Reach,
    /// What upstream asked for, capped at [`HINT_CAP`].
    pub hint: Option<Duration>,
    /// 500 or `INTERNAL`: a record that alone gets this while others pass is at fault itself.
    pub suspect: bool,
    /// The one signal that this may be about; another may fare better.
    pub about: Option<Signal>,
}

impl Trouble {
    /// Somebody answered, and refused.
    pub fn answering(reason: String, hint: Option<Duration>) -> Trouble {
        Trouble {
            reason,
            reach: Reach::Answering,
            hint: hint.map(|hint| hint.min(HINT_CAP)),
            suspect: false,
            about: None,
        }
    }
}

/// Whether there was an answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// None: connecting failed, or the connection broke.
    Unreached,
    /// Somebody answered, and refused.
    Answering,
}

/// The gRPC codes that are told apart (google.rpc.Code).
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// The table of verdicts.
pub fn classify(answer: Answer) -> Verdict {
    match answer {
        Answer::Http {
            status,
            otlp,
            retry_after,
            message,
            response,
        } => http(status, otlp, retry_after, &message, response),
        Answer::Grpc {
            code,
            retry_delay,
            message,
            response,
        } => grpc(code, retry_delay, &message, response),
        Answer::Nothing { reason } => Verdict::Path(Trouble {
            reason: printable(&reason),
            reach: Reach::Unreached,
            hint: None,
            suspect: false,
            about: None,
        }),
    }
}

fn http(status: u16, otlp: bool, retry_after: Option<Duration>, message: &str, response: Option<Response>) -> Verdict {
    let reason = said(&format!("HTTP {status}"), message);
    let answering = |reason| Trouble {
        suspect: status == 500,
        ..Trouble::answering(reason, retry_after)
    };
    match (status, response) {
        (200..=299, Some(response)) => Verdict::Taken(response),
        (400, _) if otlp && message.contains(GO_TOO_LARGE) => Verdict::Size(reason),
        (400 | 422, _) if otlp && wants_tls(message).is_none() => Verdict::Data(reason),
        (413, _) => Verdict::Size(reason),
        (401, _) => Verdict::Credential(answering(reason)),
        (403, _) => Verdict::Forbidden(answering(reason)),
        (404 | 501, _) => Verdict::NotFound(answering(reason)),
        (..300, _) => Verdict::Path(answering(format!("HTTP {status} with a body that is no OTLP response"))),
        _ => Verdict::Path(answering(reason)),
    }
}

/// The words in `text` by which a server asks for TLS.
pub(super) fn wants_tls(text: &str) -> Option<&'static str> {
    WANTS_TLS.into_iter().find(|words| text.contains(words))
}

fn grpc(code: i32, retry_delay: Option<Duration>, message: &str, response: Response) -> Verdict {
    let reason = said(&format!("gRPC {}", name(code)), message);
    let answering = |reason| Trouble {
        suspect: code == code::INTERNAL,
        ..Trouble::answering(reason, retry_delay)
    };
    match code {
        code::OK => Verdict::Taken(response),
        code::INVALID_ARGUMENT => Verdict::Data(reason),
        code::RESOURCE_EXHAUSTED if retry_delay.is_none() => Verdict::Size(reason),
        code::UNAUTHENTICATED => Verdict::Credential(answering(reason)),
        code::PERMISSION_DENIED => Verdict::Forbidden(answering(reason)),
        code::UNIMPLEMENTED => Verdict::NotFound(answering(reason)),
        _ => Verdict::Path(answering(reason)),
    }
}

/// The wait before the next probe. `last` is the wait before this failure, `random` in `[0, 1)`.
///
/// Doubles from [`FIRST_WAIT`] (or from what upstream asked for last) up to the cap of `reach`, with equal jitter:
/// between half of the figure and all of it, so that a fleet does not come back at once.
/// A hint is honoured in full, and never undercut by jitter; one of no time at all, or of a moment that is over, still
/// waits as long as after a first failure.
/// Returns the figure to double from next time, and the wait.
pub fn backoff(last: Option<Duration>, reach: Reach, hint: Option<Duration>, random: f64) -> (Duration, Duration) {
    let jittered = |figure: Duration| figure.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
    if let Some(hint) = hint {
        let hint = hint.min(HINT_CAP);
        return (hint.max(FIRST_WAIT), hint.max(jittered(FIRST_WAIT)));
    }
    let cap = match reach {
        Reach::Unreached => UNREACHED_CAP,
        Reach::Answering => ANSWERING_CAP,
    };
    let figure = last.map_or(FIRST_WAIT, |last| last.saturating_mul(2)).min(cap);
    (figure, jittered(figure))
}

/// What upstream said, fit to be shown: without control characters, and not endless.
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(REASON_CHARS)
        .collect::<String>()
        .trim()
        .to_owned()
}

fn said(what: &str, message: &str) -> String {
    let message = printable(message);
    if message.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {message}")
    }
}

fn name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code))
        .copied()
        .unwrap_or("with a code that does not exist")
}

#[cfg(test)]
mod tests;
