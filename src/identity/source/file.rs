//! `file`: a token that something else (a kubelet, a sidecar, a script) keeps fresh. It is opened anew at each look,
//! so that a swapped symlink or a renamed file is seen; nothing is cached and nothing is written.

use std::path::Path;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::{MAX_TOKEN_BYTES, MintError, Minted, token};

/// One look. A missing or empty file is a moment in somebody's rotation, so it is looked for again.
pub(crate) async fn read(path: &Path) -> Result<Minted, MintError> {
    let whence = format!("the token file {}", path.display());
    let describe = |error: std::io::Error| MintError::Transient(format!("{whence} cannot be read: {error}"));
    // Without O_NONBLOCK a FIFO in its place would hold a thread until somebody writes to it.
    let file = tokio::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0))
        .open(path)
        .await
        .map_err(describe)?;
    if !file.metadata().await.map_err(describe)?.is_file() {
        return Err(MintError::Config(format!("{whence} is not a regular file")));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(16 * 1024));
    let limit = u64::try_from(MAX_TOKEN_BYTES + 1024).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut content).await.map_err(describe)?;
    token(&content, &whence).map(Minted::bare)
}

/// In words, where nobody keeps it fresh any more.
pub(crate) fn ended(path: &Path) -> String {
    format!("the token in {} ended, and no fresh one was written", path.display())
}
