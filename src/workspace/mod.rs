//! Where the agent runs: a platform's environment, or a plain machine.
//!
//! One file a platform family. What a platform says about the place is read from its variables alone, so detection
//! asks nobody and waits for nothing; it refuses to read anything inside a repository.
//! [`vcs`] is the exception, and a narrow one: it reads git's own bookkeeping and nothing that a checkout contains.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

mod gitpod;
mod local;
#[cfg(test)]
mod tests;
pub mod vcs;

/// The environment as a value: nothing below reads `std::env`.
#[derive(Clone, Debug, Default)]
pub struct Env(pub BTreeMap<String, String>);

/// The kinds of place that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Gitpod Classic.
    Gitpod,
    /// A plain machine.
    Local,
}

/// How far a value can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// A signature says so.
    Verified,
    /// The platform says so, unsigned.
    Platform,
    /// Whoever set it up says so.
    Asserted,
}

/// One place, as it was found at the agent's start.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// What kind of place this is.
    pub platform: Platform,
    /// Never empty.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Where it is opened in a browser.
    pub url: Option<String>,
    /// New at every start of the same workspace, where the platform has such a thing.
    pub instance_id: Option<String>,
    /// Nobody is here: the platform only warms an image up. Nothing may be started and nothing written.
    pub prebuild: bool,
    /// By field name (`platform`, `id`, `name`, `url`, `instance_id`); a field that is absent has none.
    pub trust: BTreeMap<&'static str, Trust>,
    /// The platform's own checkout; none on a plain machine.
    pub repository: Option<PathBuf>,
    /// The platform's word for the person, where it has one (Gitpod: the owner id).
    pub owner: Option<String>,
}

/// What the user sets in place of what is detected (the settings `workspace.*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Replaces the id.
    pub id: Option<String>,
    /// Replaces the name.
    pub name: Option<String>,
    /// Replaces the platform.
    pub platform: Option<Platform>,
}

/// Finds out where this is. Pure but for the random id that a plain machine keeps at `state_dir`/workspace-id, which is
/// made only where no other id is known (and never in a prebuild: an image must not hand one id to many workspaces).
///
/// # Errors
/// If that file can be neither read nor made.
pub fn detect(env: &Env, config: &Config, state_dir: &Path) -> io::Result<Workspace> {
    let mut workspace = match platform(env, config) {
        Platform::Gitpod => gitpod::detect(env),
        Platform::Local => local::detect(env),
    };
    if config.platform.is_some() {
        workspace.trust.insert("platform", Trust::Asserted);
    }
    if let Some(id) = &config.id {
        workspace.set_id(id.clone(), Trust::Asserted);
    }
    if let Some(name) = &config.name {
        workspace.name = Some(name.clone());
        workspace.trust.insert("name", Trust::Asserted);
    }
    if workspace.id.is_empty() {
        let id = if workspace.prebuild {
            local::random_id()?
        } else {
            local::kept_id(state_dir)?
        };
        workspace.set_id(id, Trust::Asserted);
    }
    Ok(workspace)
}

/// The platform that [`detect`] would find; pure.
pub fn platform(env: &Env, config: &Config) -> Platform {
    config.platform.unwrap_or(if gitpod::is_here(env) {
        Platform::Gitpod
    } else {
        Platform::Local
    })
}

// === impl Env ===

impl Env {
    /// The process's own environment; what is not UTF-8 is left out.
    pub fn from_process() -> Env {
        Env(std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect())
    }

    /// The variable's value; an empty one is as good as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name)
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Env {
    fn from(pairs: [(&str, &str); N]) -> Env {
        Env(pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect())
    }
}

// === impl Platform ===

impl Platform {
    /// The name as it is stamped, set and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Platform::Gitpod => "gitpod",
            Platform::Local => "local",
        }
    }
}

// === impl Workspace ===

impl Workspace {
    /// `workspace.*` as they are stamped, without `workspace.session.id`, which is the agent's.
    pub fn attributes(&self) -> Vec<(String, String)> {
        let mut attributes = vec![
            ("workspace.id".to_owned(), self.id.clone()),
            ("workspace.platform".to_owned(), self.platform.as_str().to_owned()),
        ];
        let optional = [
            ("workspace.name", &self.name),
            ("workspace.url", &self.url),
            ("workspace.instance.id", &self.instance_id),
        ];
        for (key, value) in optional {
            attributes.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        attributes
    }

    /// A workspace of which nothing is known but its kind.
    fn unknown(platform: Platform, prebuild: bool, trust: Trust) -> Workspace {
        Workspace {
            platform,
            id: String::new(),
            name: None,
            url: None,
            instance_id: None,
            prebuild,
            trust: BTreeMap::from([("platform", trust)]),
            repository: None,
            owner: None,
        }
    }

    fn set_id(&mut self, id: String, trust: Trust) {
        self.id = id;
        self.trust.insert("id", trust);
    }
}
