//! `tagalong version`: which build this is, and for scripts as JSON. It asks no agent and reads no setting.

use crate::view::build;

pub(super) fn run(json: bool) {
    if json {
        let commit = Some(build::COMMIT).filter(|commit| !commit.is_empty());
        let build = serde_json::json!({"version": build::VERSION, "commit": commit, "target": build::TARGET});
        say!("{build}");
    } else {
        say!("tagalong {}", build::named());
    }
}
