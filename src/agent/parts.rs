//! From the resolved settings to each part's own `Config`, and to the stamp of the moment.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Error, share::Share};
use crate::{
    config::{self, Config},
    export,
    identity::{
        self, Principal,
        claims::{Attributes, random_key},
        keep::{self, Keep},
        login::App,
        secret::Secret,
        source::{self, Source, refresh::Session},
    },
    intake::Stamps,
    stamp::{Stamp, redact},
    workspace::{self, Env, Files, Platform, Trust, Workspace, vcs::Vcs},
};

/// 32 hex digits that no other start has.
pub(super) fn session_id() -> String {
    workspace::random_id().expect("the system's random source works")
}

pub(super) fn redact(config: &Config) -> redact::Config {
    let config::Redact {
        enabled,
        patterns,
        keys,
    } = config.redact.clone();
    redact::Config {
        enabled,
        patterns,
        keys,
    }
}

/// What no sender may say of a person where persons are not to be named: the SDKs' resource detectors know the OS user.
const NAMES_A_PERSON: [&str; 2] = ["enduser.", "process.owner"];

/// What the workspace knows, rebuilt only when the checkout moved.
pub(super) fn stamps(workspace: &Workspace, session: &str, mode: config::Attributes) -> Stamps {
    let mut set = workspace.attributes();
    let mut prefixes = vec!["user.", "workspace."];
    if mode != config::Attributes::Full {
        prefixes.extend(NAMES_A_PERSON);
        if workspace.platform == Platform::Local {
            // A plain machine's name is its host's, and that is often its owner's.
            set.retain(|(key, _)| key != "workspace.name");
        }
    }
    set.push(("workspace.session.id".to_owned(), session.to_owned()));
    let vcs = Vcs::new(workspace.checkout.clone());
    let background = workspace.background();
    let newest: Mutex<Option<(u64, Arc<Stamp>)>> = Mutex::new(None);
    Box::new(move || {
        let (number, mut absent) = vcs.attributes();
        let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, stamp)) = &*newest
            && *of == number
        {
            return stamp.clone();
        }
        // Git has the word on what it knows; the platform says the rest.
        let known: Vec<String> = absent.iter().map(|(key, _)| key.clone()).collect();
        let rest = background.iter().filter(|(key, _)| !known.contains(key));
        absent.extend(rest.cloned());
        let stamp = Arc::new(Stamp::new(prefixes.clone(), set.clone(), absent));
        *newest = Some((number, stamp.clone()));
        stamp
    })
}

/// `None` where no upstream is set.
pub(super) fn export(config: &Config) -> Option<export::Config> {
    let export = config.export.as_ref()?;
    Some(export::Config {
        protocol: match export.protocol {
            config::Protocol::HttpProtobuf => export::Protocol::HttpProtobuf,
            config::Protocol::Grpc => export::Protocol::Grpc,
        },
        compression: match export.compression {
            config::Compression::Gzip => export::Compression::Gzip,
            config::Compression::None => export::Compression::None,
        },
        headers: export.headers.clone().into_iter().collect(),
        ca_file: export.ca_file.clone(),
        timeout: export.timeout,
        concurrency: export.concurrency,
        batch_bytes: usize::try_from(export.batch_bytes).unwrap_or(usize::MAX),
        batch_delay: export.batch_delay,
        ..export::Config::new(export.endpoint.clone())
    })
}

pub(super) fn identity(env: &Env, config: &Config, workspace: &Workspace) -> Result<identity::Config, Error> {
    let settings = &config.identity;
    let source = match login_session(config, workspace) {
        Some(session) => Source::Login(session),
        None => source(env, &settings.credential)?,
    };
    Ok(identity::Config {
        source,
        exchange: settings.exchange.clone(),
        audience: settings.audience.clone().unwrap_or_default(),
        attributes: match settings.attributes {
            config::Attributes::Full => Attributes::Full,
            config::Attributes::Pseudonym => Attributes::Pseudonym,
            config::Attributes::None => Attributes::None,
        },
        pseudonym_key: match (&settings.pseudonym_key, settings.attributes) {
            (None, config::Attributes::Pseudonym) => Some(kept_key(&config.dirs.state, PSEUDONYMS)?),
            (key, _) => key.clone(),
        },
        fallback: fallback(env, workspace),
        issuer: settings.accepted_issuer().map(str::to_owned),
        ca_file: config.export.as_ref().and_then(|export| export.ca_file.clone()),
        clock: identity::clock::Clock::System,
    })
}

fn source(env: &Env, credential: &config::Credential) -> Result<Source, Error> {
    Ok(match credential {
        config::Credential::Gitpod => Source::Gitpod(source::Gitpod::new(env)),
        config::Credential::Ona => Source::Ona(source::Ona::new(env)),
        config::Credential::Github => Source::Github(source::Github::new(env)),
        config::Credential::Gitlab(variable) => Source::Gitlab(source::Gitlab::new(variable.as_deref(), env)),
        config::Credential::AzureDevops(connection) => {
            Source::AzureDevops(source::AzureDevops::new(connection.as_deref(), env))
        }
        config::Credential::Kubernetes(path) => Source::Kubernetes(source::Kubernetes::new(path.as_deref())),
        config::Credential::Gcp => Source::Gcp(source::Gcp::default()),
        config::Credential::Azure(client_id) => Source::Azure(source::Azure::new(client_id.as_deref())),
        config::Credential::File(path) => Source::File(path.clone()),
        config::Credential::Env(variable) => Source::Env(source::EnvToken::new(variable, env)),
        config::Credential::Exec(argv) => Source::Exec(
            source::Program::new(argv.clone()).map_err(|error| Error::Part(format!("identity.exec: {error}")))?,
        ),
        config::Credential::Http(address) => {
            let headers: Vec<(String, Secret)> = address
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), Secret::new(value.clone())))
                .collect();
            let endpoint = source::Endpoint::new(address.url.clone(), &headers, address.pointer.clone());
            Source::Http(endpoint.map_err(|error| Error::Part(error.to_string()))?)
        }
        config::Credential::Agent(socket) => Source::Agent(socket.clone()),
        // What a login needs besides is the caller's.
        config::Credential::Login(_) | config::Credential::None => Source::None,
    })
}

/// The socket of `identity.share`. One that cannot be had is no reason not to start.
pub(super) fn share(config: &Config) -> Option<Share> {
    let path = config.identity.share.as_ref()?;
    match Share::listen(path, config.identity.audience.as_deref().unwrap_or_default()) {
        Ok(share) => Some(share),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the credential is not shared (identity.share)");
            None
        }
    }
}

/// The login that the settings ask for; none if they ask for another source.
pub(super) fn login_session(config: &Config, workspace: &Workspace) -> Option<Session> {
    let settings = &config.identity;
    let config::Credential::Login(flow) = settings.credential else {
        return None;
    };
    // With an exchange, upstream's audience is the exchange's business.
    let audience = match &settings.exchange {
        Some(exchange) => exchange.subject_audience.clone(),
        None => settings.audience.clone().unwrap_or_default(),
    };
    let app = App {
        issuer: settings.issuer.clone().unwrap_or_default(),
        client_id: settings.client_id.clone().unwrap_or_default(),
        client_secret_file: settings.client_secret_file.clone(),
        scopes: settings.scopes.clone(),
        audience,
    };
    // A plain machine is the same after a restart; a workspace may be a copy of another.
    let instance = match workspace.platform {
        Platform::Local => "",
        _ => workspace.instance_id.as_ref().unwrap_or(&workspace.id),
    };
    let runtime = &config.dirs.runtime;
    let keep = Keep::new(settings.keep, runtime, &app.name());
    let host = keep::host(&Files::system(), instance, runtime, settings.keep);
    Some(Session::new(flow, app, keep, host, runtime))
}

/// The file that keeps the key of this machine's pseudonyms: with a new one a person would get a new pseudonym.
const PSEUDONYMS: &str = "pseudonym-key";

/// A random key that is kept in the file `name`, made at the first asking. An empty file is none.
pub(super) fn kept_key(state: &Path, name: &str) -> io::Result<Secret> {
    let path = state.join(name);
    let is_kept = || fs::metadata(&path).is_ok_and(|file| file.len() > 0);
    if !is_kept() {
        // The user may have it linked to elsewhere, or share it: what is made in it is for the user alone.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
        workspace::put_once(&path, random_key().expose(), is_kept)?;
    }
    Ok(Secret::new(fs::read_to_string(&path)?))
}

/// Who sends where no token says so: the platform's word, or the OS user on a plain machine.
fn fallback(env: &Env, workspace: &Workspace) -> Principal {
    let is_told = workspace.trust.get("owner") == Some(&Trust::Platform);
    match &workspace.owner {
        Some(owner) if is_told => Principal::platform(workspace.platform.as_str(), owner),
        _ => {
            let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let uid = || format!("uid-{}", rustix::process::getuid().as_raw());
            let user = env
                .get("USER")
                .or_else(|| env.get("LOGNAME"))
                .map_or_else(uid, str::to_owned);
            Principal::os_user(&hostname, &user)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_start_has_the_same_pseudonyms() {
        let state = tempfile::tempdir().expect("a directory");
        let first = kept_key(state.path(), PSEUDONYMS).expect("a key");
        assert!(first.expose().len() >= 32);
        assert_eq!(
            kept_key(state.path(), PSEUDONYMS).expect("a key").expose(),
            first.expose()
        );
    }

    #[test]
    fn an_empty_file_is_no_key() {
        let state = tempfile::tempdir().expect("a directory");
        fs::write(state.path().join(PSEUDONYMS), "").expect("a file");
        let key = kept_key(state.path(), PSEUDONYMS).expect("a key");
        assert!(key.expose().len() >= 32, "anybody could work out the pseudonyms");
    }
}
