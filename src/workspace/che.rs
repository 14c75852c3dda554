//! Eclipse Che and OpenShift Dev Spaces, by the variables that their operator sets in every container of a workspace.

use super::{Env, Platform, Trust, Workspace};

/// Every workspace has an id.
pub(super) fn is_here(env: &Env) -> bool {
    env.get("DEVWORKSPACE_ID").is_some()
}

/// What the variables say. The creator is a user's id on the cluster.
pub(super) fn detect(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Che, Trust::Platform);
    workspace.id = env.owned("DEVWORKSPACE_ID").unwrap_or_default();
    workspace.name = env.owned("DEVWORKSPACE_NAME");
    workspace.owner = env.owned("DEVWORKSPACE_CREATOR");
    workspace.checkout = env.directory("PROJECT_SOURCE");
    workspace.trusting(Trust::Platform)
}
