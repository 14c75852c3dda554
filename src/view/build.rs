//! Which build this executable is: version, commit and target, as the build script found them.
//!
//! An agent says it of itself in its status, so that `up` can tell another build from its own.

use super::status::Agent;

/// As in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit's full hash; empty in a debug build, and in one made without git where nobody said it.
pub const COMMIT: &str = env!("TAGALONG_COMMIT");
/// The target triple.
pub const TARGET: &str = env!("TAGALONG_TARGET");

/// How many digits of a commit people are shown: git's own abbreviation of a repository this size, with room to grow.
const DIGITS: usize = 12;

/// `0.1.0 (4f0a1b2c3d4e, x86_64-unknown-linux-gnu, static)`, on one line for people and scripts alike.
pub fn named() -> String {
    let linked = if cfg!(target_feature = "crt-static") {
        ", static"
    } else {
        ""
    };
    let commit = short(COMMIT);
    let commit = if commit.is_empty() { "no commit" } else { commit };
    format!("{VERSION} ({commit}, {TARGET}{linked})")
}

/// What makes `agent` another build than this one, in words; none if it is the same.
pub fn differs(agent: &Agent) -> Option<(String, String)> {
    if agent.version != VERSION {
        return Some((agent.version.clone(), VERSION.to_owned()));
    }
    let commit = agent.commit.as_deref().unwrap_or_default();
    (commit != COMMIT).then(|| (with_commit(&agent.version, commit), with_commit(VERSION, COMMIT)))
}

fn with_commit(version: &str, commit: &str) -> String {
    match short(commit) {
        "" => format!("{version} (no commit)"),
        commit => format!("{version} ({commit})"),
    }
}

fn short(commit: &str) -> &str {
    commit.get(..DIGITS).unwrap_or(commit)
}
