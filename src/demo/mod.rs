//! The embedded issuer and upstream, and the demonstration that uses them.
//!
//! The demonstration is the whole flow on one machine: an issuer with 20-second tokens, an upstream that checks them,
//! the real agent as a process of its own between a sample application and that upstream, an outage and a `kill -9`.
//! Nothing here is used by an agent at work, and none of it listens anywhere but on loopback.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

mod agent;
mod bearer;
mod interrupt;
pub mod issuer;
mod narrate;
mod reply;
mod sample;
pub mod serve;
mod show;
pub mod upstream;

/// What the demonstration is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long the sample application sends. What follows is waiting for the last spans, 30 seconds at most.
    pub duration: Duration,
    /// The report is for a program: no table is written, and the narration goes to stderr.
    pub json: bool,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Spans for which the agent answered with success.
    pub accepted: u64,
    /// Accepted spans that reached upstream, each counted once; the agent's own spans are not among them.
    pub delivered: u64,
    /// Accepted spans that did not reach upstream. Anything but 0 is a broken promise.
    pub lost: u64,
    /// Distinct tokens that upstream took.
    pub tokens: u64,
    /// Tokens that replaced another one in a running agent.
    pub rotations: u64,
    /// Requests that upstream refused for their bearer.
    pub refused: u64,
    /// Deliveries of a span beyond its first: what was in flight when something was killed.
    pub duplicates: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            duration: Duration::from_secs(60),
            json: false,
        }
    }
}

/// Runs the demonstration, narrating as it goes, and writes the table at its end.
///
/// Ctrl-C, SIGTERM and SIGHUP end it early, with the table of what was so far, and leave neither a process nor a file.
/// The caller decides what a report with losses means.
///
/// # Errors
/// A part that could not be started, or `Interrupted` where it was ended before all were.
pub async fn run(options: Options) -> io::Result<Report> {
    let interrupts = interrupt::Interrupts::listen()?;
    let directory = Scratch::new(&std::env::temp_dir())?;
    show::run(&options, &directory.path, interrupts).await
}

/// A fresh token for `audience` from the embedded issuer at `issuer`.
pub async fn token(issuer: &str, audience: &str) -> io::Result<String> {
    let url = issuer::token_url(issuer, audience);
    let response = client()?.get(url).send().await.map_err(io::Error::other)?;
    let response = response.error_for_status().map_err(io::Error::other)?;
    response.text().await.map_err(io::Error::other)
}

/// A client for loopback: no proxy, no long waits, and no certificates, of which small images have none.
pub(crate) fn client() -> io::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(io::Error::other)
}

/// How a demonstration's directory begins; its process id follows.
const SCRATCH: &str = "tagalong-demo-";

/// A directory that is gone when the demonstration is over, or at the start of a later one.
struct Scratch {
    path: PathBuf,
    /// Locked for as long as the demonstration lives, whatever ends it.
    _held: fs::File,
}

impl Scratch {
    /// Below `above`, where what dead demonstrations have left goes first.
    fn new(above: &Path) -> io::Result<Scratch> {
        use std::os::unix::fs::DirBuilderExt;
        for left in fs::read_dir(above).into_iter().flatten().flatten() {
            if is_left(&left.path()) {
                let _ = fs::remove_dir_all(left.path());
            }
        }
        // Short, because Unix socket paths are limited to about a hundred bytes.
        let path = above.join(format!("{SCRATCH}{}", std::process::id()));
        // Never into something that is already there: it could be another user's.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            let text = format!("no directory can be made in {}: {error}", above.display());
            io::Error::new(error.kind(), text)
        })?;
        let held = fs::File::open(&path)?;
        // Where there are no locks, nothing counts as left either.
        let _ = held.lock();
        Ok(Scratch { path, _held: held })
    }
}

/// Whether this is our user's directory of a demonstration that is over: no other process has its id, and nobody holds it.
/// A process id alone says nothing of other containers that share the place, and a lock nothing of one that just begins.
fn is_left(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let pid = name.strip_prefix(SCRATCH).and_then(|pid| pid.parse().ok());
    let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    let is_ours = fs::symlink_metadata(path)
        .is_ok_and(|facts| facts.is_dir() && facts.uid() == rustix::process::geteuid().as_raw());
    let is_gone = || rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    is_ours
        && (pid == rustix::process::getpid() || is_gone())
        && fs::File::open(path).is_ok_and(|directory| directory.try_lock().is_ok())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_demonstration_left_goes_at_the_next_start_and_nothing_else() {
        let above = tempfile::tempdir().expect("a directory");
        let make = |name: &str| {
            let path = above.path().join(name);
            fs::create_dir_all(path.join("state/spool")).expect("a directory");
            path
        };
        let mut ended = std::process::Command::new("true").spawn().expect("it starts");
        let left = make(&format!("{SCRATCH}{}", ended.id()));
        assert!(!is_left(&left), "its process is not gone for good");
        ended.wait().expect("it ends");
        let held = fs::File::open(&left).expect("a directory");
        held.lock().expect("nobody else has it");
        assert!(!is_left(&left), "somebody holds it, in another container perhaps");
        drop(held);
        // Another container's, where process ids are few.
        make(&format!("{SCRATCH}{}", std::process::id()));
        let theirs = [make("tagalong-demo-notes"), make("tagalong-demo-1"), make("demo")];

        let scratch = Scratch::new(above.path()).expect("a directory");
        assert!(!left.exists() && theirs.iter().all(|path| path.exists()));
        assert!(!is_left(&scratch.path));
        let path = scratch.path.clone();
        drop(scratch);
        assert!(!path.exists());
    }
}
