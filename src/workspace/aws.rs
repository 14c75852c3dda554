//! Amazon CodeCatalyst, by the variables that its own tools know a development environment by.

use super::{Env, Platform, Trust, Workspace};

/// Every development environment has an id.
pub(super) fn is_here(env: &Env) -> bool {
    env.get("__DEV_ENVIRONMENT_ID").is_some()
}

/// What the variables say; who made it is not among it.
pub(super) fn detect(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Codecatalyst, Trust::Platform);
    workspace.id = env.owned("__DEV_ENVIRONMENT_ID").unwrap_or_default();
    workspace.trusting(Trust::Platform)
}
