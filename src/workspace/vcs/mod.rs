//! Repository, branch and commit of a checkout, at the moment of receipt.
//!
//! Git is not run and no watcher thread is kept. Git replaces its files by rename, so four or five `stat` calls (HEAD,
//! the branch's file or `packed-refs`, the list of tables, and `config`) tell whether anything moved; only then are
//! they read again. It looks at most every 10 ms, which is less than a program takes to start: what runs after a commit
//! carries it, and under load the looking costs next to nothing.
//!
//! It refuses to follow includes and `insteadOf` of git's configuration, to read anything that is not a regular file,
//! and to say a remote URL that it does not fully understand: half an understood URL may be half a secret.
//! Refs are found as files, packed, or in tables (`reftable`).

mod files;
mod reftable;
mod remote;
#[cfg(test)]
mod tests;

use files::{Layout, Seen};
pub use remote::Remote;
use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was seen counts for so long.
const GLANCE: Duration = Duration::from_millis(10);

/// A checkout that is looked at again, cheaply, when somebody asks.
#[derive(Debug)]
pub struct Vcs {
    root: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    layout: Option<Layout>,
    seen: Option<Seen>,
    remote: Option<Remote>,
    head: Option<Head>,
    number: u64,
    attributes: Vec<(String, String)>,
}

/// What HEAD says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    /// The whole name (`refs/heads/main`); none if HEAD is detached.
    reference: Option<String>,
    /// None on a branch without a commit.
    revision: Option<String>,
}

impl Vcs {
    /// Looks at the checkout whose top directory is `root`; with none there is nothing to say, ever.
    pub fn new(root: Option<PathBuf>) -> Vcs {
        Vcs {
            root,
            state: Mutex::default(),
        }
    }

    /// A number that changes when the attributes do, and the attributes (`vcs.*`) as they are now.
    /// There are none where HEAD cannot be read. Less than a microsecond within 10 ms of a look, which takes about 15.
    pub fn attributes(&self) -> (u64, Vec<(String, String)>) {
        self.attributes_at(Instant::now())
    }

    /// Like [`Vcs::attributes`], with the time as a value: a test's, or one that the caller has at hand.
    pub fn attributes_at(&self, now: Instant) -> (u64, Vec<(String, String)>) {
        let Some(root) = &self.root else { return (0, Vec::new()) };
        // A panic elsewhere cannot leave this state worse than stale, and stale is found out by the next look.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .looked
            .is_none_or(|looked| now.saturating_duration_since(looked) >= GLANCE)
        {
            state.looked = Some(now);
            state.look(root);
        }
        (state.number, state.attributes.clone())
    }
}

// === impl State ===

impl State {
    fn look(&mut self, root: &std::path::Path) {
        let mut seen = self.layout.as_ref().and_then(|layout| layout.look(self.reference()));
        if seen.is_none() {
            // No repository yet, or another one than before.
            self.layout = Layout::find(root);
            self.seen = None;
            seen = self.layout.as_ref().and_then(|layout| layout.look(None));
        }
        if seen.is_some() && seen == self.seen {
            return;
        }
        let attributes = match (&self.layout, &seen) {
            (Some(layout), Some(now)) => {
                if self.seen.as_ref().is_none_or(|before| before.config != now.config) {
                    self.remote = layout.read_config().and_then(|text| Remote::origin(&text));
                }
                self.head = layout.read_head();
                attributes(self.remote.as_ref(), self.head.as_ref())
            }
            _ => {
                self.head = None;
                Vec::new()
            }
        };
        // What was seen is from before the reading: a change in between shows at the next look. Where HEAD now names
        // another branch, that look also takes in the branch's own file, and so reads once more.
        self.seen = seen;
        if attributes != self.attributes {
            self.attributes = attributes;
            self.number += 1;
        }
    }

    fn reference(&self) -> Option<&str> {
        self.head.as_ref().and_then(|head| head.reference.as_deref())
    }
}

fn attributes(remote: Option<&Remote>, head: Option<&Head>) -> Vec<(String, String)> {
    let Some(head) = head else { return Vec::new() };
    let mut attributes = remote.map(Remote::attributes).unwrap_or_default();
    let mut push = |key: &str, value: &str| attributes.push((key.to_owned(), value.to_owned()));
    if let Some(reference) = &head.reference {
        let kinds = [("refs/heads/", "branch"), ("refs/tags/", "tag")];
        let kind = kinds
            .iter()
            .find_map(|(prefix, kind)| Some((reference.strip_prefix(prefix)?, kind)));
        push("vcs.ref.head.name", kind.map_or(reference, |(name, _)| name));
        if let Some((_, kind)) = kind {
            push("vcs.ref.type", kind);
        }
    }
    if let Some(revision) = &head.revision {
        push("vcs.ref.head.revision", revision);
    }
    attributes
}
