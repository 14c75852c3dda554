//! Claims to a principal, by a table per issuer.
//!
//! A token is read here, never verified: the agent gets it over a channel that it trusts and shows it to an upstream
//! that does verify it. Nothing is authorised by what is read, and no claim's value is ever logged.

mod place;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use serde_json::{Map, Value};

use super::{Principal, hex, secret::Secret};
use crate::workspace::Trust;

/// Longer tokens are refused: no header of that size arrives anywhere.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Longer values are cut: a claim is a name or an id, and every resource carries it.
const MAX_ATTRIBUTE_CHARS: usize = 256;
/// Seconds of the year 9999; a later date is not one.
const MAX_NUMERIC_DATE: f64 = 253_402_300_799.0;

/// What of a person is stamped (`identity.attributes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attributes {
    /// `user.id`, `user.email` if verified, `user.name`, `user.full_name`.
    #[default]
    Full,
    /// `user.hash` alone.
    Pseudonym,
    /// Nothing that names a person.
    None,
}

/// The payload of a JWT, unverified. Personal, so its `Debug` prints `"..."`.
#[derive(Clone)]
pub struct Claims(Map<String, Value>);

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"...\"")
    }
}

/// Which claims name the person. `sub` alone does where nothing else is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// `sub` is the workspace's context URL.
    Gitpod,
    /// `sub` is the environment or project; `creator_*` is the person.
    Ona,
    /// `sub` is the project and its ref.
    GitlabCi,
    /// `sub` is the repository and its ref.
    GithubActions,
    /// `sub` is another for each application; `oid` is the person's ("Access token claims reference",
    /// learn.microsoft.com/entra/identity-platform/access-token-claims-reference).
    Entra,
    /// In an access token `sub` is the login name, which changes; `uid` does not ("Access token payload",
    /// developer.okta.com/docs/api/openapi/okta-oauth/guides/overview).
    Okta,
    /// A pipeline, a pod, a machine, an application: nobody.
    Workload,
    Oidc,
}

/// Issuers of Entra's tokens, of both versions and of the national clouds.
const ENTRA: [&str; 5] = [
    "https://login.microsoftonline.com/",
    "https://sts.windows.net/",
    "https://login.microsoftonline.us/",
    "https://login.partner.microsoftonline.cn/",
    "https://sts.chinacloudapi.cn/",
];

/// The texts of a JSON list; none where there is no list.
pub(super) fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Claims {
    /// None if it is not a JWT of three parts with a JSON object as payload (RFC 7519 section 3), or is over the limit.
    pub fn decode(token: &str) -> Option<Claims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut parts = token.split('.');
        let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        object(header)?;
        object(payload).map(Claims)
    }

    /// A claim that is a string, or a number written as one: ids come as both.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// `aud`, be it one or several.
    pub fn audiences(&self) -> Vec<&str> {
        match self.0.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// `scope`, one text with blanks (RFC 9068 section 2.2.3), or `scp`, which Entra writes so and Okta as a list.
    pub fn scopes(&self) -> Vec<&str> {
        match self.0.get("scope").or_else(|| self.0.get("scp")) {
            Some(Value::String(text)) => text.split_whitespace().collect(),
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// A NumericDate (RFC 7519 section 2): seconds since 1970, perhaps with a fraction.
    pub fn date(&self, name: &str) -> Option<SystemTime> {
        numeric_date(self.0.get(name)?)
    }

    /// Who the token speaks for, with everything that it says of them; none if it names nobody.
    pub fn principal(&self) -> Option<Principal> {
        let issuer = self.text("iss")?;
        let family = self.family(&issuer);
        let subject = self.text(match family {
            Family::Gitpod | Family::GitlabCi => "user_id",
            Family::Ona => "creator_id",
            Family::GithubActions => "actor_id",
            Family::Entra => "oid",
            Family::Okta => "uid",
            Family::Workload => return None,
            Family::Oidc => "sub",
        })?;
        let (email, name, full_name) = match family {
            Family::Ona => (None, None, self.text("creator_name")),
            Family::GitlabCi => (None, self.text("user_login"), None),
            Family::GithubActions => (None, self.text("actor"), None),
            Family::Okta => (None, self.text("sub"), None),
            Family::Entra => (
                // Entra does not say that an address was verified, and a tenant's owner can write any.
                None,
                ["preferred_username", "upn", "unique_name"]
                    .iter()
                    .find_map(|name| self.text(name)),
                self.text("name"),
            ),
            Family::Workload => (None, None, None),
            Family::Gitpod | Family::Oidc => (
                self.text("email").filter(|_| self.has_verified_email()),
                self.text("preferred_username").or_else(|| self.text("nickname")),
                self.text("name"),
            ),
        };
        let attributes = [
            ("user.id", Some(subject.clone())),
            ("user.email", email),
            ("user.name", name),
            ("user.full_name", full_name),
        ];
        Some(Principal {
            issuer,
            subject,
            attributes: attributes
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), tidy(&value?)?)))
                .collect(),
            trust: Trust::Verified,
        })
    }

    fn family(&self, issuer: &str) -> Family {
        let has = |name: &str| self.0.contains_key(name);
        let is_gitpod = issuer.starts_with("https://api.") && issuer.ends_with("/idp");
        if is_gitpod && has("user_id") && has("workspace_id") {
            Family::Gitpod
        } else if has("creator_id") && (has("environment_id") || has("creator_principal")) {
            match self.text("creator_principal").as_deref() {
                // A service account or an automation made the environment.
                Some(other) if !other.eq_ignore_ascii_case("user") && other != "PRINCIPAL_USER" => Family::Workload,
                _ => Family::Ona,
            }
        } else if has("actor_id") && has("repository_id") {
            // On an enterprise server the issuer is the server's own, so the shape decides.
            Family::GithubActions
        } else if has("user_id") && has("project_path") {
            Family::GitlabCi
        } else if self.is_workload(issuer) {
            Family::Workload
        } else if is_entra(issuer) {
            Family::Entra
        } else if has("uid") && has("cid") {
            Family::Okta
        } else {
            Family::Oidc
        }
    }

    /// The token speaks for something that is no person, by its issuer or by what it says of itself.
    fn is_workload(&self, issuer: &str) -> bool {
        let subject = self.text("sub").unwrap_or_default();
        let is = |name: &str, value: &str| self.text(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
        // A pipeline of Azure DevOps; a role of AWS; an environment of Ona's whose organisation has the older claims.
        let by_issuer = issuer.starts_with("https://vstoken.dev.azure.com/")
            || issuer.ends_with(".tokens.sts.global.api.aws")
            || issuer == "https://app.gitpod.io" && ["org:", "organization_id:"].iter().any(|p| subject.starts_with(p));
        // A pod's service account, and Google's.
        let by_account = self.0.contains_key("kubernetes.io")
            || subject.starts_with("system:serviceaccount:")
            || self
                .text("email")
                .is_some_and(|email| email.ends_with(".gserviceaccount.com"));
        // Client credentials: the subject is the client (RFC 9068 section 2.2); Entra's `idtyp`, or `oid` equal to
        // `sub`; Auth0's `gty`; Keycloak's user for each client.
        let clients = ["client_id", "azp", "cid", "appid"];
        let by_grant = is("idtyp", "app")
            || is("gty", "client-credentials")
            || is_entra(issuer) && self.0.contains_key("oid") && is("oid", &subject)
            || clients
                .iter()
                .filter_map(|name| self.text(name))
                .any(|client| client == subject || is("preferred_username", &format!("service-account-{client}")));
        by_issuer || by_account || by_grant
    }

    /// An address that the issuer did not verify may be anybody's; some issuers write the flag as a string.
    fn has_verified_email(&self) -> bool {
        match self.0.get("email_verified") {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }
}

impl Principal {
    /// The platform's word for the person, for a token that names nobody or for no token at all.
    pub fn platform(platform: &str, owner: &str) -> Principal {
        Principal::told(format!("platform:{platform}"), owner, Trust::Platform)
    }

    /// The OS user of a plain machine: nobody but the machine says so.
    pub fn os_user(hostname: &str, user: &str) -> Principal {
        let mut principal = Principal::told(format!("os:{hostname}"), user, Trust::Asserted);
        principal
            .attributes
            .extend(tidy(user).map(|user| ("user.name".to_owned(), user)));
        principal
    }

    fn told(issuer: String, subject: &str, trust: Trust) -> Principal {
        Principal {
            issuer,
            subject: subject.to_owned(),
            attributes: tidy(subject).map(|id| ("user.id".to_owned(), id)).into_iter().collect(),
            trust,
        }
    }

    /// The same principal with only what the mode lets be stamped. The key never leaves: without it a hash of so few
    /// possible inputs would be reversed by trying them.
    pub fn with_attributes(mut self, mode: Attributes, key: &Secret) -> Principal {
        match mode {
            Attributes::Full => {}
            Attributes::None => self.attributes.clear(),
            Attributes::Pseudonym => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
                let mut context = hmac::Context::with_key(&key);
                context.update(self.issuer.as_bytes());
                context.update(&[0]);
                context.update(self.subject.as_bytes());
                let hash = hex(&context.sign().as_ref()[..16]);
                self.attributes = vec![("user.hash".to_owned(), hash)];
            }
        }
        self
    }
}

/// A key for pseudonyms, to be kept where the next start finds it: another key is another pseudonym.
pub fn random_key() -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
    // Not the cryptography library's: it gathers 30 ms of jitter first, and every start makes a key.
    getrandom::fill(bytes.as_mut()).expect("the system's random source answers");
    Secret::new(hex(bytes.as_ref()))
}

/// Not its directories for customers (`b2clogin.com`, `ciamlogin.com`), whose persons have `oid` for `sub`.
fn is_entra(issuer: &str) -> bool {
    ENTRA.iter().any(|entra| issuer.starts_with(entra))
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part.trim_end_matches('='))
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Seconds since 1970 as a time; a string of digits counts, because some issuers write one.
pub(super) fn numeric_date(value: &Value) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs_f64(seconds(value)?))
}

/// `expires_in`, be it a number or a text of digits. Zero is "not said": whoever means "ended" gives no token.
pub(super) fn lifetime(value: &Value) -> Option<Duration> {
    seconds(value)
        .filter(|seconds| *seconds > 0.0)
        .map(Duration::from_secs_f64)
}

/// A number of seconds that a date or a lifetime could be.
pub(super) fn seconds(value: &Value) -> Option<f64> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    (0.0..=MAX_NUMERIC_DATE).contains(&seconds).then_some(seconds)
}

/// Without control characters, of bounded length, and not empty.
fn tidy(value: &str) -> Option<String> {
    let kept: String = value
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_ATTRIBUTE_CHARS)
        .collect();
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
pub(crate) mod tests;
