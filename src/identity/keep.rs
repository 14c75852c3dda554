//! Where a login rests between two refreshes: the desktop's keyring, the agent's memory, or, with consent, a file of
//! mode 0600 in the runtime directory. What rests is a refresh token and nothing that a request carries: an access
//! token never rests anywhere.
//!
//! A keyring may be missing, locked or mute. So it is written to, read and cleared before it is trusted, on a thread
//! of its own that is left behind if it does not answer; it is never asked to unlock itself, because that asks a
//! person; and an agent without one says so and goes on.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::secret::Secret;
use crate::workspace::{Birthplace, Files, random_id};

mod keyring;

/// A kept login is smaller: one refresh token of the largest size, and what stands around it.
const MAX_KEPT: u64 = 128 * 1024;

/// What the user wants (`identity.keep`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The keyring where there is one, else memory.
    #[default]
    Auto,
    /// The keyring or nothing.
    Keyring,
    /// Memory alone, though there is a keyring.
    Memory,
    /// The consent to a file.
    File,
}

/// Where a login rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the desktop's keyring.
    Keyring,
    /// In the agent's memory: gone when it ends.
    Memory,
    /// In a file of the runtime directory, 0600.
    File,
}

/// Which of an issuer's tokens is shown to upstream. It is decided at the login and kept, or a refresh could change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The access token.
    Access,
    /// The access token is opaque, and the ID token is none.
    Id,
}

/// What rests.
#[derive(Clone, Debug)]
pub struct Login {
    /// The refresh token: good for one use where the issuer rotates it.
    pub refresh: Secret,
    /// Which token is minted from it.
    pub shown: Shown,
    /// The machine that logged in: see [`host`]. One that says nothing is an earlier version's.
    pub host: Birthplace,
    /// Scopes that were asked for and not granted: most answers to a refresh do not say it again.
    pub not_granted: Vec<String>,
}

/// Why a login cannot be read or kept. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// There is no keyring here.
    #[error("there is no keyring here ({0})")]
    Missing(String),
    /// There is one, and somebody has to unlock it.
    #[error("the keyring is locked: unlock it, or set identity.keep = \"memory\"")]
    Locked,
    /// It does not answer.
    #[error("the keyring does not answer within 3 s: it may be waiting for somebody to unlock it")]
    Mute,
    /// The file, and what the system said.
    #[error("the login cannot be kept in {0}: {1}")]
    File(PathBuf, String),
}

/// One login's place of rest. Clones share the memory.
#[derive(Clone, Debug)]
pub struct Keep {
    wanted: Wanted,
    /// What it is called in the keyring.
    entry: String,
    file: PathBuf,
    memory: Arc<Mutex<Option<Login>>>,
    keyring: keyring::Keyring,
}

impl Keep {
    /// `name` tells logins apart; `directory` is the runtime directory, which need not exist yet.
    ///
    /// The lock of a refresh lies in there, so two with different ones share nothing in the keyring either.
    pub fn new(wanted: Wanted, directory: &Path, name: &str) -> Keep {
        Keep {
            wanted,
            entry: entry(name, directory),
            file: directory.join(format!("login-{name}.json")),
            memory: Arc::default(),
            keyring: keyring::Keyring::default(),
        }
    }

    /// Where a login that is made now would rest, and why not in the keyring if `auto` would rather have had it there.
    ///
    /// # Errors
    /// `identity.keep` names a place that cannot be used.
    pub async fn place(&self) -> Result<(Place, Option<KeepError>), KeepError> {
        match self.wanted {
            Wanted::Memory => Ok((Place::Memory, None)),
            Wanted::File => Ok((Place::File, None)),
            Wanted::Keyring => self.keyring.probe().await.map(|()| (Place::Keyring, None)),
            Wanted::Auto => Ok(match self.keyring.probe().await {
                Ok(()) => (Place::Keyring, None),
                Err(error) => (Place::Memory, Some(error)),
            }),
        }
    }

    /// What rests in this process and nowhere else.
    pub fn in_memory(&self) -> Option<Login> {
        self.memory().clone()
    }

    /// The file, for saying where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is kept; none if nobody logged in.
    ///
    /// # Errors
    /// It cannot be read now, so nobody knows.
    pub async fn load(&self) -> Result<Option<Login>, KeepError> {
        let held = self.memory().clone();
        match (held, self.wanted) {
            (Some(login), _) => Ok(Some(login)),
            (None, Wanted::Memory) => Ok(None),
            (None, Wanted::File) => self.read_file(),
            (None, wanted) => match self.keyring.read(&self.entry).await {
                Ok(text) => Ok(text.as_deref().and_then(|text| parse(text))),
                // Nothing can have been kept where nothing is.
                Err(KeepError::Missing(_)) if wanted == Wanted::Auto => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Keeps a login in place of the one before, and says where.
    ///
    /// # Errors
    /// It rests nowhere. With `auto` that cannot happen: there is always memory.
    pub async fn store(&self, login: &Login) -> Result<Place, KeepError> {
        // With `auto`, whoever began in memory stays there: a keyring that is unlocked later is not written to behind
        // anybody's back.
        let stays = self.wanted == Wanted::Auto && self.memory().is_some();
        if stays || self.wanted == Wanted::Memory {
            self.hold(login.clone());
            return Ok(Place::Memory);
        }
        let stored = if self.wanted == Wanted::File {
            // A disk may take seconds, and identity, sending and control are on one thread.
            let (keep, login) = (self.clone(), login.clone());
            let written = tokio::task::spawn_blocking(move || keep.write_file(&login)).await;
            written
                .unwrap_or_else(|error| Err(self.trouble(error)))
                .map(|()| Place::File)
        } else {
            self.keyring
                .write(&self.entry, render(login))
                .await
                .map(|()| Place::Keyring)
        };
        match stored {
            Ok(place) => {
                self.forget_memory();
                Ok(place)
            }
            Err(error) if self.wanted == Wanted::Auto => {
                tracing::warn!(%error, "the login is kept in memory, and ends with this process");
                self.hold(login.clone());
                Ok(Place::Memory)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a login in this process, where it comes before any other.
    pub(super) fn hold(&self, login: Login) {
        *self.memory() = Some(login);
    }

    /// Forgets what rests in this process, because something newer rests elsewhere or nowhere.
    pub fn forget_memory(&self) {
        *self.memory() = None;
    }

    /// Forgets, wherever it rests. What cannot be reached is left.
    pub async fn forget(&self) {
        self.forget_memory();
        // Whatever the setting is now, it may have been another one at the login.
        if let Err(error) = fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the kept login cannot be removed");
        }
        self.remove_drafts();
        if matches!(self.wanted, Wanted::Auto | Wanted::Keyring)
            && let Err(error) = self.keyring.remove(&self.entry).await
        {
            tracing::debug!(%error, "nothing is taken out of the keyring");
        }
    }

    fn memory(&self) -> MutexGuard<'_, Option<Login>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, what: impl ToString) -> KeepError {
        KeepError::File(self.file.clone(), what.to_string())
    }

    fn read_file(&self) -> Result<Option<Login>, KeepError> {
        let flags = i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or(0);
        let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.trouble(error)),
        };
        let facts = file.metadata().map_err(|error| self.trouble(error))?;
        let mine = facts.uid() == rustix::process::getuid().as_raw() && facts.mode() & 0o077 == 0;
        if !facts.is_file() || !mine {
            return Err(self.trouble("others can read it, so nothing in it is used; remove it and log in again"));
        }
        let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
        file.take(MAX_KEPT)
            .read_to_string(&mut text)
            .map_err(|error| self.trouble(error))?;
        Ok(parse(&text))
    }

    /// Removes what was written by a process that was killed before it was in its place: the token in it may be good.
    fn remove_drafts(&self) {
        let directory = self.file.parent().map(fs::read_dir);
        let files = directory.into_iter().flatten().flatten().flatten();
        for path in files.map(|entry| entry.path()) {
            let name = path.file_stem().map(Path::new).and_then(Path::file_stem);
            if path.extension().is_some_and(|extension| extension == "tmp") && name == self.file.file_stem() {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Whole or not at all, and on the disk before it counts: the login that it replaces is worth nothing any more.
    fn write_file(&self, login: &Login) -> Result<(), KeepError> {
        let write = || -> io::Result<()> {
            let directory = self.file.parent().unwrap_or(Path::new("/"));
            private_directory(directory)?;
            self.remove_drafts();
            replace(&self.file, &render(login), 0o600)
        };
        write().map_err(|error| self.trouble(error))
    }
}

/// Makes a directory of mode 0700 where there is none, and closes to others one that is this user's.
///
/// # Errors
/// As [`own`] says, and the operating system's.
pub fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let facts = own(path)?;
    if !facts.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is a link, and no directory of its own", path.display()),
        ));
    }
    if facts.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// What the system says of `path` itself, if it is this user's. Whoever made a directory could put there what is then
/// believed (XDG Base Directory Specification 0.8, `XDG_RUNTIME_DIR`: it must be owned by the user).
///
/// # Errors
/// `PermissionDenied` if it is another user's; `NotFound`.
pub fn own(path: &Path) -> io::Result<fs::Metadata> {
    let facts = fs::symlink_metadata(path)?;
    if facts.uid() == rustix::process::geteuid().as_raw() {
        return Ok(facts);
    }
    let text = format!("{} belongs to user {}", path.display(), facts.uid());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Replaces a file, or makes it, with that mode where the file system has modes: whole or not at all, and on the disk when
/// this returns. Its directory is there already.
pub fn replace(target: &Path, text: &str, mode: u32) -> io::Result<()> {
    let draft = target.with_extension(format!("{}.tmp", random_id()?));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)?;
    // The umask took from it what the file in its place may have had.
    let _ = file.set_permissions(fs::Permissions::from_mode(mode));
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written
        .and_then(|()| fs::rename(&draft, target))
        .inspect_err(|_| drop(fs::remove_file(&draft)))?;
    fs::File::open(target.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn entry(name: &str, directory: &Path) -> String {
    let bytes = directory.as_os_str().as_encoded_bytes();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    format!("{name}-{}", super::hex(&digest.as_ref()[..8]))
}

fn render(login: &Login) -> Zeroizing<String> {
    let mut value = json!({
        "refresh_token": login.refresh.expose(),
        "shown": match login.shown { Shown::Access => "access", Shown::Id => "id" },
        "host": login.host.to_string(),
        "not_granted": login.not_granted,
    });
    let text = Zeroizing::new(value.to_string());
    if let Some(Value::String(token)) = value.get_mut("refresh_token") {
        zeroize::Zeroize::zeroize(token);
    }
    text
}

/// None for anything that is no login of ours: then nobody is logged in.
fn parse(text: &str) -> Option<Login> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    let Some(Value::String(refresh)) = value.get_mut("refresh_token").map(Value::take) else {
        return None;
    };
    Some(Login {
        refresh: Secret::new(refresh),
        shown: match value.get("shown")?.as_str()? {
            "access" => Shown::Access,
            "id" => Shown::Id,
            _ => return None,
        },
        host: Birthplace::parse(value.get("host")?.as_str()?),
        not_granted: super::claims::texts(value.get("not_granted")),
    })
}

/// What tells this machine from a clone of it, for what rests in `directory`. A refresh token that two machines use is
/// one that the issuer takes for stolen, so a copy must notice that it is one.
///
/// On a plain machine a keyring outlives a restart, and so does the login. In a workspace, and in a directory that ends
/// with the machine's run, another boot is another machine; so is another `instance`, which is what the platform calls
/// this start of the workspace, and empty on a plain machine.
pub fn host(files: &Files, instance: &str, directory: &Path, wanted: Wanted) -> Birthplace {
    let machine = Birthplace::of_files_in(directory, files)
        .unwrap_or_else(|| Birthplace::default().and("machine", &files.machine_id().unwrap_or_default()));
    let outlives_boot = instance.is_empty() && wanted != Wanted::File;
    let boot = files.boot_id().filter(|_| !outlives_boot).unwrap_or_default();
    machine.and("boot", &boot).and("start", instance)
}

#[cfg(test)]
mod tests;
