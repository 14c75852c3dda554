//! `github`: an ID token of a GitHub Actions job, from the address that the runner gives to jobs with
//! `permissions: id-token: write`. Outside of such a job, a codespace included, there is no address and so no token.
//!
//! The document: "OpenID Connect reference", docs.github.com/en/actions/reference/security/oidc.

use url::Url;

use super::{Asking, MintError, Minted, answer, bearer};
use crate::{
    identity::{secret::Secret, web},
    workspace::Env,
};

const WHOM: &str = "GitHub's token service";

/// What the runner said when the agent started.
#[derive(Clone, Debug)]
pub struct Github {
    url: Option<String>,
    token: Option<Secret>,
}

impl Github {
    /// What the job's variables say; whether they are there is found out by asking.
    pub fn new(env: &Env) -> Github {
        Github {
            url: env.get("ACTIONS_ID_TOKEN_REQUEST_URL").map(str::to_owned),
            token: env
                .get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
                .map(|token| Secret::new(token.to_owned())),
        }
    }

    /// Whether the runner offers tokens here.
    pub fn is_here(env: &Env) -> bool {
        env.get("ACTIONS_ID_TOKEN_REQUEST_URL").is_some() && env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN").is_some()
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        let audience = asking.audience()?;
        let (Some(url), Some(token)) = (&self.url, &self.token) else {
            return Err(MintError::NeedsUser(
                "this job gets no ID tokens: give it `permissions: id-token: write`".to_owned(),
            ));
        };
        let Some(mut url) = Url::parse(url).ok().filter(web::may_carry_secret) else {
            return Err(MintError::Config(
                "ACTIONS_ID_TOKEN_REQUEST_URL is no https URL, so the job's token is not sent there".to_owned(),
            ));
        };
        url.query_pairs_mut().append_pair("audience", audience);
        let client = web::client(asking.ca_file)?;
        let request = client
            .get(url)
            .header(http::header::AUTHORIZATION, bearer(token)?)
            .header(http::header::ACCEPT, "application/json");
        let advice = "check that the job has `permissions: id-token: write`; the permission to ask ends with the job";
        let answered = answer::ask(request, WHOM, advice).await?;
        Ok(Minted {
            fresh: true,
            ..answer::member(&answered, "value", WHOM)?
        })
    }
}
