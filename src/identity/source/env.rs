//! `env`: a token from a variable, as it was when the agent started. It cannot be renewed, and says so before it ends.

use super::{MintError, Minted, token};
use crate::{identity::secret::Secret, workspace::Env};

/// A variable's name, and its value at the start.
#[derive(Clone, Debug)]
pub struct EnvToken {
    variable: String,
    value: Option<Secret>,
}

impl EnvToken {
    /// Reads the variable now: what a process is started with does not change.
    pub fn new(variable: &str, env: &Env) -> EnvToken {
        EnvToken {
            variable: variable.to_owned(),
            value: env.get(variable).map(|value| Secret::new(value.to_owned())),
        }
    }

    pub(super) fn mint(&self) -> Result<Minted, MintError> {
        match &self.value {
            Some(value) => {
                token(value.expose().as_bytes(), &format!("the variable {}", self.variable)).map(Minted::bare)
            }
            None => Err(MintError::NeedsUser(format!(
                "the variable {} was not set when the agent started",
                self.variable
            ))),
        }
    }
}
