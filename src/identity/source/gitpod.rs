//! `gitpod`: an ID token of the workspace's, from the `gp` command, else from the supervisor and Gitpod's API.
//!
//! `gp` reports every failure as a token that could not be parsed, so only its exit code and the shape of what it
//! prints count. In a prebuild nothing is minted: the token would name whoever the prebuild ran as.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::Deserialize;

use super::{Asking, MintError, Minted, command, token};
use crate::{
    identity::{claims::Claims, client, secret::Secret},
    workspace::Env,
};

/// `gp` gives up by itself after 5 s; this is for one that does not.
const GP_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer with a token in it is smaller.
const MAX_ANSWER: usize = 128 * 1024;
/// The scope that the vendor's own command asks the supervisor for before it asks for an ID token.
const SCOPE: &str = "function:getWorkspace";
/// Where the supervisor listens when the environment does not say.
const SUPERVISOR: &str = "localhost:22999";

/// What the workspace's environment says about where tokens come from.
#[derive(Clone, Debug)]
pub struct Gitpod {
    /// Absolute, as found on the PATH at the start.
    gp: Option<PathBuf>,
    /// `host:port`.
    supervisor: String,
    /// Another origin of the API than `https://api.<host>`.
    api: Option<String>,
    host: Option<String>,
    workspace_id: Option<String>,
    prebuild: bool,
    environment: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Answer {
    token: String,
}

impl Gitpod {
    pub fn new(env: &Env) -> Gitpod {
        let url = env.get("GITPOD_HOST").unwrap_or("https://gitpod.io");
        let host = url::Url::parse(url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .or_else(|| (!url.contains('/')).then(|| url.to_owned()));
        Gitpod {
            gp: env.get("PATH").and_then(find_gp),
            supervisor: env.get("SUPERVISOR_ADDR").unwrap_or(SUPERVISOR).to_owned(),
            api: None,
            host,
            workspace_id: env.get("GITPOD_WORKSPACE_ID").map(str::to_owned),
            prebuild: env.get("GITPOD_HEADLESS") == Some("true"),
            environment: env
                .0
                .iter()
                .filter(|(name, _)| is_for_gp(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }

    /// Another origin of the API than `https://api.<host>`.
    pub fn with_api(mut self, origin: &str) -> Gitpod {
        self.api = Some(origin.trim_end_matches('/').to_owned());
        self
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        if self.prebuild {
            return Err(MintError::Config(
                "this is a prebuild: its token would name the wrong person, so none is asked for".to_owned(),
            ));
        }
        if asking.audience.is_empty() {
            return Err(MintError::Config(
                "no audience: set identity.audience, or export.endpoint, whose origin is the default".to_owned(),
            ));
        }
        let by_command = match &self.gp {
            Some(gp) => self.ask_gp(gp, asking).await,
            None => Err("`gp` is not on the PATH".to_owned()),
        };
        let command_failure = match by_command {
            Ok(minted) => return Ok(minted),
            Err(failure) => failure,
        };
        tracing::debug!(failure = %command_failure, "asking the supervisor for a token instead");
        self.ask_http(asking).await.map_err(|failure| {
            MintError::Transient(format!(
                "no token from Gitpod: {command_failure}; and over HTTP: {failure}"
            ))
        })
    }

    async fn ask_gp(&self, gp: &Path, asking: &Asking<'_>) -> Result<Minted, String> {
        let arguments = ["idp", "token", "--audience", asking.audience];
        // Half of the attempt is left for the way over HTTP.
        let timeout = GP_TIMEOUT.min(asking.timeout / 2);
        let printed = command::output(gp, &arguments, &self.environment, Path::new("/"), timeout)
            .await
            .map_err(|error| format!("`gp idp token` {error}"))?;
        let token = token(&printed, "what `gp idp token` printed").map_err(|error| error.to_string())?;
        if Claims::decode(token.expose()).is_none() {
            return Err("`gp idp token` printed something else than a token".to_owned());
        }
        Ok(Minted {
            fresh: true,
            ..Minted::bare(token)
        })
    }

    /// The supervisor's word goes before the environment's: a repository's tasks can set variables, and the
    /// workspace's own token must not follow one to another host.
    async fn place(&self, client: &reqwest::Client) -> Result<Place, String> {
        let url = format!("http://{}/_supervisor/v1/info/workspace", self.supervisor);
        let told = match body(client.get(url), "the supervisor").await {
            Ok((content, _)) => serde_json::from_slice::<Info>(&content).ok(),
            Err(_) => None,
        };
        if let Some(info) = told {
            return Ok(Place {
                host: info.gitpod_api.host,
                workspace_id: info.workspace_id,
            });
        }
        match (&self.host, &self.workspace_id) {
            (Some(host), Some(workspace_id)) => Ok(Place {
                host: host.clone(),
                workspace_id: workspace_id.clone(),
            }),
            _ => Err("neither the supervisor nor the environment names the Gitpod host and workspace".to_owned()),
        }
    }

    /// The same in two requests: the workspace's own token from the supervisor, then an ID token for it.
    async fn ask_http(&self, asking: &Asking<'_>) -> Result<Minted, String> {
        // The supervisor listens on loopback, which this client never reaches through a proxy.
        let client = client::build(asking.ca_file, CONNECT_TIMEOUT, false).map_err(|error| error.to_string())?;
        let place = self.place(&client).await?;
        let url = format!(
            "http://{}/_supervisor/v1/token/gitpod/{}/{SCOPE}",
            self.supervisor, place.host
        );
        let (owner_token, _) = answer(client.get(url), "the supervisor").await?;

        let api = self
            .api
            .clone()
            .unwrap_or_else(|| format!("https://api.{}", place.host));
        if !may_carry_token(&api) {
            return Err("the workspace's token goes over TLS only, and the API's address has none".to_owned());
        }
        let url = format!("{api}/gitpod.experimental.v1.IdentityProviderService/GetIDToken");
        let body = serde_json::json!({ "workspace_id": place.workspace_id, "audience": [asking.audience] });
        let request = client
            .post(url)
            .header(http::header::AUTHORIZATION, bearer(&owner_token)?)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let (id_token, date) = answer(request, "Gitpod's API").await?;
        if Claims::decode(id_token.expose()).is_none() {
            return Err("Gitpod's API answered with something else than a token".to_owned());
        }
        Ok(Minted {
            fresh: true,
            date,
            ..Minted::bare(id_token)
        })
    }
}

/// Which workspace of which host this is.
struct Place {
    host: String,
    workspace_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    workspace_id: String,
    gitpod_api: InfoApi,
}

#[derive(Deserialize)]
struct InfoApi {
    host: String,
}

/// TLS, or this machine.
fn may_carry_token(origin: &str) -> bool {
    url::Url::parse(origin).is_ok_and(|url| {
        url.scheme() == "https"
            || match url.host() {
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            }
    })
}

fn bearer(token: &Secret) -> Result<http::HeaderValue, String> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = http::HeaderValue::from_str(&text).map_err(|_| "the supervisor's token is malformed".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token in an answer, and the answer's `Date`.
async fn answer(request: reqwest::RequestBuilder, whom: &str) -> Result<(Secret, Option<SystemTime>), String> {
    let (content, date) = body(request, whom).await?;
    let parsed: Answer = serde_json::from_slice(&content).map_err(|_| format!("{whom} answered without a token"))?;
    let parsed = zeroize::Zeroizing::new(parsed.token);
    let token = token(parsed.as_bytes(), &format!("the token of {whom}")).map_err(|error| error.to_string())?;
    Ok((token, date))
}

/// A successful answer's body within the limit, and its `Date`.
async fn body(
    request: reqwest::RequestBuilder,
    whom: &str,
) -> Result<(zeroize::Zeroizing<Vec<u8>>, Option<SystemTime>), String> {
    let mut response = request
        .timeout(HTTP_TIMEOUT)
        .send()
        .await
        .map_err(|error| format!("{whom} cannot be reached ({})", kind(&error)))?;
    if !response.status().is_success() {
        return Err(format!("{whom} answered {}", response.status().as_u16()));
    }
    let date = response
        .headers()
        .get(http::header::DATE)
        .and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let mut body = zeroize::Zeroizing::new(Vec::new());
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| format!("{whom} broke off ({})", kind(&error)))?
    {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("{whom} answered with more than a token"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, date))
}

/// What went wrong, without the URL.
fn kind(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "connection lost"
    }
}

/// The first executable `gp` in an absolute directory of the PATH: a relative one is whatever repository we stand in.
fn find_gp(path: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("gp"))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file())
}

/// What `gp` needs of the environment: where it is, and how to get out.
fn is_for_gp(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "HOME",
        "PATH",
        "SUPERVISOR_ADDR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ];
    name.starts_with("GITPOD_") || NAMES.contains(&name)
}
