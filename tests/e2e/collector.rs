//! A running OpenTelemetry Collector with OIDC authentication, as `collector/config.yaml` describes it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{sender::part, workspace::Endpoints};

/// Dropping it kills it.
pub struct Collector {
    directory: tempfile::TempDir,
    process: Child,
    said: Arc<Mutex<String>>,
    pub endpoints: Endpoints,
}

impl Collector {
    /// Takes tokens of this issuer for this audience. Returns when it listens.
    pub fn start(issuer: &str, audience: &str) -> Collector {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(part("collector/otelcol/otelcol"))
            .args(["--config", "tests/e2e/collector/config.yaml"])
            .env_clear()
            .env("E2E_ISSUER", issuer)
            .env("E2E_AUDIENCE", audience)
            .env("E2E_OUTPUT", directory.path().join("output.jsonl"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let (found, wanted) = mpsc::channel();
        let said = Arc::new(Mutex::new(String::new()));
        let saying = said.clone();
        // It says on which ports it listens; the rest is for whoever has to find out why a test failed.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some(endpoint) = listening(&line) {
                    let _ = found.send(endpoint);
                }
                saying.lock().unwrap().extend([&line, "\n"]);
            }
        });
        let mut endpoints = Endpoints {
            grpc: String::new(),
            http: String::new(),
        };
        while endpoints.grpc.is_empty() || endpoints.http.is_empty() {
            let found = wanted.recv_timeout(Duration::from_secs(30));
            match found.expect("the Collector says where it listens") {
                ("grpc", endpoint) => endpoints.grpc = endpoint,
                (_, endpoint) => endpoints.http = endpoint,
            }
        }
        Collector {
            directory,
            process,
            said,
            endpoints,
        }
    }

    /// Stops it in good order, and returns what it wrote.
    pub fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
        let output: PathBuf = self.directory.path().join("output.jsonl");
        fs::read_to_string(output).unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the Collector said:\n{}", self.said.lock().unwrap());
        }
    }
}

/// The endpoint in a line such as `… Starting HTTP server {… "endpoint": "127.0.0.1:36789"}`.
fn listening(line: &str) -> Option<(&'static str, String)> {
    let protocol = match line {
        line if line.contains("Starting GRPC server") => "grpc",
        line if line.contains("Starting HTTP server") => "http",
        _ => return None,
    };
    let (_, rest) = line.split_once("\"endpoint\": \"")?;
    Some((protocol, rest.split_once('"')?.0.to_owned()))
}
