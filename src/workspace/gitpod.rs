//! Gitpod Classic, by the variables that its supervisor gives to every process.
//!
//! It does not ask the supervisor or `gp`: that is for a credential, not for the name of the place.
//! The git name and e-mail that Gitpod passes on are the user's to edit, so they are never read.

use super::{Env, Platform, Trust, Workspace};
use std::path::PathBuf;

/// Gitpod Classic sets `GITPOD_WORKSPACE_ID`; its successor, another platform, sets `GITPOD_ENVIRONMENT_ID`.
pub(super) fn is_here(env: &Env) -> bool {
    env.get("GITPOD_WORKSPACE_ID").is_some() && env.get("GITPOD_ENVIRONMENT_ID").is_none()
}

/// A prebuild is headless. It runs as somebody who need not be the developer, so it is nobody's workspace.
pub(super) fn is_prebuild(env: &Env) -> bool {
    env.get("GITPOD_HEADLESS") == Some("true")
}

/// What the variables say. The id stays empty where they do not name one.
pub(super) fn detect(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Gitpod, is_prebuild(env), Trust::Platform);
    workspace.id = env.owned("GITPOD_WORKSPACE_ID").unwrap_or_default();
    workspace.name = env.owned("GITPOD_WORKSPACE_NAME");
    workspace.url = env.owned("GITPOD_WORKSPACE_URL");
    workspace.instance_id = env.owned("GITPOD_INSTANCE_ID");
    workspace.owner = env.owned("GITPOD_OWNER_ID");
    workspace.repository = env
        .owned("GITPOD_REPO_ROOT")
        .map(PathBuf::from)
        .filter(|root| root.is_absolute());
    let present = [
        ("id", !workspace.id.is_empty()),
        ("name", workspace.name.is_some()),
        ("url", workspace.url.is_some()),
        ("instance_id", workspace.instance_id.is_some()),
    ];
    workspace.trust.extend(
        present
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(field, _)| (field, Trust::Platform)),
    );
    workspace
}
