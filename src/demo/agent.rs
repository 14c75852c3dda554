//! The agent as the demonstration sees it: this very executable, as a process of its own.
//!
//! It gets a clean environment and directories of its own, so that neither the settings nor the spool of an agent that
//! is at work on this machine is touched, and no platform's identity is used.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, ChildStdin, Command};

/// From exec to ports that accept, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How an agent is started, again and again with the same settings.
#[derive(Debug)]
pub(super) struct Setup {
    program: PathBuf,
    home: PathBuf,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    environment: Vec<(String, String)>,
}

/// A running agent. Dropping it kills it; so does the end of this process, whatever ends it.
#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    /// Nothing is written to it. Where it closes, the agent drains and stops.
    _hold: Option<ChildStdin>,
}

impl Setup {
    /// An agent below `home` that exports to `upstream` with tokens of `issuer`.
    pub(super) fn new(home: &Path, upstream: &str, issuer: &str) -> io::Result<Setup> {
        let program = std::env::current_exe()?;
        let (grpc, http) = free_ports()?;
        let mint = ["demo-token", "--issuer", issuer, "--audience", upstream];
        let mut exec = vec![program.to_string_lossy().into_owned()];
        exec.extend(mint.map(str::to_owned));
        let path = |name: &str| home.join(name).to_string_lossy().into_owned();
        for name in ["home", "config", "state", "cache", "run"] {
            fs::create_dir_all(home.join(name))?;
        }
        set_private(&home.join("run"))?;
        let environment = [
            ("HOME", path("home")),
            ("XDG_CONFIG_HOME", path("config")),
            ("XDG_STATE_HOME", path("state")),
            ("XDG_DATA_HOME", path("state")),
            ("XDG_CACHE_HOME", path("cache")),
            ("XDG_RUNTIME_DIR", path("run")),
            ("TAGALONG_HOME", path("state")),
            ("TAGALONG_LISTEN_GRPC", grpc.to_string()),
            ("TAGALONG_LISTEN_HTTP", http.to_string()),
            ("TAGALONG_EXPORT_ENDPOINT", upstream.to_owned()),
            ("TAGALONG_IDENTITY_CREDENTIAL", "exec".to_owned()),
            ("TAGALONG_IDENTITY_EXEC", serde_json::to_string(&exec)?),
            ("TAGALONG_IDENTITY_ISSUER", issuer.to_owned()),
            ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        Ok(Setup {
            program,
            home: home.to_owned(),
            grpc,
            http,
            environment,
        })
    }

    /// Starts the agent and returns when both of its ports accept.
    pub(super) async fn start(&self) -> io::Result<Agent> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut child = self
            .command(&["up", "--foreground", "--held"])
            .stdin(Stdio::piped())
            // The terminal's Ctrl-C is for the demonstration, which then stops the agent in its own way.
            .process_group(0)
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        // Out of the child, which lets go of it while it is waited for.
        let hold = child.stdin.take();
        let ports = async {
            for port in [self.grpc, self.http] {
                while tokio::net::TcpStream::connect(port).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        let trouble = tokio::select! {
            () = ports => return Ok(Agent { child, _hold: hold }),
            status = child.wait() => format!("the agent ended at once ({})", status?),
            () = tokio::time::sleep(READY_WITHIN) => "the agent did not open its ports".to_owned(),
        };
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(io::Error::other(format!(
            "{trouble}; its last words:\n{}",
            tail.join("\n")
        )))
    }

    /// What `status --json` says; `None` if it says nothing that can be read.
    pub(super) async fn status(&self) -> Option<Value> {
        let output = self.command(&["status", "--json"]).stderr(Stdio::null()).output();
        let output = tokio::time::timeout(Duration::from_secs(2), output).await.ok()?.ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn log(&self) -> PathBuf {
        self.home.join("agent.log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }
}

impl Agent {
    /// The process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`: no chance to say goodbye.
    pub(super) async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// SIGTERM, and five seconds to drain; then `kill -9`.
    pub(super) async fn stop(mut self) -> io::Result<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended in between.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(Duration::from_secs(6), self.child.wait()).await {
            Ok(status) => status.map(drop),
            Err(_) => self.child.kill().await,
        }
    }
}

/// Two loopback ports that were free a moment ago. Fixed ports, because the sample application knows one of them by
/// number and the agent takes them again after its `kill -9`.
fn free_ports() -> io::Result<(SocketAddr, SocketAddr)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((first.local_addr()?, second.local_addr()?))
}

fn set_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}
