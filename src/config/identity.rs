//! `identity.*`: where credentials come from, worked out from what is set and from where this is.
//!
//! The choice of "auto" is made once, here, and comes with its reason. Nothing is asked for over the network, and no
//! variable's value is read but for whether it is there.

use super::{
    Attributes, Credential, Export, Identity, Origin, Platform, Secret, Settings, is_loopback,
    resolve::{ENDPOINT, OTEL_ENDPOINT},
    value::Value,
};

impl Settings {
    pub(super) fn identity(&mut self, platform: Platform, export: Option<&Export>) -> Identity {
        let (credential, reason) = self.credential(platform, export);
        if let Some(export) = export {
            self.derive(
                "identity.audience",
                &export.endpoint.origin().ascii_serialization(),
                "export.endpoint",
            );
        }
        Identity {
            credential,
            reason,
            audience: self.text("identity.audience"),
            issuer: self.text("identity.issuer"),
            client_id: self.text("identity.client_id"),
            scopes: self.list("identity.scopes"),
            token_endpoint: self.url("identity.token_endpoint"),
            attributes: match self.text("identity.attributes").as_deref() {
                Some("pseudonym") => Attributes::Pseudonym,
                Some("none") => Attributes::None,
                _ => Attributes::Full,
            },
            pseudonym_key: self.text("identity.pseudonym_key").map(Secret::new),
        }
    }

    fn credential(&mut self, platform: Platform, export: Option<&Export>) -> (Credential, Option<String>) {
        let setting = "identity.credential";
        if export.is_some_and(|export| export.from_otel) {
            self.set(setting, Value::Text("none".to_owned()), Origin::Derived(OTEL_ENDPOINT));
            let reason = format!("The upstream is the one of {OTEL_ENDPOINT}, which never gets a credential.");
            return (Credential::None, Some(reason));
        }
        let choice = self.text(setting).unwrap_or_default();
        let by_kind = |settings: &Settings, kind: &str| match kind {
            "file" => settings.text("identity.file").map(|path| Credential::File(path.into())),
            "env" => settings.text("identity.env").map(Credential::Env),
            "exec" => Some(Credential::Exec(settings.list("identity.exec"))).filter(|exec| {
                // An empty list is "not set".
                *exec != Credential::Exec(Vec::new())
            }),
            _ => None,
        };
        let origin = self.get(setting).origin.clone();
        match choice.as_str() {
            "gitpod" => (Credential::Gitpod, None),
            "none" => (Credential::None, None),
            "auto" => {
                let set: Vec<Credential> = ["file", "env", "exec"]
                    .iter()
                    .filter_map(|k| by_kind(self, k))
                    .collect();
                let (credential, from, reason) = match (set.as_slice(), platform) {
                    ([one], _) => (one.clone(), "what is set beside it", None),
                    ([], Platform::Gitpod) => (Credential::Gitpod, "the platform", None),
                    ([], platform) => {
                        let place = match platform {
                            Platform::Local => "A plain machine has no credential of its own",
                            _ => "No credential of this platform's own is known",
                        };
                        let reason =
                            format!("{place}, and none of identity.file, identity.env and identity.exec is set.");
                        (Credential::None, "the platform", Some(reason))
                    }
                    _ => {
                        let names: Vec<&str> = set.iter().map(Credential::as_str).collect();
                        let problem = format!("\"auto\" cannot choose; expected one of {}", names.join(", "));
                        self.refuse(setting, &origin, problem);
                        (Credential::None, "the platform", None)
                    }
                };
                self.set(
                    setting,
                    Value::Text(credential.as_str().to_owned()),
                    Origin::Derived(from),
                );
                (credential, reason)
            }
            kind => match by_kind(self, kind) {
                Some(credential) => (credential, None),
                None => {
                    self.refuse(
                        setting,
                        &origin,
                        format!("\"{kind}\" needs identity.{kind}, which is not set"),
                    );
                    (Credential::None, None)
                }
            },
        }
    }

    /// A token goes over plain HTTP to this machine only; better said here than at the first export.
    pub(super) fn refuse_bearer_in_the_clear(&mut self, identity: &Identity, export: Option<&Export>) {
        let Some(export) = export else { return };
        let is_clear = export.endpoint.scheme() == "http" && !is_loopback(&export.endpoint);
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
