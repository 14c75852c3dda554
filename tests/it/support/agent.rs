//! The real executable, with directories and an environment of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tagalong::{
    demo::{
        issuer::{self, Issuer},
        upstream::{self, Upstream},
    },
    workspace::Env,
};
use tempfile::TempDir;

/// Long enough for every story; reached only when one fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A user on a plain machine, with settings in the environment.
pub struct Home {
    dir: TempDir,
    environment: Vec<(String, String)>,
}

impl Home {
    /// Any free ports, no upstream, no credential.
    pub fn new() -> Home {
        let home = Home {
            dir: tempfile::tempdir().expect("a directory"),
            environment: Vec::new(),
        };
        home.set("TAGALONG_LISTEN_GRPC", "127.0.0.1:0")
            .set("TAGALONG_LISTEN_HTTP", "127.0.0.1:0")
    }

    pub fn set(mut self, name: &str, value: impl Into<String>) -> Home {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sends to `upstream`, with tokens that the issuer mints for each asking.
    pub fn sending(self, upstream: &str, issuer: &str) -> Home {
        let exec = serde_json::json!([executable(), "demo-token", "--issuer", issuer, "--audience", upstream]);
        self.set("TAGALONG_EXPORT_ENDPOINT", upstream)
            .set("TAGALONG_IDENTITY_CREDENTIAL", "exec")
            .set("TAGALONG_IDENTITY_EXEC", exec.to_string())
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable());
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        for (name, below) in [
            ("HOME", "home"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            command.env(name, self.path().join(below));
        }
        command.envs(self.environment.iter().cloned());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the executable runs")
    }

    /// Standard output of a command that succeeds.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    pub fn up(&self) -> Value {
        let output = self.run(&["up", "--strict"]);
        assert!(
            output.status.success(),
            "up: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.status()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.text(&["status", "--json"])).expect("status is JSON")
    }

    pub fn pid(&self) -> Option<i32> {
        self.status()["agent"]["pid"]
            .as_i64()
            .map(|pid| i32::try_from(pid).expect("a pid"))
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill_9(&self) {
        let pid = self.pid().expect("an agent runs");
        signal(pid, Signal::KILL);
        while Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid) {
            std::thread::yield_now();
        }
    }

    /// Asks for the status until it is as wanted.
    pub fn until(&self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not come: {status:#}");
        }
    }

    /// A line of `/proc/PID/status` of the agent, in KiB: `VmRSS`, `VmHWM`.
    pub fn kibibytes(&self, line: &str) -> u64 {
        kibibytes(self.pid().expect("an agent runs"), line).expect("a line of numbers")
    }

    /// Reads the resident memory of the agent that runs now, in KiB; of no process, none.
    pub fn resident(&self) -> impl Fn() -> u64 + use<> {
        let pid = self.pid().expect("an agent runs");
        move || kibibytes(pid, "VmRSS").unwrap_or_default()
    }

    /// The files below this home that hold `text`.
    pub fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).expect("a directory") {
                let entry = entry.expect("an entry");
                let kind = entry.file_type().expect("a type");
                if kind.is_dir() {
                    directories.push(entry.path());
                // One that went away in between holds nothing.
                } else if kind.is_file()
                    && fs::read(entry.path()).is_ok_and(|bytes| memchr::memmem::find(&bytes, text.as_bytes()).is_some())
                {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Where OTLP/gRPC is listened for.
    pub fn grpc(&self) -> SocketAddr {
        let status = self.status();
        let address = status["agent"]["endpoints"]["grpc"].as_str().expect("an agent runs");
        address.parse().expect("an address")
    }

    /// Where OTLP/HTTP is listened for, as a URL for a signal's path.
    pub fn http(&self, path: &str) -> String {
        let status = self.status();
        format!(
            "http://{}/{path}",
            status["agent"]["endpoints"]["http"].as_str().expect("an agent runs")
        )
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Without an agent, or with settings that are wrong on purpose, there is nothing to end.
        let status: Value = serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap_or_default();
        if let Some(pid) = status["agent"]["pid"].as_i64() {
            signal(i32::try_from(pid).expect("a pid"), Signal::KILL);
        }
    }
}

pub fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a pid is not 0");
    kill_process(pid, signal).expect("our own child may be signalled");
}

fn kibibytes(pid: i32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.lines();
    let value = lines.find_map(|other| other.strip_prefix(line)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Nobody may be there to reap a detached process; it is gone all the same. All of it: while a thread is in the middle of a
/// sync, the spool's lock is held.
pub fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let first = stat.rsplit(')').next().unwrap_or("").trim_start();
    (first.is_empty() || first.starts_with('Z'))
        && std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) <= 1
}

/// The one that was built with the tests, or another build of it that `TAGALONG_TEST_EXECUTABLE` names.
pub fn executable() -> String {
    let env = Env::from_process();
    env.get("TAGALONG_TEST_EXECUTABLE")
        .unwrap_or(env!("CARGO_BIN_EXE_tagalong"))
        .to_owned()
}

/// An issuer, and an upstream that takes its tokens.
pub async fn parties(lifetime: Duration) -> (Issuer, Upstream) {
    let issuer = Issuer::start(issuer::Config {
        lifetime,
        ..issuer::Config::default()
    })
    .await
    .expect("an issuer");
    let config = upstream::Config {
        issuer: Some(issuer.url()),
        ..upstream::Config::default()
    };
    (issuer, Upstream::start(config).await.expect("an upstream"))
}

/// A sender that gives up after ten seconds.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client")
}

/// Posts one request of protobuf; `None` if there was no answer.
pub async fn answer(client: &reqwest::Client, url: &str, body: Vec<u8>) -> Option<reqwest::Response> {
    let request = client.post(url).header("content-type", "application/x-protobuf");
    request.body(body).send().await.ok()
}

/// Posts one request of protobuf; whether it was accepted.
pub async fn post(client: &reqwest::Client, url: &str, body: Vec<u8>) -> bool {
    answer(client, url, body)
        .await
        .is_some_and(|answer| answer.status().is_success())
}

/// Waits for what a healthy run brings within seconds.
pub async fn soon<F: Future>(awaited: F) -> F::Output {
    tokio::time::timeout(PATIENCE, awaited)
        .await
        .expect("it comes within two minutes")
}
