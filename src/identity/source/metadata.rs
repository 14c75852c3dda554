//! `gcp` and `azure`: tokens of the machine's own identity, from the metadata service of the cloud that it runs in.
//! They speak for the machine, and any code on it can have them: they name no person.
//!
//! The service is asked at its link-local address, never by a name that a name server could lead elsewhere, and never
//! through a proxy. Each cloud wants a header that no browser sends, so that no page can ask.
//!
//! The documents: "Verify VM identity", cloud.google.com/compute/docs/instances/verifying-instance-identity; "How to
//! use managed identities on an Azure VM to acquire an access token",
//! learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token.

use url::Url;

use super::{Asking, MintError, Minted, answer, token};
use crate::identity::web;

/// Where both clouds serve metadata.
const ADDRESS: &str = "http://169.254.169.254";

/// Google Compute Engine's metadata service.
#[derive(Clone, Debug)]
pub struct Gcp {
    origin: String,
}

/// Azure's Instance Metadata Service.
#[derive(Clone, Debug)]
pub struct Azure {
    origin: String,
    /// A user-assigned identity; without one, the machine's own.
    client_id: Option<String>,
}

impl Default for Gcp {
    fn default() -> Gcp {
        Gcp {
            origin: ADDRESS.to_owned(),
        }
    }
}

impl Gcp {
    /// Somewhere else on this machine or link.
    pub fn with_origin(mut self, origin: &str) -> Gcp {
        self.origin = origin.to_owned();
        self
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        const WHOM: &str = "Google's metadata service";
        let mut url = near(
            &self.origin,
            "/computeMetadata/v1/instance/service-accounts/default/identity",
        )?;
        url.query_pairs_mut()
            .append_pair("audience", asking.audience()?)
            .append_pair("format", "full");
        let request = direct()?.get(url).header("Metadata-Flavor", "Google");
        let advice = "this machine may have no service account, or the platform hides it";
        let answered = answer::ask(request, WHOM, advice).await?;
        Ok(Minted {
            date: answered.date,
            ..Minted::bare(token(answered.body(), &format!("what {WHOM} answered"))?)
        })
    }
}

impl Azure {
    /// The identity with this client id, or the machine's own.
    pub fn new(client_id: Option<&str>) -> Azure {
        Azure {
            origin: ADDRESS.to_owned(),
            client_id: client_id.map(str::to_owned),
        }
    }

    /// Somewhere else on this machine or link.
    pub fn with_origin(mut self, origin: &str) -> Azure {
        self.origin = origin.to_owned();
        self
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        const WHOM: &str = "Azure's metadata service";
        let mut url = near(&self.origin, "/metadata/identity/oauth2/token")?;
        url.query_pairs_mut()
            .append_pair("api-version", "2018-02-01")
            .append_pair("resource", asking.audience()?);
        if let Some(client_id) = &self.client_id {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        let request = direct()?.get(url).header("Metadata", "true");
        let answered = web::ask(request, WHOM).await.map_err(MintError::Transient)?;
        match answered.status {
            200..300 => answer::member(&answered, "access_token", WHOM),
            // 404 and 410 while the service itself is renewed, 429 where it is asked too often.
            status @ (404 | 408 | 410 | 429 | 500..) => Err(MintError::transient(
                format!("{WHOM} answered {status}"),
                answered.retry_after,
            )),
            // The other 4xx are mistakes in the request, which asking again does not mend.
            status @ 400..500 => Err(MintError::Config(format!(
                "{WHOM} answered {status}: identity.audience has to be the App ID URI of an application in Entra, and \
                 the machine has to have an identity (identity.client_id for one of its own choosing)"
            ))),
            status => Err(MintError::Transient(format!("{WHOM} answered {status}"))),
        }
    }
}

/// The service's address, if it is on this machine or link.
fn near(origin: &str, path: &str) -> Result<Url, MintError> {
    Url::parse(origin)
        .ok()
        .filter(web::is_near)
        .and_then(|origin| origin.join(path).ok())
        .ok_or_else(|| MintError::Config("the metadata service is asked on this link only".to_owned()))
}

/// Loopback and link-local addresses are never proxied by a client that is built here.
fn direct() -> Result<reqwest::Client, MintError> {
    Ok(web::client(None)?)
}
