//! The agent's control socket: one JSON line asks, one JSON line answers.
//!
//! The socket is a file of mode 0600 in a directory of mode 0700, so only the same OS user can ask.
//! It never changes settings: whoever wants other settings starts another agent.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::view::status::Status;

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    Status,
    /// Drain for at most so many milliseconds, then stop.
    Stop {
        deadline: u64,
    },
    /// The credential of the moment.
    Token,
    SetAside,
    Retry {
        id: String,
    },
    GiveUp {
        id: String,
    },
    /// Resolves once everything accepted so far is answered for, or after so many milliseconds.
    Flush {
        deadline: u64,
    },
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Status(Box<Status>),
    /// What was left in the spool when the agent stopped or the flush ended.
    Left {
        bytes: u64,
    },
    Token {
        token: Option<String>,
        expires_in: Option<f64>,
        principal: String,
    },
    SetAside(Vec<Entry>),
    Done,
    Failed(String),
}

/// One set-aside entry, as `spool list` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    pub signal: String,
    pub items: u64,
    pub bytes: u64,
    /// Seconds since the epoch.
    pub at: u64,
    pub reason: String,
}

/// Where the socket of the agent of `spool_dir` is: one agent, one spool, one socket.
pub fn socket_path(runtime: &Path, spool_dir: &Path) -> PathBuf {
    let name = crc32fast::hash(spool_dir.as_os_str().as_encoded_bytes());
    runtime.join(format!("{name:08x}.sock"))
}

/// The process that listens on `socket`, whether it answers or not.
pub fn pid(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

/// Asks the agent behind `socket`.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` mean that no agent runs; `TimedOut` or `WouldBlock` that it does not answer within `patience`.
pub fn ask(socket: &Path, question: &Ask, patience: Duration) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the agent went away without an answer",
        ));
    }
    Ok(serde_json::from_str(&answer)?)
}
