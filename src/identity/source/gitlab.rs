//! `gitlab`: the ID token that GitLab CI put into a variable when the job began. It names the person who started the
//! pipeline. There is one for the whole job: it is not renewed, and once it ends nothing is sent until the next job.
//!
//! The document: "OpenID Connect (OIDC) Authentication Using ID Tokens", docs.gitlab.com/ci/secrets/id_token_authentication.

use super::{Asking, MintError, Minted, token};
use crate::{
    identity::{claims::Claims, secret::Secret},
    workspace::Env,
};

/// The job's variables that hold a token of GitLab's shape, under the names that `id_tokens:` gave them.
#[derive(Clone, Debug)]
pub struct Gitlab {
    /// `identity.env`, if that is set.
    wanted: Option<String>,
    found: Vec<(String, Secret)>,
}

impl Gitlab {
    /// The variable that is `wanted`, or the one that holds an ID token of this job.
    pub fn new(wanted: Option<&str>, env: &Env) -> Gitlab {
        let is_job_token =
            |value: &str| Claims::decode(value).is_some_and(|claims| claims.text("project_path").is_some());
        Gitlab {
            wanted: wanted.map(str::to_owned),
            found: env
                .0
                .iter()
                .filter(|(name, value)| {
                    wanted.map_or_else(|| is_job_token(value.trim()), |wanted| wanted == name.as_str())
                })
                .map(|(name, value)| (name.clone(), Secret::new(value.trim().to_owned())))
                .collect(),
        }
    }

    /// Whether the job has such a variable.
    pub fn is_here(env: &Env) -> bool {
        env.get("GITLAB_CI").is_some() && !Gitlab::new(None, env).found.is_empty()
    }

    pub(super) fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        if let Some(wanted) = &self.wanted {
            let Some((_, value)) = self.found.first() else {
                return Err(MintError::NeedsUser(format!(
                    "the variable {wanted} was not set when the agent started: name it under `id_tokens:` of the job"
                )));
            };
            return token(value.expose().as_bytes(), &format!("the variable {wanted}")).map(Minted::bare);
        }
        let audience = asking.audience()?;
        let fits = |value: &Secret| {
            Claims::decode(value.expose()).is_some_and(|claims| claims.audiences().contains(&audience))
        };
        match self.found.iter().find(|(_, value)| fits(value)) {
            Some((name, value)) => token(value.expose().as_bytes(), &format!("the variable {name}")).map(Minted::bare),
            None => Err(MintError::NeedsUser(format!(
                "no variable of this job holds an ID token for {audience}: name one under `id_tokens:` with that `aud`"
            ))),
        }
    }
}
