//! One request to an issuer, one bounded answer. It refuses to repeat what a body says, and to send a secret in the
//! clear to anywhere but this machine.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use http::header;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::client::{self, ClientError};

/// Longer than an issuer takes that is going to answer.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Of the connection alone: a host that is not there is known to be so earlier.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What `Retry-After` may ask for: the longest pause that is made without being asked, too. A maintenance window that
/// ends early must not cost a day, and nobody is asked in a hurry who wanted quiet.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Three tokens of the largest size, and what stands around them.
const MAX_BODY: usize = 256 * 1024;

/// The client for requests to issuers and platforms.
///
/// # Errors
/// As [`client::build`].
pub fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    client::build(ca_file, CONNECT_TIMEOUT, false)
}

/// What came back, whatever the status.
pub struct Answer {
    /// 100 to 599.
    pub status: u16,
    /// The answer's `Date`.
    pub date: Option<SystemTime>,
    /// `Retry-After` (RFC 9110 section 10.2.3), counted from the answer; at most [`LONGEST_PAUSE`]. Only of answers that
    /// may be another one in a while.
    pub retry_after: Option<Duration>,
    /// It may hold tokens.
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The same question may have another answer in a while: 408, 429, 5xx.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..)
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, if it is a JSON object; a captive portal's page is none, whatever its status says.
    pub fn object(&self) -> Option<Object> {
        serde_json::from_slice(&self.body).ok().map(Object)
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A JSON object whose `Debug` prints `"..."`: tokens stand in it. Its texts are zeroed on drop.
pub struct Object(serde_json::Map<String, serde_json::Value>);

impl Object {
    /// A member by its name.
    pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
        self.0.get(name)
    }

    /// A text that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The texts of a list; nothing for anything else.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(serde_json::Value::as_array);
        let texts = items.into_iter().flatten().filter_map(serde_json::Value::as_str);
        texts.map(str::to_owned).collect()
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"...\"")
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        for value in self.0.values_mut() {
            if let serde_json::Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}

/// Sends and reads to the end, within the limit.
///
/// # Errors
/// No answer, or none of a size that an issuer gives: in words for people, without the URL. Worth another try.
pub async fn ask(request: reqwest::RequestBuilder, whom: &str) -> Result<Answer, String> {
    let mut response = request
        .timeout(TIMEOUT)
        .send()
        .await
        .map_err(|error| format!("{whom} cannot be reached ({})", kind(&error)))?;
    let header = |name: header::HeaderName| response.headers().get(name)?.to_str().ok();
    let date = header(header::DATE).and_then(|value| httpdate::parse_http_date(value).ok());
    let pause =
        header(header::RETRY_AFTER).and_then(|value| pause(value, date.unwrap_or_else(SystemTime::now), LONGEST_PAUSE));
    let mut answer = Answer {
        status: response.status().as_u16(),
        date,
        retry_after: None,
        body: Zeroizing::new(Vec::with_capacity(16 * 1024)),
    };
    answer.retry_after = pause.filter(|_| answer.is_transient());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if answer.body.len() + chunk.len() <= MAX_BODY => answer.body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(format!("{whom} answered with more than 256 KiB")),
            Ok(None) => return Ok(answer),
            Err(error) => return Err(format!("{whom} broke off ({})", kind(&error))),
        }
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date that is held against `now`, which is the answer's own `Date`,
/// since our clock may be wrong. At most `longest`.
pub fn pause(value: &str, now: SystemTime, longest: Duration) -> Option<Duration> {
    let value = value.trim();
    let asked = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(value).ok()?;
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(asked.min(longest))
}

/// Whether a secret may be sent to this address: over TLS, or to this machine.
pub fn may_carry_secret(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// 127.0.0.0/8, `::1`, and the names of this machine: those the client does not ask a resolver for.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => client::is_local(name),
        None => false,
    }
}

/// This machine, or an address that no router passes on (RFC 3927, RFC 4291 section 2.5.6): there platforms serve
/// metadata over plain HTTP.
pub fn is_near(url: &Url) -> bool {
    is_loopback(url)
        || match url.host() {
            Some(Host::Ipv4(address)) => address.is_link_local(),
            Some(Host::Ipv6(address)) => address.is_unicast_link_local(),
            _ => false,
        }
}

/// What went wrong, without the URL: it may hold what is nobody's business.
fn kind(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "connection lost"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_over_tls_or_stays_on_this_machine() {
        let may = |url: &str| may_carry_secret(&Url::parse(url).expect("a URL"));
        for fine in [
            "https://id.example",
            "http://127.0.0.1:8080/token",
            "http://127.3.2.1/",
            "http://[::1]/",
            "http://localhost:1/",
            "http://issuer.localhost/",
        ] {
            assert!(may(fine), "{fine}");
        }
        for not in [
            "http://id.example/token",
            "http://localhost.example/",
            "http://notlocalhost/",
            "http://[::2]/",
            "http://10.0.0.1/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
        ] {
            assert!(!may(not), "{not}");
        }
    }

    #[test]
    fn near_is_this_machine_or_this_link_by_address_alone() {
        let near = |url: &str| is_near(&Url::parse(url).expect("a URL"));
        for fine in ["http://169.254.169.254/", "http://[fe80::1]/", "http://127.0.0.1/"] {
            assert!(near(fine), "{fine}");
        }
        for not in [
            "http://metadata.google.internal/",
            "http://10.0.0.1/",
            "http://169.253.0.1/",
        ] {
            assert!(!near(not), "{not}");
        }
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_as_a_date_and_has_a_limit() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let pause = |value: &str| pause(value, now, LONGEST_PAUSE).map(|pause| pause.as_secs());
        assert_eq!(pause("7"), Some(7));
        assert_eq!(pause(" 120 "), Some(120));
        assert_eq!(pause("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(pause("Sun, 06 Nov 1994 07:00:00 GMT"), Some(0), "long over");
        assert_eq!(pause("86400"), Some(300));
        assert_eq!(pause("Mon, 06 Nov 1995 08:49:37 GMT"), Some(300));
        for nonsense in ["", "soon", "-3", "1.5", "99999999999999999999999"] {
            assert_eq!(pause(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn an_answer_that_holds_tokens_prints_none() {
        let object = Object(serde_json::Map::from_iter([(
            "access_token".to_owned(),
            "canary-1b".into(),
        )]));
        assert!(!format!("{object:?}").contains("canary"));
    }
}
