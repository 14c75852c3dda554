//! Where the agent runs: a platform's environment, or a plain machine.
//!
//! One file a platform family. What a platform says about the place is read from its variables, and from the few files
//! that it documents ([`Files`]), so detection asks nobody and waits for nothing; it refuses to read anything inside a
//! repository. No variable, no claim: what a platform does not say stays unknown.
//! [`vcs`] is the exception, and a narrow one: it reads git's own bookkeeping and nothing that a checkout contains.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

mod aws;
mod azure;
mod che;
mod coder;
mod daytona;
mod devcontainer;
mod files;
mod github;
mod gitlab;
mod gitpod;
mod google;
mod kubernetes;
mod local;
mod pipeline;
mod place;
mod prebuild;
#[cfg(test)]
mod tests;
pub mod vcs;

pub use files::Files;
pub use local::{Cloud, put_once, random_id};
pub use pipeline::Pipeline;
pub use place::{Birthplace, Place};
use vcs::Remote;

/// The environment as a value: nothing below reads `std::env`. Tokens stand in it, so its `Debug` prints names alone.
#[derive(Clone, Default)]
pub struct Env(pub BTreeMap<String, String>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The kinds of place that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Gitpod Classic.
    Gitpod,
    /// Ona, which was Gitpod Flex.
    Ona,
    /// GitHub Codespaces.
    Codespaces,
    /// A development container on anybody's machine.
    Devcontainer,
    /// Coder, version 2.
    Coder,
    /// DevPod.
    Devpod,
    /// GitLab Workspaces.
    GitlabWorkspaces,
    /// Daytona.
    Daytona,
    /// Eclipse Che and OpenShift Dev Spaces.
    Che,
    /// Amazon CodeCatalyst.
    Codecatalyst,
    /// Google Cloud Workstations.
    CloudWorkstations,
    /// A pod of which nothing more is known.
    Kubernetes,
    /// A job of GitHub Actions.
    GithubActions,
    /// A job of GitLab CI.
    GitlabCi,
    /// A job of Azure Pipelines.
    AzureDevops,
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
    /// By field name (`platform`, `id`, `name`, `url`, `instance_id`, `repository`, `reference`, `owner`); a field that
    /// is absent has none.
    pub trust: BTreeMap<&'static str, Trust>,
    /// The directory of the platform's own checkout; none on a plain machine.
    pub checkout: Option<PathBuf>,
    /// The repository that it was made for.
    pub repository: Option<Remote>,
    /// The branch or tag that it was made for. In a workspace the checkout may have moved on since.
    pub reference: Option<String>,
    /// The platform's word for the person who created it, as stable as the platform has one: an id before a name.
    pub owner: Option<String>,
    /// The run that this is a part of; in CI only.
    pub pipeline: Option<Pipeline>,
    /// Tells the files of this workspace from copies of another's.
    pub place: Place,
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

/// Finds out where this is. It only reads, but for the random id that is kept at `state_dir`/workspace-id, which is
/// made only where no other id is known (and never in a prebuild: an image must not hand one id to many workspaces).
///
/// # Errors
/// If that file can be neither read nor made.
pub fn detect(env: &Env, files: &Files, config: &Config, state_dir: &Path) -> io::Result<Workspace> {
    let mut workspace = families(platform(env, files, config), env, files);
    workspace.prebuild = prebuild::is_prebuild(env, files);
    // Whatever the settings call it: another name does not make another place.
    let here = match config.platform {
        Some(_) => &families(find(env, files), env, files),
        None => &workspace,
    };
    workspace.place = Place {
        id: here.id.clone(),
        certain: here.trust.get("id") == Some(&Trust::Platform),
        born: Birthplace::of_files_in(state_dir, files),
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
            random_id()?
        } else {
            local::kept_id(files, state_dir)?
        };
        if workspace.place.id.is_empty() {
            workspace.place.id.clone_from(&id);
        }
        workspace.set_id(id, Trust::Asserted);
    }
    Ok(workspace)
}

/// Whether nobody is here (`prebuild`): nothing may be started then, and nothing said or written. It needs no settings,
/// so it can be asked before any are read.
pub fn is_prebuild(env: &Env, files: &Files) -> bool {
    prebuild::is_prebuild(env, files)
}

/// The platform that [`detect`] would find.
pub fn platform(env: &Env, files: &Files, config: &Config) -> Platform {
    config.platform.unwrap_or_else(|| find(env, files))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

/// From the most specific to the least: where one place is inside another, the outer one's variables are there too.
/// A development container in a codespace is a codespace, and everything on a cluster is more than a pod.
fn find(env: &Env, files: &Files) -> Platform {
    let looks: [(Platform, bool); 15] = [
        // Both may carry GITPOD_* variables; the successor's own one tells it apart.
        (Platform::Ona, gitpod::is_ona(env)),
        (Platform::Gitpod, gitpod::is_classic(env)),
        (Platform::Codespaces, github::is_codespace(env, files)),
        (Platform::Coder, coder::is_here(env)),
        (Platform::Daytona, daytona::is_here(env)),
        (Platform::Che, che::is_here(env)),
        (Platform::GitlabWorkspaces, gitlab::is_workspace(env)),
        (Platform::Codecatalyst, aws::is_here(env)),
        (Platform::CloudWorkstations, google::is_here(env)),
        // A job that runs in a development container is a job: the container is how it was made, not what it is.
        (Platform::GithubActions, github::is_job(env)),
        (Platform::GitlabCi, gitlab::is_job(env)),
        (Platform::AzureDevops, azure::is_here(env)),
        (Platform::Devpod, devcontainer::is_devpod(env)),
        (Platform::Devcontainer, devcontainer::is_here(env)),
        (Platform::Kubernetes, kubernetes::is_here(env)),
    ];
    looks
        .into_iter()
        .find_map(|(platform, is)| is.then_some(platform))
        .unwrap_or(Platform::Local)
}

fn families(platform: Platform, env: &Env, files: &Files) -> Workspace {
    match platform {
        Platform::Gitpod => gitpod::classic(env),
        Platform::Ona => gitpod::ona(env),
        Platform::Codespaces => github::codespace(env, files),
        Platform::Devcontainer => devcontainer::detect(env),
        Platform::Coder => coder::detect(env),
        Platform::Devpod => devcontainer::devpod(env),
        Platform::GitlabWorkspaces => gitlab::workspace(env),
        Platform::Daytona => daytona::detect(env),
        Platform::Che => che::detect(env),
        Platform::Codecatalyst => aws::detect(env),
        Platform::CloudWorkstations => google::detect(files),
        Platform::Kubernetes => kubernetes::detect(files),
        Platform::GithubActions => github::job(env),
        Platform::GitlabCi => gitlab::job(env),
        Platform::AzureDevops => azure::detect(env),
        Platform::Local => local::detect(files),
    }
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

    /// Whether the variable says yes, as a setting would and in any case: `true`, `1`, `yes` or `on`.
    pub fn says_yes(&self, name: &str) -> bool {
        let yes = |value: &str| ["true", "1", "yes", "on"].contains(&value.trim().to_ascii_lowercase().as_str());
        self.get(name).is_some_and(yes)
    }

    /// One line of text, without blanks around it: anybody who sets a variable here could command a terminal else.
    fn owned(&self, name: &str) -> Option<String> {
        self.get(name)
            .map(str::trim)
            .filter(|value| !value.is_empty() && !value.chars().any(char::is_control))
            .map(str::to_owned)
    }

    /// A directory by its absolute path.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        self.owned(name).map(PathBuf::from).filter(|path| path.is_absolute())
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
    /// All kinds, in the order in which they are listed for people.
    pub const ALL: [Platform; 16] = [
        Platform::Gitpod,
        Platform::Ona,
        Platform::Codespaces,
        Platform::Devcontainer,
        Platform::Coder,
        Platform::Devpod,
        Platform::GitlabWorkspaces,
        Platform::Daytona,
        Platform::Che,
        Platform::Codecatalyst,
        Platform::CloudWorkstations,
        Platform::Kubernetes,
        Platform::GithubActions,
        Platform::GitlabCi,
        Platform::AzureDevops,
        Platform::Local,
    ];

    /// The name as it is stamped, set and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Platform::Gitpod => "gitpod",
            Platform::Ona => "ona",
            Platform::Codespaces => "codespaces",
            Platform::Devcontainer => "devcontainer",
            Platform::Coder => "coder",
            Platform::Devpod => "devpod",
            Platform::GitlabWorkspaces => "gitlab-workspaces",
            Platform::Daytona => "daytona",
            Platform::Che => "che",
            Platform::Codecatalyst => "codecatalyst",
            Platform::CloudWorkstations => "cloud-workstations",
            Platform::Kubernetes => "kubernetes",
            Platform::GithubActions => "github-actions",
            Platform::GitlabCi => "gitlab-ci",
            Platform::AzureDevops => "azure-devops",
            Platform::Local => "local",
        }
    }

    /// The platform of that name.
    pub fn named(name: &str) -> Option<Platform> {
        Platform::ALL.into_iter().find(|platform| platform.as_str() == name)
    }

    /// Whether this is a job of a CI system, which nobody sits in front of.
    pub const fn is_ci(self) -> bool {
        matches!(
            self,
            Platform::GithubActions | Platform::GitlabCi | Platform::AzureDevops
        )
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

    /// What is stamped where the sender says nothing, and where git says nothing either: the repository and the
    /// environment, and in CI the run.
    ///
    /// A workspace is for development. What a CI job is for, only the CI system can say.
    pub fn background(&self) -> Vec<(String, String)> {
        let mut attributes = self.repository.as_ref().map(Remote::attributes).unwrap_or_default();
        match &self.pipeline {
            Some(pipeline) => attributes.extend(pipeline.attributes(self.reference.as_deref())),
            None if !self.platform.is_ci() => {
                attributes.push(("deployment.environment.name".to_owned(), "development".to_owned()));
            }
            None => {}
        }
        attributes
    }

    /// A workspace of which nothing is known but its kind.
    fn unknown(platform: Platform, trust: Trust) -> Workspace {
        Workspace {
            platform,
            id: String::new(),
            name: None,
            url: None,
            instance_id: None,
            prebuild: false,
            trust: BTreeMap::from([("platform", trust)]),
            checkout: None,
            repository: None,
            reference: None,
            owner: None,
            pipeline: None,
            place: Place::default(),
        }
    }

    /// Notes `trust` for every field that is there and has none yet.
    fn trusting(mut self, trust: Trust) -> Workspace {
        let present = [
            ("id", !self.id.is_empty()),
            ("name", self.name.is_some()),
            ("url", self.url.is_some()),
            ("instance_id", self.instance_id.is_some()),
            ("repository", self.repository.is_some()),
            ("reference", self.reference.is_some()),
            ("owner", self.owner.is_some()),
        ];
        for (field, _) in present.into_iter().filter(|(_, is)| *is) {
            self.trust.entry(field).or_insert(trust);
        }
        self
    }

    fn set_id(&mut self, id: String, trust: Trust) {
        self.id = id;
        self.trust.insert("id", trust);
    }
}
