//! Looks at a repository whose HEAD, configuration, packed refs and table of refs are arbitrary bytes.
//! Beyond not panicking: no value breaks a line, and no URL has a user, a password, a query or a fragment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path, path::PathBuf, sync::LazyLock};
use tagalong::workspace::vcs::Vcs;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("tagalong-fuzz-{}", std::process::id()));
    fs::create_dir_all(root.join(".git/reftable")).expect("a directory");
    write(&root.join(".git/reftable/tables.list"), b"table.ref\n");
    root
});

fuzz_target!(|bytes: &[u8]| {
    let git = ROOT.join(".git");
    for file in ["config", "packed-refs", "reftable/table.ref"] {
        write(&git.join(file), bytes);
    }
    for head in [bytes, b"ref: refs/heads/main", b"ref: refs/heads/.invalid"] {
        write(&git.join("HEAD"), head);
        let (_, attributes) = Vcs::new(Some(ROOT.clone())).attributes();
        for (key, value) in attributes {
            assert!(!value.chars().any(char::is_control), "{key}: {value:?}");
            if key == "vcs.repository.url.full" {
                let authority = value.split('/').nth(2).unwrap_or_default();
                assert!(!authority.contains('@') && !value.contains(['?', '#']), "{value}");
            }
        }
    }
});

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a file");
}
