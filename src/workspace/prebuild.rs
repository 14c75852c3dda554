//! Whether anybody is here at all. In a prebuild and while an image is built there is no developer: what is started is
//! stopped again, what is written ends up in everybody's workspace, and a token would be somebody else's.
//!
//! Which platform the settings name changes nothing about that. Ona's prebuilds and the early hooks of a development
//! container say nothing of themselves in any variable that is documented; there, what `tagalong init` writes is run by
//! hooks that a prebuild does not reach, and `TAGALONG_PREBUILD=true` says it for the rest.

use super::{Env, Files, coder, github, gitpod};

/// Says it where no platform does: for an image's build, or a template.
const OWN: &str = "TAGALONG_PREBUILD";
/// What BuildKit calls every machine that it builds on, unless it is told otherwise.
const BUILDKIT: &str = "buildkitsandbox";

pub(super) fn is_prebuild(env: &Env, files: &Files) -> bool {
    env.says_yes(OWN)
        || gitpod::is_prebuild(env)
        || coder::is_prebuild(env)
        || github::is_prebuild(env, files)
        || files.host_name().as_deref() == Some(BUILDKIT)
}
