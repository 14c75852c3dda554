//! The credential of the moment for other tagalongs that this one's user lets in (`identity.share`): in a container
//! over a mount, on another machine over `ssh -R`.
//!
//! The control socket is no such door: over it an agent can be stopped. This one knows one question, answers for this
//! agent's audience alone, and gives nothing that outlives the credential.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    identity::{
        Receiver, State,
        source::agent::{Answer, MAX_LINE, Question},
    },
    source::accept,
};

/// Whoever connects and says nothing is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who asks at the same time: a handful of containers.
const MOST: usize = 32;

/// The bound socket, and for whom its answers are.
#[derive(Debug)]
pub(super) struct Share {
    listener: UnixListener,
    path: PathBuf,
    audience: Arc<str>,
}

impl Share {
    /// Binds the socket of `identity.share`, in a directory that is there. A socket that somebody listens on is left
    /// alone.
    pub(super) fn listen(path: &Path, audience: &str) -> io::Result<Share> {
        make_way(path)?;
        Ok(Share {
            listener: super::serve::bind_private(path)?,
            path: path.to_owned(),
            audience: audience.into(),
        })
    }
}

/// Removes the socket of an agent that is gone.
fn make_way(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    if let Ok(facts) = std::fs::symlink_metadata(path) {
        if !facts.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something else than a socket",
            ));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there"));
        }
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Answers until `shutdown`, then takes the socket away; without one there is nothing to do.
pub(super) async fn run(share: Option<Share>, identity: Receiver, shutdown: CancellationToken) {
    let Some(Share {
        listener,
        path,
        audience,
    }) = share
    else {
        return;
    };
    let mut asked = JoinSet::new();
    let not_accepted =
        |error: &io::Error| tracing::warn!(%error, "a question for the shared credential could not be taken");
    loop {
        tokio::select! {
            (stream, _) = accept::next(|| listener.accept(), not_accepted), if asked.len() < MOST => {
                asked.spawn(answer(stream, audience.clone(), identity.clone()));
            }
            Some(_) = asked.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    let _ = std::fs::remove_file(&path);
}

async fn answer(stream: UnixStream, audience: Arc<str>, identity: Receiver) {
    let exchange = async {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        BufReader::new(read.take(MAX_LINE)).read_line(&mut line).await?;
        let Ok(question) = serde_json::from_str::<Question>(&line) else {
            return Ok(());
        };
        let answer = judge(&question, &audience, &identity);
        let mut text = Zeroizing::new(serde_json::to_vec(&answer)?);
        text.push(b'\n');
        write.write_all(&text).await?;
        write.shutdown().await
    };
    let ended: Result<io::Result<()>, _> = tokio::time::timeout(PATIENCE, exchange).await;
    if !matches!(ended, Ok(Ok(()))) {
        tracing::debug!("somebody who asked for the shared credential went away");
    }
}

fn judge(question: &Question, audience: &str, identity: &Receiver) -> Answer {
    // Without an audience of its own there is nobody that its credential is for.
    if audience.is_empty() || question.audience != audience {
        return Answer::WrongAudience;
    }
    let current = identity.current();
    let lease = current.lease();
    match lease.as_ref().and_then(|lease| lease.credential.token.as_ref()) {
        Some(token) => Answer::Token {
            token: Zeroizing::new(token.expose().to_owned()),
            expires_in: current.seconds_to_expiry(),
        },
        None if current.state == State::NeedsUser => Answer::NeedsUser,
        None => Answer::NoneNow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Principal, secret::Secret},
        workspace::Trust,
    };

    #[test]
    fn it_answers_for_its_own_audience_alone() {
        let principal = Principal {
            issuer: "i".to_owned(),
            subject: "s".to_owned(),
            attributes: Vec::new(),
            trust: Trust::Verified,
        };
        let identity = Receiver::fixed(principal, Some(Secret::new("at".to_owned())), None);
        let asked_of = |own: &str, audience: &str| {
            let question = Question {
                audience: audience.to_owned(),
            };
            judge(&question, own, &identity)
        };
        let asked = |audience: &str| asked_of("https://otlp.example.com", audience);
        assert!(matches!(asked_of("", ""), Answer::WrongAudience), "it has none");
        assert!(matches!(asked("https://otlp.example.com"), Answer::Token { token, .. } if *token == "at"));
        for other in ["", "https://otlp.example.com/", "https://evil.example"] {
            assert!(matches!(asked(other), Answer::WrongAudience), "{other}");
        }
    }
}
