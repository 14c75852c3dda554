//! OTLP/JSON into the agent and protobuf out of it, against Python's own protobuf JSON mapping (`json/compare.py`).

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{sender::part, workspace::Workspace};

#[test]
fn json_arrives_as_what_pythons_mapping_reads_in_it() {
    let mut comparison = Command::new(part("python/venv/bin/python"))
        .arg("tests/e2e/json/compare.py")
        .arg(examples())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(comparison.stdout.take().unwrap());
    let mut upstream = String::new();
    said.read_line(&mut upstream).unwrap();

    let workspace = Workspace::new(
        "",
        &[
            ("TAGALONG_EXPORT_ENDPOINT", upstream.trim()),
            ("TAGALONG_IDENTITY_CREDENTIAL", "none"),
            ("TAGALONG_REDACT_ENABLED", "false"),
        ],
    );
    let endpoints = workspace.up();
    writeln!(comparison.stdin.take().unwrap(), "{}", endpoints.http).unwrap();
    let mut found = String::new();
    said.read_to_string(&mut found).unwrap();
    println!("{found}");
    assert!(comparison.wait().unwrap().success(), "{found}");
}

/// The specification's own examples come with the crate that is generated from it.
fn examples() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "opentelemetry-proto");
    let manifest = package.unwrap()["manifest_path"].as_str().unwrap();
    let folder = Path::new(manifest).parent().unwrap();
    folder.join("src/proto/opentelemetry-proto/examples")
}
