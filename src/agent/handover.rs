//! The listening sockets of an agent that is replaced go to the one that replaces it, over the control socket. So the
//! ports never refuse a connection: those that come in between wait in the kernel's queue for the new one.
//!
//! Besides the sockets, one thing is handed over: a login that rests in the old agent's memory and nowhere else. It comes
//! as a second line of the answer, when the old agent has stopped using it, and goes to no disk on its way. What is on
//! disk changes hands by the spool's lock, and the new agent mints its own credential.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    control::{Answer, Ask, Passed, put},
    report::Facts,
};
use crate::system::{self, MOST_SOCKETS};

/// A login's line is shorter: two tokens of the largest size, and what stands around them.
const MOST_OF_A_LOGIN: u64 = 256 * 1024;
/// Longer than an agent takes that was told to make way.
const PATIENCE: Duration = Duration::from_secs(15);

/// What an agent gets of the one before it.
#[derive(Debug)]
pub struct Handed {
    /// Its listening sockets; none from one that is too old to know how.
    pub listeners: Vec<TcpListener>,
    /// What its login comes over, where it has one.
    pub(super) will: Option<Will>,
}

/// A connection on which a login may come, and what was read of it already, which nothing prints.
pub(super) struct Will {
    stream: UnixStream,
    begun: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Will {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Will").finish_non_exhaustive()
    }
}

/// A login on its way from an agent that stopped to the one that takes its place. Nobody uses it in between.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Login {
    /// Whose it is: issuer, client, scopes and audience (`App::name`). It is no other's.
    pub(super) name: String,
    /// What renews it.
    pub(super) refresh: Passed,
    /// The ID token is shown, not the access token.
    pub(super) shows_id: bool,
    /// Scopes that were asked for and not granted.
    #[serde(default)]
    pub(super) not_granted: Vec<String>,
    /// What upstream was shown last, if that is still good.
    pub(super) token: Option<Passed>,
    /// What is left of it, in seconds.
    pub(super) lifetime: Option<f64>,
}

/// Waits for the login of the agent before this one, if it has one, and goes on with it.
pub(super) async fn inherit(will: Option<Will>, facts: Arc<Facts>, shutdown: CancellationToken) {
    let Some(will) = will else { return };
    let read = tokio::time::timeout(PATIENCE, read(will));
    let login = tokio::select! {
        read = read => read.ok().and_then(Result::ok).flatten(),
        () = shutdown.cancelled() => None,
    };
    if let Some(login) = login {
        facts.inherit(login).await;
    }
}

/// None where the line is empty, or none at all: from an agent without a login.
async fn read(Will { stream, mut begun }: Will) -> io::Result<Option<Login>> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let mut stream = tokio::io::BufReader::new(stream.take(MOST_OF_A_LOGIN));
    if !begun.ends_with(b"\n") {
        stream.read_until(b'\n', &mut begun).await?;
    }
    Ok(serde_json::from_slice(&begun).ok())
}

/// Further handles of the listening sockets. They keep the ports taken as long as they are here.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<Vec<OwnedFd>>);

impl Handles {
    pub(super) fn new(handles: Vec<OwnedFd>) -> Handles {
        Handles(Mutex::new(handles))
    }

    /// All of them, once.
    pub(super) fn take(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut *self.0.lock().expect("nothing panics while it is held"))
    }

    /// Answers whoever asks to take over, with all of them if it means this agent and no other has them. Whether it has
    /// them now: if it went away before, they stay here.
    pub(super) async fn hand_over(&self, stream: &tokio::net::UnixStream, is_meant: bool) -> io::Result<bool> {
        let sockets = if is_meant { self.take() } else { Vec::new() };
        let answer = if sockets.is_empty() {
            Answer::Gone
        } else {
            Answer::HandingOver
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        match give(stream, &line, &sockets).await {
            Ok(()) => Ok(!sockets.is_empty()),
            Err(error) => {
                self.0.lock().expect("nothing panics while it is held").extend(sockets);
                Err(error)
            }
        }
    }
}

/// Sends an answer's line with sockets beside its first byte.
async fn give(stream: &tokio::net::UnixStream, line: &[u8], sockets: &[OwnedFd]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).take(MOST_SOCKETS).collect();
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let fits = beside.push(SendAncillaryMessage::ScmRights(&sockets));
        assert!(fits, "there is room for as many as there are listeners");
        // Whoever is gone is an error here: the runtime ignores the signal for it.
        let flags = SendFlags::empty();
        Ok(rustix::net::sendmsg(stream, &[IoSlice::new(line)], &mut beside, flags)?)
    };
    let sent = stream.async_io(tokio::io::Interest::WRITABLE, send).await?;
    // A line this short goes into an empty buffer whole.
    if sent == line.len() {
        return Ok(());
    }
    Err(io::ErrorKind::WriteZero.into())
}

/// Asks the agent of that session for its sockets, which makes it stop. None if it is gone already, or if another one
/// has its sockets or has replaced it in the meantime; no sockets if it is too old to know how, and was asked to stop.
///
/// # Errors
/// It does not answer.
pub fn take(socket: &Path, session: &str, patience: Duration) -> io::Result<Option<Handed>> {
    let question = Ask::HandOver {
        session: session.to_owned(),
    };
    let stream = match put(socket, &question, patience) {
        Err(error) if is_gone(&error) => return Ok(None),
        stream => stream?,
    };
    let (mut answer, sockets) = receive(&stream)?;
    let mut byte = [0];
    // Byte by byte: what comes after the line is for later.
    while !answer.contains(&b'\n') && io::Read::read(&mut &stream, &mut byte)? > 0 {
        answer.push(byte[0]);
    }
    let end = answer
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(answer.len(), |at| at + 1);
    let begun = Zeroizing::new(answer.split_off(end));
    match serde_json::from_slice(&answer) {
        Ok(Answer::HandingOver) => Ok(Some(Handed {
            listeners: sockets.into_iter().map(TcpListener::from).collect(),
            will: Some(Will { stream, begun }),
        })),
        Ok(Answer::Failed(_)) => {
            let deadline = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
            super::control::ask(socket, &Ask::Stop { deadline }, patience * 2)?;
            Ok(Some(Handed {
                listeners: Vec::new(),
                will: None,
            }))
        }
        _ => Ok(None),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::BrokenPipe
    )
}

/// The beginning of the answer, and what came beside it.
fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut line = vec![0; 4096];
    let (length, sockets) = system::receive(stream, &mut line)?;
    line.truncate(length);
    Ok((line, sockets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handles() -> Handles {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Handles::new(vec![listener.into()])
    }

    /// The agent's end, and that of whoever asks.
    fn connection() -> (tokio::net::UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        (tokio::net::UnixStream::from_std(ours).expect("a runtime"), theirs)
    }

    fn answer(stream: &UnixStream) -> (Answer, usize) {
        let (line, sockets) = receive(stream).expect("an answer");
        (serde_json::from_slice(&line).expect("JSON"), sockets.len())
    }

    #[tokio::test]
    async fn the_sockets_are_given_once_and_whoever_asks_later_is_told_that_they_are_gone() {
        let handles = handles();
        for (is_meant, is_given) in [(false, false), (true, true), (true, false)] {
            let (ours, theirs) = connection();
            let given = handles.hand_over(&ours, is_meant).await.expect("it listens");
            assert_eq!(given, is_given);
            match answer(&theirs) {
                (Answer::HandingOver, 1) => assert!(is_given),
                (Answer::Gone, 0) => assert!(!is_given),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn bug_lost_the_sockets_that_somebody_asked_for_who_went_away_are_there_for_the_next() {
        let handles = handles();
        let (ours, theirs) = connection();
        drop(theirs);
        assert!(handles.hand_over(&ours, true).await.is_err());
        let (ours, theirs) = connection();
        assert!(handles.hand_over(&ours, true).await.expect("it listens"));
        assert!(matches!(answer(&theirs), (Answer::HandingOver, 1)));
    }
}
