//! What a login will do, worked out before anybody is asked to confirm it: whom it is for, at which issuer, and which
//! settings change.

use std::fmt;

use url::Url;

use super::{Context, Failure, Kind, Options, configured, http_client, protected_resource};
use crate::{
    config::{Credential, edit::New},
    identity::{
        discovery::{self, DiscoveryError, Metadata},
        source::refresh::Flow,
    },
};

/// Asked for where neither the settings nor the endpoint say anything: who it is, and a login that lasts.
const SCOPES: [&str; 2] = ["openid", "offline_access"];

/// Everything that will be done.
#[derive(Debug)]
pub(super) struct Plan {
    endpoint: Option<Url>,
    /// The endpoint said so itself.
    is_told: bool,
    flow: Flow,
    issuer: String,
    client_id: String,
    audience: String,
    pub(super) scopes: Vec<String>,
    pub(super) metadata: Metadata,
    /// Settings that are not so yet.
    pub(super) changes: Vec<(&'static str, New)>,
}

/// Whom to ask, by the settings or by the endpoint's own word.
struct Target {
    issuer: String,
    client_id: String,
    scopes: Vec<String>,
    audience: Option<String>,
    is_told: bool,
}

pub(super) async fn make(context: &Context, options: &Options) -> Result<Plan, Failure> {
    let config = &context.loaded.config;
    let settings = &config.identity;
    let is_other = !matches!(settings.credential, Credential::Login(_) | Credential::None);
    if is_other && options.endpoint.is_none() && options.flow().is_none() {
        let source = settings.credential.as_str();
        return Err(Failure::new(
            Kind::Usage,
            format!("no login is needed here: the credential comes from {source}"),
        )
        .hint("`tagalong login --device` uses a login all the same"));
    }
    let endpoint = match &options.endpoint {
        Some(text) => Some(endpoint(text)?),
        None => None,
    };
    let client = http_client(context)?;
    let target = target(context, &client, endpoint.as_ref()).await?;
    let metadata = discovery::discover(&client, &target.issuer).await.map_err(failure)?;
    let flow = options.flow().or_else(|| configured(context)).unwrap_or(Flow::Device);
    let mut plan = Plan {
        audience: match (&target.audience, &endpoint) {
            (Some(audience), _) => audience.clone(),
            (None, Some(endpoint)) => endpoint.origin().ascii_serialization(),
            (None, None) => settings.audience.clone().unwrap_or_default(),
        },
        scopes: scopes(&target, &metadata),
        issuer: target.issuer,
        client_id: target.client_id,
        is_told: target.is_told,
        endpoint,
        flow,
        metadata,
        changes: Vec::new(),
    };
    plan.changes = plan.changes(context);
    plan.keeps_the_secret(context)?;
    Ok(plan)
}

fn endpoint(text: &str) -> Result<Url, Failure> {
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("https://{text}"))
    };
    let wrong = match url {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "a user and password do not belong into the URL: the login is the credential".to_owned()
        }
        Ok(url) if crate::identity::web::may_carry_secret(&url) => return Ok(url),
        // What stands before an @ may be secret.
        _ => format!("{} is no https URL", text.rsplit('@').next().unwrap_or_default()),
    };
    Err(Failure::new(Kind::Usage, wrong).hint("write it as https://HOST"))
}

async fn target(context: &Context, client: &reqwest::Client, endpoint: Option<&Url>) -> Result<Target, Failure> {
    let settings = &context.loaded.config.identity;
    let known = match (&settings.issuer, &settings.client_id) {
        (Some(issuer), Some(client_id)) => Some(Target {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            scopes: settings.scopes.clone(),
            audience: None,
            is_told: false,
        }),
        _ => None,
    };
    // What is set needs nobody's word; an endpoint that is named now is asked first.
    let upstream = match (endpoint, &context.loaded.config.export, known) {
        (None, _, Some(known)) => return Ok(known),
        (Some(endpoint), _, known) => (endpoint, known),
        // An upstream that a variable named is nobody to take an issuer from.
        (None, Some(export), None) if !export.from_otel => (&export.endpoint, None),
        (None, _, None) => {
            return Err(Failure::new(Kind::Usage, "nothing says where to log in")
                .hint("run `tagalong login ENDPOINT`, or set identity.issuer and identity.client_id"));
        }
    };
    let (upstream, known) = upstream;
    let resource = match protected_resource(client, upstream).await {
        Ok(resource) => resource,
        Err(DiscoveryError::Wrong(_)) if known.is_some() => {
            return known.ok_or_else(|| Failure::new(Kind::Failed, "nothing says where to log in"));
        }
        Err(error) => return Err(failure(error)),
    };
    let client_id = resource
        .client_id
        .or_else(|| settings.client_id.clone())
        .ok_or_else(|| {
            Failure::new(
                Kind::Usage,
                format!("{upstream} does not say as which client to log in"),
            )
            .hint("set identity.client_id to a public client of the issuer's")
        })?;
    Ok(Target {
        issuer: resource.issuers[0].clone(),
        client_id,
        scopes: resource.scopes,
        audience: Some(resource.audience),
        is_told: true,
    })
}

/// What is written is asked for as it is; an endpoint knows of itself, not of what makes a login last.
fn scopes(target: &Target, metadata: &Metadata) -> Vec<String> {
    let mut scopes = target.scopes.clone();
    if scopes.is_empty() || target.is_told {
        let supported = &metadata.scopes_supported;
        for scope in SCOPES.into_iter().rev() {
            let is_known = supported.is_empty() || supported.iter().any(|known| known == scope);
            if is_known && !scopes.iter().any(|asked| asked == scope) {
                scopes.insert(0, scope.to_owned());
            }
        }
    }
    scopes
}

fn failure(error: DiscoveryError) -> Failure {
    let hint = match &error {
        DiscoveryError::Transient(_) | DiscoveryError::Later(..) => {
            "nothing was changed; check the address and the network, and run `tagalong login` again"
        }
        DiscoveryError::Wrong(_) => {
            "nothing was changed; `tagalong config set identity.issuer ISSUER` says who is to be asked"
        }
    };
    Failure::new(Kind::Failed, error.to_string()).hint(hint)
}

impl Plan {
    fn changes(&self, context: &Context) -> Vec<(&'static str, New)> {
        let config = &context.loaded.config;
        let settings = &config.identity;
        let text = |text: &str| New::Text(text.to_owned());
        let mut changes = Vec::new();
        if let Some(endpoint) = &self.endpoint
            && config.export.as_ref().map(|export| &export.endpoint) != Some(endpoint)
        {
            changes.push(("export.endpoint", text(endpoint.as_str())));
        }
        if configured(context) != Some(self.flow) {
            changes.push(("identity.credential", text(self.flow.as_str())));
        }
        if settings.issuer.as_ref() != Some(&self.issuer) {
            changes.push(("identity.issuer", text(&self.issuer)));
        }
        if settings.client_id.as_ref() != Some(&self.client_id) {
            changes.push(("identity.client_id", text(&self.client_id)));
        }
        if settings.scopes != self.scopes {
            changes.push(("identity.scopes", New::List(self.scopes.clone())));
        }
        // What is derived from the endpoint needs no line of its own.
        let derived = match (&self.endpoint, &config.export) {
            (Some(endpoint), _) => Some(endpoint.origin().ascii_serialization()),
            (None, Some(export)) => Some(export.endpoint.origin().ascii_serialization()),
            (None, None) => None,
        };
        let is_set = context
            .loaded
            .entries()
            .iter()
            .any(|entry| entry.key == "identity.audience" && !entry.origin.starts_with("from "));
        let becomes = if is_set { settings.audience.clone() } else { derived };
        if becomes.as_ref() != Some(&self.audience) && !self.audience.is_empty() {
            changes.push(("identity.audience", text(&self.audience)));
        }
        changes
    }

    /// A client's secret goes to the issuer that it was set for, and to no other that an endpoint names.
    fn keeps_the_secret(&self, context: &Context) -> Result<(), Failure> {
        let settings = &context.loaded.config.identity;
        let is_other =
            settings.issuer.as_ref() != Some(&self.issuer) || settings.client_id.as_ref() != Some(&self.client_id);
        if settings.client_secret_file.is_none() || !is_other {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Usage,
            "identity.client_secret_file is the secret of another client than the one to log in as",
        )
        .hint("set identity.issuer and identity.client_id to what it belongs to, or take it out"))
    }

    /// Whether the settings are now as they were confirmed: a variable or the machine's own file goes before them.
    pub(super) fn holds(&self, context: &Context) -> Result<(), Failure> {
        let left = self.changes(context);
        let Some((key, _)) = left.first() else {
            return Ok(());
        };
        let entries = context.loaded.entries();
        let found = entries.iter().find(|entry| entry.key == *key);
        let (value, origin) = found.map_or(("", ""), |entry| (entry.value.as_str(), entry.origin.as_str()));
        Err(Failure::new(
            Kind::Usage,
            format!("{key} is \"{value}\" here, by {origin}, whatever your own file says"),
        )
        .hint("take it out there, or log in for what it says"))
    }
}

/// What a person confirms.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.endpoint, self.is_told) {
            (Some(endpoint), true) => writeln!(f, "Logging in for {endpoint}, which says:")?,
            (Some(endpoint), false) => writeln!(f, "Logging in for {endpoint}:")?,
            (None, _) => writeln!(f, "Logging in:")?,
        }
        for (name, value) in [
            ("issuer", self.issuer.as_str()),
            ("client", self.client_id.as_str()),
            ("scopes", self.scopes.join(" ").as_str()),
            ("audience", self.audience.as_str()),
        ] {
            // An endpoint's word goes to a terminal: nothing in it may command that.
            let shown: String = value.chars().filter(|c| !c.is_control()).collect();
            writeln!(f, "  {name:<9} {shown}")?;
        }
        Ok(())
    }
}
