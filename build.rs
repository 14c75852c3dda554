//! Two things that only the build knows: which commit this is, and whether the C library is in the binary.
//!
//! It reads nothing of the network, and git alone of the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script's environment is how cargo speaks to it"
)]

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=TAGALONG_TARGET={}", variable("TARGET"));
    println!("cargo::rustc-env=TAGALONG_COMMIT={}", commit());
    if variable("CARGO_CFG_TARGET_ENV") == "gnu"
        && variable("CARGO_CFG_TARGET_FEATURE")
            .split(',')
            .any(|is| is == "crt-static")
    {
        name_services();
    }
}

/// What whoever builds from an archive says; else what git says; else nothing.
///
/// Git is asked for release builds alone: a debug build would otherwise be made anew after each commit.
fn commit() -> String {
    println!("cargo::rerun-if-env-changed=TAGALONG_COMMIT");
    let said = env::var("TAGALONG_COMMIT").unwrap_or_default();
    if !said.is_empty() || variable("PROFILE") != "release" {
        return said;
    }
    // An archive that was unpacked in somebody else's repository is not of that repository's commits.
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    if !root.join(".git").exists() {
        return String::new();
    }
    for file in moves_with_the_commit() {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    git(&["rev-parse", "HEAD"]).unwrap_or_default()
}

/// `HEAD`, and what holds the branch that it names. A file that is not there would make every build run this again.
fn moves_with_the_commit() -> Vec<PathBuf> {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let names = [
        "HEAD".to_owned(),
        "packed-refs".to_owned(),
        "reftable/tables.list".to_owned(),
    ];
    let paths = names
        .into_iter()
        .chain(branch)
        .filter_map(|name| git(&["rev-parse", "--git-path", &name]))
        .map(PathBuf::from);
    paths.filter(|path| Path::new(path).exists()).collect()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// See `src/static.c`.
fn name_services() {
    println!("cargo::rerun-if-changed=src/static.c");
    cc::Build::new()
        .file("src/static.c")
        .link_lib_modifier("+whole-archive")
        .compile("name_services");
}

fn variable(name: &str) -> String {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).unwrap_or_default()
}
