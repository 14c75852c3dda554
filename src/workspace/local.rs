//! A plain machine: a name from the host, and a random id that is made once and kept.
//!
//! The id is not derived from the hardware or from `/etc/machine-id`: those are shared by clones and by containers, and
//! they would follow a person from one tool to the next. Beside it stands where it was made ([`Birthplace`]): a copy
//! of the file that wakes up elsewhere is not the same machine, and gets an id of its own.

use super::{Files, Platform, Trust, Workspace, hex, place::Birthplace};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Whose virtual machine a plain machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Compute Engine.
    Google,
    /// A virtual machine of Azure's.
    Azure,
}

impl Cloud {
    /// By what the firmware says, as the vendors have it told: the product's name ("Detect if a VM is running in Compute
    /// Engine", cloud.google.com/compute/docs/instances/detect-compute-engine) and the asset tag, the same for every
    /// machine ("Troubleshoot Linux update agent issues", learn.microsoft.com/azure/automation). Good for a hint: nothing is
    /// asked over the network.
    pub fn of(files: &Files) -> Option<Cloud> {
        let [product, case] = files.product_and_case();
        if product.as_deref() == Some("Google Compute Engine") {
            Some(Cloud::Google)
        } else if case.as_deref() == Some("7783-7084-3265-9085-8269-3286-77") {
            Some(Cloud::Azure)
        } else {
            None
        }
    }
}

const ID_FILE: &str = "workspace-id";
const ID_BYTES: usize = 16;

/// What the file holds: the id in its first line, and where it was made in the second, if that is known.
struct Kept {
    id: String,
    born: Birthplace,
}

/// All that a plain machine says without an id.
pub(super) fn detect(files: &Files) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Local, Trust::Asserted);
    workspace.name = files.host_name();
    workspace.trusting(Trust::Asserted)
}

/// A new id: 32 hex digits.
///
/// # Errors
/// If the system has no randomness to give.
pub fn random_id() -> io::Result<String> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex(&bytes))
}

/// The id that `state_dir` keeps, made now if there is none, or if what is there was copied from another machine. Two
/// processes that make it at once end with one id.
///
/// # Errors
/// If the directory or the file can be neither read nor made.
pub(super) fn kept_id(files: &Files, state_dir: &Path) -> io::Result<String> {
    let path = state_dir.join(ID_FILE);
    let born = Birthplace::of_files_in(state_dir, files);
    let is_copy = |kept: &Kept| born.as_ref().and_then(|here| here.is(&kept.born)) == Some(false);
    match read(&path)? {
        Some(kept) if !is_copy(&kept) => return Ok(kept.id),
        Some(_) => {
            // Whoever holds the directory's lock throws the copy away; whoever comes second finds the new file.
            let _lock = lock(state_dir);
            if read(&path)?.as_ref().is_some_and(is_copy) {
                fs::remove_file(&path)?;
            }
            make(&path, born.as_ref())?;
        }
        None => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
            make(&path, born.as_ref())?;
        }
    }
    let kept = read(&path)?;
    kept.map(|kept| kept.id)
        .ok_or_else(|| io::Error::other(format!("{} did not keep what was written to it", path.display())))
}

fn make(path: &Path, born: Option<&Birthplace>) -> io::Result<()> {
    let text = format!("{}\n{}\n", random_id()?, born.cloned().unwrap_or_default());
    put_once(path, &text, || read(path).is_ok_and(|kept| kept.is_some()))
}

/// Makes a file that its user alone may read, unless there is one that counts: whoever comes first wins, and nobody
/// reads half of it. Written aside and linked in: the name appears with its content, and linking fails where another
/// process was first. What is there and does not count is replaced.
///
/// # Errors
/// If it can be neither read nor made.
pub fn put_once(path: &Path, text: &str, counts: impl Fn() -> bool) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", random_id()?));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| match fs::hard_link(&draft, path) {
        // A file system without links has no first one either: then the last one stays.
        Err(_) if !counts() => fs::rename(&draft, path),
        _ => Ok(()),
    });
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => placed.and(Err(error)),
        _ => placed,
    }
}

/// Held until it is dropped. A file system without locks has none to give, and then the last one stays.
fn lock(dir: &Path) -> Option<fs::File> {
    let dir = fs::File::open(dir).ok()?;
    rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive).ok()?;
    Some(dir)
}

/// None if there is no file, or if it holds no id.
fn read(path: &Path) -> io::Result<Option<Kept>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(1024).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.trim_start().lines().map(str::trim);
    let id = lines.next().unwrap_or_default().to_owned();
    let is_id = (8..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    Ok(is_id.then(|| Kept {
        id,
        born: Birthplace::parse(lines.next().unwrap_or_default()),
    }))
}
