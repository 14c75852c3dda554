//! A workspace as Gitpod makes it: an environment of its own, and a `gp` on the PATH that behaves as documented.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tagalong::demo::issuer::{self, Issuer};

pub const ID: &str = "acme-app-e2e";

/// Dropping it stops its agent.
pub struct Workspace {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// Where programs send to, as `host:port`.
pub struct Endpoints {
    pub grpc: String,
    pub http: String,
}

impl Workspace {
    /// With the given settings besides those that a test run needs.
    pub fn new(issuer: &str, settings: &[(&str, &str)]) -> Workspace {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["bin", "home", "run"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::set_permissions(at("run"), fs::Permissions::from_mode(0o700)).unwrap();
        write_gp(&at("bin"), issuer);
        let text = |name: &str| at(name).to_string_lossy().into_owned();
        let ours = [
            ("HOME", text("home")),
            ("XDG_RUNTIME_DIR", text("run")),
            ("TAGALONG_HOME", text("home/tagalong")),
            ("PATH", format!("{}:/usr/bin:/bin", text("bin"))),
            ("GITPOD_WORKSPACE_ID", ID.to_owned()),
            ("GITPOD_INSTANCE_ID", "5f3c9a1e".to_owned()),
            ("GITPOD_HOST", "https://gitpod.example.com".to_owned()),
            ("GITPOD_OWNER_ID", issuer::Config::default().user_id),
            ("GITPOD_REPO_ROOT", text("home")),
            // Nothing listens there, so `gp` is the only way to a token.
            ("SUPERVISOR_ADDR", "127.0.0.1:1".to_owned()),
            ("TAGALONG_LISTEN_GRPC", "127.0.0.1:0".to_owned()),
            ("TAGALONG_LISTEN_HTTP", "127.0.0.1:0".to_owned()),
            ("TAGALONG_IDENTITY_ISSUER", issuer.to_owned()),
        ];
        let theirs = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let environment = ours.into_iter().chain(theirs);
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).collect();
        Workspace { directory, environment }
    }

    /// From now on `gp` does not get an answer from the API, and gives up after its 5 seconds.
    pub fn hang_gp(&self) {
        fs::write(self.directory.path().join("bin/hang"), "").unwrap();
    }

    /// From now on it gets one again.
    pub fn free_gp(&self) {
        fs::remove_file(self.directory.path().join("bin/hang")).unwrap();
    }

    /// Runs `tagalong` to its end, which has to be a good one, and returns what it printed.
    pub fn tagalong(&self, arguments: &[&str]) -> String {
        let output = self
            .program(env!("CARGO_BIN_EXE_tagalong"))
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tagalong {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `tagalong up`: returns when the ports accept.
    pub fn up(&self) -> Endpoints {
        self.tagalong(&["up"]);
        let status = self.status();
        let endpoint = |name: &str| status["agent"]["endpoints"][name].as_str().unwrap().to_owned();
        Endpoints {
            grpc: endpoint("grpc"),
            http: endpoint("http"),
        }
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.tagalong(&["status", "--json"])).unwrap()
    }

    /// Returns the first status that is as wanted.
    pub fn wait(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "it never came to be: {status:#}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A program with nothing but this workspace's environment.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.env_clear().envs(environment);
        command
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // An agent that outlived a failed test would go on without a home.
        let mut down = self.program(env!("CARGO_BIN_EXE_tagalong"));
        let _ = down.args(["down", "--timeout", "1s"]).output();
        if std::thread::panicking()
            && let Ok(log) = self.program(env!("CARGO_BIN_EXE_tagalong")).arg("logs").output()
        {
            eprintln!("the agent's log:\n{}", String::from_utf8_lossy(&log.stdout));
        }
    }
}

/// Tokens that live for 10 seconds and say which workspace they were made in, as Gitpod's do.
pub async fn issuer() -> Issuer {
    let claims = serde_json::json!({ "workspace_id": ID });
    let config = issuer::Config {
        lifetime: Duration::from_secs(10),
        claims: claims.as_object().unwrap().clone(),
        ..issuer::Config::default()
    };
    Issuer::start(config).await.unwrap()
}

/// `gp idp token --audience A [--audience B] [--decode] [--scope S]`, as `idp-token.go` has it: five seconds for the
/// API, and whatever fails there shows as the parser's complaint about a JWT.
fn write_gp(bin: &Path, issuer: &str) {
    let script = format!(
        r#"#!/bin/sh
if [ "$1 $2" != "idp token" ]; then
    echo "Error: unknown command \"$*\" for \"gp\"" >&2
    exit 1
fi
shift 2
audience=
while [ $# -gt 0 ]; do
    case $1 in
    --audience) audience=${{audience:-$2}}; shift 2 ;;
    --scope) shift 2 ;;
    --decode) shift ;;
    *) echo "Error: unknown flag: $1" >&2; exit 1 ;;
    esac
done
if [ -z "$audience" ]; then
    echo 'Error: required flag(s) "audience" not set' >&2
    exit 1
fi
if [ -e '{hang}' ]; then
    timeout 5 sleep 600
elif token=$(timeout 5 '{tagalong}' demo-token --issuer '{issuer}' --audience "$audience" 2>/dev/null); then
    echo "$token"
    exit 0
fi
echo "Error: token contains an invalid number of segments" >&2
exit 1
"#,
        hang = bin.join("hang").display(),
        tagalong = env!("CARGO_BIN_EXE_tagalong"),
    );
    let gp = bin.join("gp");
    fs::write(&gp, script).unwrap();
    fs::set_permissions(&gp, fs::Permissions::from_mode(0o755)).unwrap();
}
