//! `exec`: a program of the user's that prints a token. It is named by an absolute path and gets arguments as a
//! vector, so no shell and no search path of a repository's making can put another program in its place. Plugins that
//! print Kubernetes' ExecCredential serve as they are.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{MintError, Minted, answer, command};
use crate::workspace::Env;

/// Longer than any token endpoint takes, shorter than anybody waits.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a login-less script needs to find its tools.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What a Kubernetes credential plugin is told: which form to answer in, and that nobody is there to ask ("Client
/// Authentication (v1)", kubernetes.io/docs/reference/config-api/client-authentication.v1).
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";
const EXEC_INFO_VALUE: &str =
    r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}"#;

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
    /// The program by its absolute path, and its arguments.
    ///
    /// # Errors
    /// There is no program, or its path is not absolute.
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
        let environment = Env::from([("PATH", PATH), (EXEC_INFO, EXEC_INFO_VALUE)]);
        let program = self.program.display();
        let printed = command::output(&self.program, &self.arguments, &environment, Path::new("/"), TIMEOUT)
            .await
            .map_err(|error| {
                let text = format!("the credential command {program} {error}");
                match error {
                    command::CommandError::Start(error) if is_lasting(&error) => MintError::Config(text),
                    _ => MintError::Transient(text),
                }
            })?;
        answer::read(&printed, &format!("what the credential command {program} printed"))
    }
}

/// A program that is not there or may not be run stays so; one that is being replaced, or lacks memory, does not.
fn is_lasting(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
    )
}
