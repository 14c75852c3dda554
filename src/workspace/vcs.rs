//! Repository, branch and commit of a checkout, at the moment of receipt.
use std::path::PathBuf;

/// A checkout that is looked at again, cheaply, each time somebody asks.
#[derive(Debug)]
pub struct Vcs {
    _root: Option<PathBuf>,
}

impl Vcs {
    pub fn new(root: Option<PathBuf>) -> Vcs {
        Vcs { _root: root }
    }
    /// A number that changes when the attributes do, and the attributes (`vcs.*`) as they are now.
    pub fn attributes(&self) -> (u64, Vec<(String, String)>) {
        unimplemented!()
    }
}
