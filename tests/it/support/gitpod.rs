//! Gitpod Classic as a workspace sees it: a `gp` on the PATH, the supervisor on loopback, and the API behind them. After
//! the vendor's own sources (github.com/gitpod-io/gitpod): `idp-token.go` of its command, `info.proto` of
//! components/supervisor-api, and `apiv1/identityprovider.go` of its public API.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use tagalong::workspace::Env;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What `gp idp token` does.
pub enum Gp {
    /// Mints an unsigned token that lives for so many seconds.
    Mints(u64),
    /// Fails as the real one does: with a text about parsing, whatever the cause.
    Misleads,
    /// Never ends.
    Hangs,
    /// Succeeds, and prints something else.
    Chats,
    /// Is not there.
    Absent,
}

/// The text that the real `gp` prints for every failure.
pub const MISLEADING: &str = "token contains an invalid number of segments";

pub struct Gitpod {
    directory: tempfile::TempDir,
    gp: Gp,
    supervisor: Option<Supervisor>,
}

/// The supervisor and the API on one port; remembers what it was asked.
pub struct Supervisor {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gitpod {
    pub fn new(gp: Gp) -> Gitpod {
        Gitpod {
            directory: tempfile::tempdir().expect("a directory"),
            gp,
            supervisor: None,
        }
    }

    /// With a supervisor, whose API answers with this token.
    pub async fn with_supervisor(mut self, id_token: &str) -> Gitpod {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, id_token) = (asked.clone(), id_token.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &seen, &id_token).await;
            }
        });
        self.supervisor = Some(Supervisor { address, asked });
        self
    }

    /// The environment of a shell in the workspace.
    pub fn env(&self) -> Env {
        let body = match self.gp {
            Gp::Mints(lifetime) => Some(minting(self.directory.path(), lifetime)),
            Gp::Misleads => Some(format!("echo '{MISLEADING}' >&2\nexit 1")),
            Gp::Hangs => Some("exec sleep 600".to_owned()),
            Gp::Chats => Some("echo Welcome".to_owned()),
            Gp::Absent => None,
        };
        if let Some(body) = body {
            install(&self.directory.path().join("gp"), &body);
        }
        let supervisor = self
            .supervisor
            .as_ref()
            .map_or("127.0.0.1:1".to_owned(), |supervisor| supervisor.address.clone());
        let path = format!("{}:/usr/bin:/bin", self.directory.path().display());
        let variables = [
            ("PATH", path.as_str()),
            ("HOME", "/home/gitpod"),
            ("GITPOD_HOST", "https://gitpod.example"),
            ("GITPOD_WORKSPACE_ID", "acme-app-abc123"),
            ("SUPERVISOR_ADDR", supervisor.as_str()),
            ("AWS_SECRET_ACCESS_KEY", "not-for-gp"),
        ];
        Env(variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// Origin of the API.
    pub fn api(&self) -> String {
        let supervisor = self.supervisor.as_ref().expect("a supervisor");
        format!("http://{}", supervisor.address)
    }

    /// Head and body of every request to the supervisor and the API.
    pub fn asked(&self) -> Vec<String> {
        let supervisor = self.supervisor.as_ref().expect("a supervisor");
        supervisor.asked.lock().expect("nobody panicked").clone()
    }

    /// One line of arguments and one of variable names for each time that `gp` minted.
    pub fn calls(&self) -> Vec<String> {
        std::fs::read_to_string(self.directory.path().join("calls"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// A shell script that mints, and notes how it was called.
fn minting(directory: &Path, lifetime: u64) -> String {
    format!(
        r#"echo "$* | $(env | cut -d= -f1 | sort | tr '\n' ' ')" >> {calls}
part() {{ printf '%s' "$1" | base64 -w0 | tr '+/' '-_' | tr -d '='; }}
now=$(date +%s)
printf '%s.%s.%s\n' "$(part '{{"alg":"RS256"}}')" "$(part "{{\"iss\":\"https://api.gitpod.example/idp\",\"sub\":\"https://github.com/acme/app\",\"user_id\":\"u-1\",\"workspace_id\":\"acme-app-abc123\",\"name\":\"jdoe\",\"iat\":$now,\"exp\":$((now + {lifetime})),\"jti\":\"$$-$(date +%N)\"}}")" "$(part signature)""#,
        calls = directory.join("calls").display(),
    )
}

/// Written by another process: while a file is open for writing here, a fork of another test would keep it from being run.
pub fn install(path: &Path, body: &str) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let script = format!("#!/bin/sh\n{body}\n");
    let mut stdin = writer.stdin.take().expect("a pipe");
    stdin.write_all(script.as_bytes()).expect("the script");
    drop(stdin);
    assert!(writer.wait().expect("the writer's end").success());
}

/// One request to the supervisor or the API.
async fn answer(mut stream: TcpStream, seen: &Mutex<Vec<String>>, id_token: &str) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let body = if request.starts_with("GET /_supervisor/v1/info/workspace ") {
        r#"{"workspaceId":"acme-app-abc123","gitpodApi":{"endpoint":"wss://gitpod.example","host":"gitpod.example"}}"#
            .to_owned()
    } else if request.starts_with("GET /_supervisor/v1/token/gitpod/gitpod.example/") {
        r#"{"token":"owner-token","user":"u-1","scope":[]}"#.to_owned()
    } else {
        format!(r#"{{"token":"{id_token}"}}"#)
    };
    seen.lock().expect("nobody panicked").push(request);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Head and as much body as it announces are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    body.len() >= length
}
