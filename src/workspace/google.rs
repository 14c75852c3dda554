//! Google Cloud Workstations, by the one variable that Google's own tools know a workstation by.
//!
//! No variable is known that names the workstation, so its host name stands for a name and a kept id for an id.
//! The metadata server speaks of a service account that all users of a configuration share; it is not asked.

use super::{Env, Files, Platform, Trust, Workspace};

/// What Google's own tools take for the sign of one (firebase-tools does). Its documents name no variable.
pub(super) fn is_here(env: &Env) -> bool {
    env.says_yes("GOOGLE_CLOUD_WORKSTATIONS")
}

/// A workstation under its host's name.
pub(super) fn detect(files: &Files) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::CloudWorkstations, Trust::Platform);
    workspace.name = files.host_name();
    workspace.trusting(Trust::Asserted)
}
