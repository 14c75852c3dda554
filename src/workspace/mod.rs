//! Where the agent runs: a platform's environment, or a plain machine.
use std::{collections::BTreeMap, path::PathBuf};

pub mod vcs;

/// The environment as a value: nothing below reads `std::env`.
#[derive(Clone, Debug, Default)]
pub struct Env(pub BTreeMap<String, String>);

impl Env {
    pub fn from_process() -> Env {
        Env(std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect())
    }
    /// The variable's value; an empty one is as good as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    Gitpod,
    Local,
}

/// How far a value can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    Verified,
    Platform,
    Asserted,
}

#[derive(Clone, Debug)]
pub struct Workspace {
    pub platform: Platform,
    /// Never empty.
    pub id: String,
    pub name: Option<String>,
    pub url: Option<String>,
    pub instance_id: Option<String>,
    pub prebuild: bool,
    /// By field name (`id`, `name`, `url`, `instance_id`).
    pub trust: BTreeMap<&'static str, Trust>,
    /// The platform's own checkout; none on a plain machine.
    pub repository: Option<PathBuf>,
    /// The platform's word for the person, where it has one (Gitpod: the owner id).
    pub owner: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Config {
    pub id: Option<String>,
    pub name: Option<String>,
    pub platform: Option<Platform>,
}

/// Pure but for the random id that a plain machine keeps at `state_dir`/workspace-id (none is written in a prebuild).
pub fn detect(_env: &Env, _config: &Config, _state_dir: &std::path::Path) -> std::io::Result<Workspace> {
    unimplemented!()
}

impl Workspace {
    /// `workspace.*` as they are stamped, without `workspace.session.id`, which is the agent's.
    pub fn attributes(&self) -> Vec<(String, String)> {
        unimplemented!()
    }
}
