//! Runs a program for what it prints. It gets no terminal, no more time and no more output than it is allowed, and
//! nothing that it says on stderr is read, because programs print tokens and misleading advice there.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{io::AsyncReadExt, process::Command};
use zeroize::Zeroizing;

use crate::workspace::Env;

/// More output than this is not a token.
const MAX_OUTPUT: usize = super::MAX_TOKEN_BYTES;

#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("cannot be started: {0}")]
    Start(std::io::Error),
    #[error("did not finish within {0:?}")]
    Timeout(Duration),
    #[error("printed more than 64 KiB")]
    TooMuch,
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    #[error("failed ({0})")]
    Failed(ExitStatus),
}

/// The first executable of that name in an absolute directory of the PATH: a relative one is whatever repository we
/// stand in.
pub(super) fn find(path: &str, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file())
}

/// What a platform's own command needs of the environment: how to find things, how to get out, and the platform's
/// variables by their prefixes.
pub(super) fn environment(env: &Env, prefixes: &[&str]) -> Env {
    const NAMES: [&str; 10] = [
        "HOME",
        "PATH",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ];
    let is_needed = |name: &str| NAMES.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix));
    let mut needed = env.clone();
    needed.0.retain(|name, _| is_needed(name));
    needed
}

/// Ends the program and what it started, unless it ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Gone already is what is wanted.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// What the program prints, if it exits with 0 in time.
pub(super) async fn output(
    program: &Path,
    arguments: &[impl AsRef<std::ffi::OsStr>],
    environment: &Env,
    directory: &Path,
    timeout: Duration,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&environment.0)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(CommandError::Start)?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let mut stdout = child.stdout.take().expect("stdout was piped above");
    let run = async {
        let mut printed = Zeroizing::new(Vec::with_capacity(8 * 1024));
        let mut chunk = Zeroizing::new([0u8; 4096]);
        loop {
            match stdout.read(chunk.as_mut()).await.map_err(CommandError::Read)? {
                0 => break,
                read if printed.len() + read > MAX_OUTPUT => return Err(CommandError::TooMuch),
                read => printed.extend_from_slice(&chunk[..read]),
            }
        }
        let status = child.wait().await.map_err(CommandError::Read)?;
        if status.success() {
            Ok(printed)
        } else {
            Err(CommandError::Failed(status))
        }
    };
    let result = tokio::time::timeout(timeout, run)
        .await
        .unwrap_or(Err(CommandError::Timeout(timeout)));
    if matches!(result, Ok(_) | Err(CommandError::Failed(_))) {
        // It was waited for, so its number may be somebody else's by now.
        group.0 = None;
    }
    result
}
