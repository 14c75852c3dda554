//! OTLP/HTTP, binary protobuf: one POST, one [`Answer`].
//!
//! Never follows a redirect (the client has no such policy) but says where it leads, never reads more of an answer than
//! the limit, and takes a success for one only if whoever answered could be an OTLP server: a captive portal answers 200, too.

use std::{
    cell::RefCell,
    convert::Infallible,
    io::Read,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
    vec,
};

use bytes::Bytes;
use flate2::{Compress, FlushCompress};
use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, USER_AGENT},
};
use url::{Position, Url};

use super::{
    Compression,
    retry::{Answer, HINT_CAP, wants_tls},
};
use crate::{
    identity::{client::chain, secret::Secret, web},
    otlp::status::{Response, Status},
    pieces::Pieces,
    seldom::Seldom,
};

/// Below this, compressing is not worth another thread.
const INLINE_GZIP_BYTES: usize = 16 * 1024;

/// OTLP's own product word, with ours before it (OTLP exporter specification, "User Agent").
pub(super) const AGENT: &str = concat!(
    "tagalong/",
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
);

/// How requests are sent.
#[derive(Debug)]
pub(super) struct Http {
    pub client: reqwest::Client,
    pub compression: Compression,
    pub headers: HeaderMap,
    /// For the whole exchange.
    pub timeout: Duration,
    /// Bytes of an answer, decompressed.
    pub max_response_bytes: usize,
    pub seldom: Seldom<()>,
}

impl Http {
    pub(super) async fn send(&self, url: &Url, body: Pieces, token: Option<&Secret>) -> Answer {
        let mut headers = self.headers.clone();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if let Err(reason) = authorize(&mut headers, token) {
            return Answer::Nothing { reason };
        }
        let body = match self.compression {
            Compression::None if url.scheme() == "http" => reqwest::Body::wrap(AsItLies(body.into_iter())),
            // In one piece, the client sends what a server hands back again by itself, as HTTP/2 lets it. The copy lasts as
            // long as the request, as a compressed one would.
            Compression::None => body.to_bytes().into(),
            Compression::Gzip => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                gzip(body).await.into()
            }
        };
        let request = self
            .client
            .post(url.clone())
            .headers(headers)
            .timeout(self.timeout)
            .body(body);
        match request.send().await {
            Ok(response) => self.answer(response).await,
            Err(error) => Answer::Nothing {
                reason: chain(&error.without_url()),
            },
        }
    }

    async fn answer(&self, mut response: reqwest::Response) -> Answer {
        let status = response.status().as_u16();
        let kind = ContentKind::of(response.headers());
        let retry_after = retry_after(response.headers());
        let redirect = redirect(&response);
        let compressed = response
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|value| value == "gzip");
        let body = match read(&mut response, self.max_response_bytes).await {
            Ok(body) if compressed => body.and_then(|body| gunzip(&body, self.max_response_bytes)),
            Ok(body) => body,
            // A success whose body got lost may or may not have been one: the same again is the safe reading.
            Err(reason) if status < 300 => return Answer::Nothing { reason },
            Err(_) => Some(Vec::new()),
        };
        Answer::Http {
            status,
            otlp: kind != ContentKind::Html,
            retry_after,
            message: redirect.unwrap_or_else(|| body.as_deref().map(|body| kind.message(body)).unwrap_or_default()),
            response: match body {
                Some(body) => kind.response(&body),
                // Too large to read is final all the same (OTLP specification: not retryable).
                None if kind != ContentKind::Html => {
                    if let Some(times) = self.seldom.due(()) {
                        let limit = self.max_response_bytes;
                        tracing::warn!(status, times, limit, "upstream's answer is larger than the limit");
                    }
                    Some(Response::default())
                }
                None => None,
            },
        }
    }
}

/// Puts the bearer on, marked so that neither logs nor HTTP/2's tables keep it.
///
/// # Errors
/// The token is not fit for a header.
pub(super) fn authorize(headers: &mut HeaderMap, token: Option<&Secret>) -> Result<(), String> {
    let Some(token) = token else {
        return Ok(());
    };
    let mut value = HeaderValue::try_from(zeroize::Zeroizing::new(format!("Bearer {}", token.expose())).as_str())
        .map_err(|_| "the credential holds characters that a header cannot carry".to_owned())?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// What upstream asks to be waited.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let date = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    web::pause(text(RETRY_AFTER)?, date.unwrap_or_else(SystemTime::now), HINT_CAP)
}

/// Where an answer leads that is a redirect, in words: without user, password, query and fragment, which may be secret.
pub(super) fn redirect(response: &reqwest::Response) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let is_redirect = response.status().is_redirection();
    is_redirect.then(|| leads_to(response.url(), location)).flatten()
}

fn leads_to(asked: &Url, location: &str) -> Option<String> {
    let to = asked.join(location).ok()?;
    let place = &to[Position::BeforeHost..Position::AfterPath];
    let is_web = matches!(to.scheme(), "http" | "https");
    is_web.then(|| format!("it leads to {}://{place}", to.scheme()))
}

/// What a body claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentKind {
    Protobuf,
    Json,
    Text,
    Html,
    Other,
}

impl ContentKind {
    pub(super) fn of(headers: &HeaderMap) -> ContentKind {
        let value = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        match value
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/x-protobuf" | "application/protobuf" => ContentKind::Protobuf,
            "application/json" => ContentKind::Json,
            "text/html" | "application/xhtml+xml" => ContentKind::Html,
            "text/plain" => ContentKind::Text,
            _ => ContentKind::Other,
        }
    }

    /// What a success says. Servers that answer in JSON or with a word of text are common enough to be believed.
    fn response(self, body: &[u8]) -> Option<Response> {
        match self {
            ContentKind::Html => None,
            _ if body.is_empty() => Some(Response::default()),
            ContentKind::Json => json_response(body),
            ContentKind::Text if body.trim_ascii_start().first() != Some(&b'<') => Some(Response::default()),
            ContentKind::Text => None,
            ContentKind::Protobuf | ContentKind::Other => Response::from_protobuf(body).or_else(|| json_response(body)),
        }
    }

    /// What a refusal says, for people.
    fn message(self, body: &[u8]) -> String {
        match self {
            ContentKind::Html => {
                let words = wants_tls(&String::from_utf8_lossy(body));
                words.unwrap_or("a web page").to_owned()
            }
            ContentKind::Protobuf => Status::from_protobuf(body).map(said).unwrap_or_default(),
            ContentKind::Json => {
                let parsed = serde_json::from_slice::<serde_json::Value>(body).ok();
                let message = parsed.as_ref().and_then(|value| value.get("message")?.as_str());
                message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
            }
            ContentKind::Text | ContentKind::Other => String::from_utf8_lossy(body).into_owned(),
        }
    }
}

/// A status in words, with the field that is at fault where upstream names it.
pub(super) fn said(status: Status) -> String {
    match status.bad_request {
        Some(detail) if !status.message.contains(&detail) => format!("{} ({detail})", status.message),
        _ => status.message,
    }
}

/// By either of the names that protobuf has in JSON: a server that takes the other one for the outer field has it inside, too.
fn json_response(body: &[u8]) -> Option<Response> {
    let value = serde_json::from_slice::<serde_json::Value>(body).ok()?;
    let object = value.as_object()?;
    let Some(partial) = object.get("partialSuccess").or_else(|| object.get("partial_success")) else {
        return Some(Response::default());
    };
    let first = |names: &[&str]| names.iter().find_map(|name| partial.get(name));
    let rejected = first(&[
        "rejectedSpans",
        "rejectedDataPoints",
        "rejectedLogRecords",
        "rejected_spans",
        "rejected_data_points",
        "rejected_log_records",
    ]);
    let message = first(&["errorMessage", "error_message"]);
    Some(Response {
        rejected: rejected
            .and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()))
            .unwrap_or(0),
        message: message.and_then(|text| text.as_str()).unwrap_or("").to_owned(),
    })
}

/// The body, or `None` if it is larger than `limit`.
async fn read(response: &mut reqwest::Response, limit: usize) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Ok(None),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(Some(body)),
            Err(error) => return Err(chain(&error.without_url())),
        }
    }
}

/// Asked for by nobody, but some proxies compress all the same. What is no gzip reads as garbage, not as nothing.
fn gunzip(body: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let read = flate2::read::GzDecoder::new(body)
        .take(limit as u64 + 1)
        .read_to_end(&mut out);
    match read {
        Ok(_) if out.len() > limit => None,
        Ok(_) => Some(out),
        Err(_) => Some(body.to_vec()),
    }
}

thread_local! {
    /// A compressor's tables are larger than what it compresses, and cleared when they are made: so each thread keeps its
    /// own. The threads that run longer work end when there is none.
    ///
    /// Level 1: telemetry is repetitive enough that higher levels cost more CPU than they save in bytes.
    static GZIP: RefCell<Compress> = RefCell::new(Compress::new_gzip(flate2::Compression::fast(), 15));
}

async fn gzip(body: Pieces) -> Bytes {
    fn compress(body: &Pieces) -> Bytes {
        GZIP.with_borrow_mut(|gzip| {
            gzip.reset();
            let mut out = Vec::with_capacity(body.len() / 4 + 64);
            for piece in body.iter() {
                feed(gzip, piece, FlushCompress::None, &mut out);
            }
            feed(gzip, &[], FlushCompress::Finish, &mut out);
            out.into()
        })
    }
    if body.len() <= INLINE_GZIP_BYTES {
        return compress(&body);
    }
    tokio::task::spawn_blocking(move || compress(&body))
        .await
        .expect("compressing does not panic, and the runtime outlives its requests")
}

/// Compresses all of `bytes`, and to the end if that is wanted.
fn feed(gzip: &mut Compress, mut bytes: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
    loop {
        let before = gzip.total_in();
        let status = gzip
            .compress_vec(bytes, out, flush)
            .expect("compressing from memory to memory cannot fail");
        bytes = &bytes[(gzip.total_in() - before) as usize..];
        let done = match flush {
            FlushCompress::Finish => status == flate2::Status::StreamEnd,
            _ => bytes.is_empty(),
        };
        if done {
            return;
        }
        out.reserve(out.capacity());
    }
}

/// A request's body in pieces, of a length that is known.
struct AsItLies(vec::IntoIter<Bytes>);

impl http_body::Body for AsItLies {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.as_slice().iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    //! The one compressor of a thread, used again; a clock that is wrong.

    use super::*;

    #[test]
    fn e10_retry_after_is_seconds_or_a_date_by_the_clock_of_who_names_it() {
        for (value, pause) in [
            ("120", Some(Duration::from_secs(120))),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(Duration::from_secs(60))),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(Duration::ZERO)),
            ("soon", None),
            ("99999999", Some(HINT_CAP)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers), pause, "{value}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_place_and_nothing_else_of_it_is_said() {
        let asked = Url::parse("http://a.example:4318/v1/traces?key=hunter2").expect("a URL");
        for (location, place) in [
            ("https://b.example/v1/traces", Some("https://b.example/v1/traces")),
            (
                "https://ada:hunter2@[::1]:8443/in?key=hunter2#hunter2",
                Some("https://[::1]:8443/in"),
            ),
            ("/v1/traces/", Some("http://a.example:4318/v1/traces/")),
            ("//b.example", Some("http://b.example/")),
            ("http://b.example/\u{1b}[2J\n", Some("http://b.example/%1B[2J")),
            ("", Some("http://a.example:4318/v1/traces")),
            ("https://", None),
            ("data:text/plain,hunter2", None),
            ("mailto:ada@a.example", None),
        ] {
            let said = place.map(|place| format!("it leads to {place}"));
            assert_eq!(leads_to(&asked, location), said, "{location}");
        }
    }

    #[test]
    fn a_page_says_nothing_but_that_tls_is_wanted() {
        for (page, said) in [
            (
                "<title>400 The plain HTTP request was sent to HTTPS port</title>",
                "The plain HTTP request was sent to HTTPS port",
            ),
            (
                "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
                "speaking plain HTTP to an SSL-enabled server port",
            ),
            ("<title>400 Bad Request</title>", "a web page"),
        ] {
            assert_eq!(ContentKind::Html.message(page.as_bytes()), said);
        }
    }

    #[test]
    fn a_success_in_json_is_one_also_where_its_type_says_protobuf() {
        assert_eq!(ContentKind::Protobuf.response(b"{}"), Some(Response::default()));
        assert_eq!(ContentKind::Protobuf.response(b"<html>"), None);
    }

    #[test]
    fn a_partial_success_in_json_counts_under_either_of_its_names() {
        for body in [
            r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"why"}}"#,
            r#"{"partial_success":{"rejected_spans":3,"error_message":"why"}}"#,
        ] {
            let wanted = Response {
                rejected: 3,
                message: "why".to_owned(),
            };
            assert_eq!(ContentKind::Json.response(body.as_bytes()), Some(wanted), "{body}");
        }
    }

    #[tokio::test]
    async fn what_is_compressed_reads_the_same_whatever_was_compressed_before() {
        let mut noise = vec![0; 300_000];
        getrandom::fill(&mut noise).expect("randomness");
        let text = b"the same again, ".repeat(1000);
        for body in [&b""[..], b"a", &noise, &text, &noise[..INLINE_GZIP_BYTES], b"a"] {
            let packed = gzip(Bytes::copy_from_slice(body).into()).await;
            assert_eq!(gunzip(&packed, body.len()).as_deref(), Some(body));
        }
        assert!(gzip(text.into()).await.len() < 500);
    }
}
