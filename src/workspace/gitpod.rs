//! Gitpod Classic and its successor Ona, by the variables that their supervisors give to every process.
//!
//! They do not ask a supervisor or a command: that is for a credential, not for the name of the place.
//! The git name and e-mail that Gitpod passes on are the user's to edit, so they are never read.

use super::{Env, Platform, Trust, Workspace, vcs::Remote};

/// Gitpod Classic sets `GITPOD_WORKSPACE_ID`; its successor, another platform, sets `GITPOD_ENVIRONMENT_ID`.
pub(super) fn is_classic(env: &Env) -> bool {
    env.get("GITPOD_WORKSPACE_ID").is_some() && !is_ona(env)
}

/// Ona kept the name of the variable from when it was Gitpod Flex.
pub(super) fn is_ona(env: &Env) -> bool {
    env.get("GITPOD_ENVIRONMENT_ID").is_some()
}

/// A prebuild is headless. It runs as somebody who need not be the developer, so it is nobody's workspace.
pub(super) fn is_prebuild(env: &Env) -> bool {
    env.get("GITPOD_HEADLESS") == Some("true")
}

/// What the variables say. The id stays empty where they do not name one.
pub(super) fn classic(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Gitpod, Trust::Platform);
    workspace.id = env.owned("GITPOD_WORKSPACE_ID").unwrap_or_default();
    workspace.name = env.owned("GITPOD_WORKSPACE_NAME");
    workspace.url = env.owned("GITPOD_WORKSPACE_URL");
    workspace.instance_id = env.owned("GITPOD_INSTANCE_ID");
    workspace.owner = env.owned("GITPOD_OWNER_ID");
    workspace.checkout = env.directory("GITPOD_REPO_ROOT");
    let context = env
        .get("GITPOD_WORKSPACE_CONTEXT")
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
        .unwrap_or_default();
    workspace.repository = context["repository"]["cloneUrl"].as_str().and_then(Remote::parse);
    workspace.reference = context["ref"]
        .as_str()
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    workspace.trusting(Trust::Platform)
}

/// Ona's environment has a name, a creator and a role too, but says them to whoever asks its API, and to no variable.
pub(super) fn ona(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Ona, Trust::Platform);
    workspace.id = env.owned("GITPOD_ENVIRONMENT_ID").unwrap_or_default();
    workspace.trusting(Trust::Platform)
}
