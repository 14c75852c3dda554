//! Development containers: DevPod, which says so, and those of any other tool, which mostly do not.
//!
//! The specification has no variable for "this is one". Some tools set `REMOTE_CONTAINERS`; an id there is none, so
//! `tagalong init` passes the one that the specification does have, `${devcontainerId}`, which stays the same when the
//! container is built anew. A Feature cannot: its variables become the image's, before there is a container. It says that
//! this is one, and its volume, which is named by that id, keeps the id that we make.

use super::{Env, Platform, Trust, Workspace};

/// Set to `${devcontainerId}` by whoever brings us into a container.
const OWN_ID: &str = "TAGALONG_DEVCONTAINER_ID";
/// Set to true by our Feature.
const OWN: &str = "TAGALONG_DEVCONTAINER";

/// DevPod sets `DEVPOD`.
pub(super) fn is_devpod(env: &Env) -> bool {
    env.says_yes("DEVPOD")
}

/// Our own variables, or that of the tools.
pub(super) fn is_here(env: &Env) -> bool {
    env.says_yes("REMOTE_CONTAINERS") || env.says_yes(OWN) || own_id(env).is_some()
}

/// In DevPod's words the id is a name that people chose, and the UID an id.
pub(super) fn devpod(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Devpod, Trust::Platform);
    workspace.id = env.owned("DEVPOD_WORKSPACE_UID").unwrap_or_default();
    workspace.name = env.owned("DEVPOD_WORKSPACE_ID");
    workspace.trusting(Trust::Platform)
}

/// The id is what the container's configuration passes, so it is asserted.
pub(super) fn detect(env: &Env) -> Workspace {
    let trust = if env.says_yes("REMOTE_CONTAINERS") {
        Trust::Platform
    } else {
        Trust::Asserted
    };
    let mut workspace = Workspace::unknown(Platform::Devcontainer, trust);
    workspace.id = own_id(env).unwrap_or_default();
    workspace.trusting(Trust::Asserted)
}

/// A tool that does not know the variable leaves it as it is written.
fn own_id(env: &Env) -> Option<String> {
    env.owned(OWN_ID).filter(|id| !id.contains("${"))
}
