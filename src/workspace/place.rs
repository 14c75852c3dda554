//! Whether files that are found here were made here: a snapshot that is resumed twice brings the same files into two
//! places, and neither may go on with the other's cursor.
//!
//! A place is the workspace's id, and where its files were made as far as that can be told. It is written beside what it
//! protects and compared when that is found again. Of the machine it keeps a hash alone.

use super::{Files, hex};
use std::path::Path;

/// Set before what is hashed, so that the hash is of no use for finding the same machine in somebody else's data.
const SALT: &str = "tagalong birthplace\n";

/// One workspace, wherever its files are carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What the platform, or the kept file, calls it; not what the settings do. Empty: not known.
    pub id: String,
    /// Whether the platform itself gives the id: then it has one for each workspace, and two ids are two workspaces.
    /// An id that somebody passes may be passed from one day to the next.
    pub certain: bool,
    /// Where the state directory was made; none if that cannot be told, or if the files are meant to be carried along.
    pub born: Option<String>,
}

impl Place {
    /// As it is written beside what it protects.
    pub fn to_text(&self) -> String {
        let certain = if self.certain { "platform" } else { "asserted" };
        format!("{}\n{certain}\n{}\n", self.id, self.born.as_deref().unwrap_or_default())
    }

    /// Whether what was written at `text`'s place is this one's own: the same id, or on the same machine another id that
    /// no platform stands for, where only the name has changed. What does not say whose it is belongs to whoever finds it.
    pub fn owns(&self, text: &str) -> bool {
        let mut lines = text.lines();
        let mut line = || lines.next().unwrap_or_default();
        let (id, certain, born) = (line(), line() == "platform", line());
        let is_same_machine = !born.is_empty() && self.born.as_deref() == Some(born);
        let is_renamed = is_same_machine && !(certain && self.certain);
        id.is_empty() || self.id.is_empty() || id == self.id || is_renamed
    }
}

/// A hash of what tells this machine or container from a copy of it.
///
/// In a container whose root is an overlay it is the overlay's upper directory with the host's name: both stay over a
/// stop and are new in every other container of the same image. State on a volume is carried from container to
/// container on purpose, so there is none for it. Elsewhere it is `/etc/machine-id`, which a clone is to replace
/// (machine-id(5)), with the instance that cloud-init has found itself in, which is another one in each machine that a
/// cloud makes of an image.
///
/// What cannot be told: a clone that keeps both, and a machine whose memory was kept with its disk and resumed twice,
/// where even the boot is the same one. There each goes on with the same spool and, in the second case, with the same
/// session and credential: what was unsent then is sent by both. Nothing is lost, and nothing gets another name.
pub(super) fn birthplace(files: &Files, state_dir: &Path) -> Option<String> {
    let mounts = files.read("/proc/self/mountinfo").unwrap_or_default();
    let machine = match upper_directory(&mounts) {
        Some(_) if mount_of(&mounts, state_dir) != Some("/") => return None,
        Some(upper) => format!("{upper}\n{}", files.host_name().unwrap_or_default()),
        None => {
            let machine = files.word("/etc/machine-id")?;
            match files.word("/var/lib/cloud/data/instance-id") {
                Some(instance) => format!("{machine}\n{instance}"),
                None => machine,
            }
        }
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{SALT}{machine}").as_bytes());
    Some(hex(&digest.as_ref()[..16]))
}

/// Of the overlay that is mounted at `/`, if one is (proc_pid_mountinfo(5): the optional fields end with a dash).
fn upper_directory(mounts: &str) -> Option<&str> {
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, rest) = root.split_once(" - ")?;
    let mut fields = rest.split(' ');
    if fields.next() != Some("overlay") {
        return None;
    }
    fields
        .nth(1)?
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="))
}

/// The mount point that a path is below: the longest that fits.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.len())
}
