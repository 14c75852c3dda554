//! The links of identity: clock and credential.

use std::{io, path::Path};

use super::{
    Link, Name,
    claims::{Provider, is_for_another},
};
use crate::{
    cli::status::{duration_text, expiry_text, principal_name},
    config::{self, Identity},
    identity::{
        State,
        source::{AzureDevops, Github, PROJECTED},
    },
    view::status::{Credential, Status},
    workspace::Env,
};

/// Differences up to this are the network's and of no harm to any token.
const TOLERABLE_SKEW: f64 = 30.0;
const WAITS: &str = "telemetry waits in the spool meanwhile";

/// `upstream` is how many seconds upstream's clock is ahead of this machine's.
pub(super) fn clock(credential: &Credential, upstream: Option<f64>) -> Link {
    let witnesses = [("the issuer's", credential.clock_skew), ("upstream's", upstream)];
    let hint = "set this machine's clock: tokens begin and end by it";
    let wrong = witnesses
        .into_iter()
        .filter_map(|(whose, skew)| Some((whose, skew?)))
        .find(|(_, skew)| skew.abs() > TOLERABLE_SKEW);
    if let Some((whose, skew)) = wrong {
        let (amount, side) = (
            duration_text(skew.abs() as u64),
            if skew > 0.0 { "behind" } else { "ahead of" },
        );
        return Link::failed(
            Name::Clock,
            format!("this machine's clock is {amount} {side} {whose}"),
            hint,
        );
    }
    if witnesses.iter().any(|(_, skew)| skew.is_some()) {
        return Link::ok(Name::Clock, "it agrees with those that were asked");
    }
    // A token that is too old may also lie around for too long, but nobody is there to tell which it is.
    match &credential.trouble {
        Some(trouble) if trouble.contains("clock") => Link::failed(Name::Clock, trouble.clone(), hint),
        _ => Link::ok(Name::Clock, "nobody disagrees with it"),
    }
}

pub(super) fn credential(status: &Status, identity: &Identity, env: &Env) -> Link {
    let credential = &status.credential;
    let source = &credential.source;
    if source == "none" {
        return match &identity.reason {
            Some(reason) => Link::ok(Name::Credential, format!("none. {reason}")),
            None => Link::ok(Name::Credential, "none, as it is set"),
        };
    }
    if status.agent.is_none() {
        return match missing(&identity.credential, env) {
            Some((found, hint)) => Link::failed(Name::Credential, found, hint),
            None => Link::note(
                Name::Credential,
                format!("{source} is the source"),
                "the agent obtains it: `tagalong up`",
            ),
        };
    }
    let found = format!("{source}, {}", expiry_text(credential));
    let trouble = || {
        let trouble = credential.trouble.clone();
        trouble.unwrap_or_else(|| "there is no usable credential yet".to_owned())
    };
    match credential.state {
        State::Fresh | State::Refreshing if identity.is_single() && identity.exchange.is_none() => Link::note(
            Name::Credential,
            found,
            "it cannot be renewed: what is left when it ends waits in the spool for the next start",
        ),
        State::Fresh | State::Refreshing => match &identity.reason {
            Some(reason) if identity.credential.as_str() == source => {
                Link::ok(Name::Credential, format!("{found}. {reason}"))
            }
            _ => Link::ok(Name::Credential, found),
        },
        State::Degraded => Link::note(
            Name::Credential,
            format!("{found}; {}", trouble()),
            "the old one still holds, and a new one is tried for again and again",
        ),
        State::Boot | State::Acquiring => Link::note(
            Name::Credential,
            "it is on its way",
            "run `tagalong doctor` again in some seconds",
        ),
        State::Rejected => Link::note(
            Name::Credential,
            "upstream refused it, and another one is on its way",
            "run `tagalong doctor` again in some seconds; nothing is lost meanwhile",
        ),
        State::Denied => denied(status),
        State::Starved | State::NeedsUser if is_exchanges_fault(credential) => {
            Link::ok(Name::Credential, format!("{source} gives its token, to be exchanged"))
        }
        State::Starved | State::NeedsUser | State::Stopped => {
            let hint = format!("{}; {WAITS}", remedy(&identity.credential, credential));
            Link::failed(Name::Credential, trouble(), hint)
        }
    }
}

/// The source did its part, and a step after it failed.
fn is_exchanges_fault(credential: &Credential) -> bool {
    match credential.steps.as_slice() {
        [source, .., last] => source.trouble.is_none() && last.trouble.is_some(),
        _ => false,
    }
}

/// Upstream has judged: what it said, and what the token says of itself.
pub(super) fn denied(status: &Status) -> Link {
    let credential = &status.credential;
    let last = status.export.last_error.clone();
    let said = last.or_else(|| credential.trouble.clone()).unwrap_or_default();
    let from = credential.issuer.as_deref().unwrap_or("nobody that it names");
    let is_forbidden = credential.trouble.as_ref().is_some_and(|text| text.contains("(403)"));
    if is_forbidden {
        let who = status.principal.as_ref().map_or("this person", principal_name);
        return Link::failed(
            Name::Credential,
            format!("upstream knows the credential and forbids sending: {said}"),
            format!("ask upstream's operator to let {who} of {from} send; {WAITS}"),
        );
    }
    let audiences = match credential.audiences.as_slice() {
        [] => "no audience that it names".to_owned(),
        audiences => audiences.join(", "),
    };
    let found = format!("upstream refuses the token ({said}); it is for {audiences}, from {from}");
    let hint = match (&credential.wanted_audience, is_for_another(credential)) {
        (Some(wanted), true) => Provider::of(credential).audience(wanted),
        // It may be opaque, and then upstream alone knows what it is for.
        (Some(wanted), false) if credential.audiences.is_empty() => {
            format!(
                "{}; let upstream trust {from}",
                Provider::of(credential).audience(wanted)
            )
        }
        _ => format!(
            "set identity.audience to what upstream expects, if that is not {audiences}; else let it trust {from}"
        ),
    };
    Link::failed(Name::Credential, found, format!("{hint}; {WAITS}"))
}

/// What to do about a source that gives nothing.
fn remedy(source: &config::Credential, credential: &Credential) -> String {
    let audience = credential.wanted_audience.as_deref().unwrap_or("AUDIENCE");
    let is_far = credential
        .trouble
        .as_ref()
        .is_some_and(|trouble| trouble.contains("cannot be reached"));
    match source {
        // The agent may run with another source than these settings name.
        source if source.as_str() != credential.source => {
            format!(
                "mend identity.credential = \"{}\", or run `tagalong up` for these settings",
                credential.source
            )
        }
        config::Credential::Gitpod => format!(
            "try `gp idp token --audience {audience}` in a terminal of the workspace; without `gp` on the PATH, start \
             the agent from such a terminal"
        ),
        config::Credential::File(path) => format!("see to it that a fresh token is written to {}", path.display()),
        config::Credential::Env(name) => {
            format!("set {name} to a token that lasts, and start the agent anew: `tagalong down`, `tagalong up`")
        }
        config::Credential::Exec(argv) => format!(
            "run {} by hand with its arguments: it is to print a token and to exit with 0",
            argv.first().map_or("the program", String::as_str)
        ),
        config::Credential::Ona => format!(
            "try `ona idp token --audience {audience}` in a terminal of the environment; the organisation has to have \
             OIDC tokens allowed"
        ),
        config::Credential::Github | config::Credential::AzureDevops(_) | config::Credential::Http(_) if is_far => {
            "check the network, and the proxy in HTTPS_PROXY if one is needed; it is tried again by itself".to_owned()
        }
        config::Credential::Github => {
            "give the job `permissions: id-token: write`, and start the agent in a step of it".to_owned()
        }
        config::Credential::Gitlab(_) => format!(
            "name a variable under `id_tokens:` of the job with `aud: {audience}`; the token lasts as long as the job \
             may, and no longer"
        ),
        config::Credential::AzureDevops(_) => {
            "map the job's token into the step: `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`".to_owned()
        }
        config::Credential::Kubernetes(path) => format!(
            "mount a projected serviceAccountToken with audience {audience} at {}",
            path.as_deref().unwrap_or(Path::new(PROJECTED)).display()
        ),
        config::Credential::Gcp => "see that this machine has a service account, and that nothing hides the metadata \
                                    service at 169.254.169.254"
            .to_owned(),
        config::Credential::Azure(_) => format!(
            "see that this machine has a managed identity, and that {audience} is the App ID URI of an application in \
             Entra"
        ),
        config::Credential::Http(address) => format!(
            "ask {} by hand, with the headers of identity.http_headers: it is to answer with a token",
            address.url.host_str().unwrap_or("identity.url")
        ),
        config::Credential::Login(_) => "run `tagalong login`, which asks upstream who issues tokens for it".to_owned(),
        config::Credential::Agent(socket) => format!(
            "see that the agent there runs with identity.share, and that {} leads to it",
            socket.display()
        ),
        config::Credential::None => "choose an identity.credential".to_owned(),
    }
}

/// Why no token can come from a file.
fn unreadable(path: &Path) -> Option<(String, String)> {
    let file = path.display();
    let mine = "make it a file that you may read, or correct identity.file".to_owned();
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some((
            format!("there is no file {file}"),
            "see to it that a token is written there, or correct identity.file".to_owned(),
        )),
        Err(error) => Some((format!("{file} cannot be read: {error}"), mine)),
        Ok(meta) if meta.is_dir() => Some((format!("{file} is a directory"), mine)),
        Ok(meta) if !meta.is_file() => Some((format!("{file} is not a regular file"), mine)),
        Ok(_) => {
            let error = rustix::fs::access(path, rustix::fs::Access::READ_OK).err()?;
            Some((format!("{file} cannot be read: {}", io::Error::from(error)), mine))
        }
    }
}

/// While no agent runs: what is plainly not there.
pub(super) fn missing(source: &config::Credential, env: &Env) -> Option<(String, String)> {
    match source {
        config::Credential::File(path) => unreadable(path),
        config::Credential::Github if !Github::is_here(env) => Some((
            "this is no job that may ask for ID tokens".to_owned(),
            "give the job `permissions: id-token: write`, or choose another identity.credential".to_owned(),
        )),
        config::Credential::AzureDevops(_) if !AzureDevops::is_here(env) => Some((
            "this is no step of Azure Pipelines that has the job's token".to_owned(),
            "map it: `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`, or choose another identity.credential"
                .to_owned(),
        )),
        config::Credential::Env(name) if env.get(name).is_none() => Some((
            format!("{name} is not set here"),
            format!("set {name} to a token, or choose another identity.credential"),
        )),
        config::Credential::Exec(argv) => {
            let program = Path::new(argv.first()?);
            let runs = rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok() && program.is_file();
            (!runs).then(|| {
                (
                    format!("{} is no program that may be run", program.display()),
                    "correct identity.exec".to_owned(),
                )
            })
        }
        _ => None,
    }
}
