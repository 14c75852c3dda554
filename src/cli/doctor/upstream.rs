//! The links to upstream: whether it can be reached, by which way, and whether it takes what is sent.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, SystemTime},
};

use url::Url;

use super::{Link, Name, here::to_set};
use crate::{
    cli::status::duration_text,
    config::{Export, Protocol},
    identity::{State, client, web},
    view::status::Status,
    workspace::Env,
};

/// What rustls says of a certificate that nobody who is trusted has signed.
const UNKNOWN: &str = "UnknownIssuer";
const NO_AUTHORITIES: &str = "this machine has no CA certificates, so no certificate can be believed";

/// Seconds that whoever has just mended something waits anyway.
const SOON: u64 = 5;

/// How long one look at the network may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of asking upstream for its first page, without a credential.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) url: Url,
    /// The proxy that stands in the way.
    pub(super) proxy: Option<Proxy>,
    pub(super) outcome: Result<Answered, String>,
}

/// Somebody answered over HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answered {
    /// Seconds that the answer's `Date` is ahead of this machine's clock.
    pub(super) skew: Option<f64>,
}

/// A proxy, by the variable that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) variable: &'static str,
    /// Host and port alone: a proxy's URL may hold a password.
    pub(super) address: String,
    /// Whether it can be connected to.
    pub(super) answers: bool,
}

impl Probe {
    /// How many seconds upstream's clock is ahead.
    pub(super) fn skew(&self) -> Option<f64> {
        self.outcome.as_ref().ok()?.skew
    }
}

/// Asks, unless there is no upstream. `export` is where the CA and the protocol come from.
pub(super) fn probe(env: &Env, status: &Status, export: Option<&Export>) -> Option<Probe> {
    let url = Url::parse(status.export.endpoint.as_deref()?).ok()?;
    let proxy = proxy(env, &url);
    let proxy = proxy.map(|(variable, address)| Proxy {
        variable,
        answers: connects(&address),
        address,
    });
    // gRPC over plain HTTP speaks HTTP/2 from its first byte.
    let is_plain_grpc = export.is_some_and(|export| export.protocol == Protocol::Grpc) && url.scheme() == "http";
    let ca_file = export.and_then(|export| export.ca_file.as_deref());
    let asked = client::build(ca_file, PATIENCE, is_plain_grpc)
        .map_err(|error| error.to_string())
        .and_then(|client| ask(&client, &url))
        .map_err(|trouble| match ca_file {
            None if trouble.contains(UNKNOWN) && !client::has_authorities() => NO_AUTHORITIES.to_owned(),
            _ => trouble,
        });
    Some(Probe {
        url,
        proxy,
        outcome: asked,
    })
}

fn ask(client: &reqwest::Client, url: &Url) -> Result<Answered, String> {
    let runtime = crate::cli::runtime().map_err(|failure| failure.message)?;
    let asked = SystemTime::now();
    let answer = runtime.block_on(async { client.get(url.clone()).timeout(PATIENCE).send().await });
    let answer = answer.map_err(|error| client::chain(&error.without_url()))?;
    let date = answer.headers().get(http::header::DATE);
    let date = date.and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    Ok(Answered {
        skew: date.map(|date| skew(date, asked, SystemTime::now())),
    })
}

/// A time between asking and answering is no skew: it took that long.
fn skew(theirs: SystemTime, asked: SystemTime, answered: SystemTime) -> f64 {
    if let Ok(ahead) = theirs.duration_since(answered) {
        return ahead.as_secs_f64();
    }
    asked.duration_since(theirs).map_or(0.0, |behind| -behind.as_secs_f64())
}

/// The proxy that the environment names for `url`: variable and `host:port`. Close to what the client does, and only
/// for what is said: whether the way is open is found out by the client itself.
fn proxy(env: &Env, url: &Url) -> Option<(&'static str, String)> {
    let host = url.host_str()?;
    if web::is_loopback(url) || is_exempt(env, host) {
        return None;
    }
    let names: [&'static str; 4] = if url.scheme() == "https" {
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    let (variable, text) = names.into_iter().find_map(|name| Some((name, env.get(name)?)))?;
    let proxy = Url::parse(text)
        .ok()
        .filter(Url::has_host)
        .or_else(|| Url::parse(&format!("http://{text}")).ok())?;
    let port = proxy.port_or_known_default().unwrap_or(1080);
    Some((variable, format!("{}:{port}", proxy.host_str()?)))
}

fn is_exempt(env: &Env, host: &str) -> bool {
    let list = env.get("no_proxy").or_else(|| env.get("NO_PROXY")).unwrap_or_default();
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let bare = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*" || host == bare || host.ends_with(&format!(".{bare}"))
        })
}

fn connects(address: &str) -> bool {
    // A name server that does not answer is the resolver's own time limit; the connection has ours.
    address
        .to_socket_addrs()
        .is_ok_and(|mut all| all.any(|one| TcpStream::connect_timeout(&one, PATIENCE).is_ok()))
}

pub(super) fn reachable(probe: Option<&Probe>) -> Link {
    let Some(probe) = probe else {
        return Link::ok(Name::Reachable, "not asked: no upstream is set");
    };
    let host = probe.url.host_str().unwrap_or_default();
    let port = probe.url.port_or_known_default().unwrap_or(443);
    let by = probe.proxy.as_ref().map_or(String::new(), |proxy| {
        format!(" by the proxy {} ({})", proxy.address, proxy.variable)
    });
    match &probe.outcome {
        Ok(_) => Link::ok(Name::Reachable, format!("{host}:{port}{by}")),
        Err(trouble) => Link::failed(
            Name::Reachable,
            format!("{host}:{port}{by}: {trouble}"),
            remedy(&probe.url, probe.proxy.as_ref(), trouble),
        ),
    }
}

/// What to do about a way that is not open. The texts are those of the HTTP client, of rustls and of the system.
fn remedy(url: &Url, proxy: Option<&Proxy>, trouble: &str) -> String {
    let host = url.host_str().unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| trouble.contains(word));
    if says(&[NO_AUTHORITIES]) {
        return "install your system's ca-certificates, then run `tagalong down` and `tagalong up`; or set \
                export.ca_file to a PEM file with the authorities that you trust"
            .to_owned();
    }
    if says(&[UNKNOWN, "SelfSigned", "self-signed", "self signed", "CaUsedAsEndEntity"]) {
        let whose = match proxy {
            Some(_) => "the proxy's or upstream's",
            None => "upstream's",
        };
        return format!("set export.ca_file to a PEM file with the certificate of {whose} authority");
    }
    if says(&["NotValidForName", "not valid for name"]) {
        return format!("{host} is not a name of that certificate: correct export.endpoint");
    }
    if says(&["Expired", "NotValidYet", "expired", "not valid yet"]) && says(&["certificate"]) {
        return "upstream's certificate has expired, or this machine's clock is wrong".to_owned();
    }
    if says(&[
        "InvalidContentType",
        "corrupt message",
        "InvalidMessage",
        "wrong version",
    ]) {
        return "nobody speaks TLS on that port: does export.endpoint begin with http://?".to_owned();
    }
    if let Some(proxy) = proxy {
        return if proxy.answers {
            format!("have the proxy let {host} through, or add {host} to NO_PROXY; then `tagalong down`, `tagalong up`")
        } else {
            format!(
                "correct {}, or add {host} to NO_PROXY; then `tagalong down`, `tagalong up`",
                proxy.variable
            )
        };
    }
    if url.scheme() == "http" && says(&["client error (SendRequest)", "client error (Canceled)"]) {
        return "it hangs up on plain HTTP: if it speaks TLS, write https:// in export.endpoint; else check export.protocol"
            .to_owned();
    }
    if says(&["dns error", "lookup", "resolve"]) {
        return "check the name in export.endpoint, and whether this machine has a name server".to_owned();
    }
    "check export.endpoint, and whether a proxy or a VPN is needed; telemetry waits in the spool".to_owned()
}

pub(super) fn accepts(status: &Status, probe: Option<&Probe>) -> Link {
    let export = &status.export;
    let ask = "`tagalong doctor --send` sends one marked span";
    if export.endpoint.is_none() {
        return Link::ok(Name::Accepts, "not asked: no upstream is set");
    }
    if status.agent.is_none() {
        return Link::note(Name::Accepts, "not asked: no agent runs", "start it with `tagalong up`");
    }
    if probe.is_some_and(|probe| probe.outcome.is_err()) {
        let hint = "mend the link above; telemetry waits in the spool";
        return Link::note(Name::Accepts, "not asked: it cannot be reached", hint);
    }
    if let Some(trouble) = &export.trouble {
        let mut remedy = refusal_remedy(trouble, status);
        // It may be what upstream said long ago.
        if let Some(seconds) = export.next_attempt.filter(|seconds| *seconds > SOON) {
            remedy.push_str(&format!("; upstream is tried again in {}", duration_text(seconds)));
            if !is_busy(trouble) {
                remedy.push_str(", and at once after `tagalong up --replace`");
            }
        }
        return Link::failed(Name::Accepts, trouble.clone(), remedy);
    }
    if !export.not_taken.is_empty() {
        return Link::note(
            Name::Accepts,
            format!("upstream does not take {}", export.not_taken.join(" and ")),
            "turn them off in the SDKs, or give upstream a pipeline for them",
        );
    }
    if matches!(status.credential.state, State::Starved | State::NeedsUser) {
        let hint = "mend the credential above; telemetry waits in the spool";
        return Link::note(Name::Accepts, "not asked: there is no credential", hint);
    }
    if export.delivered == 0 {
        return Link::note(Name::Accepts, "nothing was sent yet", ask);
    }
    let delivered = match export.delivered {
        1 => "1 item delivered".to_owned(),
        items => format!("{items} items delivered"),
    };
    Link::ok(Name::Accepts, delivered)
}

/// Upstream wants to be left alone for a while.
fn is_busy(trouble: &str) -> bool {
    let words = ["HTTP 429", "HTTP 503", "UNAVAILABLE", "RESOURCE_EXHAUSTED"];
    words.iter().any(|word| trouble.contains(word))
}

/// What to do about an upstream that answers and does not take. The texts are those of `export`.
fn refusal_remedy(trouble: &str, status: &Status) -> String {
    let says = |words: &[&str]| words.iter().any(|word| trouble.contains(word));
    let waits = "telemetry waits in the spool";
    if says(&["HTTP 401", "UNAUTHENTICATED"]) && status.credential.source == "none" {
        return format!(
            "upstream asks for a credential: {}, with device (your own login) or auto (what is offered here) \
             for WHICH; then `tagalong up`; {waits}",
            to_set(status, "identity.credential", "WHICH")
        );
    }
    let is_plain = status
        .export
        .endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    if is_plain
        && says(&[
            "to an HTTPS server",
            "sent to HTTPS port",
            "SSL-enabled server port",
            "requires TLS",
        ])
    {
        return format!("upstream speaks TLS on that port: write https:// in export.endpoint; {waits}");
    }
    if says(&["HTTP 403", "PERMISSION_DENIED"]) {
        return format!("ask upstream's operator for the right to send; {waits}");
    }
    if says(&["HTTP 404", "HTTP 405", "HTTP 501", "UNIMPLEMENTED"]) {
        return format!("check the path of export.endpoint (v1/traces is added to it) and export.protocol; {waits}");
    }
    if says(&["HTTP 301", "HTTP 302", "HTTP 303", "HTTP 307", "HTTP 308"]) {
        return format!(
            "redirects are never followed: set export.endpoint to where it leads (v1/traces is added to it); {waits}"
        );
    }
    if says(&["web page", "no OTLP response"]) {
        return format!(
            "a login page or portal answers in upstream's place: check export.endpoint and the network; {waits}"
        );
    }
    if is_busy(trouble) {
        return format!("upstream is busy and is tried again by itself; {waits}");
    }
    format!("it is sent when upstream takes it; {waits}")
}
