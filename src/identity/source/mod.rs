//! Where credentials are minted. A source answers one question, "a token, now", and refuses to decide when to ask.

pub mod agent;
mod answer;
mod azure_devops;
mod command;
mod endpoint;
mod env;
mod exec;
pub(super) mod file;
mod github;
mod gitlab;
mod gitpod;
mod kubernetes;
mod metadata;
mod ona;
pub mod refresh;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    claims::{Claims, MAX_TOKEN_BYTES},
    client::ClientError,
    secret::Secret,
};
pub(super) use answer::member;
pub use azure_devops::AzureDevops;
pub use endpoint::Endpoint;
pub use env::EnvToken;
pub use exec::Program;
pub use github::Github;
pub use gitlab::Gitlab;
pub use gitpod::Gitpod;
pub use kubernetes::{Kubernetes, PROJECTED};
pub use metadata::{Azure, Gcp};
pub use ona::Ona;

/// The closed set of sources.
#[derive(Clone, Debug)]
pub enum Source {
    /// The `gp` command, or the supervisor and Gitpod's API.
    Gitpod(Gitpod),
    /// The `ona` command, or Ona's API.
    Ona(Ona),
    /// A GitHub Actions job's address for tokens.
    Github(Github),
    /// A GitLab CI job's variable; cannot be renewed.
    Gitlab(Gitlab),
    /// An Azure Pipelines job's address for tokens.
    AzureDevops(AzureDevops),
    /// A file that the kubelet keeps fresh; read again each time.
    Kubernetes(Kubernetes),
    /// Google's metadata service.
    Gcp(Gcp),
    /// Azure's metadata service.
    Azure(Azure),
    /// A file that something else keeps fresh; read again each time.
    File(PathBuf),
    /// A variable as it was at the start; cannot be renewed.
    Env(EnvToken),
    /// A program of the user's.
    Exec(Program),
    /// An address of the user's.
    Http(Endpoint),
    /// Another tagalong's, by the path of the socket that it shares.
    Agent(PathBuf),
    /// A person's login.
    Login(refresh::Session),
    /// No credential: upstream asks for none.
    None,
    /// Answers of a test's own.
    #[cfg(test)]
    Scripted(Scripted),
}

/// How a source wants to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Each asking mints.
    Mint,
    /// Each asking mints, unless somebody in between still holds a token from before: the same answer twice is no
    /// failure, and is asked about again in a while.
    Cached,
    /// Asking is a look whether something else renewed it: cheap, and the same answer twice is no failure.
    Look,
    /// There is one answer only.
    Once,
}

/// What a source gave, before anybody looked into it.
#[derive(Debug)]
pub struct Minted {
    /// None only from [`Source::None`].
    pub token: Option<Secret>,
    /// `expires_in`, counted from the moment of asking.
    pub lifetime: Option<Duration>,
    /// The end by the issuer's clock, if told beside the token.
    pub expires_at: Option<SystemTime>,
    /// The issuer's `Date`, if the answer came over HTTP.
    pub date: Option<SystemTime>,
    /// The source mints at each asking, so `iat` is the issuer's time now.
    pub fresh: bool,
    /// What the token says that this one was exchanged for.
    pub subject: Option<Claims>,
    /// Scopes that were asked for and not granted, by the issuer's own word.
    pub not_granted: Vec<String>,
}

impl Minted {
    /// A token about which nothing else is known.
    pub fn bare(token: Secret) -> Minted {
        Minted {
            token: Some(token),
            lifetime: None,
            expires_at: None,
            date: None,
            fresh: false,
            subject: None,
            not_granted: Vec::new(),
        }
    }
}

/// Why there is no token. The texts are for people and never hold anything that a token, a body or a program said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// Worth trying again soon.
    #[error("{0}")]
    Transient(String),
    /// Worth trying again, but not before the pause that whoever was asked wanted (`Retry-After`).
    #[error("{0}")]
    Later(String, Duration),
    /// Wrong until somebody changes a setting or the issuer: tried again after half an hour.
    #[error("{0}")]
    Config(String),
    /// Only a person can help.
    #[error("{0}")]
    NeedsUser(String),
}

impl From<ClientError> for MintError {
    fn from(error: ClientError) -> MintError {
        MintError::Config(error.to_string())
    }
}

impl MintError {
    /// Worth trying again, after the pause that was wanted, if any was.
    pub fn transient(text: String, pause: Option<Duration>) -> MintError {
        match pause {
            Some(pause) => MintError::Later(text, pause),
            None => MintError::Transient(text),
        }
    }

    /// How long to leave alone whoever was asked, where it said so.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            MintError::Later(_, pause) => Some(*pause),
            MintError::Transient(_) | MintError::Config(_) | MintError::NeedsUser(_) => None,
        }
    }
}

/// What minting needs besides the source.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    /// Whom the token is to be for.
    pub audience: &'a str,
    /// Roots for whoever is asked, besides the system's.
    pub ca_file: Option<&'a Path>,
    /// The whole attempt must end within this.
    pub timeout: Duration,
}

impl Asking<'_> {
    /// # Errors
    /// There is none: neither a setting nor an upstream to derive it from.
    fn audience(&self) -> Result<&str, MintError> {
        match self.audience {
            "" => Err(MintError::Config(
                "no audience: set identity.audience, or export.endpoint, whose origin is the default".to_owned(),
            )),
            audience => Ok(audience),
        }
    }
}

impl Source {
    /// The value of `identity.credential` that chose this source.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Gitpod(_) => "gitpod",
            Source::Ona(_) => "ona",
            Source::Github(_) => "github",
            Source::Gitlab(_) => "gitlab",
            Source::AzureDevops(_) => "azure-devops",
            Source::Kubernetes(_) => "kubernetes",
            Source::Gcp(_) => "gcp",
            Source::Azure(_) => "azure",
            Source::File(_) => "file",
            Source::Env(_) => "env",
            Source::Exec(_) => "exec",
            Source::Http(_) => "http",
            Source::Agent(_) => "agent",
            Source::Login(session) => session.flow().as_str(),
            Source::None => "none",
            #[cfg(test)]
            Source::Scripted(_) => "scripted",
        }
    }

    /// The login behind it, where it is one.
    pub fn login(&self) -> Option<&refresh::Session> {
        match self {
            Source::Login(session) => Some(session),
            _ => None,
        }
    }

    /// How it wants to be asked.
    pub fn manner(&self) -> Manner {
        match self {
            Source::Gitpod(_) | Source::Ona(_) | Source::Github(_) | Source::AzureDevops(_) | Source::Login(_) => {
                Manner::Mint
            }
            // Metadata services keep what they gave; so do many commands and servers.
            Source::Gcp(_) | Source::Azure(_) | Source::Exec(_) | Source::Http(_) => Manner::Cached,
            // The host's agent renews its own whenever its time comes.
            Source::File(_) | Source::Kubernetes(_) | Source::Agent(_) => Manner::Look,
            Source::Env(_) | Source::Gitlab(_) | Source::None => Manner::Once,
            #[cfg(test)]
            Source::Scripted(_) => Manner::Mint,
        }
    }

    /// What is wrong where it goes on giving a token that was good, and ended.
    pub(super) fn ended(&self) -> String {
        match self {
            Source::File(path) => file::ended(path),
            Source::Kubernetes(kubernetes) => kubernetes.ended(),
            _ => format!("the token ended, and the {} source gave no fresh one", self.name()),
        }
    }

    /// One attempt. Dropping the future ends the attempt and every process that it started.
    pub async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        let attempt = async {
            match self {
                Source::Gitpod(gitpod) => gitpod.mint(asking).await,
                Source::Ona(ona) => ona.mint(asking).await,
                Source::Github(github) => github.mint(asking).await,
                Source::Gitlab(gitlab) => gitlab.mint(asking),
                Source::AzureDevops(azure_devops) => azure_devops.mint(asking).await,
                Source::Kubernetes(kubernetes) => kubernetes.mint(asking).await,
                Source::Gcp(gcp) => gcp.mint(asking).await,
                Source::Azure(azure) => azure.mint(asking).await,
                Source::File(path) => file::read(path).await,
                Source::Env(variable) => variable.mint(),
                Source::Exec(program) => program.mint().await,
                Source::Http(endpoint) => endpoint.mint(asking).await,
                Source::Agent(socket) => agent::ask(socket, asking).await,
                Source::Login(session) => session.mint(asking).await,
                Source::None => Ok(Minted {
                    not_granted: Vec::new(),
                    token: None,
                    lifetime: None,
                    expires_at: None,
                    date: None,
                    fresh: true,
                    subject: None,
                }),
                #[cfg(test)]
                Source::Scripted(scripted) => scripted.mint().await,
            }
        };
        tokio::time::timeout(asking.timeout, attempt).await.unwrap_or_else(|_| {
            Err(MintError::Transient(format!(
                "the {} source did not answer within {:.1} s",
                self.name(),
                asking.timeout.as_secs_f64()
            )))
        })
    }
}

/// The bytes as a token, if they can go into a header: one run of visible ASCII within the limit, and no markup.
fn token(bytes: &[u8], whence: &str) -> Result<Secret, MintError> {
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(MintError::Transient(format!("{whence} is empty")));
    }
    if trimmed.len() > MAX_TOKEN_BYTES {
        return Err(MintError::Transient(format!("{whence} is longer than 64 KiB")));
    }
    // A page or an object that was answered, or left in a file, in a token's place.
    if matches!(trimmed[0], b'<' | b'{' | b'[' | b'"') {
        return Err(MintError::Transient(format!(
            "{whence} is a page or JSON, not a token alone"
        )));
    }
    match std::str::from_utf8(trimmed) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Secret::new(text.to_owned())),
        _ => Err(MintError::Transient(format!(
            "{whence} is not a token: it holds blanks or characters that no header may carry"
        ))),
    }
}

/// The token as the value of an `Authorization` header.
pub(super) fn bearer(token: &Secret) -> Result<http::HeaderValue, MintError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = http::HeaderValue::from_str(&text)
        .map_err(|_| MintError::Config("the platform's own token is malformed".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A source for tests of the loop: a function from the number of the asking to the answer and how long it takes.
#[cfg(test)]
type Answer = dyn Fn(u64) -> (Duration, Result<Minted, MintError>) + Send + Sync;

/// Answers by that function, and counts how often it was asked.
#[cfg(test)]
#[derive(Clone)]
pub struct Scripted {
    pub(super) answer: std::sync::Arc<Answer>,
    pub(super) asked: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

#[cfg(test)]
impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

#[cfg(test)]
impl Scripted {
    async fn mint(&self) -> Result<Minted, MintError> {
        let number = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let (latency, answer) = (self.answer)(number);
        tokio::time::sleep(latency).await;
        answer
    }
}

#[cfg(test)]
mod tests;
