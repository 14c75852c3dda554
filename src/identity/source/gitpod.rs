//! `gitpod`: an ID token of the workspace's, from the `gp` command, else from the supervisor and Gitpod's API.
//!
//! `gp` reports every failure as a token that could not be parsed, so only its exit code and the shape of what it
//! prints count. In a prebuild nothing is minted: the token would name whoever the prebuild ran as.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use url::Url;

use super::{Asking, MintError, Minted, answer, bearer, command, token};
use crate::{
    identity::{claims::Claims, secret::Secret, web},
    workspace::Env,
};

/// `gp` gives up by itself after 5 s; this is for one that does not.
const GP_TIMEOUT: Duration = Duration::from_secs(10);
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
    environment: Env,
}

impl Gitpod {
    /// What this workspace's environment says of it.
    pub fn new(env: &Env) -> Gitpod {
        let url = env.get("GITPOD_HOST").unwrap_or("https://gitpod.io");
        let host = url::Url::parse(url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .or_else(|| (!url.contains('/')).then(|| url.to_owned()));
        Gitpod {
            gp: env.get("PATH").and_then(|path| command::find(path, "gp")),
            supervisor: env.get("SUPERVISOR_ADDR").unwrap_or(SUPERVISOR).to_owned(),
            api: None,
            host,
            workspace_id: env.get("GITPOD_WORKSPACE_ID").map(str::to_owned),
            prebuild: env.get("GITPOD_HEADLESS") == Some("true"),
            environment: command::environment(env, &["GITPOD_", "SUPERVISOR_ADDR"]),
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
        asking.audience()?;
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
            let text = format!("no token from Gitpod: {command_failure}; and over HTTP: {failure}");
            // Whatever it is, the command may be there the next time.
            MintError::transient(text, failure.pause())
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
    async fn place(&self, client: &reqwest::Client) -> Result<Place, MintError> {
        let url = format!("http://{}/_supervisor/v1/info/workspace", self.supervisor);
        let told = match body(client.get(url), "the supervisor").await {
            Ok(answer) => serde_json::from_slice::<Info>(answer.body()).ok(),
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
            _ => Err(MintError::Transient(
                "neither the supervisor nor the environment names the Gitpod host and workspace".to_owned(),
            )),
        }
    }

    /// The same in two requests: the workspace's own token from the supervisor, then an ID token for it.
    async fn ask_http(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        // The supervisor listens on loopback, which this client never reaches through a proxy.
        let client = web::client(asking.ca_file)?;
        let place = self.place(&client).await?;
        let url = format!(
            "http://{}/_supervisor/v1/token/gitpod/{}/{SCOPE}",
            self.supervisor, place.host
        );
        let owner_token = token_of(client.get(url), "the supervisor").await?.token;
        let owner_token =
            owner_token.ok_or_else(|| MintError::Transient("the supervisor answered without a token".to_owned()))?;

        let default = || format!("https://api.{}", place.host);
        let api = self.api.clone().unwrap_or_else(default);
        let url = Url::parse(&format!(
            "{api}/gitpod.experimental.v1.IdentityProviderService/GetIDToken"
        ))
        .ok()
        .filter(web::may_carry_secret)
        .ok_or_else(|| {
            MintError::Config("the workspace's token goes over TLS only, and the API's address has none".to_owned())
        })?;
        let body = serde_json::json!({ "workspace_id": place.workspace_id, "audience": [asking.audience] });
        let request = client
            .post(url)
            .header(http::header::AUTHORIZATION, bearer(&owner_token)?)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let minted = token_of(request, "Gitpod's API").await?;
        let is_jwt = |token: &Secret| Claims::decode(token.expose()).is_some();
        if !minted.token.as_ref().is_some_and(is_jwt) {
            return Err(MintError::Transient(
                "Gitpod's API answered with something else than a token".to_owned(),
            ));
        }
        Ok(Minted { fresh: true, ..minted })
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

/// The token in an answer, with the answer's `Date`.
async fn token_of(request: reqwest::RequestBuilder, whom: &str) -> Result<Minted, MintError> {
    let answered = body(request, whom).await?;
    answer::member(&answered, "token", whom)
}

/// A successful answer.
async fn body(request: reqwest::RequestBuilder, whom: &str) -> Result<web::Answer, MintError> {
    let answer = web::ask(request, whom).await.map_err(MintError::Transient)?;
    match answer.is_success() {
        true => Ok(answer),
        false => Err(MintError::transient(
            format!("{whom} answered {}", answer.status),
            answer.retry_after,
        )),
    }
}
