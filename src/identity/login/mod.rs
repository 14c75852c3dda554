//! Logins of people: the device grant, and a code with PKCE on a loopback redirect. What comes of one is a refresh
//! token to keep and a first access token.
//!
//! Nothing here opens a browser, prints, or asks twice: the caller shows a person where to go, and the login waits for
//! an answer until the issuer's own limit.

pub mod browser;
pub mod device;

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::{
    claims::Claims,
    discovery::Metadata,
    grant::{GrantError, Tokens},
    keep::Shown,
    proof::Proof,
    secret::Secret,
    source::MintError,
    web,
};

/// How long an issuer's answer to a revocation is waited for: it is a courtesy.
const REVOCATION: Duration = Duration::from_secs(2);

/// Who logs in where, for what: everything that makes two logins different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The issuer's URL, as it writes it.
    pub issuer: String,
    /// RFC 6749 section 2.2.
    pub client_id: String,
    /// Where the client's secret is, if it is no public client (RFC 6749 section 2.1).
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for, in the order in which it is.
    pub scopes: Vec<String>,
    /// Whom the tokens are to be for.
    pub audience: String,
}

/// Why a login did not come about. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The issuer refused, or could not be asked.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The client cannot prove that it is itself.
    #[error(transparent)]
    Proof(#[from] MintError),
    /// Nobody came in time.
    #[error("nobody confirmed the login in time")]
    TooLate,
    /// The issuer has no such thing.
    #[error("the issuer has no {0}: {1}")]
    NotOffered(&'static str, &'static str),
    /// What came back is not the answer to what was asked.
    #[error("{0}")]
    Foreign(String),
    /// For the browser to come back to; with what the system said.
    #[error("no port of this machine can be listened on: {0}")]
    Port(String),
}

impl App {
    /// Names this login among others: 16 hex digits.
    pub fn name(&self) -> String {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let parts = [&self.issuer, &self.client_id, &self.audience];
        for part in parts.into_iter().chain(&self.scopes) {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        super::hex(&context.finish().as_ref()[..8])
    }

    /// What proves to this issuer that the client is itself.
    pub(super) async fn proof(&self, metadata: &Metadata) -> Result<Option<Proof>, MintError> {
        let methods = &metadata.token_endpoint_auth_methods_supported;
        Proof::of(&self.client_id, self.client_secret_file.as_deref(), Some(methods)).await
    }

    /// `scope`, as it is asked for.
    fn scope(&self) -> String {
        self.scopes.join(" ")
    }

    /// The audience in the words that issuers know: `resource` (RFC 8707) where it is a URI, and `audience`, which is
    /// older and of which Auth0 makes a token's format depend. Entra refuses requests with `resource` (AADSTS901002)
    /// and takes the audience from the scopes.
    pub(super) fn audience_words(&self) -> Vec<(&'static str, &str)> {
        let is_entra = Url::parse(&self.issuer).is_ok_and(|url| {
            url.host_str()
                .is_some_and(|host| host.starts_with("login.microsoftonline.") || host == "sts.windows.net")
        });
        if is_entra || self.audience.is_empty() {
            return Vec::new();
        }
        let mut words = vec![("audience", self.audience.as_str())];
        // RFC 8707 section 2: an absolute URI without a fragment.
        if Url::parse(&self.audience).is_ok_and(|url| url.fragment().is_none()) {
            words.push(("resource", self.audience.as_str()));
        }
        words
    }

    /// Which token upstream can read: the access token, if it is a JWT; else the ID token, if there is one.
    pub fn choose(&self, tokens: &Tokens) -> Shown {
        let is_jwt = |token: &Secret| Claims::decode(token.expose()).is_some();
        if !is_jwt(&tokens.access) && tokens.id.as_ref().is_some_and(is_jwt) {
            Shown::Id
        } else {
            Shown::Access
        }
    }
}

/// Asks the issuer to forget a refresh token (RFC 7009). True if it said that it did; nothing depends on it.
pub async fn revoke(client: &reqwest::Client, metadata: &Metadata, app: &App, token: &Secret) -> bool {
    let Some(endpoint) = &metadata.revocation_endpoint else {
        return false;
    };
    let form = [
        ("token", token.expose()),
        ("token_type_hint", "refresh_token"),
        ("client_id", app.client_id.as_str()),
    ];
    let Ok(proof) = app.proof(metadata).await else {
        return false;
    };
    let request = super::grant::prepare(client, endpoint, &form, proof.as_ref());
    let asked = tokio::time::timeout(REVOCATION, web::ask(request, "the issuer")).await;
    matches!(asked, Ok(Ok(answer)) if answer.is_success())
}

#[cfg(test)]
mod tests;
