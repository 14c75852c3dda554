//! Daytona, by the variables that its runner sets for every sandbox.
//!
//! `DAYTONA_SANDBOX_USER` is the name of an OS user and not of a person, so it is nobody's.

use super::{Env, Platform, Trust, Workspace};

/// Every sandbox has an id.
pub(super) fn is_here(env: &Env) -> bool {
    env.get("DAYTONA_SANDBOX_ID").is_some()
}

/// What the variables say.
pub(super) fn detect(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Daytona, Trust::Platform);
    workspace.id = env.owned("DAYTONA_SANDBOX_ID").unwrap_or_default();
    workspace.trusting(Trust::Platform)
}
