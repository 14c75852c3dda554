//! `http`: a token from an address of the user's choosing, which answers with the token alone or with JSON.
//!
//! The address is https, or http on this machine or link. Its headers are secrets: they go there and nowhere else, and
//! no redirect is followed with them.

use url::Url;

use super::{Asking, MintError, Minted, answer};
use crate::identity::{secret::Secret, web};

const WHOM: &str = "the address in identity.url";
/// Stands for the audience in the address.
const AUDIENCE: &str = "%7Baudience%7D";

/// Where to ask, and how.
#[derive(Clone)]
pub struct Endpoint {
    url: Url,
    headers: http::HeaderMap,
    /// RFC 6901; without one, the whole answer is looked at.
    pointer: Option<String>,
}

/// The address may hold what is nobody's business.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({:?}, {} headers)", self.url.host_str(), self.headers.len())
    }
}

impl Endpoint {
    /// # Errors
    /// The address is not one that a secret may be sent to, or a header is none.
    pub fn new(url: Url, headers: &[(String, Secret)], pointer: Option<String>) -> Result<Endpoint, MintError> {
        if !(web::may_carry_secret(&url) || url.scheme() == "http" && web::is_near(&url)) {
            return Err(MintError::Config(
                "identity.url is no https URL (http on this machine or link only)".to_owned(),
            ));
        }
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            let bad = || MintError::Config("identity.http_headers holds what no header can".to_owned());
            let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let mut value = http::HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        Ok(Endpoint {
            url,
            headers: map,
            pointer,
        })
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        let client = web::client(asking.ca_file)?;
        let request = client.get(self.place(asking)?).headers(self.headers.clone());
        let advice = "check identity.url and identity.http_headers";
        let answered = answer::ask(request, WHOM, advice).await?;
        let whence = format!("what {WHOM} answered");
        let minted = match &self.pointer {
            Some(pointer) => answer::read_at(answered.body(), pointer, &whence)?,
            None => answer::read(answered.body(), &whence)?,
        };
        Ok(Minted {
            date: answered.date,
            ..minted
        })
    }

    fn place(&self, asking: &Asking<'_>) -> Result<Url, MintError> {
        let text = self.url.as_str();
        let marks = [AUDIENCE, "{audience}"];
        let Some(mark) = marks.into_iter().find(|mark| text.contains(mark)) else {
            return Ok(self.url.clone());
        };
        let audience: String = url::form_urlencoded::byte_serialize(asking.audience()?.as_bytes()).collect();
        Url::parse(&text.replace(mark, &audience))
            .ok()
            .filter(|url| url.origin() == self.url.origin())
            .ok_or_else(|| MintError::Config("identity.url is no URL with the audience in it".to_owned()))
    }
}
