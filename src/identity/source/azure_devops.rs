//! `azure-devops`: an ID token of an Azure Pipelines job. Its audience is Microsoft's to choose and always
//! `api://AzureADTokenExchange`, so it serves best as the first half of an exchange. It names no person.
//!
//! The document: "Oidctoken - Create", learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create.

use url::Url;

use super::{Asking, MintError, Minted, answer, bearer};
use crate::{
    identity::{secret::Secret, web},
    workspace::Env,
};

const WHOM: &str = "Azure DevOps";
const API_VERSION: &str = "7.1-preview.1";

/// What the job's environment said when the agent started.
#[derive(Clone, Debug)]
pub struct AzureDevops {
    url: Option<String>,
    token: Option<Secret>,
    /// The service connection that the token is to speak for; without one it speaks for the pipeline.
    service_connection: Option<String>,
}

impl AzureDevops {
    /// What the job's variables say; whether they are there is found out by asking.
    pub fn new(service_connection: Option<&str>, env: &Env) -> AzureDevops {
        AzureDevops {
            url: env.get("SYSTEM_OIDCREQUESTURI").map(str::to_owned),
            token: env.get("SYSTEM_ACCESSTOKEN").map(|token| Secret::new(token.to_owned())),
            service_connection: service_connection.map(str::to_owned),
        }
    }

    /// Whether the job can ask.
    pub fn is_here(env: &Env) -> bool {
        env.get("SYSTEM_OIDCREQUESTURI").is_some() && env.get("SYSTEM_ACCESSTOKEN").is_some()
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        let Some(url) = &self.url else {
            return Err(MintError::NeedsUser(
                "SYSTEM_OIDCREQUESTURI is not set: this is no job of Azure Pipelines".to_owned(),
            ));
        };
        let Some(token) = &self.token else {
            return Err(MintError::NeedsUser(
                "the job's own token is not in reach: map it into the step, `env: SYSTEM_ACCESSTOKEN: \
                 $(System.AccessToken)`"
                    .to_owned(),
            ));
        };
        let Some(mut url) = Url::parse(url).ok().filter(web::may_carry_secret) else {
            return Err(MintError::Config(
                "SYSTEM_OIDCREQUESTURI is no https URL, so the job's token is not sent there".to_owned(),
            ));
        };
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        if let Some(connection) = &self.service_connection {
            url.query_pairs_mut().append_pair("serviceConnectionId", connection);
        }
        let client = web::client(asking.ca_file)?;
        let request = client
            .post(url)
            .header(http::header::AUTHORIZATION, bearer(token)?)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::CONTENT_LENGTH, "0");
        let advice = "check System.AccessToken, and identity.service_connection if it is set";
        let answered = answer::ask(request, WHOM, advice).await?;
        // A token that is not taken gets a sign-in page, with 203.
        Ok(Minted {
            fresh: true,
            ..answer::member(&answered, "oidcToken", WHOM)?
        })
    }
}
