//! The files of this machine that detection may look at: the one seam through which it reads anything.
//!
//! It reads small regular files only, never waits for a device or a pipe, and takes what it cannot read for absent:
//! a place that cannot be looked at makes no claim. It refuses nothing by name; what is read is the families' business.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use crate::system;

/// More than any file that says where we are, and little enough to be read at every start.
const MAX_BYTES: u64 = 256 * 1024;

/// A root directory below which absolute paths are looked up: `/`, or a test's.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// This machine's.
    pub fn system() -> Files {
        Files::below("/")
    }

    /// With `root` in place of `/`.
    pub fn below(root: impl Into<PathBuf>) -> Files {
        Files { root: root.into() }
    }

    /// The text of a regular file, 256 KiB of it at most; none if there is none, or if it is no text.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = self.at(path.as_ref());
        // Asked before it is opened: opening a pipe would wait for its writer.
        fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let mut text = String::new();
        fs::File::open(path)
            .ok()?
            .take(MAX_BYTES)
            .read_to_string(&mut text)
            .ok()?;
        Some(text)
    }

    /// The first line of a file, without blanks around it; none if nothing is left.
    pub(super) fn word(&self, path: impl AsRef<Path>) -> Option<String> {
        system::word(&self.read(path)?)
    }

    /// This machine's or container's name, as its kernel has it.
    pub(super) fn host_name(&self) -> Option<String> {
        system::host_name(&|path| self.read(path))
    }

    /// The number that this installation gave itself.
    pub fn machine_id(&self) -> Option<String> {
        system::machine_id(&|path| self.read(path))
    }

    /// What is another one after each boot.
    pub fn boot_id(&self) -> Option<String> {
        system::boot_id(&|path| self.read(path))
    }

    /// What the firmware calls this product, and the asset tag of its case.
    pub(super) fn product_and_case(&self) -> [Option<String>; 2] {
        system::product_and_case(&|path| self.read(path))
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}
