//! `ona`: an ID token of an Ona environment (formerly Gitpod Flex), from the `ona` command, its older name `gitpod`,
//! else from the API under the environment's own token.
//!
//! Which claims come is the organisation's setting; only its newest form names the person who made the environment.
//! The documents: "OpenID Connect (OIDC)", ona.com/docs/ona/configuration/oidc; "IdentityService.GetIDToken" of the
//! API at app.gitpod.io/api. The file with the environment's token is not documented, so it is the last resort.

use std::path::{Path, PathBuf};

use url::Url;

use super::{Asking, MintError, Minted, answer, bearer, command, file, token};
use crate::{
    identity::{claims::Claims, web},
    workspace::Env,
};

const COMMAND_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
const API: &str = "https://app.gitpod.io";
const TOKEN_FILE: &str = "/usr/local/gitpod/secrets/token";

/// What the environment says about where tokens come from.
#[derive(Clone, Debug)]
pub struct Ona {
    /// Absolute, as found on the PATH at the start.
    command: Option<PathBuf>,
    environment: Env,
    api: String,
    token_file: PathBuf,
}

impl Ona {
    /// What this environment's variables say of it.
    pub fn new(env: &Env) -> Ona {
        let find = |name| command::find(env.get("PATH")?, name);
        // The environment's token follows a variable within the vendor's domains only: a repository can set variables.
        let api = env.get("GITPOD_HOST").filter(|host| is_vendors(host)).unwrap_or(API);
        Ona {
            command: find("ona").or_else(|| find("gitpod")),
            environment: command::environment(env, &["GITPOD_", "ONA_"]),
            api: api.trim_end_matches('/').to_owned(),
            token_file: PathBuf::from(TOKEN_FILE),
        }
    }

    /// Another origin of the API, and another file with the environment's token.
    pub fn with_api(mut self, origin: &str, token_file: &Path) -> Ona {
        self.api = origin.trim_end_matches('/').to_owned();
        self.token_file = token_file.to_owned();
        self
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        let by_command = match &self.command {
            Some(command) => self.ask_command(command, asking).await,
            None => Err("neither `ona` nor `gitpod` is on the PATH".to_owned()),
        };
        let command_failure = match by_command {
            Ok(minted) => return Ok(minted),
            Err(failure) => failure,
        };
        tracing::debug!(failure = %command_failure, "asking Ona's API for a token instead");
        self.ask_api(asking).await.map_err(|failure| {
            // Whatever it is, the command may be there the next time.
            let text = format!("no token from Ona: {command_failure}; and over its API: {failure}");
            MintError::transient(text, failure.pause())
        })
    }

    async fn ask_command(&self, command: &Path, asking: &Asking<'_>) -> Result<Minted, String> {
        let audience = asking.audience().map_err(|error| error.to_string())?;
        let name = command.file_name().unwrap_or_default().to_string_lossy();
        let arguments = ["idp", "token", "--audience", audience];
        // Half of the attempt is left for the way over the API.
        let timeout = COMMAND_TIMEOUT.min(asking.timeout / 2);
        let printed = command::output(command, &arguments, &self.environment, Path::new("/"), timeout)
            .await
            .map_err(|error| format!("`{name} idp token` {error}"))?;
        let token = token(&printed, &format!("what `{name} idp token` printed")).map_err(|error| error.to_string())?;
        if Claims::decode(token.expose()).is_none() {
            return Err(format!("`{name} idp token` printed something else than a token"));
        }
        Ok(Minted {
            fresh: true,
            ..Minted::bare(token)
        })
    }

    async fn ask_api(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        const WHOM: &str = "Ona's API";
        let url = Url::parse(&format!("{}/api/gitpod.v1.IdentityService/GetIDToken", self.api))
            .ok()
            .filter(web::may_carry_secret)
            .ok_or_else(|| {
                MintError::Config(
                    "the environment's token goes over TLS only, and the API's address has none".to_owned(),
                )
            })?;
        let own = file::read(&self.token_file).await?;
        let own = own.token.ok_or_else(|| MintError::Transient("no token".to_owned()))?;
        let client = web::client(asking.ca_file)?;
        // No version is asked for: which claims come is the organisation's decision.
        let body = serde_json::json!({ "audience": [asking.audience()?] });
        let request = client
            .post(url)
            .header(http::header::AUTHORIZATION, bearer(&own)?)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let answered = answer::ask(request, WHOM, "the organisation may not allow ID tokens").await?;
        Ok(Minted {
            fresh: true,
            ..answer::member(&answered, "token", WHOM)?
        })
    }
}

/// `https://app.gitpod.io`, or another host of the vendor's.
fn is_vendors(host: &str) -> bool {
    Url::parse(host).is_ok_and(|url| {
        let name = url.host_str().unwrap_or_default();
        url.scheme() == "https"
            && ["gitpod.io", "ona.com"].iter().any(|domain| {
                name.strip_suffix(domain)
                    .is_some_and(|before| before.is_empty() || before.ends_with('.'))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_leads_the_environments_token_to_the_vendor_only() {
        for fine in ["https://app.gitpod.io", "https://eu.app.ona.com/", "https://gitpod.io"] {
            assert!(is_vendors(fine), "{fine}");
        }
        for not in [
            "http://app.gitpod.io",
            "https://evilgitpod.io",
            "https://app.gitpod.io.evil.example",
            "app.gitpod.io",
            "https://evil.example/gitpod.io",
        ] {
            assert!(!is_vendors(not), "{not}");
        }
    }
}
