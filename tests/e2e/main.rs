//! Unmodified SDKs through the real executable, in what looks like a Gitpod workspace. `run.sh` installs the SDKs.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use tagalong::demo::{
    issuer::{self, Issuer},
    upstream::{self, Upstream},
};

const SPANS: u64 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn python_sdks_reach_upstream_under_the_developers_name() {
    let python = std::env::var("E2E_PYTHON").expect("started by tests/e2e/run.sh");
    let issuer = Issuer::start(issuer::Config {
        lifetime: Duration::from_secs(20),
        ..issuer::Config::default()
    });
    let issuer = issuer.await.unwrap();
    let upstream = upstream::Config {
        issuer: Some(issuer.url()),
        audience: None,
    };
    let upstream = Upstream::start(upstream).await.unwrap();
    let place = Place::new(&issuer.url(), &upstream.url());

    assert!(place.tagalong(&["up"]).status().unwrap().success());
    let status = place.tagalong(&["status", "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    for (protocol, port) in [("grpc", "grpc"), ("http/protobuf", "http")] {
        let endpoint = status["agent"]["endpoints"][port].as_str().unwrap();
        let mut sender = place.clean(&python);
        sender.arg("tests/e2e/send.py").arg(protocol).arg(SPANS.to_string());
        sender.env("OTEL_SERVICE_NAME", "e2e");
        sender.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{endpoint}"));
        assert!(sender.status().unwrap().success(), "{protocol}");
    }
    let all = upstream.wait(|record| record.services.get("e2e") == Some(&(2 * SPANS)));
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("every span arrives");
    assert!(place.tagalong(&["down"]).status().unwrap().success());

    upstream.look(|record| {
        assert_eq!(
            (record.services["e2e"], record.duplicates(), record.refused),
            (2 * SPANS, 0, 0)
        );
        for resource in &record.resources {
            assert_eq!(resource["workspace.id"], "acme-app-e2e");
            assert_eq!(resource["workspace.platform"], "gitpod");
            assert_eq!(resource["user.email"], "ada@example.com");
        }
    });
}

/// A workspace with a home of its own and a `gp` on the PATH.
struct Place {
    directory: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    fn new(issuer: &str, upstream: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["bin", "home", "run"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::set_permissions(at("run"), fs::Permissions::from_mode(0o700)).unwrap();
        write_gp(&at("bin/gp"), issuer);
        let text = |name: &str| at(name).to_string_lossy().into_owned();
        let environment = vec![
            ("HOME", text("home")),
            ("XDG_RUNTIME_DIR", text("run")),
            ("TAGALONG_HOME", text("home/tagalong")),
            ("PATH", format!("{}:/usr/bin:/bin", text("bin"))),
            ("GITPOD_WORKSPACE_ID", "acme-app-e2e".to_owned()),
            ("GITPOD_INSTANCE_ID", "5f3c9a1e".to_owned()),
            ("GITPOD_HOST", "https://gitpod.example.com".to_owned()),
            ("GITPOD_OWNER_ID", "5f3c9a1e-7d42-4b0a-9a55-0c1d2e3f4a5b".to_owned()),
            ("GITPOD_REPO_ROOT", text("home")),
            ("TAGALONG_LISTEN_GRPC", "127.0.0.1:0".to_owned()),
            ("TAGALONG_LISTEN_HTTP", "127.0.0.1:0".to_owned()),
            ("TAGALONG_EXPORT_ENDPOINT", upstream.to_owned()),
            ("TAGALONG_IDENTITY_CREDENTIAL", "gitpod".to_owned()),
            ("TAGALONG_IDENTITY_ISSUER", issuer.to_owned()),
        ];
        Place { directory, environment }
    }

    fn tagalong(&self, arguments: &[&str]) -> Command {
        let mut command = self.clean(env!("CARGO_BIN_EXE_tagalong"));
        command.args(arguments);
        command
    }

    /// A program with nothing but this workspace's environment.
    fn clean(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // An agent that outlived a failed test would go on without a home.
        let _ = self.tagalong(&["down"]).output();
        let _ = &self.directory;
    }
}

/// `gp idp token --audience A`, as `idp-token.go` has it; any failure shows as the parser's complaint about a JWT.
fn write_gp(path: &Path, issuer: &str) {
    let tagalong = env!("CARGO_BIN_EXE_tagalong");
    let script = format!(
        r#"#!/bin/sh
if [ "$1 $2 $3" = "idp token --audience" ] && [ -n "$4" ]; then
    exec timeout 5 '{tagalong}' demo-token --issuer '{issuer}' --audience "$4"
fi
echo "Error: token contains an invalid number of segments" >&2
exit 1
"#
    );
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
