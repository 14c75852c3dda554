//! Where each signal goes, by the endpoint rules of the OTLP exporter specification.
//!
//! It changes nothing of an endpoint but what those rules say, and it knows which endpoints may see a bearer at all:
//! TLS, or plain HTTP that does not leave the machine (promise 7).

use std::{collections::BTreeMap, fmt};

use url::Url;

use super::Protocol;
use crate::{identity::web, otlp::Signal};

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadEndpoint {
    /// By the signal's name.
    #[error("the endpoint of {0} is not an http:// or https:// URL with a host")]
    Scheme(&'static str),
    /// By the signal's name; the URL stays unsaid.
    #[error("the endpoint of {0} holds a user name or password; use export.headers or identity.credential instead")]
    Userinfo(&'static str),
}

/// One URL a signal. For gRPC it is the origin, with the prefix of the path if there is one.
#[derive(Clone)]
pub(super) struct Target {
    traces: Url,
    metrics: Url,
    logs: Url,
}

impl Target {
    /// The base endpoint gets `v1/<signal>` below its path; an endpoint of a signal's own is used as it is,
    /// with `/` for an absent path (`Url` does that). gRPC methods are appended by the client, so it takes both as they are.
    ///
    /// # Errors
    /// [`BadEndpoint`], naming the signal.
    pub(super) fn build(base: &Url, own: &BTreeMap<Signal, Url>, protocol: Protocol) -> Result<Target, BadEndpoint> {
        let of = |signal: Signal| {
            let url = match (own.get(&signal), protocol) {
                (Some(url), _) => url.clone(),
                (None, Protocol::Grpc) => base.clone(),
                (None, Protocol::HttpProtobuf) => below(base, signal.http_path()),
            };
            checked(url, signal)
        };
        Ok(Target {
            traces: of(Signal::Traces)?,
            metrics: of(Signal::Metrics)?,
            logs: of(Signal::Logs)?,
        })
    }

    pub(super) fn url(&self, signal: Signal) -> &Url {
        match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        }
    }

    /// Whether a bearer may be sent with this signal.
    pub(super) fn may_carry_credential(&self, signal: Signal) -> bool {
        web::may_carry_secret(self.url(signal))
    }

    /// Whether HTTP/2 has to be spoken without negotiation for gRPC.
    pub(super) fn plain(&self, signal: Signal) -> bool {
        self.url(signal).scheme() == "http"
    }
}

/// Without queries, which may hold a key.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Signal::ALL.map(|signal| shown(self.url(signal)));
        f.debug_tuple("Target").field(&shown).finish()
    }
}

/// The endpoint as it may be shown: a query may hold a key.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.set_fragment(None);
    url.to_string()
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let joined = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}

fn checked(url: Url, signal: Signal) -> Result<Url, BadEndpoint> {
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(BadEndpoint::Scheme(signal.as_str()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadEndpoint::Userinfo(signal.as_str()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn http(base: &str) -> String {
        let target = Target::build(&url(base), &BTreeMap::new(), Protocol::HttpProtobuf).expect("a target");
        target.url(Signal::Traces).to_string()
    }

    #[test]
    fn e17_the_signal_path_goes_below_the_base_endpoint() {
        assert_eq!(http("http://collector:4318"), "http://collector:4318/v1/traces");
        assert_eq!(http("http://collector:4318/"), "http://collector:4318/v1/traces");
        assert_eq!(http("https://vendor/otlp"), "https://vendor/otlp/v1/traces");
        assert_eq!(
            http("https://vendor/otlp/?key=a"),
            "https://vendor/otlp/v1/traces?key=a"
        );
        assert_eq!(http("https://vendor:443/"), "https://vendor/v1/traces");
    }

    #[test]
    fn e17_an_endpoint_of_a_signals_own_is_used_as_it_is() {
        let own = BTreeMap::from([
            (Signal::Traces, url("http://collector:4318")),
            (Signal::Logs, url("http://collector:4318/logs/in")),
        ]);
        let target = Target::build(&url("http://base"), &own, Protocol::HttpProtobuf).expect("a target");
        assert_eq!(target.url(Signal::Traces).as_str(), "http://collector:4318/");
        assert_eq!(target.url(Signal::Logs).as_str(), "http://collector:4318/logs/in");
        assert_eq!(target.url(Signal::Metrics).as_str(), "http://base/v1/metrics");
    }

    #[test]
    fn credentials_in_an_endpoint_are_refused_and_queries_are_not_shown() {
        let error = Target::build(&url("https://me:hunter2@a.example"), &BTreeMap::new(), Protocol::Grpc);
        assert_eq!(error.err(), Some(BadEndpoint::Userinfo("traces")));
        assert_eq!(
            shown(&url("https://a.example/x?key=hunter2")),
            "https://a.example/x?..."
        );
        let target = Target::build(
            &url("https://a.example/x?key=hunter2"),
            &BTreeMap::new(),
            Protocol::Grpc,
        );
        assert!(!format!("{target:?}").contains("hunter2"));
    }
}
