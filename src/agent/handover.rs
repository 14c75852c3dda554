//! The listening sockets of an agent that is replaced go to the one that replaces it, over the control socket. So the
//! ports never refuse a connection: those that come in between wait in the kernel's queue for the new one.
//!
//! Only sockets are handed over. What is on disk changes hands by the spool's lock, and the new agent mints its own
//! credential.

use std::{
    io::{self, BufRead, BufReader, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::Mutex,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::control::{Answer, Ask, put};

/// gRPC, HTTP and the containers next to the workspace.
const MOST: usize = 3;

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
}

/// Sends an answer's line with sockets beside its first byte.
pub(super) async fn give(stream: &tokio::net::UnixStream, line: &[u8], sockets: &[OwnedFd]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).take(MOST).collect();
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let fits = beside.push(SendAncillaryMessage::ScmRights(&sockets));
        assert!(fits, "there is room for as many as there are listeners");
        let flags = SendFlags::NOSIGNAL;
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
/// has replaced it in the meantime; no sockets if it is too old to know how, and was asked to stop.
///
/// # Errors
/// It does not answer.
pub fn take(socket: &Path, session: &str, patience: Duration) -> io::Result<Option<Vec<TcpListener>>> {
    let question = Ask::HandOver {
        session: session.to_owned(),
    };
    let stream = match put(socket, &question, patience) {
        Err(error) if is_gone(&error) => return Ok(None),
        stream => stream?,
    };
    let (first, sockets) = receive(&stream)?;
    let mut answer = String::from_utf8(first).unwrap_or_default();
    if !answer.ends_with('\n') {
        BufReader::new(stream).read_line(&mut answer)?;
    }
    match serde_json::from_str(&answer) {
        Ok(Answer::HandingOver) => Ok(Some(sockets.into_iter().map(TcpListener::from).collect())),
        Ok(Answer::Failed(_)) => {
            let deadline = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
            super::control::ask(socket, &Ask::Stop { deadline }, patience * 2)?;
            Ok(Some(Vec::new()))
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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut line)];
    let received = rustix::net::recvmsg(stream, &mut buffers, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = beside
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    line.truncate(received.bytes);
    Ok((line, sockets))
}
