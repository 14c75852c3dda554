//! A plain machine: a name from the host, and a random id that is made once and kept.
//!
//! The id is not derived from the hardware or from `/etc/machine-id`: those are shared by clones and by containers, and
//! they would follow a person from one tool to the next.

use super::{Env, Platform, Trust, Workspace, gitpod};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

const ID_FILE: &str = "workspace-id";
const ID_BYTES: usize = 16;

/// All that a plain machine says without an id. A headless Gitpod stays a prebuild, whatever the settings call it.
pub(super) fn detect(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Local, gitpod::is_prebuild(env), Trust::Asserted);
    let host = rustix::system::uname().nodename().to_string_lossy().trim().to_owned();
    if !host.is_empty() {
        workspace.name = Some(host);
        workspace.trust.insert("name", Trust::Asserted);
    }
    workspace
}

/// A new id: 32 hex digits.
///
/// # Errors
/// If the system has no randomness to give.
pub(super) fn random_id() -> io::Result<String> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The id that `state_dir` keeps, made now if there is none. Two processes that make it at once end with one id.
///
/// # Errors
/// If the directory or the file can be neither read nor made.
pub(super) fn kept_id(state_dir: &Path) -> io::Result<String> {
    let path = state_dir.join(ID_FILE);
    if let Some(id) = read_id(&path)? {
        return Ok(id);
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let id = random_id()?;
    // Written aside and linked in: the name appears with its content, and linking fails where another process was first.
    let draft = state_dir.join(format!(".{ID_FILE}.{id}"));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file
        .write_all(format!("{id}\n").as_bytes())
        .and_then(|()| file.sync_all());
    let placed = written.and_then(|()| match fs::hard_link(&draft, &path) {
        // A damaged file is as good as none, and so is a file system without links: then the last one stays.
        Err(_) if read_id(&path)?.is_none() => fs::rename(&draft, &path),
        _ => Ok(()),
    });
    drop(file);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => placed.and(Err(error))?,
        _ => placed?,
    }
    read_id(&path)?.ok_or_else(|| io::Error::other(format!("{} did not keep what was written to it", path.display())))
}

/// None if there is no file, or if it holds no id.
fn read_id(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(256).read_to_end(&mut bytes)?;
    let id = String::from_utf8_lossy(&bytes).trim().to_owned();
    let is_id = (8..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    Ok(is_id.then_some(id))
}
