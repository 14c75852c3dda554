//! What the credential says of itself, held against what was asked for: whom it is for, what it may, how long it lives,
//! and whom and which workspace it names. Each mismatch comes with the issuer's own setting that mends it.
//!
//! The token is decoded here and never shown, and nothing is decided by what it says: upstream judges.

use super::{Link, Name};
use crate::{
    cli::status::{duration_text, principal_line},
    identity::{claims::Claims, grant::not_granted},
    view::status::{Credential, Status},
    workspace::Trust,
};

/// Seconds. Whoever steals a token has it until its end, and none of ours needs to last longer than an hour. Issuers that
/// date a token back, for clocks that are behind, mean an hour too.
const LONGEST: f64 = 3600.0 + 300.0;

/// Whose settings decide what stands in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    /// Client scopes, protocol mappers, "Access Token Lifespan" ("Server Administration Guide", keycloak.org).
    Keycloak,
    /// App registrations, and policies for lifetimes ("Configure token lifetime policies",
    /// learn.microsoft.com/entra/identity-platform/configure-token-lifetimes).
    Entra,
    /// Custom authorization servers, and the rules of their access policies ("Create access policies", help.okta.com).
    Okta,
    /// APIs ("Update access token lifetime", auth0.com/docs/secure/tokens/access-tokens).
    Auth0,
    /// The claims of its tokens are a setting of the organisation.
    Ona,
    /// `id_tokens:` in the pipeline's own file.
    GitlabCi,
    /// The pod's own projected volume.
    Kubernetes,
    /// A metadata service or a pipeline, which speaks for no person.
    Machine,
    Other,
}

impl Provider {
    /// By the issuer that signed, else by the source that gave the token.
    pub(super) fn of(credential: &Credential) -> Provider {
        let issuer = credential.issuer.as_deref().unwrap_or_default();
        let url = url::Url::parse(issuer).ok();
        let host = url.as_ref().and_then(url::Url::host_str).unwrap_or_default();
        if url.as_ref().is_some_and(|url| url.path().contains("/realms/")) {
            return Provider::Keycloak;
        }
        if host.starts_with("login.microsoftonline.") || host.starts_with("sts.") && host.contains("windows.net") {
            return Provider::Entra;
        }
        if host.ends_with(".okta.com") || host.ends_with(".oktapreview.com") {
            return Provider::Okta;
        }
        if host.ends_with(".auth0.com") {
            return Provider::Auth0;
        }
        match credential.source.as_str() {
            "ona" => Provider::Ona,
            "gitlab" => Provider::GitlabCi,
            "kubernetes" => Provider::Kubernetes,
            "gcp" | "azure" | "azure-devops" => Provider::Machine,
            _ => Provider::Other,
        }
    }

    /// How tokens come to be for `wanted`.
    pub(super) fn audience(self, wanted: &str) -> String {
        match self {
            Provider::Keycloak => format!(
                "in Keycloak, give a client scope of this client's a mapper of type Audience whose included custom audience \
                 is {wanted}"
            ),
            Provider::Entra => format!(
                "in Entra, let {wanted} be the Application ID URI of upstream's app registration (Expose an API), and name \
                 a scope of its in identity.scopes"
            ),
            Provider::Okta => {
                format!("in Okta, set identity.issuer to the authorization server whose Audience is {wanted}")
            }
            Provider::Auth0 => format!("in Auth0, register an API whose identifier is {wanted}"),
            Provider::GitlabCi => format!("write `aud: {wanted}` under `id_tokens:` of the job"),
            Provider::Kubernetes => {
                format!("write `audience: {wanted}` into the pod's projected serviceAccountToken")
            }
            Provider::Ona | Provider::Machine | Provider::Other => {
                format!("have tokens minted for {wanted}, as identity.audience says")
            }
        }
    }

    fn scopes(self, missing: &str) -> String {
        match self {
            Provider::Keycloak => format!("in Keycloak, add the client scope {missing} to this client"),
            Provider::Entra => format!(
                "in Entra, have upstream's app registration expose {missing} (Expose an API), and this client permitted \
                 it (API permissions)"
            ),
            Provider::Okta => format!(
                "in Okta, add {missing} to the scopes of the authorization server and to those that a rule of its access \
                 policy lets this client request"
            ),
            Provider::Auth0 => format!("in Auth0, add the permission {missing} to the API, and give it to the person"),
            _ => format!("have the issuer grant {missing} to this client, or take it out of identity.scopes"),
        }
    }

    fn lifetime(self) -> &'static str {
        match self {
            Provider::Keycloak => "in Keycloak, lower Access Token Lifespan of the realm (Tokens) or of this client",
            Provider::Entra => {
                "in Entra, assign upstream's application a token lifetime policy with a shorter AccessTokenLifetime; for \
                 managed identities there is none"
            }
            Provider::Okta => {
                "in Okta, lower the access token lifetime in the rule of the authorization server's access policy"
            }
            Provider::Auth0 => "in Auth0, lower Maximum Access Token Lifetime of the API",
            Provider::GitlabCi => "lower `timeout:` of the job: its token lasts as long as the job may",
            Provider::Kubernetes => "lower expirationSeconds of the pod's projected serviceAccountToken",
            Provider::Ona | Provider::Machine | Provider::Other => {
                "have tokens minted that last an hour at most: whoever steals one has it until its end"
            }
        }
    }

    /// `is_login`: a person logged in, so another login changes nothing.
    fn person(self, is_login: bool) -> &'static str {
        match self {
            Provider::Keycloak if is_login => {
                "in Keycloak, add the client scope basic to this client, which has the claim sub, if upstream is to believe \
                 the name"
            }
            _ if is_login => {
                "let the issuer name the person in the access tokens of this client, or give ID tokens beside opaque ones \
                 (openid in identity.scopes), if upstream is to believe the name"
            }
            Provider::Ona => {
                "have the organisation's OIDC tokens carry the claims of version 3, among them creator_id, if upstream is \
                 to believe the name"
            }
            Provider::Keycloak | Provider::Entra | Provider::Okta | Provider::Auth0 => {
                "it is a client's own token: let a person log in (`tagalong login`), if upstream is to believe the name"
            }
            Provider::Kubernetes | Provider::Machine => {
                "it speaks for a machine, and cannot name a person: `tagalong login` gives one that does, if upstream is \
                 to believe the name"
            }
            Provider::GitlabCi | Provider::Other => {
                "the token names nobody: have one minted that does, if upstream is to believe the name"
            }
        }
    }
}

/// What the token that upstream sees was asked for with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) scopes: &'a [String],
    /// For whom an ID token is (OpenID Connect Core section 2). Such a one never names scopes.
    pub(super) client_id: Option<&'a str>,
}

/// A line for each mismatch, or one that there is none. `token` is what the token of the moment says, if it can be read.
pub(super) fn claims(status: &Status, asked: Asked<'_>, token: Option<&Claims>) -> Vec<Link> {
    let Some(principal) = &status.principal else {
        return vec![if status.agent.is_none() {
            Link::ok(Name::Claims, "known once the agent runs")
        } else {
            Link::note(
                Name::Claims,
                "nobody is known yet",
                "mend the credential above: nothing leaves without a name, it waits in the spool",
            )
        }];
    };
    let who = principal_line(principal);
    let credential = &status.credential;
    if credential.source == "none" {
        return vec![Link::ok(Name::Claims, who)];
    }
    let provider = Provider::of(credential);
    let note = |found: String, hint: String| Some(Link::note(Name::Claims, found, hint));
    let is_login = matches!(credential.source.as_str(), "device" | "browser");
    let person =
        || note(who.clone(), provider.person(is_login).to_owned()).filter(|_| principal.trust != Trust::Verified);
    let audience = || {
        let wanted = credential.wanted_audience.as_ref()?;
        if token.is_some_and(|token| token.audiences().is_empty()) {
            return note(
                format!("{who}; the token names no audience, and was to be for {wanted}"),
                format!("if upstream refuses it, {}", provider.audience(wanted)),
            );
        }
        if !is_for_another(credential) {
            return None;
        }
        let are_for = credential.audiences.join(", ");
        note(
            format!("{who}; the token is for {are_for}, not for {wanted}"),
            format!(
                "if upstream refuses it, {}; or set identity.audience to what they are for",
                provider.audience(wanted)
            ),
        )
    };
    let missing = || {
        let (words, missing) = missing_scopes(credential, asked, token);
        let missing = Some(missing.join(", ")).filter(|missing| !missing.is_empty())?;
        note(format!("{who}; {words} the scope {missing}"), provider.scopes(&missing))
    };
    let lifetime = || {
        let seconds = lifetime(token)
            .or(credential.expires_in)
            .filter(|seconds| *seconds > LONGEST)?;
        note(
            format!("{who}; the token lasts {}", duration_text(seconds as u64)),
            provider.lifetime().to_owned(),
        )
    };
    let elsewhere = || {
        let (theirs, here) = (token?.elsewhere(&status.workspace.id)?, &status.workspace.id);
        note(
            format!("{who}; the token is of the workspace {theirs}, and this is {here}"),
            "have this workspace's own token minted: a file, a variable or a command's answer was brought from the other"
                .to_owned(),
        )
    };
    let found: Vec<Link> = [person(), elsewhere(), audience(), missing(), lifetime()]
        .into_iter()
        .flatten()
        .collect();
    if found.is_empty() {
        vec![Link::ok(Name::Claims, who)]
    } else {
        found
    }
}

/// Whether the token names audiences, and none of them is the one that was asked for.
pub(super) fn is_for_another(credential: &Credential) -> bool {
    let bare = |text: &str| text.trim_end_matches('/').to_owned();
    match &credential.wanted_audience {
        Some(wanted) if !credential.audiences.is_empty() => {
            !credential.audiences.iter().any(|one| bare(one) == bare(wanted))
        }
        _ => false,
    }
}

/// What was asked for and is not in a token that can name it; else what the issuer says that it did not grant.
fn missing_scopes(credential: &Credential, asked: Asked<'_>, token: Option<&Claims>) -> (&'static str, Vec<String>) {
    let is_id = |token: &&Claims| {
        asked
            .client_id
            .is_some_and(|client| token.audiences().contains(&client))
    };
    match token.filter(|token| !is_id(token)) {
        Some(token) => ("the token lacks", not_granted(asked.scopes, &token.scopes())),
        None => {
            let last = credential.steps.last();
            let said = last.map(|step| step.not_granted.clone());
            ("the issuer did not grant", said.unwrap_or_default())
        }
    }
}

/// From `iat` to `exp`, in seconds.
fn lifetime(token: Option<&Claims>) -> Option<f64> {
    let token = token?;
    let lasts = token.date("exp")?.duration_since(token.date("iat")?).ok()?;
    Some(lasts.as_secs_f64())
}
