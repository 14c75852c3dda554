//! `identity.*`: where credentials come from, worked out from what is set and from where this is.
//!
//! The choice of "auto" is made once, here, and comes with its reason. Nothing is asked for over the network, and no
//! variable's value is read but for whether it is there.

use super::{
    Address, Attributes, Credential, Export, Identity, Origin, Platform, Secret, Settings,
    resolve::{ENDPOINT, OTEL_ENDPOINT},
    value::Value,
};
use crate::{
    identity::{
        exchange::{ENTRA_AUDIENCE, Exchange, GOOGLE_STS, Grant, ServiceAccount, TokenEndpoint},
        keep::Wanted,
        source::{self, refresh::Flow},
        web,
    },
    workspace::{Cloud, Env, Files},
};
use std::path::{Path, PathBuf};
use url::Url;

/// Hosts of Entra's token endpoints ("National clouds", learn.microsoft.com/entra/identity-platform/authentication-national-cloud).
const ENTRA: [&str; 3] = [
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
];

const EXCHANGE: &str = "identity.exchange";

/// Where this is, as far as the choice of a source depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'a> {
    pub(super) platform: Platform,
    pub(super) env: &'a Env,
    pub(super) machine: &'a Files,
}

impl Settings {
    pub(super) fn identity(&mut self, here: Here<'_>, export: Option<&Export>) -> Identity {
        let (credential, reason) = self.credential(here, export);
        // With a reason, it was not chosen but found.
        let is_chosen = reason.is_none();
        if let Some(export) = export {
            self.derive(
                "identity.audience",
                &export.endpoint.origin().ascii_serialization(),
                "export.endpoint",
            );
        }
        Identity {
            exchange: self.exchange(&credential, is_chosen),
            credential,
            reason,
            audience: self.text("identity.audience"),
            issuer: self.text("identity.issuer"),
            client_id: self.text("identity.client_id"),
            client_secret_file: self.client_secret_file(),
            scopes: self.list("identity.scopes"),
            token_endpoint: self.url("identity.token_endpoint"),
            attributes: match self.text("identity.attributes").as_deref() {
                Some("pseudonym") => Attributes::Pseudonym,
                Some("none") => Attributes::None,
                _ => Attributes::Full,
            },
            pseudonym_key: self.text("identity.pseudonym_key").map(Secret::new),
            keep: match self.text("identity.keep").as_deref() {
                Some("keyring") => Wanted::Keyring,
                Some("memory") => Wanted::Memory,
                Some("file") => Wanted::File,
                _ => Wanted::Auto,
            },
            share: self.share(),
        }
    }

    /// A secret is somebody's.
    fn client_secret_file(&mut self) -> Option<PathBuf> {
        let setting = "identity.client_secret_file";
        let file = self.text(setting).map(PathBuf::from)?;
        if self.text("identity.client_id").is_none() {
            let origin = self.get(setting).origin.clone();
            self.refuse(
                setting,
                &origin,
                "is of no client; expected identity.client_id too".to_owned(),
            );
        }
        Some(file)
    }

    /// What is shared is one's own: with the same socket on both sides an agent would ask itself.
    fn share(&mut self) -> Option<PathBuf> {
        let share = self.text("identity.share").map(PathBuf::from)?;
        if self.text("identity.agent").map(PathBuf::from).as_ref() == Some(&share) {
            let origin = self.get("identity.share").origin.clone();
            let problem = "is the socket of identity.agent too; expected another path".to_owned();
            self.refuse("identity.share", &origin, problem);
        }
        Some(share)
    }

    fn credential(&mut self, here: Here<'_>, export: Option<&Export>) -> (Credential, Option<String>) {
        let setting = "identity.credential";
        if export.is_some_and(|export| export.from_otel) {
            self.set(setting, Value::Text("none".to_owned()), Origin::Derived(OTEL_ENDPOINT));
            let reason = format!("The upstream is the one of {OTEL_ENDPOINT}, which never gets a credential.");
            return (Credential::None, Some(reason));
        }
        let choice = self.text(setting).unwrap_or_default();
        if choice == "auto" {
            return self.automatic(here);
        }
        match self.named(&choice, here.env) {
            Some(credential) => (credential, None),
            None => {
                let key = if choice == "http" { "url" } else { &choice };
                let origin = self.get(setting).origin.clone();
                self.refuse(
                    setting,
                    &origin,
                    format!("\"{choice}\" needs identity.{key}, which is not set"),
                );
                (Credential::None, None)
            }
        }
    }

    /// The source of that name, if what it needs is set.
    fn named(&self, kind: &str, env: &Env) -> Option<Credential> {
        Some(match kind {
            "gitpod" => Credential::Gitpod,
            "ona" => Credential::Ona,
            "github" => Credential::Github,
            "gitlab" => Credential::Gitlab(self.text("identity.env")),
            "azure-devops" => Credential::AzureDevops(self.text("identity.service_connection")),
            "kubernetes" => {
                Credential::Kubernetes(self.text("identity.file").map(PathBuf::from).or_else(|| self.aks(env)))
            }
            "gcp" => Credential::Gcp,
            // With an exchange, the client is the one that the new token is for.
            "azure" if self.has_exchange() => Credential::Azure(None),
            "azure" => Credential::Azure(self.text("identity.client_id")),
            "file" => Credential::File(self.text("identity.file")?.into()),
            "env" => Credential::Env(self.text("identity.env")?),
            // An empty list is "not set".
            "exec" => Credential::Exec(Some(self.list("identity.exec")).filter(|exec| !exec.is_empty())?),
            "http" => Credential::Http(Address {
                url: self.url("identity.url")?,
                headers: self.headers("identity.http_headers"),
                pointer: self.text("identity.json_pointer"),
            }),
            "agent" => Credential::Agent(self.text("identity.agent")?.into()),
            "device" => Credential::Login(Flow::Device),
            "browser" => Credential::Login(Flow::Browser),
            _ => Credential::None,
        })
    }

    /// What is set beside it, else what the place offers.
    fn automatic(&mut self, here: Here<'_>) -> (Credential, Option<String>) {
        let setting = "identity.credential";
        let set: Vec<(&str, Credential)> = [
            ("file", "file"),
            ("env", "env"),
            ("exec", "exec"),
            ("url", "http"),
            ("agent", "agent"),
        ]
        .into_iter()
        .filter_map(|(key, kind)| Some((key, self.named(kind, here.env)?)))
        .collect();
        let (credential, from, reason) = match set.as_slice() {
            [(key, credential)] => (
                credential.clone(),
                "what is set beside it",
                format!("identity.{key} is set."),
            ),
            [] => {
                let (credential, reason) = self.offered(here);
                (credential, "the platform", reason)
            }
            several => {
                let names: Vec<&str> = several.iter().map(|(_, credential)| credential.as_str()).collect();
                let problem = format!("\"auto\" cannot choose; expected one of {}", names.join(", "));
                let origin = self.get(setting).origin.clone();
                self.refuse(setting, &origin, problem);
                let reason = format!("More than one of {} could be meant.", names.join(", "));
                (Credential::None, "what is set beside it", reason)
            }
        };
        self.set(
            setting,
            Value::Text(credential.as_str().to_owned()),
            Origin::Derived(from),
        );
        (credential, Some(reason))
    }

    /// The platform's own credential, or why there is none.
    fn offered(&self, here: Here<'_>) -> (Credential, String) {
        let env = here.env;
        let (credential, reason) = match here.platform {
            Platform::Gitpod => (Credential::Gitpod, "A Gitpod workspace has ID tokens of its own."),
            Platform::Ona => (Credential::Ona, "An Ona environment has ID tokens of its own."),
            Platform::GithubActions if source::Github::is_here(env) => {
                (Credential::Github, "This job of GitHub Actions may ask for ID tokens.")
            }
            Platform::GithubActions => {
                let reason = "This job of GitHub Actions gets no ID tokens: give it `permissions: id-token: write`.";
                (Credential::None, reason)
            }
            Platform::GitlabCi if source::Gitlab::is_here(env) => (
                Credential::Gitlab(None),
                "This job of GitLab CI has an ID token in a variable.",
            ),
            Platform::GitlabCi => {
                let reason = "This job of GitLab CI has no ID token: name one under `id_tokens:`.";
                (Credential::None, reason)
            }
            Platform::AzureDevops if source::AzureDevops::is_here(env) && self.has_exchange() => {
                let connection = self.text("identity.service_connection");
                let reason = "This job of Azure Pipelines may ask for ID tokens to exchange.";
                (Credential::AzureDevops(connection), reason)
            }
            Platform::AzureDevops => {
                let reason = "A job of Azure Pipelines has tokens for an exchange only: set identity.exchange, and \
                              map SYSTEM_ACCESSTOKEN into the step.";
                (Credential::None, reason)
            }
            _ if self.aks(env).is_some() => (
                Credential::Kubernetes(self.aks(env)),
                "The cluster mounts a token for Entra's workload identity into this pod.",
            ),
            _ if Path::new(source::PROJECTED).exists() => (
                Credential::Kubernetes(None),
                "A token is mounted where tagalong looks for the pod's.",
            ),
            Platform::CloudWorkstations => {
                let reason = "A workstation has the service account that all users of its configuration share: \
                              identity.credential = \"gcp\" uses that.";
                (Credential::None, reason)
            }
            Platform::Local => {
                let reason = "A plain machine has no credential of its own, and none of identity.file, identity.env, \
                              identity.exec and identity.url is set.";
                let hint = Cloud::of(here.machine).map_or("", hint);
                return (Credential::None, format!("{reason}{hint}"));
            }
            _ => {
                let reason = "This platform has no credential of its own that names a person, and none of \
                              identity.file, identity.env, identity.exec and identity.url is set.";
                (Credential::None, reason)
            }
        };
        (credential, reason.to_owned())
    }

    /// Where Azure Kubernetes Service mounts a token that only Entra takes ("Workload identity",
    /// azure.github.io/azure-workload-identity).
    fn aks(&self, env: &Env) -> Option<PathBuf> {
        let path = PathBuf::from(env.get("AZURE_FEDERATED_TOKEN_FILE")?);
        let is_for_entra = self.text(EXCHANGE).as_deref() == Some("client-assertion");
        (is_for_entra && path.is_absolute()).then_some(path)
    }

    fn has_exchange(&self) -> bool {
        self.text(EXCHANGE).is_some_and(|exchange| exchange != "none")
    }

    /// The exchange, complete; what is missing for it is an error here and not at the first token.
    fn exchange(&mut self, credential: &Credential, is_chosen: bool) -> Option<Exchange> {
        let name = self.text(EXCHANGE).filter(|name| name != "none")?;
        let origin = self.get(EXCHANGE).origin.clone();
        if *credential == Credential::None {
            // Where the place offers nothing, there is nothing to exchange; that is no mistake of the settings'.
            if is_chosen {
                self.refuse(EXCHANGE, &origin, format!("\"{name}\" has no credential to exchange"));
            }
            return None;
        }
        let endpoint = self.exchange_endpoint(&name);
        let audience = self.text("identity.exchange_audience");
        // What is derived from the endpoint is not for an issuer that wants scopes instead (Entra's does).
        let is_written = !matches!(self.get("identity.audience").origin, Origin::Derived(_));
        let wanted = self
            .text("identity.audience")
            .filter(|_| is_written || name != "client-assertion");
        let is_google = name == "gcp-sts";
        let is_assertion = name == "client-assertion";
        let scopes = self.list("identity.scopes");
        let lacks = [
            (endpoint.is_none(), "identity.token_endpoint or identity.issuer"),
            (
                is_assertion && self.text("identity.client_id").is_none(),
                "identity.client_id",
            ),
            (is_assertion && scopes.is_empty() && wanted.is_none(), "identity.scopes"),
            (
                is_google && audience.is_none(),
                "identity.exchange_audience (//iam.googleapis.com/projects/…/providers/…)",
            ),
        ];
        let missing: Vec<&str> = lacks.iter().filter(|(lacks, _)| *lacks).map(|(_, key)| *key).collect();
        if !missing.is_empty() {
            let problem = format!("\"{name}\" needs {}, which is not set", missing.join(" and "));
            self.refuse(EXCHANGE, &origin, problem);
        }
        let endpoint = endpoint?;
        Some(Exchange {
            subject_audience: match &audience {
                // As a URL the provider's name is an audience that Google takes without being told to.
                Some(provider) if is_google && provider.starts_with("//") => format!("https:{provider}"),
                Some(audience) => audience.clone(),
                None => subject_audience(&endpoint, &name),
            },
            grant: self.grant(&name, wanted.clone()),
            audience: if is_google { audience } else { wanted },
            endpoint,
            scopes,
            client_id: self.text("identity.client_id"),
            client_secret_file: self.text("identity.client_secret_file").map(PathBuf::from),
            parameters: self
                .headers("identity.exchange_parameters")
                .into_iter()
                .map(|(name, value)| (name, Secret::new(value)))
                .collect(),
        })
    }

    fn exchange_endpoint(&self, exchange: &str) -> Option<TokenEndpoint> {
        let google = || Url::parse(GOOGLE_STS).expect("the constant is a URL");
        match (self.url("identity.token_endpoint"), self.text("identity.issuer")) {
            (Some(url), _) => Some(TokenEndpoint::At(url)),
            (None, _) if exchange == "gcp-sts" => Some(TokenEndpoint::At(google())),
            (None, issuer) => issuer.map(TokenEndpoint::Of),
        }
    }

    fn grant(&self, exchange: &str, audience: Option<String>) -> Grant {
        let borrow = |email| ServiceAccount {
            email,
            audience,
            origin: None,
        };
        match exchange {
            "client-assertion" => Grant::ClientAssertion,
            "gcp-sts" => Grant::GoogleSts(self.text("identity.service_account").map(borrow)),
            _ => Grant::TokenExchange,
        }
    }

    /// A token goes over plain HTTP to this machine only; better said here than at the first export.
    pub(super) fn refuse_bearer_in_the_clear(&mut self, identity: &Identity, export: Option<&Export>) {
        let Some(export) = export else { return };
        let is_clear = export.endpoint.scheme() == "http" && !web::is_loopback(&export.endpoint);
        if is_clear && identity.credential != Credential::None {
            let origin = self.get(ENDPOINT).origin.clone();
            let credential = identity.credential.as_str();
            let problem = format!(
                "{} would carry a token in the clear; expected https, or identity.credential = \"none\" instead of \
                 \"{credential}\"",
                export.endpoint
            );
            self.refuse(ENDPOINT, &origin, problem);
        }
    }
}

/// What the workspace's token has to be for where nobody says: for the issuer that gets it (RFC 7523 section 3).
fn subject_audience(endpoint: &TokenEndpoint, exchange: &str) -> String {
    let (text, host) = match endpoint {
        TokenEndpoint::At(url) => (url.to_string(), url.host_str().map(str::to_owned)),
        TokenEndpoint::Of(issuer) => {
            let host = Url::parse(issuer)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned));
            (issuer.clone(), host)
        }
    };
    match host {
        Some(host) if exchange == "client-assertion" && ENTRA.contains(&host.as_str()) => ENTRA_AUDIENCE.to_owned(),
        _ => text,
    }
}

/// What a virtual machine of that cloud could be asked for. It speaks for the machine, so somebody has to want that.
fn hint(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Google => {
            " On Google's Compute Engine, identity.credential = \"gcp\" uses the machine's service account, if it has one."
        }
        Cloud::Azure => {
            " On Azure, identity.credential = \"azure\" uses the machine's managed identity, if it has one."
        }
    }
}

#[cfg(test)]
mod tests;
