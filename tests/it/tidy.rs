//! The house rules that neither the compiler nor clippy knows: who may import whom, and what a file may look like.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which modules of ours each module may name. What is not listed here may name nothing of ours.
///
/// `ARCHITECTURE.md` has the reasons. Tests are free.
const IMPORTS: &[(&str, &[&str])] = &[
    ("otlp", &[]),
    ("pieces", &[]),
    ("seldom", &[]),
    ("spool", &["pieces"]),
    // Below all: what a port to another system replaces.
    ("system", &[]),
    ("workspace", &["system"]),
    ("setup", &[]),
    ("identity", &["system", "workspace"]),
    ("stamp", &["otlp", "identity", "pieces", "workspace"]),
    ("intake", &["otlp", "pieces", "stamp", "spool"]),
    ("source", &["otlp", "intake", "seldom", "system"]),
    ("export", &["otlp", "pieces", "seldom", "stamp", "spool", "identity"]),
    // Its status type carries states, platforms and books as those who have them define them.
    ("view", &["export", "identity", "spool", "workspace"]),
    (
        "config",
        &[
            "export",
            "identity",
            "intake",
            "otlp",
            "source",
            "spool",
            "stamp",
            "workspace",
        ],
    ),
    (
        "agent",
        &[
            "config",
            "export",
            "identity",
            "intake",
            "otlp",
            "source",
            "spool",
            "stamp",
            "system",
            "view",
            "workspace",
        ],
    ),
    // The demonstration runs the agent as a process, so it needs nothing of it but the names of the signals.
    ("demo", &["otlp"]),
    (
        "cli",
        &[
            "agent",
            "config",
            "demo",
            "identity",
            "setup",
            "spool",
            "view",
            "workspace",
        ],
    ),
    ("main", &["cli"]),
    ("memory", &[]),
];

/// What only Linux has, or has in that way: it is asked for in `system` alone, so that a port is a port of one file.
///
/// What they have in common, beside the files, is that nothing of it compiles or means anything elsewhere.
const LINUX: [&str; 14] = [
    "\"/proc",
    "\"/sys",
    "\"/etc/machine-id",
    "\"/run/.containerenv",
    "\"/.dockerenv",
    "\"/var/lib/cloud",
    "docker0",
    "target_os",
    "os::linux",
    "SocketFlags",
    "CMSG_CLOEXEC",
    "Boottime",
    "dbus::",
    "keyring_store",
];

const LINES_OF_A_FILE: usize = 500;
const LINES_OF_A_FUNCTION: usize = 120;

#[test]
fn modules_name_only_those_below_them() {
    let mut broken = Vec::new();
    for file in files("src") {
        let module = module_of(&file.path);
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            broken.push(format!(
                "{}: the table of imports does not know {module}",
                file.path.display()
            ));
            continue;
        };
        for used in names_after_crate(&code_of(&file.text)) {
            if used != module && !allowed.contains(&used.as_str()) {
                broken.push(format!("{}: {module} may not use {used}", file.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn what_only_linux_has_is_behind_one_seam() {
    let mut marked = Vec::new();
    for file in files("src") {
        if module_of(&file.path) == "system" {
            continue;
        }
        let code = code_of(&file.text);
        let found = LINUX.iter().filter(|mark| code.contains(**mark));
        marked.extend(found.map(|mark| format!("{}: {mark}", file.path.display())));
    }
    assert!(marked.is_empty(), "not behind `system`: {}", marked.join(", "));
}

/// A derived `Debug` prints what a zeroing text holds, and a panic's message is made of `Debug`.
#[test]
fn no_token_is_in_a_text_or_in_what_derives_debug() {
    let names = ["token", "refresh", "secret", "verifier", "password", "assertion"];
    let texts = ["String", "Option<String>", "Zeroizing<", "Option<Zeroizing<"];
    let mut bare = Vec::new();
    for file in files("src") {
        let code = code_of(&file.text);
        let mut derives = false;
        for line in code.lines() {
            let field = line
                .trim_start()
                .trim_start_matches("pub ")
                .trim_start_matches("pub(super) ");
            if field.starts_with("#[derive(") {
                derives = field.contains("Debug");
            }
            let (name, kind) = field.split_once(": ").unwrap_or(("", field));
            let is_token = names
                .iter()
                .any(|token| name == *token || name.ends_with(&format!("_{token}")));
            let is_text = texts.iter().any(|text| kind.trim_end_matches(',').starts_with(text));
            if derives && (field.contains("Zeroizing<") || is_token && is_text) {
                bare.push(format!("{}: {field}", file.path.display()));
            }
            derives &= !line.starts_with('}') && !line.ends_with(';');
        }
    }
    assert!(bare.is_empty(), "let it be a `Secret`: {}", bare.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = files("src")
        .into_iter()
        .chain(files("tests/it"))
        .filter(|f| !f.text.starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "no module doc: {}", paths(&silent));
}

#[test]
fn no_file_is_long_without_its_tests() {
    let long: Vec<_> = files("src")
        .into_iter()
        .filter(|f| code_of(&f.text).lines().count() > LINES_OF_A_FILE)
        .collect();
    assert!(long.is_empty(), "more than {LINES_OF_A_FILE} lines: {}", paths(&long));
}

#[test]
fn no_function_is_long() {
    let mut long = Vec::new();
    for file in files("src") {
        for (name, lines) in functions(&file.text) {
            if lines > LINES_OF_A_FUNCTION {
                long.push(format!("{}: {name} has {lines} lines", file.path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn names_say_what_is_inside() {
    let empty = [
        "misc", "utils", "util", "helpers", "helper", "common", "shared", "errors",
    ];
    let vague = files("src").into_iter().chain(files("tests")).filter(|f| {
        f.path.components().any(|part| {
            let part = part.as_os_str().to_string_lossy();
            empty.contains(&part.trim_end_matches(".rs"))
        })
    });
    let vague: Vec<_> = vague.collect();
    assert!(vague.is_empty(), "say what is inside: {}", paths(&vague));
}

#[test]
fn nothing_is_left_to_be_done() {
    // Put together here, so that this file does not find itself.
    let marks = [["to", "do!("], ["unimple", "mented!("], ["FIX", "ME"], ["X", "XX"]].map(|parts| parts.concat());
    let unfinished: Vec<_> = files("src")
        .into_iter()
        .filter(|f| marks.iter().any(|mark| f.text.contains(mark.as_str())))
        .collect();
    assert!(unfinished.is_empty(), "unfinished: {}", paths(&unfinished));
}

#[test]
fn tests_wait_for_something_and_never_just_wait() {
    let call = ["sle", "ep("].concat();
    let sleepers: Vec<_> = files("tests/it")
        .into_iter()
        .filter(|f| f.text.contains(&call))
        .collect();
    assert!(
        sleepers.is_empty(),
        "wait on what can be observed instead: {}",
        paths(&sleepers)
    );
}

#[test]
fn the_scanner_reads_imports_of_both_shapes() {
    let code = "use crate::{otlp::{Batch, wire::X}, spool, intake as door};\nfn f() { crate::export::run() }";
    let names: Vec<_> = names_after_crate(code).into_iter().collect();
    assert_eq!(names, ["export", "intake", "otlp", "spool"]);
}

#[test]
fn the_scanner_measures_functions() {
    let code = "impl X {\n    pub async fn one(&self) {\n        a();\n    }\n}\nfn two() {}\n";
    assert_eq!(functions(code), [("one".to_owned(), 3), ("two".to_owned(), 1)]);
}

struct File {
    path: PathBuf,
    text: String,
}

/// Every Rust file below `directory`, by path from the root of the project.
fn files(directory: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut directories = vec![root.join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_owned();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn paths(files: &[File]) -> String {
    files
        .iter()
        .map(|file| file.path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// `src/spool/log.rs` and `src/intake.rs` belong to `spool` and `intake`.
fn module_of(path: &Path) -> String {
    let part = path.iter().nth(1).unwrap().to_string_lossy();
    part.trim_end_matches(".rs").to_owned()
}

/// The text without its tests and comments; nothing for a file that only holds tests.
fn code_of(text: &str) -> String {
    let only_tests = text.lines().take(40).any(|line| line.starts_with("#![cfg(test)]"))
        || text.contains("\n#[test]\n")
        || text.contains("\n#[tokio::test");
    if only_tests {
        return String::new();
    }
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code
        .lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that the code names.
fn names_after_crate(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        // `opentelemetry_crate::…` is somebody else.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        match rest.strip_prefix('{') {
            None => names.insert(identifier(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            names.insert(identifier(&std::mem::take(&mut item)));
                            continue;
                        }
                        _ => {}
                    }
                    item.push(c);
                }
                names.insert(identifier(&item))
            }
        };
    }
    names.retain(|name| !name.is_empty() && name.starts_with(char::is_lowercase));
    names
}

fn identifier(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Each function and how many lines it has. Relies on rustfmt: a function ends at a brace with its own indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some((before, after)) = trimmed.split_once("fn ") else {
            continue;
        };
        let qualifiers = ["pub", "async", "const", "pub(crate)", "pub(super)", "extern"];
        if !before.split_whitespace().all(|word| qualifiers.contains(&word)) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let length = if line.ends_with(['}', ';']) {
            1
        } else {
            lines[at..]
                .iter()
                .position(|line| *line == end)
                .map_or(1, |length| length + 1)
        };
        found.push((identifier(after), length));
    }
    found
}
