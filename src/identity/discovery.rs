//! From one address to everything that a login needs: an issuer's endpoints (RFC 8414, OpenID Connect Discovery 1.0)
//! and an upstream's word on which issuer it believes (RFC 9728).
//!
//! Whoever answers must call itself what it was asked for: a document that names another issuer or another resource
//! is refused, because it would send a person's login somewhere else. Nothing is cached and nothing is guessed.

use std::time::Duration;

use url::Url;

use super::{
    source::MintError,
    web::{self, Object},
};

const OIDC: &str = ".well-known/openid-configuration";
const OAUTH: &str = ".well-known/oauth-authorization-server";
const RESOURCE: &str = ".well-known/oauth-protected-resource";

/// What an issuer says of itself. An endpoint that it does not have is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// As the issuer writes it, which is as it was asked for.
    pub issuer: String,
    /// RFC 6749 section 3.2.
    pub token_endpoint: Url,
    /// RFC 6749 section 3.1.
    pub authorization_endpoint: Option<Url>,
    /// RFC 8628 section 4.
    pub device_authorization_endpoint: Option<Url>,
    /// RFC 7009; many issuers have none.
    pub revocation_endpoint: Option<Url>,
    /// RFC 7517 section 5.
    pub jwks_uri: Option<Url>,
    /// Empty where it is not said.
    pub scopes_supported: Vec<String>,
    /// Empty where it is not said.
    pub grant_types_supported: Vec<String>,
    /// RFC 8414 section 2: empty where it is not said.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// RFC 7636: empty where it is not said.
    pub code_challenge_methods_supported: Vec<String>,
    /// RFC 9207: the answer at the redirect names its issuer.
    pub names_itself_in_redirects: bool,
}

/// What an upstream says of the tokens that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its own identifier, which is what it was asked for.
    pub resource: String,
    /// `authorization_servers`; never empty.
    pub issuers: Vec<String>,
    /// `scopes_supported`: what a token for it should be asked with.
    pub scopes: Vec<String>,
    /// `client_id`: a further parameter (RFC 9728 section 2 allows them): the public client to log in as.
    pub client_id: Option<String>,
    /// `audience`, a further parameter too; else the identifier.
    pub audience: String,
}

/// Why nothing was found. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Worth trying again.
    #[error("{0}")]
    Transient(String),
    /// The same, and whoever answered said how long to leave it alone.
    #[error("{0}")]
    Later(String, Duration),
    /// Wrong until somebody changes a setting, or the issuer.
    #[error("{0}")]
    Wrong(String),
}

impl From<DiscoveryError> for MintError {
    fn from(error: DiscoveryError) -> MintError {
        match error {
            DiscoveryError::Transient(text) => MintError::Transient(text),
            DiscoveryError::Later(text, pause) => MintError::Later(text, pause),
            DiscoveryError::Wrong(text) => MintError::Config(text),
        }
    }
}

impl Metadata {
    /// Whether the issuer says that it knows PKCE with S256 (RFC 7636 section 4.2). One that says nothing may know it too.
    pub fn has_pkce(&self) -> bool {
        self.code_challenge_methods_supported
            .iter()
            .any(|method| method == "S256")
    }
}

/// Asks an issuer for its endpoints: OpenID Connect's document first, then RFC 8414's.
///
/// # Errors
/// The issuer is no https URL (http on loopback), cannot be reached, has no document, or calls itself otherwise.
pub async fn discover(client: &reqwest::Client, issuer: &str) -> Result<Metadata, DiscoveryError> {
    let url = checked(issuer, "the issuer")?;
    let places = [appended(&url, OIDC), inserted(&url, OAUTH)];
    let found = first_document(client, &places, &format!("the issuer {issuer}")).await?;
    let Some(document) = found else {
        return Err(DiscoveryError::Wrong(format!(
            "{issuer} has no discovery document: compare identity.issuer with `iss` in a token of its"
        )));
    };
    metadata(&document, issuer, &url)
}

/// Asks an upstream which issuer it believes: at its own path first, then for the whole origin.
///
/// # Errors
/// The upstream is no https URL (http on loopback), cannot be reached, has no document, or the document is another's.
pub async fn protected_resource(client: &reqwest::Client, upstream: &Url) -> Result<Resource, DiscoveryError> {
    checked(upstream.as_str(), "the endpoint")?;
    let mut identifiers = vec![upstream.clone()];
    if upstream.path() != "/" {
        let mut origin = upstream.clone();
        origin.set_path("");
        identifiers.push(origin);
    }
    for identifier in identifiers {
        let places = [inserted(&identifier, RESOURCE)];
        if let Some(document) = first_document(client, &places, &format!("the endpoint {upstream}")).await? {
            return resource(&document, &identifier);
        }
    }
    Err(DiscoveryError::Wrong(format!(
        "{upstream} does not say which issuer it believes (RFC 9728): set identity.issuer and identity.client_id"
    )))
}

/// The first place that has a JSON object; none if all say that there is nothing.
async fn first_document(
    client: &reqwest::Client,
    places: &[Url],
    whom: &str,
) -> Result<Option<Object>, DiscoveryError> {
    let mut trouble = None;
    for place in places {
        let request = client
            .get(place.clone())
            .header(http::header::ACCEPT, "application/json");
        match web::ask(request, whom).await {
            Ok(answer) if answer.is_success() => match answer.object() {
                Some(object) => return Ok(Some(object)),
                // A captive portal answers everything with a page.
                None => trouble = Some(format!("{whom} answered with something else than JSON")),
            },
            Ok(answer) if answer.is_transient() => {
                let text = format!("{whom} answered {}", answer.status);
                match answer.retry_after {
                    // Whoever wants to be left alone is not asked at the other place either.
                    Some(pause) => return Err(DiscoveryError::Later(text, pause)),
                    None => trouble = Some(text),
                }
            }
            // Not here; perhaps at the other place.
            Ok(_) => {}
            Err(text) => trouble = Some(text),
        }
    }
    match trouble {
        Some(text) => Err(DiscoveryError::Transient(text)),
        None => Ok(None),
    }
}

fn metadata(document: &Object, asked: &str, url: &Url) -> Result<Metadata, DiscoveryError> {
    let named = document.text("issuer").unwrap_or_default();
    // RFC 8414 section 3.3 and OpenID Connect Discovery section 4.3: identical, to the letter.
    if named != asked {
        let close = named.trim_end_matches('/') == asked.trim_end_matches('/');
        return Err(DiscoveryError::Wrong(if close {
            format!("the issuer calls itself {named}: set identity.issuer to that, to the letter")
        } else {
            format!("what answers at {asked} calls itself another issuer: set identity.issuer to `iss` of its tokens")
        }));
    }
    let endpoint = |name: &str| -> Result<Option<Url>, DiscoveryError> {
        let Some(text) = document.text(name) else {
            return Ok(None);
        };
        match Url::parse(text) {
            // What was asked over TLS does not lead out of it.
            Ok(found) if found.scheme() == "https" || (url.scheme() == "http" && web::is_loopback(&found)) => {
                Ok(Some(found))
            }
            _ => Err(DiscoveryError::Wrong(format!(
                "the issuer {asked} names a {name} that is not reached over TLS"
            ))),
        }
    };
    Ok(Metadata {
        issuer: asked.to_owned(),
        token_endpoint: endpoint("token_endpoint")?
            .ok_or_else(|| DiscoveryError::Wrong(format!("the issuer {asked} has no token endpoint")))?,
        authorization_endpoint: endpoint("authorization_endpoint")?,
        device_authorization_endpoint: endpoint("device_authorization_endpoint")?,
        revocation_endpoint: endpoint("revocation_endpoint")?,
        jwks_uri: endpoint("jwks_uri")?,
        scopes_supported: document.texts("scopes_supported"),
        grant_types_supported: document.texts("grant_types_supported"),
        token_endpoint_auth_methods_supported: document.texts("token_endpoint_auth_methods_supported"),
        code_challenge_methods_supported: document.texts("code_challenge_methods_supported"),
        names_itself_in_redirects: document
            .get("authorization_response_iss_parameter_supported")
            .is_some_and(|flag| flag == true),
    })
}

fn resource(document: &Object, identifier: &Url) -> Result<Resource, DiscoveryError> {
    let named = document.text("resource").unwrap_or_default();
    // RFC 9728 section 3.3. An origin is written with and without its slash.
    if !Url::parse(named).is_ok_and(|named| named == *identifier) {
        return Err(DiscoveryError::Wrong(format!(
            "what answers at {identifier} describes another resource: its `resource` has to be that address"
        )));
    }
    let issuers = document.texts("authorization_servers");
    if issuers.is_empty() {
        return Err(DiscoveryError::Wrong(format!(
            "{identifier} names no issuer (`authorization_servers`): set identity.issuer"
        )));
    }
    Ok(Resource {
        resource: named.to_owned(),
        issuers,
        scopes: document.texts("scopes_supported"),
        client_id: document.text("client_id").map(str::to_owned),
        audience: document.text("audience").unwrap_or(named).to_owned(),
    })
}

/// An address that may be believed: https, or http on loopback; neither query nor fragment (RFC 8414 section 2).
fn checked(text: &str, what: &str) -> Result<Url, DiscoveryError> {
    match Url::parse(text) {
        Ok(url) if web::may_carry_secret(&url) && url.query().is_none() && url.fragment().is_none() => Ok(url),
        _ => Err(DiscoveryError::Wrong(format!(
            "{what} {text} is no https URL without query and fragment"
        ))),
    }
}

/// `https://host/tenant` to `https://host/tenant/WELL-KNOWN` (OpenID Connect Discovery section 4.1).
fn appended(url: &Url, well_known: &str) -> Url {
    let mut place = url.clone();
    place.set_path(&format!("{}/{well_known}", url.path().trim_end_matches('/')));
    place
}

/// `https://host/tenant` to `https://host/WELL-KNOWN/tenant` (RFC 8414 section 3.1, RFC 9728 section 3.1).
fn inserted(url: &Url, well_known: &str) -> Url {
    let mut place = url.clone();
    place.set_path(&format!("/{well_known}{}", url.path().trim_end_matches('/')));
    place
}

#[cfg(test)]
mod tests;
