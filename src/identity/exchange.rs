//! From the workspace's token to the one that upstream takes (`identity.exchange`): one form POST to a token endpoint,
//! and for Google perhaps a second one that borrows a service account. There is no third step.
//!
//! What the workspace's token says of the person is kept beside the new one, which may be opaque or name a machine.
//! Nothing is cached: an exchange is as rare as a new credential.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;
use url::Url;

use super::{
    claims::Claims,
    discovery,
    grant::{self, GrantError, Refusal},
    proof::Proof,
    secret::Secret,
    source::{Asking, MintError, Minted, bearer, member},
    web,
};

/// Google's Security Token Service ("Method: token", cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token).
pub const GOOGLE_STS: &str = "https://sts.googleapis.com/v1/token";
/// The audience that Entra wants in the tokens of others ("Workload identity federation",
/// learn.microsoft.com/entra/workload-id/workload-identity-federation).
pub const ENTRA_AUDIENCE: &str = "api://AzureADTokenExchange";
/// Where service accounts are borrowed ("Method: projects.serviceAccounts.generateIdToken",
/// cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateIdToken).
const GOOGLE_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";
/// What a federated token of Google's is good for; the service account's roles say the rest.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Form parameters that no setting may replace.
const KEPT: [&str; 5] = [
    "grant_type",
    "subject_token",
    "client_assertion",
    "client_assertion_type",
    "client_secret",
];

/// One exchange, complete.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Which of them.
    pub grant: Grant,
    /// Where it is made.
    pub endpoint: TokenEndpoint,
    /// What the workspace's token is asked for.
    pub subject_audience: String,
    /// What the new token is asked for; not sent where it is none.
    pub audience: Option<String>,
    /// What the new token is to be good for; not sent where there are none.
    pub scopes: Vec<String>,
    /// Who asks, where the endpoint knows its clients.
    pub client_id: Option<String>,
    /// Read anew for each exchange.
    pub client_secret_file: Option<PathBuf>,
    /// Further form parameters, among which a key may be. They replace ours, but for those that carry a secret or name
    /// the grant.
    pub parameters: BTreeMap<String, Secret>,
}

/// The closed set of exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// RFC 8693.
    TokenExchange,
    /// Client credentials, with the workspace's token as the client's assertion: RFC 7523 section 2.2.
    ClientAssertion,
    /// RFC 8693 as Google speaks it.
    /// `audience` is the pool's provider; the service account is borrowed in a second step.
    GoogleSts(Option<ServiceAccount>),
}

/// A service account of Google's to borrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// As Google names it.
    pub email: String,
    /// Whom its ID token is for; asked for where there are no scopes.
    pub audience: Option<String>,
    /// Where it is borrowed, in place of Google.
    pub origin: Option<Url>,
}

/// Where to post to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenEndpoint {
    /// There.
    At(Url),
    /// The issuer's own metadata says.
    Of(String),
}

/// One link of the chain from the platform to the token that upstream sees, and how it went the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was asked.
    pub name: &'static str,
    /// Where, or for whom.
    pub with: String,
    /// Why it failed; the steps after it were not taken.
    pub trouble: Option<String>,
    /// Scopes that were asked for and not granted, by the word of whoever was asked.
    pub not_granted: Vec<String>,
}

impl Step {
    /// Keeps what became of it.
    pub fn note(steps: &mut Vec<Step>, name: &'static str, with: String, result: &Result<Minted, MintError>) {
        let (trouble, not_granted) = match result {
            Ok(minted) => (None, minted.not_granted.clone()),
            Err(error) => (Some(error.to_string()), Vec::new()),
        };
        steps.push(Step {
            name,
            with,
            trouble,
            not_granted,
        });
    }
}

impl Exchange {
    /// The value of `identity.exchange`.
    pub fn name(&self) -> &'static str {
        match self.grant {
            Grant::TokenExchange => "rfc8693",
            Grant::ClientAssertion => "client-assertion",
            Grant::GoogleSts(_) => "gcp-sts",
        }
    }

    /// Exchanges the workspace's token. Each step is noted.
    ///
    /// # Errors
    /// A step failed; nothing of a token or an answer is in the text.
    pub async fn swap(&self, own: Minted, asking: &Asking<'_>, steps: &mut Vec<Step>) -> Result<Minted, MintError> {
        let Some(subject) = own.token else {
            return Err(MintError::Config(
                "there is no token of the workspace's to exchange".to_owned(),
            ));
        };
        let client = web::client(asking.ca_file)?;
        let taken = self.post(&client, &subject).await;
        Step::note(steps, self.name(), self.place(), &taken);
        let mut minted = taken?;
        if let Grant::GoogleSts(Some(account)) = &self.grant {
            let borrowed = self.borrow(&client, &minted, account).await;
            Step::note(steps, "service account", account.email.clone(), &borrowed);
            minted = borrowed?;
        }
        minted.subject = Claims::decode(subject.expose());
        Ok(minted)
    }

    /// Where the exchange is, for people.
    pub fn place(&self) -> String {
        match &self.endpoint {
            TokenEndpoint::At(url) => url.host_str().unwrap_or_default().to_owned(),
            TokenEndpoint::Of(issuer) => issuer.clone(),
        }
    }

    async fn post(&self, client: &reqwest::Client, subject: &Secret) -> Result<Minted, MintError> {
        let (endpoint, methods) = match &self.endpoint {
            TokenEndpoint::At(url) => (url.clone(), None),
            TokenEndpoint::Of(issuer) => {
                let metadata = discovery::discover(client, issuer).await?;
                (
                    metadata.token_endpoint,
                    Some(metadata.token_endpoint_auth_methods_supported),
                )
            }
        };
        let id = self.client_id.as_deref().unwrap_or_default();
        let proof = Proof::of(id, self.client_secret_file.as_deref(), methods.as_deref()).await?;
        let scope = self.scope();
        let form = self.form(subject, &scope);
        let whom = format!("the issuer at {}", self.place());
        let tokens = grant::request(client, &endpoint, &form, proof.as_ref(), &whom)
            .await
            .map_err(|error| self.explain(error, &whom))?;
        Ok(Minted {
            lifetime: tokens.lifetime,
            date: tokens.date,
            not_granted: tokens.not_granted(&self.scopes).unwrap_or_default(),
            ..Minted::bare(tokens.access)
        })
    }

    fn form<'a>(&'a self, subject: &'a Secret, scope: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut form = match self.grant {
            Grant::TokenExchange => vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token", subject.expose()),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ],
            Grant::ClientAssertion => vec![
                ("grant_type", "client_credentials"),
                (
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ),
                ("client_assertion", subject.expose()),
            ],
            Grant::GoogleSts(_) => vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token", subject.expose()),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ],
        };
        let optional = [
            ("client_id", self.client_id.as_deref()),
            ("audience", self.audience.as_deref()),
            ("scope", Some(scope).filter(|scope| !scope.is_empty())),
        ];
        form.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        for (name, value) in &self.parameters {
            if KEPT.contains(&name.as_str()) {
                continue;
            }
            // A parameter must not be sent twice (RFC 6749 section 3.2).
            form.retain(|(ours, _)| ours != name);
            form.push((name, value.expose()));
        }
        form
    }

    fn scope(&self) -> String {
        match &self.grant {
            // With a service account, the scopes are asked of that.
            Grant::GoogleSts(Some(_)) => GOOGLE_SCOPE.to_owned(),
            Grant::GoogleSts(None) if self.scopes.is_empty() => GOOGLE_SCOPE.to_owned(),
            _ => self.scopes.join(" "),
        }
    }

    /// With scopes an access token of the service account's, without any an ID token for the audience.
    async fn borrow(
        &self,
        client: &reqwest::Client,
        federated: &Minted,
        account: &ServiceAccount,
    ) -> Result<Minted, MintError> {
        const WHOM: &str = "Google's IAM Credentials API";
        let (method, name, body) = match &account.audience {
            _ if !self.scopes.is_empty() => ("generateAccessToken", "accessToken", json!({ "scope": self.scopes })),
            Some(audience) => {
                let body = json!({ "audience": audience, "includeEmail": true });
                ("generateIdToken", "token", body)
            }
            None => {
                return Err(MintError::Config(
                    "nothing to ask the service account for: set identity.audience or identity.scopes".to_owned(),
                ));
            }
        };
        let origin = account.origin.as_ref().map_or(GOOGLE_CREDENTIALS, Url::as_str);
        let origin = origin.trim_end_matches('/');
        let email: String = url::form_urlencoded::byte_serialize(account.email.as_bytes()).collect();
        let url = Url::parse(&format!("{origin}/v1/projects/-/serviceAccounts/{email}:{method}"))
            .ok()
            .filter(web::may_carry_secret)
            .ok_or_else(|| MintError::Config(format!("{WHOM} is not reached over TLS")))?;
        let Some(token) = &federated.token else {
            return Err(MintError::Transient("Google gave no token".to_owned()));
        };
        let request = client
            .post(url)
            .header(http::header::AUTHORIZATION, bearer(token)?)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let answer = web::ask(request, WHOM).await.map_err(MintError::Transient)?;
        match answer.status {
            200..300 => member(&answer, name, WHOM),
            status @ (401 | 403 | 404) => Err(MintError::Transient(format!(
                "{WHOM} answered {status}: let the workload identity be a user of the service account \
                 (roles/iam.workloadIdentityUser), and enable the API in its project"
            ))),
            status => Err(MintError::transient(
                format!("{WHOM} answered {status}"),
                answer.retry_after,
            )),
        }
    }

    /// What an issuer's refusal means for an exchange.
    fn explain(&self, error: GrantError, whom: &str) -> MintError {
        match error {
            GrantError::Refused(Refusal::InvalidGrant | Refusal::AccessDenied) => MintError::Transient(format!(
                "{whom} does not take the workspace's token: it has to trust that token's issuer, subject and audience \
                 ({})",
                self.subject_audience
            )),
            GrantError::Refused(Refusal::InvalidClient) if self.grant == Grant::ClientAssertion => {
                MintError::Transient(format!(
                    "{whom} does not take the workspace's token for this client (invalid_client): compare \
                     identity.client_id, and issuer, subject and audience ({}) of its federated credential",
                    self.subject_audience
                ))
            }
            other => other.into(),
        }
    }
}
