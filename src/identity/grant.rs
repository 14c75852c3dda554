//! The one form POST to a token endpoint (RFC 6749 sections 4 to 6), for every grant: what is sent is the caller's,
//! what an answer means is decided here.
//!
//! Issuers answer in many ways that the RFC does not have: an error with status 200, a lifetime as a text, a page of
//! HTML from a captive portal. An answer is final only where it says so in a word that is known; everything else is
//! worth another try. No text of an issuer's is ever repeated: it may hold what was sent.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use url::Url;
use zeroize::Zeroizing;

use super::{
    claims::{self, MAX_TOKEN_BYTES},
    proof::Proof,
    secret::Secret,
    source::MintError,
    web::{self, Object},
};

/// What a token endpoint gave.
#[derive(Debug)]
pub struct Tokens {
    /// RFC 6749 section 5.1.
    pub access: Secret,
    /// OpenID Connect Core section 3.1.3.3; absent in most answers to a refresh.
    pub id: Option<Secret>,
    /// Absent: the one that was sent stays good (RFC 6749 section 6).
    pub refresh: Option<Secret>,
    /// `expires_in`; none where it is missing or says nothing (0).
    pub lifetime: Option<Duration>,
    /// What was granted; none where it is what was asked for.
    pub scope: Option<String>,
    /// The issuer's time.
    pub date: Option<SystemTime>,
}

/// Of OpenID Connect itself; many issuers grant them without saying so.
const OIDC_SCOPES: [&str; 6] = ["openid", "offline_access", "profile", "email", "address", "phone"];

/// What was asked for in words of upstream's and is not among what was granted.
pub fn not_granted(asked: &[String], granted: &[&str]) -> Vec<String> {
    // Entra writes what follows the API's URI, and asks for all with `.default`.
    let last = |scope: &str| scope.rsplit('/').next().unwrap_or_default().to_owned();
    let is_missing = |scope: &&String| {
        !OIDC_SCOPES.contains(&scope.as_str())
            && last(scope) != ".default"
            && !granted.iter().any(|one| one == scope || *one == last(scope))
    };
    asked.iter().filter(is_missing).cloned().collect()
}

impl Tokens {
    /// What was asked for and not granted, by the answer's own word; none where that says nothing, which means that
    /// what is granted is what was asked for (RFC 6749 section 5.1) or had been granted before (section 6).
    pub fn not_granted(&self, asked: &[String]) -> Option<Vec<String>> {
        let granted: Vec<&str> = self.scope.as_deref()?.split_whitespace().collect();
        Some(not_granted(asked, &granted))
    }
}

/// The words that decide anything: RFC 6749 section 5.2, RFC 8628 section 3.5, RFC 8693 section 2.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What was shown (a refresh token, a code, a subject's token) is not good, or not any more.
    InvalidGrant,
    /// The client is not known, or did not prove itself.
    InvalidClient,
    /// The client may not use this grant.
    UnauthorizedClient,
    /// The issuer does not have this grant.
    UnsupportedGrantType,
    /// A scope is not known, or more than may be granted.
    InvalidScope,
    /// A parameter is missing or wrong.
    InvalidRequest,
    /// The audience is not known, or not allowed.
    InvalidTarget,
    /// The person has not answered yet.
    AuthorizationPending,
    /// The same, and from now on five seconds more between questions.
    SlowDown,
    /// The person said no.
    AccessDenied,
    /// The device code ended before the person answered.
    ExpiredToken,
}

/// Why there is no token. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The path, or the issuer's state of the moment.
    #[error("{0}")]
    Transient(String),
    /// The same, and the issuer said how long to leave it alone.
    #[error("{0}")]
    Later(String, Duration),
    /// The issuer said no, in a word that is known.
    #[error("{}", .0.words())]
    Refused(Refusal),
    /// The issuer said no, in a word that is not known: worth another try, but not for ever.
    #[error("the issuer refused (status {0}) without a reason that is known")]
    Unclear(u16),
    /// What it gave is of no use here, and will not be.
    #[error("{0}")]
    Useless(String),
}

impl From<GrantError> for MintError {
    fn from(error: GrantError) -> MintError {
        let text = error.to_string();
        match error {
            GrantError::Transient(_) | GrantError::Unclear(_) => MintError::Transient(text),
            GrantError::Later(_, pause) => MintError::Later(text, pause),
            GrantError::Refused(Refusal::AuthorizationPending | Refusal::SlowDown) => MintError::Transient(text),
            GrantError::Refused(Refusal::InvalidGrant | Refusal::AccessDenied | Refusal::ExpiredToken) => {
                MintError::NeedsUser(text)
            }
            GrantError::Refused(_) | GrantError::Useless(_) => MintError::Config(text),
        }
    }
}

/// Posts a form and reads the tokens out of the answer. `whom` names the issuer in errors.
///
/// # Errors
/// No answer, no tokens, or a refusal.
pub async fn request(
    client: &reqwest::Client,
    endpoint: &Url,
    form: &[(&str, &str)],
    proof: Option<&Proof>,
    whom: &str,
) -> Result<Tokens, GrantError> {
    let (object, date) = post(client, endpoint, form, proof, whom).await?;
    tokens(&object, date, whom)
}

/// Posts a form and gives the JSON object of a successful answer, with the answer's `Date`.
///
/// # Errors
/// No answer, no JSON, or a refusal.
pub async fn post(
    client: &reqwest::Client,
    endpoint: &Url,
    form: &[(&str, &str)],
    proof: Option<&Proof>,
    whom: &str,
) -> Result<(Object, Option<SystemTime>), GrantError> {
    if !web::may_carry_secret(endpoint) {
        return Err(GrantError::Useless(format!("{whom} is not reached over TLS")));
    }
    let request = prepare(client, endpoint, form, proof).header(http::header::ACCEPT, "application/json");
    let answer = web::ask(request, whom).await.map_err(GrantError::Transient)?;
    if answer.is_transient() {
        let text = format!("{whom} answered {}", answer.status);
        return Err(match answer.retry_after {
            Some(pause) => GrantError::Later(text, pause),
            None => GrantError::Transient(text),
        });
    }
    let object = answer.object();
    // With any status: GitHub's errors come with 200 (docs.github.com, "Authorizing OAuth apps", device flow).
    if let Some(word) = object.as_ref().and_then(|object| object.text("error")) {
        return Err(match Refusal::of(word) {
            Some(refusal) => GrantError::Refused(refusal),
            None if matches!(word, "temporarily_unavailable" | "server_error") => {
                GrantError::Transient(format!("{whom} is not available for the moment"))
            }
            None => GrantError::Unclear(answer.status),
        });
    }
    match object {
        Some(object) if answer.is_success() => Ok((object, answer.date)),
        None if answer.is_success() => Err(GrantError::Transient(format!(
            "{whom} answered with something else than JSON: a captive portal or proxy may stand between"
        ))),
        _ if matches!(answer.status, 400 | 401) => Err(GrantError::Unclear(answer.status)),
        _ => Err(GrantError::Transient(format!("{whom} answered {}", answer.status))),
    }
}

fn tokens(object: &Object, date: Option<SystemTime>, whom: &str) -> Result<Tokens, GrantError> {
    // RFC 6749 section 7.1: a token of a kind that is not known must not be used.
    let kind = object.text("token_type").unwrap_or("Bearer");
    if !kind.eq_ignore_ascii_case("Bearer") && !kind.eq_ignore_ascii_case("N_A") {
        return Err(GrantError::Useless(format!(
            "{whom} gives tokens of a kind that only a proof of possession makes good; ask it for bearer tokens"
        )));
    }
    let secret = |name: &str| -> Result<Option<Secret>, GrantError> {
        match object.text(name) {
            Some(text) if text.len() > MAX_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err(
                GrantError::Transient(format!("the {name} of {whom} is not one that a request may carry")),
            ),
            text => Ok(text.map(|text| Secret::new(text.to_owned()))),
        }
    };
    let lifetime = object.get("expires_in").and_then(claims::seconds);
    Ok(Tokens {
        access: secret("access_token")?
            .ok_or_else(|| GrantError::Transient(format!("{whom} answered without an access token")))?,
        id: secret("id_token")?,
        refresh: secret("refresh_token")?,
        lifetime: lifetime.filter(|seconds| *seconds > 0.0).map(Duration::from_secs_f64),
        scope: object.text("scope").map(str::to_owned),
        date,
    })
}

/// The request with a form, and with the client's proof where it has one.
pub(super) fn prepare(
    client: &reqwest::Client,
    endpoint: &Url,
    form: &[(&str, &str)],
    proof: Option<&Proof>,
) -> reqwest::RequestBuilder {
    let mut form = form.to_vec();
    form.extend(proof.and_then(Proof::form));
    let request = client
        .post(endpoint.clone())
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(encode(&form));
    match proof.and_then(Proof::header) {
        Some(value) => request.header(http::header::AUTHORIZATION, value),
        None => request,
    }
}

/// The form as bytes that are zeroed when the request is done with them.
fn encode(form: &[(&str, &str)]) -> Bytes {
    let longest: usize = form.iter().map(|(name, value)| name.len() + value.len() * 3 + 2).sum();
    // Room for all of it at once, or growing would leave copies behind.
    let mut text = url::form_urlencoded::Serializer::new(String::with_capacity(longest));
    text.extend_pairs(form);
    Bytes::from_owner(Zeroizing::new(text.finish().into_bytes()))
}

impl Refusal {
    fn of(word: &str) -> Option<Refusal> {
        Some(match word {
            "invalid_grant" => Refusal::InvalidGrant,
            "invalid_client" => Refusal::InvalidClient,
            "unauthorized_client" => Refusal::UnauthorizedClient,
            "unsupported_grant_type" => Refusal::UnsupportedGrantType,
            "invalid_scope" => Refusal::InvalidScope,
            "invalid_request" => Refusal::InvalidRequest,
            "invalid_target" => Refusal::InvalidTarget,
            "authorization_pending" => Refusal::AuthorizationPending,
            "slow_down" => Refusal::SlowDown,
            "access_denied" => Refusal::AccessDenied,
            "expired_token" => Refusal::ExpiredToken,
            _ => return None,
        })
    }

    /// What it means, and whose setting mends it.
    fn words(self) -> &'static str {
        match self {
            Refusal::InvalidGrant => "the issuer does not take the login any more (invalid_grant)",
            Refusal::InvalidClient => {
                "the issuer does not know the client, or not by its secret (invalid_client): check identity.client_id \
                 and identity.client_secret_file"
            }
            Refusal::UnauthorizedClient => {
                "the issuer does not let this client log in so (unauthorized_client): allow the grant there"
            }
            Refusal::UnsupportedGrantType => {
                "the issuer does not have this grant (unsupported_grant_type): allow it there, or use another source"
            }
            Refusal::InvalidScope => "the issuer refuses the scopes (invalid_scope): check identity.scopes",
            Refusal::InvalidRequest => {
                "the issuer takes the request for malformed (invalid_request): check client, scopes and audience"
            }
            Refusal::InvalidTarget => "the issuer refuses the audience (invalid_target): check identity.audience",
            Refusal::AuthorizationPending => "nobody has confirmed the login yet",
            Refusal::SlowDown => "the issuer wants to be asked more slowly",
            Refusal::AccessDenied => "the login was declined at the issuer (access_denied)",
            Refusal::ExpiredToken => "the code has expired before somebody confirmed it",
        }
    }
}

#[cfg(test)]
mod tests;
