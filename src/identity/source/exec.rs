//! `exec`: a program of the user's that prints a token. It is named by an absolute path and gets arguments as a
//! vector, so no shell and no search path of a repository's making can put another program in its place.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{MintError, Minted, command, token};
use crate::identity::claims;

/// Longer than any token endpoint takes, shorter than anybody waits.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a login-less script needs to find its tools.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// An argument vector that begins with an absolute path.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    program: PathBuf,
    arguments: Vec<String>,
}

/// Arguments may hold what is nobody's business.
impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({:?}, {} arguments)", self.program, self.arguments.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    #[error("the command is empty: name a program by its absolute path")]
    Empty,
    #[error("the program is not named by an absolute path")]
    NotAbsolute,
}

impl Program {
    pub fn new(argv: Vec<String>) -> Result<Program, ProgramError> {
        let mut argv = argv.into_iter();
        let program = PathBuf::from(argv.next().ok_or(ProgramError::Empty)?);
        if !program.is_absolute() {
            return Err(ProgramError::NotAbsolute);
        }
        Ok(Program {
            program,
            arguments: argv.collect(),
        })
    }

    pub(super) async fn mint(&self) -> Result<Minted, MintError> {
        let environment = [("PATH".to_owned(), PATH.to_owned())];
        let printed = command::output(&self.program, &self.arguments, &environment, Path::new("/"), TIMEOUT)
            .await
            .map_err(|error| {
                let text = format!("the credential command {error}");
                match error {
                    command::CommandError::Start(error) if is_lasting(&error) => MintError::Config(text),
                    _ => MintError::Transient(text),
                }
            })?;
        parse(&printed)
    }
}

/// A program that is not there or may not be run stays so; one that is being replaced, or lacks memory, does not.
fn is_lasting(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
    )
}

/// A raw token, or a JSON object with one and perhaps with its end.
fn parse(printed: &[u8]) -> Result<Minted, MintError> {
    const WHENCE: &str = "what the credential command printed";
    if !printed.trim_ascii_start().starts_with(b"{") {
        return token(printed, WHENCE).map(Minted::bare);
    }
    let Ok(Value::Object(mut object)) = serde_json::from_slice(printed) else {
        return Err(MintError::Transient(format!("{WHENCE} is not valid JSON")));
    };
    let found = ["token", "access_token", "id_token"]
        .into_iter()
        .find_map(|name| match object.remove(name) {
            Some(Value::String(text)) => Some(zeroize::Zeroizing::new(text)),
            _ => None,
        });
    let Some(found) = found else {
        return Err(MintError::Config(format!(
            "{WHENCE} has no `token`, `access_token` or `id_token`"
        )));
    };
    Ok(Minted {
        lifetime: object
            .get("expires_in")
            .and_then(claims::seconds)
            .map(Duration::from_secs_f64),
        expires_at: object.get("expires_at").and_then(claims::numeric_date),
        ..Minted::bare(token(found.as_bytes(), WHENCE)?)
    })
}
