//! Settings as written, with origins, to one complete configuration.
//!
//! ```text
//!  flags ▶ TAGALONG_* ▶ the user's file ▶ /etc ▶ default.toml      settings: as written, each with its origin
//!                                │
//!                                ▼
//!                             resolve                              Config: complete, nothing means "default"
//! ```
//!
//! Everything that is wrong is said at once. Nothing in a repository is read, and nothing reads the environment later.

mod dirs;
pub mod edit;
mod identity;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod value;

pub use dirs::{Dirs, Locations};
pub use settings::{ConfigError, Origin};
pub use value::parse_duration;

use crate::{
    identity::{
        exchange::{Exchange, Grant, TokenEndpoint},
        keep::Wanted,
        secret::Secret,
        source::refresh::Flow,
        web,
    },
    workspace::{self, Env, Platform},
};
use settings::{KEYS, Settings};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use url::Url;

/// The log filter without `TAGALONG_LOG`.
const DEFAULT_LOG: &str = "info";

/// The whole configuration. `Option` means that there is none, never that a default is to be filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log filter.
    pub log: String,
    /// Directories; `spool.dir` is in [`Spool`].
    pub dirs: Dirs,
    /// How telemetry comes in.
    pub listen: Listen,
    /// How it goes out; none if there is no upstream.
    pub export: Option<Export>,
    /// Who, and proof.
    pub identity: Identity,
    /// Overrides of what is detected.
    pub workspace: workspace::Config,
    /// The queue.
    pub spool: Spool,
    /// What must not rest.
    pub redact: Redact,
    fingerprint: String,
}

/// `listen.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// OTLP/gRPC; port 0 is any.
    pub grpc: SocketAddr,
    /// OTLP/HTTP; port 0 is any.
    pub http: SocketAddr,
    /// Origins that CORS allows, without a slash at the end; `*` is any.
    pub allowed_origins: Vec<String>,
    /// In bytes, before and after decompression.
    pub max_request_bytes: u64,
    /// Whether other OS users may send.
    pub other_users: bool,
    /// Where containers next to the workspace may send to.
    pub siblings: Siblings,
}

/// `listen.siblings`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Siblings {
    /// Nowhere.
    Off,
    /// Where they can reach us.
    Auto,
    /// At this address, which is neither loopback nor unspecified.
    At(IpAddr),
}

/// `export.*`
#[derive(Clone)]
pub struct Export {
    /// Without user, password, query and fragment.
    pub endpoint: Url,
    /// How requests are spoken.
    pub protocol: Protocol,
    /// How they are packed.
    pub compression: Compression,
    /// Lower-case names; the values are secrets. Empty for an upstream that was taken from an `OTEL_*` variable.
    pub headers: BTreeMap<String, String>,
    /// PEM certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Of one request.
    pub timeout: Duration,
    /// Requests under way, for each signal.
    pub concurrency: usize,
    /// Of one request before compression.
    pub batch_bytes: u64,
    /// How long a record waits for company.
    pub batch_delay: Duration,
    /// The upstream is `OTEL_EXPORTER_OTLP_ENDPOINT`, and so gets no credential.
    pub from_otel: bool,
}

/// `export.protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/HTTP with protobuf.
    HttpProtobuf,
    /// OTLP/gRPC.
    Grpc,
}

/// `export.compression`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// As it is.
    None,
}

/// `identity.*`
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where credentials come from; `auto` is resolved.
    pub credential: Credential,
    /// Why `credential` is what it is, where the user did not say so: one sentence.
    pub reason: Option<String>,
    /// What to ask a token for; none only if there is neither an upstream nor a setting.
    pub audience: Option<String>,
    /// The only issuer to accept, or the one that exchanges.
    pub issuer: Option<String>,
    /// What becomes of the credential before it is sent.
    pub exchange: Option<Exchange>,
    /// Who the agent is to the issuer.
    pub client_id: Option<String>,
    /// Where the client's secret is; never without a client.
    pub client_secret_file: Option<PathBuf>,
    /// What to ask the issuer for.
    pub scopes: Vec<String>,
    /// Where the issuer gives tokens, if that is not to be discovered.
    pub token_endpoint: Option<Url>,
    /// How much of the person is stamped.
    pub attributes: Attributes,
    /// Where a login rests.
    pub keep: Wanted,
    /// The socket to share the credential over.
    pub share: Option<PathBuf>,
    /// The key of pseudonyms; none: a random one that stays here.
    pub pseudonym_key: Option<Secret>,
}

/// `identity.credential`, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The platform's: `gp`, or the supervisor.
    Gitpod,
    /// The platform's: `ona`, or its API.
    Ona,
    /// The job's, over HTTP.
    Github,
    /// The job's, in a variable; its name where `identity.env` says it.
    Gitlab(Option<String>),
    /// The job's, over HTTP; the service connection, if one is wanted.
    AzureDevops(Option<String>),
    /// The pod's, in a file; none is the place that the settings advise.
    Kubernetes(Option<PathBuf>),
    /// The machine's.
    Gcp,
    /// The machine's; the client id of an identity of its own choosing.
    Azure(Option<String>),
    /// A file that holds a token.
    File(PathBuf),
    /// A variable that holds a token, by its name.
    Env(String),
    /// A program and its arguments; never empty, and the program is an absolute path.
    Exec(Vec<String>),
    /// An address that answers with a token.
    Http(Address),
    /// The socket of another tagalong.
    Agent(PathBuf),
    /// A person's login.
    Login(Flow),
    /// Upstream needs none.
    None,
}

/// `identity.url` and what belongs to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// https, or http on this machine or link.
    pub url: Url,
    /// Lower-case names; the values are secrets.
    pub headers: BTreeMap<String, String>,
    /// RFC 6901.
    pub pointer: Option<String>,
}

/// `identity.attributes`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Id, names, verified e-mail.
    Full,
    /// A keyed hash.
    Pseudonym,
    /// Nothing.
    None,
}

/// `spool.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Absolute.
    pub dir: PathBuf,
    /// Unsent bytes over all signals.
    pub max_bytes: u64,
    /// After this, unsent data of an absent principal expires.
    pub max_age: Duration,
    /// Sent bytes that are kept.
    pub keep_bytes: u64,
}

/// `redact.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redact {
    /// Whether anything is redacted.
    pub enabled: bool,
    /// Regular expressions that compile.
    pub patterns: Vec<String>,
    /// Attribute keys, with `*`.
    pub keys: Vec<String>,
}

/// A configuration, and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the agent is built from.
    pub config: Config,
    /// What was left out of account on purpose (a locked setting, a variable that is none of ours): sentences to show.
    pub notices: Vec<String>,
    /// The settings that the machine's file alone may set, as `section.key`.
    pub locked: Vec<String>,
    entries: Vec<Entry>,
}

/// One setting as `tagalong config` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// `section.key`
    pub key: &'static str,
    /// As it would be written; secrets are `...`. Empty: not set.
    pub value: String,
    /// Where it came from, for people.
    pub origin: String,
}

impl Config {
    /// Reads all settings and works out the configuration. `flags` are keys (`export.endpoint`) and plain texts.
    ///
    /// # Errors
    /// All that is wrong, not only the first.
    pub fn load(env: &Env, flags: &[(String, String)], files: &Locations) -> Result<Loaded, Vec<ConfigError>> {
        let (loaded, errors) = Config::load_rest(env, flags, files)?;
        if errors.is_empty() { Ok(loaded) } else { Err(errors) }
    }

    /// The same as if what is wrong were not written, and beside it all that is wrong: for whoever starts nothing.
    ///
    /// # Errors
    /// All that is wrong, where there is no configuration without it.
    pub fn load_rest(
        env: &Env,
        flags: &[(String, String)],
        files: &Locations,
    ) -> Result<(Loaded, Vec<ConfigError>), Vec<ConfigError>> {
        let read = |left_out: &[ConfigError]| resolve::resolve(Settings::read(env, flags, files, left_out), env, files);
        let (mut loaded, errors) = read(&[]);
        let mut left_out = Vec::new();
        let mut wrong = errors.clone();
        // What a weaker place says instead may be wrong, too.
        while !wrong.is_empty() {
            left_out.append(&mut wrong);
            (loaded, wrong) = read(&left_out);
            wrong.retain(|error| !left_out.contains(error));
        }
        match loaded {
            Some(loaded) => Ok((loaded, errors)),
            None => Err(errors),
        }
    }

    /// Equal for equal settings, and for those only: 64 hex digits. Secrets count, and cannot be told from it;
    /// the log filter does not count, as it changes nothing that the agent does.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl Loaded {
    /// Every setting in the order of `default.toml`. What was derived stands with its final value.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }
}

/// The names of all settings, in the order of `default.toml`.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

/// Whether a request to `url` would come back to one of `addresses`: same port, and the same host or any loopback name.
pub fn leads_to(url: &Url, addresses: &[SocketAddr]) -> bool {
    let Some(port) = url.port_or_known_default() else {
        return false;
    };
    let ip = match url.host() {
        Some(url::Host::Ipv4(ip)) => Some(std::net::IpAddr::from(ip)),
        Some(url::Host::Ipv6(ip)) => Some(std::net::IpAddr::from(ip).to_canonical()),
        _ => None,
    };
    let same_host = |own: &SocketAddr| match ip {
        Some(ip) => ip == own.ip() || ip.is_unspecified() || own.ip().is_unspecified() || ip.is_loopback(),
        None => web::is_loopback(url),
    };
    addresses.iter().any(|own| own.port() == port && same_host(own))
}

// === impl Export ===

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("endpoint", &self.endpoint.as_str())
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("headers", &self.headers.keys())
            .field("ca_file", &self.ca_file)
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .field("batch_bytes", &self.batch_bytes)
            .field("batch_delay", &self.batch_delay)
            .field("from_otel", &self.from_otel)
            .finish()
    }
}

// === impl Identity ===

impl Identity {
    /// Whom the token that is sent should be for; none where it is not asked for one.
    pub fn wanted_audience(&self) -> Option<&str> {
        let Some(exchange) = &self.exchange else {
            return self.audience.as_deref();
        };
        match &exchange.grant {
            Grant::GoogleSts(Some(account)) if exchange.scopes.is_empty() => account.audience.as_deref(),
            Grant::GoogleSts(_) => None,
            Grant::TokenExchange | Grant::ClientAssertion => exchange.audience.as_deref(),
        }
    }

    /// The scopes that the token which upstream sees is asked for with; none where a platform gives it.
    pub fn wanted_scopes(&self) -> &[String] {
        match (&self.exchange, &self.credential) {
            (Some(exchange), _) => &exchange.scopes,
            (None, Credential::Login(_)) => &self.scopes,
            (None, _) => &[],
        }
    }

    /// The only issuer whose tokens are taken. The one that exchanges gives them itself, perhaps under an older name
    /// of its own (Entra's `sts.windows.net`), so there is nothing to compare then.
    pub fn accepted_issuer(&self) -> Option<&str> {
        match self.exchange.as_ref().map(|exchange| &exchange.endpoint) {
            Some(TokenEndpoint::Of(_)) => None,
            _ => self.issuer.as_deref(),
        }
    }

    /// The credential ends, and its source has no other.
    pub fn is_single(&self) -> bool {
        matches!(self.credential, Credential::Gitlab(_) | Credential::Env(_))
    }
}

// === impl Address ===

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("host", &self.url.host_str())
            .field("headers", &self.headers.keys())
            .field("pointer", &self.pointer)
            .finish()
    }
}

// === impl Credential ===

impl Credential {
    /// The name as it is set and shown.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Credential::Gitpod => "gitpod",
            Credential::Ona => "ona",
            Credential::Github => "github",
            Credential::Gitlab(_) => "gitlab",
            Credential::AzureDevops(_) => "azure-devops",
            Credential::Kubernetes(_) => "kubernetes",
            Credential::Gcp => "gcp",
            Credential::Azure(_) => "azure",
            Credential::File(_) => "file",
            Credential::Env(_) => "env",
            Credential::Exec(_) => "exec",
            Credential::Http(_) => "http",
            Credential::Agent(_) => "agent",
            Credential::Login(flow) => flow.as_str(),
            Credential::None => "none",
        }
    }
}
