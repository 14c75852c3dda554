//! A service of the user's systemd, for a machine that has one: started with the user's manager, and again when it fails.
//!
//! The unit is a file of our own. It is written and nothing else: to enable it is for whoever reads what is left to do.

use super::{Action, Error, Plan, block, edit_blocks};
use std::path::Path;

const FILE: &str = ".config/systemd/user/tagalong.service";

/// A user manager's PATH need not have the place that people install to. It takes the place of an agent that a shell's
/// profile has started, so that one of the two supervises it.
const UNIT: &str = "\
[Unit]
Description=tagalong, which tags this machine's telemetry and keeps it until it is delivered

[Service]
Type=notify
Environment=PATH=%h/.local/bin:/usr/local/bin:/usr/bin:/bin
ExecStart=/usr/bin/env tagalong up --foreground --replace
Restart=on-failure
RestartSec=5
TimeoutStopSec=10

[Install]
WantedBy=default.target
";

/// `root` is the home directory.
pub(super) fn plan(action: Action, root: &Path, file: Option<&Path>) -> Result<Plan, Error> {
    let path = root.join(file.unwrap_or(Path::new(FILE)));
    let edit = edit_blocks(path, action, UNIT, |text| {
        Ok(block::insert(text, text.split_inclusive('\n').count(), 0, UNIT))
    })?;
    let next = match action {
        Action::Add => "systemctl --user daemon-reload && systemctl --user enable --now tagalong",
        Action::Remove => "systemctl --user disable --now tagalong; systemctl --user daemon-reload",
    };
    Ok(Plan {
        edits: vec![edit],
        next: vec![format!("Now run `{next}`.")],
    })
}
