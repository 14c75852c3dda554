//! Who may speak at all: the host name that was asked for, and the web page that asks.
//!
//! A page in the developer's browser can reach loopback. DNS rebinding lets it do so under a name of its own, which the `Host` check sees;
//! a plain cross-origin request carries `Origin`, which is refused unless `listen.allowed_origins` names it.
//! The user behind a connection is the business of `peer`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header, uri::Authority};

use super::{answer::Refusal, refusals::Cause};

/// How long a browser may remember what a preflight said, in seconds: two hours is what browsers cap it at.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

const PRIVATE_NETWORK_ASKED: HeaderName = HeaderName::from_static("access-control-request-private-network");
const PRIVATE_NETWORK_ALLOWED: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The web origins that may send, as `listen.allowed_origins` has them; `*` is any.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    allowed: Vec<String>,
}

// === impl Origins ===

impl Origins {
    pub(super) fn new(allowed: Vec<String>) -> Origins {
        Origins { allowed }
    }

    /// The origin to name in the answer; none if no page asks.
    pub(super) fn check<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(None);
        };
        let allowed = |rule: &String| rule == "*" || rule.trim_end_matches('/').as_bytes() == origin.as_bytes();
        if self.allowed.iter().any(allowed) {
            Ok(Some(origin))
        } else {
            Err(Refusal::forbidden(
                Cause::Page,
                "web pages may send only if their origin is in listen.allowed_origins",
            ))
        }
    }
}

/// What goes with every answer to an allowed page.
pub(super) fn allow_origin(answer: &mut HeaderMap, origin: &HeaderValue) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(header::VARY, HeaderValue::from_static("origin"));
}

/// What a preflight from an allowed page is told: POST, and whatever headers it wants to send, since none of them is acted upon.
pub(super) fn allow_preflight(answer: &mut HeaderMap, asked: &HeaderMap) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    if let Some(headers) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
    }
    if asked.contains_key(PRIVATE_NETWORK_ASKED) {
        answer.insert(PRIVATE_NETWORK_ALLOWED, HeaderValue::from_static("true"));
    }
}

/// Every name that the request was sent to must be one of this machine's own: `localhost`, below it, or a loopback address.
/// On an address that the user opened on purpose (`loopback` is false) any literal address is taken too: rebinding needs a name.
pub(super) fn check_host<B>(request: &Request<B>, loopback: bool) -> Result<(), Refusal> {
    let target = request.uri().authority().map(Authority::as_str);
    let headers = request.headers().get_all(header::HOST).iter();
    let headers = headers.map(|value| value.to_str().unwrap_or_default());
    let mut named = target.into_iter().chain(headers).peekable();
    if named.peek().is_some() && named.all(|host| is_local(host, loopback)) {
        Ok(())
    } else {
        Err(Refusal::forbidden(
            Cause::Host,
            "the request was sent to a name that is not this machine's: send to 127.0.0.1, [::1] or localhost",
        ))
    }
}

/// Whether `host`, with or without a port, names this machine whatever a name server says (RFC 6761 section 6.3).
fn is_local(host: &str, loopback: bool) -> bool {
    // User information has no business in a host; `Authority` would take it.
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.eq_ignore_ascii_case("localhost") || ends_with_ignore_case(name, ".localhost") {
        return true;
    }
    let address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().map(|v6| IpAddr::V6(v6).to_canonical()),
        None => name.parse::<Ipv4Addr>().map(IpAddr::V4),
    };
    address.is_ok_and(|address| !loopback || address.is_loopback())
}

fn ends_with_ignore_case(name: &str, suffix: &str) -> bool {
    name.len() >= suffix.len() && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str, host: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(target);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn loopback_names_are_taken_with_and_without_a_port() {
        for host in [
            "localhost",
            "localhost:4318",
            "LocalHost:1",
            "localhost.",
            "app.localhost:4318",
            "127.0.0.1",
            "127.8.9.10:80",
            "[::1]",
            "[::1]:4317",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(check_host(&asked("/v1/traces", Some(host)), true).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "0.0.0.0",
            "localhost@evil.example",
            "evil.example@localhost",
            "127.1",
            "[::2]",
        ] {
            assert!(check_host(&asked("/v1/traces", Some(host)), true).is_err(), "{host}");
        }
        assert!(check_host(&asked("/v1/traces", None), true).is_err(), "no host at all");
    }

    #[test]
    fn both_the_authority_and_the_host_header_count() {
        assert!(check_host(&asked("http://localhost:1/", Some("evil.example")), true).is_err());
        assert!(check_host(&asked("http://evil.example/", Some("localhost")), true).is_err());
        assert!(check_host(&asked("http://localhost:1/", None), true).is_ok());
    }

    #[test]
    fn an_address_that_was_opened_on_purpose_takes_literal_addresses_but_no_names() {
        assert!(check_host(&asked("/", Some("10.0.0.1:4318")), false).is_ok());
        assert!(check_host(&asked("/", Some("[fe80::1]:4318")), false).is_ok());
        assert!(check_host(&asked("/", Some("evil.example")), false).is_err());
    }

    #[test]
    fn no_origin_is_allowed_unless_it_is_named() {
        let mut headers = HeaderMap::new();
        assert_eq!(Origins::default().check(&headers), Ok(None));
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://localhost:3000"));
        assert!(Origins::default().check(&headers).is_err());
        assert!(
            Origins::new(vec!["http://localhost".to_owned()])
                .check(&headers)
                .is_err()
        );
        for rule in ["http://localhost:3000", "http://localhost:3000/", "*"] {
            assert!(Origins::new(vec![rule.to_owned()]).check(&headers).is_ok(), "{rule}");
        }
    }
}
