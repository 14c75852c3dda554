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
    /// One object at the end, on stdout; the narration goes to stderr.
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

/// Runs the demonstration, narrating as it goes, and writes the table or the object at its end.
///
/// Ctrl-C, SIGTERM and SIGHUP end it early, with the table of what was so far, and leave neither a process nor a file.
/// The caller decides what a report with losses means.
///
/// # Errors
/// A part that could not be started, or `Interrupted` where it was ended before all were.
pub async fn run(options: Options) -> io::Result<Report> {
    let interrupts = interrupt::Interrupts::listen()?;
    let directory = Scratch::new()?;
    show::run(&options, &directory.0, interrupts).await
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

/// A directory that is gone when the demonstration is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Scratch> {
        use std::os::unix::fs::DirBuilderExt;
        // Short, because Unix socket paths are limited to about a hundred bytes.
        let above = std::env::temp_dir();
        let path = above.join(format!("tagalong-demo-{}", std::process::id()));
        // Never into something that is already there: it could be another user's.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            let text = format!("no directory can be made in {}: {error}", above.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        let _ = fs::remove_dir_all(path);
    }
}
