//! The agent's control socket: one JSON line asks, one JSON line answers.
//!
//! The socket is a file of mode 0600 in a directory of mode 0700, so only the same OS user can ask.
//! It never changes settings: whoever wants other settings starts another agent.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    identity::{keep::own, secret::Secret},
    spool::SetAside,
    system,
    view::status::Status,
};

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Everything that the agent says of itself.
    Status,
    /// Drain for at most so many milliseconds, then stop.
    Stop {
        /// In milliseconds.
        deadline: u64,
    },
    /// Give the listening sockets to whoever asks, and stop: another agent takes over. Answered by
    /// [`Answer::HandingOver`], with the sockets beside its first byte.
    HandOver {
        /// The session that is to end; an agent of another one was started in the meantime, and stays.
        session: String,
    },
    /// The credential of the moment.
    Token,
    /// Somebody logged in: with the tokens, or with none if the login rests where the agent finds it.
    Login(Option<LoggedIn>),
    /// Revoke the login, and forget it.
    Logout,
    /// What was set aside, entry by entry.
    SetAside,
    /// Append an entry to the spool again.
    Retry {
        /// As [`Entry::id`] names it.
        id: String,
    },
    /// Delete an entry for good.
    GiveUp {
        /// As [`Entry::id`] names it.
        id: String,
    },
    /// Resolves once everything accepted so far is answered for, or after so many milliseconds.
    Flush {
        /// In milliseconds.
        deadline: u64,
    },
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Ask::Status`].
    Status(Box<Status>),
    /// What was left in the spool when the agent stopped or the flush ended.
    Left {
        /// Unsent bytes; 0 also where nothing is ever sent, because there is no upstream.
        bytes: u64,
        /// Unsent bytes of principals that are not here: no agent could send them now.
        #[serde(default)]
        absent: u64,
    },
    /// To [`Ask::HandOver`].
    HandingOver,
    /// To [`Ask::HandOver`]: that session is over, or another agent has its sockets.
    Gone,
    /// To [`Ask::Token`].
    Token {
        /// None while there is no usable credential, and where the source is `none`.
        token: Option<Passed>,
        /// Seconds until the sooner of both clocks ends it; none if nothing says.
        expires_in: Option<f64>,
        /// The subject that it speaks for; empty without a token.
        principal: String,
        /// Whom it was asked for; none where it is for nobody in particular.
        #[serde(default)]
        audience: Option<String>,
    },
    /// To [`Ask::SetAside`], in no order that is promised.
    SetAside(Vec<Entry>),
    /// Whether somebody was logged in, and whether the issuer said that it revoked the login.
    LoggedOut {
        /// Whether there was a login to end.
        was_in: bool,
        /// Whether the issuer said that it took the login back.
        revoked: bool,
    },
    /// It was done.
    Done,
    /// It was not, for this reason, in words for people. Also the answer to a question that this agent does not know.
    Failed(String),
}

/// What a login brought, for an agent that keeps it in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoggedIn {
    /// None where it rests elsewhere, or the issuer gave none.
    pub refresh: Option<Passed>,
    /// The token that upstream is shown.
    pub token: Passed,
    /// Seconds.
    pub lifetime: Option<f64>,
    /// The ID token is shown, not the access token.
    pub shows_id: bool,
    /// Scopes that were asked for and not granted.
    #[serde(default)]
    pub not_granted: Vec<String>,
}

/// A token on its way between two processes of one user: zeroed on drop, and `Debug` prints `"..."`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Passed(pub Zeroizing<String>);

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"...\"")
    }
}

impl From<&Secret> for Passed {
    fn from(secret: &Secret) -> Passed {
        Passed(Zeroizing::new(secret.expose().to_owned()))
    }
}

impl From<Passed> for Secret {
    fn from(passed: Passed) -> Secret {
        Secret::new(passed.0.as_str().to_owned())
    }
}

/// One set-aside entry, as `spool list` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Names it among all, for `retry` and `drop`.
    pub id: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// Spans, data points or log records.
    pub items: u64,
    /// Of what was set aside.
    pub bytes: u64,
    /// Seconds since the epoch.
    pub at: u64,
    /// What upstream said, or what the disk did to it.
    pub reason: String,
}

impl From<SetAside> for Entry {
    fn from(entry: SetAside) -> Entry {
        let since = entry.at.duration_since(UNIX_EPOCH);
        Entry {
            id: entry.id,
            signal: entry.lane,
            items: entry.items,
            bytes: entry.bytes,
            at: since.map_or(0, |since| since.as_secs()),
            reason: entry.reason,
        }
    }
}

/// Where the socket of the agent of `spool_dir` is: one agent, one spool, one socket.
pub fn socket_path(runtime: &Path, spool_dir: &Path) -> PathBuf {
    let name = crc32fast::hash(spool_dir.as_os_str().as_encoded_bytes());
    runtime.join(format!("{name:08x}.sock"))
}

/// Connects and asks; the answer is there to be read. An agent that hangs with a full queue of questions is not waited
/// for either. A socket of another user, or in a directory of another user, is no agent of ours, and is asked nothing.
pub(super) fn put(socket: &Path, question: &Ask, patience: Duration) -> io::Result<UnixStream> {
    for path in socket.parent().into_iter().chain([socket]) {
        own(path)?;
    }
    let connection = system::stream_socket()?;
    rustix::net::connect(&connection, &rustix::net::SocketAddrUnix::new(socket)?)?;
    let mut stream = UnixStream::from(connection);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = Zeroizing::new(serde_json::to_vec(question)?);
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

/// Asks the agent behind `socket`.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` mean that no agent runs; `PermissionDenied` that the place is another user's; `TimedOut` or `WouldBlock` that it does not answer within `patience`.
pub fn ask(socket: &Path, question: &Ask, patience: Duration) -> io::Result<Answer> {
    let stream = put(socket, question, patience)?;
    let mut answer = Zeroizing::new(String::new());
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the agent went away without an answer",
        ));
    }
    Ok(serde_json::from_str(&answer)?)
}
