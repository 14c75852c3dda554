//! The one HTTP client: no redirects, system roots or `export.ca_file`, the proxies of the environment.
//!
//! Every byte that leaves the machine goes through a client that was built here, so the rules that keep a bearer
//! where it belongs stand in one place: a redirect is an answer, never a second request; loopback is never proxied,
//! or a bearer for `http://127.0.0.1` would cross the network in the clear; and nothing is decompressed unasked,
//! because a limit on a response must hold for what it becomes.
//! It sets no user agent and no time limit for a whole request: those belong to the caller.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Once,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::workspace::Env;

/// Hosts that are reached directly, whatever the environment says of proxies: this machine, and its link, where
/// platforms serve tokens to whoever asks from the right address.
const NEVER_PROXIED: &str = "localhost,localhost.,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10";

/// Longer than the pause between two batches of an SDK, shorter than the idle limit of common load balancers (60 s).
const POOL_IDLE: Duration = Duration::from_secs(50);

/// Finds out about a peer that went away without a word, a suspended machine's typically.
const TCP_KEEPALIVE: Duration = Duration::from_secs(20);

/// Why no client could be built, in words for the user; nothing secret in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(pub String);

/// The proxies that the environment asks for, as they were written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Proxies {
    http: Option<String>,
    https: Option<String>,
    exempt: String,
}

/// A client for HTTP/1.1 and HTTP/2 by ALPN. The certificates of `ca_file` (PEM) are trusted besides the system's. A
/// machine without any, as small images are, gets a client all the same: plain HTTP on loopback needs none, and data that
/// waits until somebody installs some is better than none that is taken. Over TLS that client trusts nobody.
///
/// `prior_knowledge`: HTTP/2 without negotiation, for gRPC over plain HTTP.
///
/// # Errors
/// `ca_file` cannot be read or holds no certificate, or a proxy's URL is none.
pub fn build(
    ca_file: Option<&Path>,
    connect_timeout: Duration,
    prior_knowledge: bool,
) -> Result<reqwest::Client, ClientError> {
    let wanted = Wanted {
        ca_file,
        connect_timeout,
        prior_knowledge,
    };
    wanted.build(&Env::from_process())
}

/// Whether this machine has certificates of authorities, so that a peer can be trusted without `export.ca_file`.
pub fn has_authorities() -> bool {
    reqwest::Client::builder().no_proxy().build().is_ok()
}

/// What a client is to be like.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    ca_file: Option<&'a Path>,
    connect_timeout: Duration,
    prior_knowledge: bool,
}

impl Wanted<'_> {
    fn build(self, env: &Env) -> Result<reqwest::Client, ClientError> {
        static SAID: Once = Once::new();
        let built = match self.assemble(env)?.build() {
            Err(_) if self.ca_file.is_none() && !has_authorities() => {
                SAID.call_once(|| {
                    tracing::warn!("this machine has no CA certificates, so nobody is trusted over TLS");
                });
                self.assemble(env)?.tls_certs_only([]).build()
            }
            built => built,
        };
        built.map_err(|error| {
            ClientError(format!(
                "the HTTP client cannot be built: {}",
                chain(&error.without_url())
            ))
        })
    }

    fn assemble(self, env: &Env) -> Result<reqwest::ClientBuilder, ClientError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_keepalive(TCP_KEEPALIVE)
            .tcp_nodelay(true)
            .dns_resolver(Names)
            // The library's own look at the environment would proxy loopback too.
            .no_proxy();
        if self.prior_knowledge {
            builder = builder.http2_prior_knowledge();
        }
        if let Some(file) = self.ca_file {
            builder = builder.tls_certs_merge(certificates(file)?);
        }
        let proxies = proxies(env);
        let exempt = || reqwest::NoProxy::from_string(&proxies.exempt);
        if let Some(url) = &proxies.http {
            let proxy = reqwest::Proxy::http(url).map_err(|_| bad_proxy("HTTP_PROXY"))?;
            builder = builder.proxy(proxy.no_proxy(exempt()));
        }
        if let Some(url) = &proxies.https {
            let proxy = reqwest::Proxy::https(url).map_err(|_| bad_proxy("HTTPS_PROXY"))?;
            builder = builder.proxy(proxy.no_proxy(exempt()));
        }
        Ok(builder)
    }
}

/// Whether a name is this machine's: `localhost` and those below it (RFC 6761 section 6.3).
pub fn is_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The system's names, but for this machine's: what a name server says of those could lead a bearer elsewhere.
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if is_local(name.as_str()) {
                let own = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
                return Ok(Box::new(own.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs);
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// What the HTTP client says first of every failure.
const LAYERS: [&str; 2] = ["error sending request", "client error (Connect)"];

/// An error with its causes, outermost first: the library's own first line rarely says what went wrong, and is left out
/// where it says nothing.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if LAYERS.contains(&text.as_str()) {
            text = cause_text;
        } else if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn certificates(file: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let pem =
        std::fs::read(file).map_err(|error| ClientError(format!("{} cannot be read: {error}", file.display())))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|_| ClientError(format!("{} is no file of PEM certificates", file.display())))?;
    if found.is_empty() {
        return Err(ClientError(format!("{} holds no PEM certificate", file.display())));
    }
    Ok(found)
}

/// The value stays unsaid: a proxy's URL may hold a password.
fn bad_proxy(name: &str) -> ClientError {
    ClientError(format!("{name} in the environment is not the URL of a proxy"))
}

/// Lower case wins, as in curl; upper-case `HTTP_PROXY` counts only outside CGI, where a request header can set it.
fn proxies(env: &Env) -> Proxies {
    let first = |names: &[&str]| names.iter().find_map(|name| env.get(name)).map(str::to_owned);
    let http = if env.get("REQUEST_METHOD").is_some() {
        first(&["http_proxy", "all_proxy", "ALL_PROXY"])
    } else {
        first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
    };
    let exempt = match first(&["no_proxy", "NO_PROXY"]) {
        Some(list) => format!("{list},{NEVER_PROXIED}"),
        None => NEVER_PROXIED.to_owned(),
    };
    Proxies {
        http,
        https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        exempt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn wanted(ca_file: Option<&Path>, connect_timeout: Duration) -> Wanted<'_> {
        Wanted {
            ca_file,
            connect_timeout,
            prior_knowledge: false,
        }
    }

    /// An error with a cause.
    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(self.1.as_deref()?)
        }
    }

    #[test]
    fn what_is_said_of_every_failure_is_left_out_for_what_went_wrong() {
        let said = |layers: &[&'static str]| {
            let error = layers
                .iter()
                .rev()
                .fold(None, |cause, layer| Some(Box::new(Layer(layer, cause))));
            chain(&*error.expect("a layer"))
        };
        let refused = ["tcp connect error", "Connection refused (os error 111)"];
        let all = [&["error sending request", "client error (Connect)"], &refused[..]].concat();
        assert_eq!(said(&all), "tcp connect error: Connection refused (os error 111)");
        assert_eq!(
            said(&["error sending request", "operation timed out"]),
            "operation timed out"
        );
        assert_eq!(said(&["error sending request"]), "error sending request");
        assert_eq!(said(&["error decoding", "a: b", "b"]), "error decoding: a: b");
    }

    #[test]
    fn lower_case_proxies_win_and_all_proxy_is_the_last_resort() {
        let found = proxies(&env(&[
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "http://lower:1"),
            ("ALL_PROXY", "http://all:1"),
        ]));
        assert_eq!(found.https.as_deref(), Some("http://lower:1"));
        assert_eq!(found.http.as_deref(), Some("http://all:1"));
    }

    #[test]
    fn loopback_is_exempt_whatever_no_proxy_says() {
        assert_eq!(proxies(&env(&[])).exempt, NEVER_PROXIED);
        assert_eq!(
            proxies(&env(&[("NO_PROXY", ".corp.example")])).exempt,
            format!(".corp.example,{NEVER_PROXIED}")
        );
    }

    #[test]
    fn a_request_header_cannot_set_the_proxy_of_a_cgi_program() {
        let found = proxies(&env(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil:1")]));
        assert_eq!(found.http, None);
    }

    #[test]
    fn a_ca_file_that_is_none_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = wanted(Some(file.path()), Duration::from_secs(1))
            .build(&env(&[]))
            .expect_err("empty");
        assert!(error.to_string().contains(&*file.path().to_string_lossy()));
    }

    #[test]
    fn a_proxy_password_is_not_repeated_in_the_error() {
        let broken = env(&[("HTTPS_PROXY", "http://me:hunter2@[")]);
        let error = wanted(None, Duration::from_secs(1)).build(&broken).expect_err("no URL");
        assert!(!error.to_string().contains("hunter2"));
    }

    /// Takes one connection, answers nothing, and returns the first line of what came.
    async fn first_line(listener: tokio::net::TcpListener) -> String {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.expect("a line");
        line
    }

    async fn listener() -> (tokio::net::TcpListener, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        (listener, url)
    }

    #[tokio::test]
    async fn https_goes_through_the_proxy_of_the_environment() {
        let (proxy, url) = listener().await;
        let client = wanted(None, Duration::from_secs(5))
            .build(&env(&[("HTTPS_PROXY", &url)]))
            .expect("a client");
        let request = tokio::spawn(client.get("https://gateway.example/v1/traces").send());
        assert!(first_line(proxy).await.starts_with("CONNECT gateway.example:443 "));
        assert!(request.await.expect("it ends").is_err(), "the proxy hung up");
    }

    #[tokio::test]
    async fn what_no_proxy_names_is_reached_directly() {
        let (proxy, url) = listener().await;
        let exempt = env(&[("HTTPS_PROXY", &url), ("NO_PROXY", "gateway.invalid")]);
        let client = wanted(None, Duration::from_secs(5)).build(&exempt).expect("a client");
        // The name does not exist, so the direct way ends at once; through the proxy it would hang.
        assert!(client.get("https://gateway.invalid/").send().await.is_err());
        let asked = tokio::time::timeout(Duration::ZERO, proxy.accept()).await;
        assert!(asked.is_err(), "the proxy was not asked");
    }

    #[tokio::test]
    async fn a_link_local_address_is_reached_directly_with_a_proxy_in_the_environment() {
        let (proxy, proxy_url) = listener().await;
        let proxied = env(&[("http_proxy", &proxy_url), ("ALL_PROXY", &proxy_url)]);
        let client = wanted(None, Duration::from_millis(200))
            .build(&proxied)
            .expect("a client");
        // Nobody needs to be there: through the proxy the request would have arrived at it first.
        let _ = client.get("http://169.254.255.254:9/").send().await;
        let asked = tokio::time::timeout(Duration::ZERO, proxy.accept()).await;
        assert!(asked.is_err(), "the proxy was not asked");
    }

    #[tokio::test]
    async fn names_of_this_machine_lead_to_it_whatever_a_resolver_or_a_proxy_says() {
        for name in ["localhost", "agent.localhost", "Agent.LocalHost."] {
            let (_proxy, proxy_url) = listener().await;
            let (server, url) = listener().await;
            let proxied = env(&[("http_proxy", &proxy_url), ("ALL_PROXY", &proxy_url)]);
            let client = wanted(None, Duration::from_secs(5)).build(&proxied).expect("a client");
            let url = url.replace("127.0.0.1", name);
            let request = tokio::spawn(client.get(format!("{url}/direct")).send());
            let line = tokio::time::timeout(Duration::from_secs(10), first_line(server));
            assert!(line.await.expect(name).starts_with("GET /direct "), "{name}");
            assert!(request.await.expect("it ends").is_err(), "the server hung up");
        }
    }

    #[tokio::test]
    async fn loopback_is_reached_directly_with_a_proxy_in_the_environment() {
        let (_proxy, proxy_url) = listener().await;
        let (server, url) = listener().await;
        let proxied = env(&[("http_proxy", &proxy_url), ("ALL_PROXY", &proxy_url)]);
        let client = wanted(None, Duration::from_secs(5)).build(&proxied).expect("a client");
        let request = tokio::spawn(client.get(format!("{url}/direct")).send());
        assert!(first_line(server).await.starts_with("GET /direct "));
        assert!(request.await.expect("it ends").is_err(), "the server hung up");
    }
}
