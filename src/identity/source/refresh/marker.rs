//! That a refresh token was sent and its answer not yet kept: a hash of the token, never the token. It outlives a kill,
//! and tells the next start why the issuer may refuse.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;

use crate::identity::{hex, secret::Secret};

#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
}

impl Marker {
    pub(super) fn new(path: PathBuf) -> Marker {
        Marker { path }
    }

    /// Before the token is sent, and on the disk by then. That may take a disk seconds, so it has a thread of its own.
    pub(super) async fn set(&self, token: &Secret) -> io::Result<()> {
        let (path, name) = (self.path.clone(), name(token));
        let write = move || {
            let mut options = fs::OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(path)?;
            file.write_all(name.as_bytes())?;
            file.sync_all()
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }

    /// How long ago this token was sent without an answer that was kept; none if it was not.
    pub(super) fn age_of(&self, token: &Secret) -> Option<Duration> {
        if fs::read_to_string(&self.path).ok()? != name(token) {
            return None;
        }
        let written = fs::metadata(&self.path).ok()?.modified().ok()?;
        Some(SystemTime::now().duration_since(written).unwrap_or_default())
    }

    pub(super) fn clear(&self) {
        // A marker that stays names a token that is not used any more.
        let _ = fs::remove_file(&self.path);
    }
}

fn name(token: &Secret) -> String {
    hex(digest::digest(&digest::SHA256, token.expose().as_bytes()).as_ref())
}
