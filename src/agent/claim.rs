//! Whose a spool's directory is. A snapshot that is resumed twice brings one spool into two workspaces; the workspace that
//! it was made in goes on with it, and every other one begins its own beside it.
//!
//! What was copied is never sent from the copy and never deleted: the original may still be there to send it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{identity::keep::replace, workspace::Place};

/// The file in the spool's directory that says whose it is.
const FILE: &str = "place";

/// The spool of the workspace at `place`: `dir`, or one beside it if `dir` was copied from another workspace. Reads only.
pub fn spool_of(dir: &Path, place: &Place) -> PathBuf {
    match std::fs::read_to_string(dir.join(FILE)) {
        Ok(text) if !place.owns(&text) => beside(dir, place),
        _ => dir.to_owned(),
    }
}

/// Writes down whose `dir` is. Called with the spool's lock held.
///
/// # Errors
/// The operating system's; then the spool must not be used, as a copy of it could not be told from it.
pub(super) fn mark(dir: &Path, place: &Place) -> io::Result<()> {
    let (path, text) = (dir.join(FILE), place.to_text());
    if place.id.is_empty() || std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    replace(&path, &text, 0o600)
}

fn beside(dir: &Path, place: &Place) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!("{name}-{:08x}", crc32fast::hash(place.id.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Birthplace;

    fn place(id: &str, certain: bool, born: Option<&str>) -> Place {
        Place {
            id: id.to_owned(),
            certain,
            born: born.map(|born| Birthplace::parse(&format!("machine:{born}"))),
        }
    }

    #[test]
    fn a_snapshot_that_is_resumed_twice_makes_two_spools_and_the_original_keeps_its_own() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("spool");
        std::fs::create_dir(&dir).expect("a directory");
        let here = |id| place(id, true, Some("the-same-in-all-of-them"));
        assert_eq!(
            spool_of(&dir, &here("ws-1")),
            dir,
            "what says nothing is whoever's finds it"
        );
        mark(&dir, &here("ws-1")).expect("it is written");
        let (one, other) = (spool_of(&dir, &here("ws-2")), spool_of(&dir, &here("ws-3")));
        assert!(one != dir && other != dir && one != other);
        assert_eq!(one, spool_of(&dir, &here("ws-2")), "and the same one at the next start");
        assert_eq!(spool_of(&dir, &here("ws-1")), dir);
    }

    #[test]
    fn another_name_on_the_same_machine_is_the_same_workspace_where_no_platform_stands_for_the_name() {
        let dir = tempfile::tempdir().expect("a directory");
        mark(dir.path(), &place("kept", false, Some("here"))).expect("it is written");
        let of = |id, certain, born| spool_of(dir.path(), &place(id, certain, born));
        assert_eq!(of("a template's", false, Some("here")), dir.path());
        assert_eq!(of("the platform's", true, Some("here")), dir.path());
        assert_ne!(of("a template's", false, Some("there")), dir.path());
        assert_ne!(of("a template's", false, None), dir.path());
    }
}
