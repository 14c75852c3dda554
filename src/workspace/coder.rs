//! Coder, by what its agent sets for every process, and by what a template may add.
//!
//! The agent says neither the workspace's id nor its owner. A template can, under the names that Coder's provider uses;
//! what it says is asserted, as anybody who may edit a template may write anything there.

use super::{Env, Platform, Trust, Workspace};

/// Coder's agent sets `CODER`.
pub(super) fn is_here(env: &Env) -> bool {
    env.says_yes("CODER")
}

/// A workspace that waits to be claimed belongs to nobody. Only the template can tell the processes in it.
pub(super) fn is_prebuild(env: &Env) -> bool {
    env.says_yes("CODER_WORKSPACE_IS_PREBUILD")
}

/// What the variables say; the id stays empty where the template gives none.
pub(super) fn detect(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Coder, Trust::Platform);
    workspace.name = env.owned("CODER_WORKSPACE_NAME");
    let mut workspace = workspace.trusting(Trust::Platform);
    workspace.id = env.owned("CODER_WORKSPACE_ID").unwrap_or_default();
    workspace.owner = env
        .owned("CODER_WORKSPACE_OWNER_ID")
        .or_else(|| env.owned("CODER_WORKSPACE_OWNER_NAME"));
    workspace.trusting(Trust::Asserted)
}
