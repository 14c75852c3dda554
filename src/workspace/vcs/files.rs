//! Git's own files: where they are, whether they changed, and the few lines that matter in them.
//!
//! A checkout is not to be trusted: names that lead out of the git directory are refused, nothing is read but regular
//! files (a named pipe would hold the reader for ever), and each reading has a limit.

use super::{
    Head,
    reftable::{self, Ref},
};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// HEAD, a loose ref, or a `.git` file: one line.
const LINE_LIMIT: u64 = 8 * 1024;
const CONFIG_LIMIT: u64 = 1024 * 1024;
/// About a million refs.
const PACKED_LIMIT: u64 = 128 * 1024 * 1024;

/// Where a checkout keeps what is its own, and what it shares with its other worktrees.
#[derive(Debug)]
pub(super) struct Layout {
    own: PathBuf,
    shared: PathBuf,
}

/// The state of the files that count, as of one look.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    head: Mark,
    /// The branch's own file, where it has one, else `packed-refs`; none while the branch is unknown.
    reference: Option<(bool, Option<Mark>)>,
    /// The lists of the tables that hold the refs, the checkout's own and the shared one; none where refs are files.
    tables: Option<(Mark, Option<Mark>)>,
    pub(super) config: Option<Mark>,
}

/// Enough of a file's metadata to see that it was replaced or written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Layout {
    /// The layout of the checkout at `root`: a `.git` directory, or a `.git` file that names one (worktrees, submodules).
    pub(super) fn find(root: &Path) -> Option<Layout> {
        let git = root.join(".git");
        let own = if fs::metadata(&git).ok()?.is_dir() {
            git
        } else {
            root.join(read(&git, LINE_LIMIT)?.strip_prefix("gitdir:")?.trim())
        };
        let shared = match read(&own.join("commondir"), LINE_LIMIT) {
            Some(line) => own.join(line.trim()),
            None => own.clone(),
        };
        Some(Layout { own, shared })
    }

    /// None if there is no HEAD (any more).
    pub(super) fn look(&self, reference: Option<&str>) -> Option<Seen> {
        let head = mark(&self.own.join("HEAD"))?;
        let reference = reference.map(|name| match mark(&self.shared.join(name)) {
            Some(loose) => (true, Some(loose)),
            None => (false, mark(&self.shared.join("packed-refs"))),
        });
        let tables = mark(&reftable::list(&self.own)).map(|own| {
            let shared = (self.own != self.shared).then(|| mark(&reftable::list(&self.shared)));
            (own, shared.flatten())
        });
        Some(Seen {
            head,
            reference,
            tables,
            config: mark(&self.shared.join("config")),
        })
    }

    pub(super) fn read_config(&self) -> Option<String> {
        read(&self.shared.join("config"), CONFIG_LIMIT)
    }

    pub(super) fn read_head(&self) -> Option<Head> {
        let text = read(&self.own.join("HEAD"), LINE_LIMIT)?;
        let line = text.lines().next()?.trim_end();
        let Some(name) = line.strip_prefix("ref:") else {
            return Some(Head {
                reference: None,
                revision: Some(object_id(line)?),
            });
        };
        let name = name.trim();
        // What git writes for readers that do not know reftables.
        if name == "refs/heads/.invalid" {
            return self.read_table_head();
        }
        is_ref_name(name).then(|| Head {
            reference: Some(name.to_owned()),
            revision: self.resolve(name),
        })
    }

    /// HEAD is the checkout's own, a branch is shared by all worktrees.
    fn read_table_head(&self) -> Option<Head> {
        let object = |found| match found {
            Some(Ref::Object(id)) => Some(id),
            Some(Ref::Symbolic(_)) | None => None,
        };
        Some(match reftable::find(&self.own, "HEAD") {
            Some(Ref::Symbolic(name)) if is_ref_name(&name) => Head {
                revision: object(reftable::find(&self.shared, &name)),
                reference: Some(name),
            },
            found => Head {
                revision: object(found),
                reference: None,
            },
        })
    }

    /// A loose ref goes before a packed one of the same name (gitrepository-layout, "packed-refs").
    fn resolve(&self, name: &str) -> Option<String> {
        if let Some(text) = read(&self.shared.join(name), LINE_LIMIT) {
            return object_id(text.lines().next()?.trim());
        }
        let packed = regular(&self.shared.join("packed-refs"))?;
        let mut reader = BufReader::with_capacity(64 * 1024, packed.take(PACKED_LIMIT));
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).ok()? > 0 {
            let found = line
                .trim_ascii_end()
                .strip_suffix(name.as_bytes())
                .and_then(|rest| rest.strip_suffix(b" "));
            if let Some(id) = found.and_then(|id| std::str::from_utf8(id).ok()).and_then(object_id) {
                return Some(id);
            }
            line.clear();
        }
        None
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let data = fs::metadata(path).ok()?;
    data.is_file().then(|| Mark {
        inode: data.ino(),
        size: data.size(),
        modified: (data.mtime(), data.mtime_nsec()),
        changed: (data.ctime(), data.ctime_nsec()),
    })
}

pub(super) fn regular(path: &Path) -> Option<fs::File> {
    // Asked before opening: to open a pipe is to wait for its other end.
    fs::metadata(path).ok()?.is_file().then(|| fs::File::open(path).ok())?
}

pub(super) fn read(path: &Path, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    regular(path)?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// SHA-1 or SHA-256, in hex.
fn object_id(text: &str) -> Option<String> {
    let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| text.to_ascii_lowercase())
}

/// The rules of git-check-ref-format that keep a name inside the git directory and printable.
fn is_ref_name(name: &str) -> bool {
    name.starts_with("refs/")
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && !name.contains("..")
        && !name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
}
