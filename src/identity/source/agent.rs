//! `agent`: another tagalong's credential, over a socket that was forwarded from the host (a mount, or `ssh -R`).
//!
//! The host's side listens on this socket only if `identity.share` names it, answers this one question only, and only
//! for its own audience. What it gives is the credential of the moment, never what it is minted from.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use zeroize::Zeroizing;

use super::{Asking, MintError, Minted, token};

/// One line, either way, is shorter.
pub const MAX_LINE: u64 = 96 * 1024;

/// The question: one JSON line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// For whom the token is to be. The host has one audience, and answers for no other.
    pub audience: String,
}

/// The answer: one JSON line.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The credential of the moment.
    Token {
        /// As upstream is to see it.
        token: Zeroizing<String>,
        /// What is left of it, in seconds.
        expires_in: Option<f64>,
    },
    /// There is none for the moment.
    NoneNow,
    /// There is none without a person.
    NeedsUser,
    /// The host's agent has another audience, which is not said.
    WrongAudience,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Answer::Token { .. } => "Token(\"...\")",
            Answer::NoneNow => "NoneNow",
            Answer::NeedsUser => "NeedsUser",
            Answer::WrongAudience => "WrongAudience",
        })
    }
}

/// Asks the host's agent behind `socket`.
pub(super) async fn ask(socket: &Path, asking: &Asking<'_>) -> Result<Minted, MintError> {
    let name = socket.display();
    let mut stream = UnixStream::connect(socket).await.map_err(|error| {
        MintError::Transient(format!(
            "the host's agent cannot be reached at {name} ({error}): is the socket forwarded, and identity.share set there?"
        ))
    })?;
    let broken = |_| MintError::Transient(format!("the host's agent at {name} broke off"));
    let mut line = serde_json::to_vec(&Question {
        audience: asking.audience.to_owned(),
    })
    .expect("a text is JSON");
    line.push(b'\n');
    stream.write_all(&line).await.map_err(broken)?;
    let mut told = Zeroizing::new(Vec::with_capacity(16 * 1024));
    stream.take(MAX_LINE).read_to_end(&mut told).await.map_err(broken)?;
    match serde_json::from_slice(&told) {
        Ok(Answer::Token {
            token: text,
            expires_in,
        }) => Ok(Minted {
            lifetime: expires_in
                .filter(|seconds| (0.0..=1e9).contains(seconds))
                .map(Duration::from_secs_f64),
            ..Minted::bare(token(text.as_bytes(), "what the host's agent gave")?)
        }),
        Ok(Answer::NoneNow) => Err(MintError::Transient(
            "the host's agent has no usable credential for the moment".to_owned(),
        )),
        Ok(Answer::NeedsUser) => Err(MintError::Transient(
            "the host's agent waits for somebody to log in there".to_owned(),
        )),
        Ok(Answer::WrongAudience) => Err(MintError::Config(
            "the host's agent has another audience: set the same export.endpoint or identity.audience on both sides"
                .to_owned(),
        )),
        Err(_) => Err(MintError::Transient(format!(
            "what listens at {name} does not answer like a tagalong that shares its credential"
        ))),
    }
}
