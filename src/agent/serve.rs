//! The agent's end of the control socket. Questions are answered one connection at a time, each in its own task.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    control::{Answer, Ask, Entry},
    handover::Login,
    report::Facts,
};
use crate::{identity::keep::private_directory, source::accept};

/// A question is one line, and the longest brings two tokens; more is no question of ours.
const QUESTION_BYTES: u64 = 256 * 1024;

/// Somebody wants the agent to stop.
#[derive(Debug)]
pub(super) enum Stop {
    /// For good, and wants to hear how much is left.
    Down {
        deadline: Duration,
        answer: oneshot::Sender<Left>,
    },
    /// For another agent, which has the listening sockets already, and gets the login when nothing here uses it any more.
    HandedOver { heir: oneshot::Sender<Option<Login>> },
}

/// What is unsent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    /// Of whoever is here, in bytes.
    pub(super) bytes: u64,
    /// Of principals that are not.
    pub(super) absent: u64,
}

impl From<Left> for Answer {
    fn from(Left { bytes, absent }: Left) -> Answer {
        Answer::Left { bytes, absent }
    }
}

/// The file of a socket that was bound.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    /// Device and inode: none other has these while the socket is open.
    file: (u64, u64),
}

impl Bound {
    /// The name may be the next agent's already, where this one's spool was deleted under it, lock and all.
    pub(super) fn remove(&self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Binds the socket. The spool's lock is held, so a file that is there was left by an agent that is gone.
pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, Bound)> {
    if let Some(directory) = path.parent() {
        private_directory(directory)?;
    }
    let _ = std::fs::remove_file(path);
    let listener = bind_private(path)?;
    let file = identity(path)?;
    let path = path.to_owned();
    Ok((listener, Bound { path, file }))
}

/// A socket of mode 0600.
pub(super) fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `shutdown`.
pub(super) async fn run(
    listener: UnixListener,
    facts: Arc<Facts>,
    stop: mpsc::Sender<Stop>,
    shutdown: CancellationToken,
) {
    let mut asked = JoinSet::new();
    let not_accepted = |error: &io::Error| tracing::warn!(%error, "a question could not be taken");
    loop {
        tokio::select! {
            (stream, _) = accept::next(|| listener.accept(), not_accepted) => {
                asked.spawn(answer(stream, facts.clone(), stop.clone()));
            }
            Some(_) = asked.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    // Whoever asked to stop still waits for the answer.
    while asked.join_next().await.is_some() {}
}

async fn answer(stream: UnixStream, facts: Arc<Facts>, stop: mpsc::Sender<Stop>) {
    let (read, mut write) = stream.into_split();
    let mut line = Zeroizing::new(String::new());
    if BufReader::new(read.take(QUESTION_BYTES))
        .read_line(&mut line)
        .await
        .is_err()
    {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(Ask::HandOver { session }) => {
            let given = facts.handles.hand_over(write.as_ref(), session == facts.session).await;
            match given {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::warn!(%error, "whoever wanted to take over went away"),
            }
            let (heir, login) = oneshot::channel();
            // If it stops already, that is what was asked for.
            let _ = stop.send(Stop::HandedOver { heir }).await;
            let Ok(Some(login)) = login.await else { return };
            return put(&mut write, &login).await;
        }
        Ok(ask) => respond(ask, &facts, stop).await,
        Err(_) => Answer::Failed("this agent does not know that question".to_owned()),
    };
    put(&mut write, &answer).await;
}

/// One line of JSON. Whoever asked may be gone.
async fn put(write: &mut OwnedWriteHalf, value: &impl Serialize) {
    let Ok(text) = serde_json::to_vec(value) else {
        return;
    };
    let mut text = Zeroizing::new(text);
    text.push(b'\n');
    let _ = write.write_all(&text).await;
}

async fn respond(ask: Ask, facts: &Facts, stop: mpsc::Sender<Stop>) -> Answer {
    match ask {
        Ask::Status => Answer::Status(Box::new(facts.status())),
        Ask::HandOver { .. } => Answer::Failed("it is answered where the connection is".to_owned()),
        Ask::Stop { deadline } => {
            let (answer, left) = oneshot::channel();
            let stop = stop
                .send(Stop::Down {
                    deadline: Duration::from_millis(deadline),
                    answer,
                })
                .await;
            match (stop, left.await) {
                (Ok(()), Ok(left)) => left.into(),
                _ => Answer::Failed("the agent is stopping already".to_owned()),
            }
        }
        Ask::Flush { deadline } => {
            let ends = std::time::Instant::now() + Duration::from_millis(deadline);
            super::drain(facts, Duration::ZERO, ends).await;
            facts.left().into()
        }
        Ask::Token => facts.token(),
        Ask::Login(brought) => facts.login(brought).await,
        Ask::Logout => facts.logout().await,
        Ask::SetAside => match facts.spool.set_aside() {
            Ok(entries) => Answer::SetAside(entries.into_iter().map(Entry::from).collect()),
            Err(error) => Answer::Failed(error.to_string()),
        },
        Ask::Retry { id } => done(facts.spool.retry(&id).await),
        Ask::GiveUp { id } => done(facts.spool.give_up(&id)),
    }
}

fn done(result: io::Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(error.to_string()),
    }
}
