//! The programs that send: each SDK by each protocol that it has, and telemetrygen for each signal.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tagalong::otlp::Signal;

use super::workspace::{Endpoints, Workspace};

/// How often each program sends each of its signals, at even distances over more than two lives of a token.
pub const COUNT: u64 = 150;
const SECONDS: f64 = 24.0;
/// In seconds, for a machine that has much else to do.
const PATIENCE: &str = "240";

/// What every program claims to be. Nothing of it may arrive.
const FORGED: [(&str, &str); 4] = [
    ("user.id", "forged"),
    ("user.email", "forged@example.com"),
    ("user.hash", "forged"),
    ("workspace.id", "forged"),
];

/// A program that sends under a service name of its own.
pub struct Sender {
    pub service: String,
    /// What it sends; an SDK sends everything.
    pub only: Option<Signal>,
    program: Program,
    protocol: Protocol,
    gzip: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Python,
    JavaScript,
    Java,
    Telemetrygen,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

/// Where `run.sh` put a part.
pub fn part(path: &str) -> PathBuf {
    PathBuf::from(std::env::var("E2E_PARTS").expect("tests/e2e/run.sh sets it")).join(path)
}

/// Whether `run.sh` could install a part; it says so itself where it could not.
fn is_there(part: &str) -> bool {
    let parts = std::env::var("E2E_WITH").expect("tests/e2e/run.sh sets it");
    parts.split_whitespace().any(|word| word == part)
}

impl Sender {
    /// Every program that is here.
    pub fn all() -> Vec<Sender> {
        let mut senders = Vec::new();
        for program in [
            Program::Python,
            Program::JavaScript,
            Program::Java,
            Program::Telemetrygen,
        ] {
            if !is_there(program.part()) {
                continue;
            }
            let signals: &[Option<Signal>] = match program {
                Program::Telemetrygen => &Signal::ALL.map(Some),
                _ => &[None],
            };
            for &protocol in program.protocols() {
                senders.extend(signals.iter().map(|&only| Sender {
                    service: service(program, protocol, only),
                    only,
                    program,
                    protocol,
                    gzip: false,
                }));
            }
        }
        for sender in senders.iter_mut().step_by(2) {
            sender.gzip = sender.program != Program::Telemetrygen;
        }
        assert!(!senders.is_empty(), "no part is here that sends");
        senders
    }

    /// Whether it sends this signal at all.
    pub fn sends(&self, signal: Signal) -> bool {
        self.only.is_none_or(|only| only == signal)
    }

    /// Whether its items are numbered, and its counter exported as differences.
    pub fn counts(&self) -> bool {
        self.program != Program::Telemetrygen
    }

    /// How many spans it sends: telemetrygen's traces have two.
    pub fn spans(&self) -> u64 {
        match self.program {
            _ if !self.sends(Signal::Traces) => 0,
            Program::Telemetrygen => 2 * COUNT,
            _ => COUNT,
        }
    }

    /// How many log records it sends.
    pub fn logs(&self) -> u64 {
        if self.sends(Signal::Logs) { COUNT } else { 0 }
    }

    pub fn start(&self, workspace: &Workspace, endpoints: &Endpoints) -> Running {
        let endpoint = match self.protocol {
            Protocol::Grpc => &endpoints.grpc,
            Protocol::HttpProtobuf | Protocol::HttpJson => &endpoints.http,
        };
        // A program that does not end is a failure, and not a test run that does not end either.
        let mut command = workspace.program("timeout");
        command.arg(PATIENCE).arg(self.executable());
        match self.program {
            Program::Telemetrygen => self.arguments(&mut command, endpoint),
            _ => self.variables(&mut command, workspace, endpoint),
        }
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.service));
        Running {
            service: self.service.clone(),
            chatty: self.program == Program::Telemetrygen,
            child,
        }
    }

    fn executable(&self) -> PathBuf {
        match self.program {
            Program::Python => part("python/venv/bin/python"),
            // Found on the PATH of whoever runs the tests, by run.sh.
            Program::JavaScript => std::env::var_os("E2E_NODE").expect("set by run.sh").into(),
            Program::Java => std::env::var_os("E2E_JAVA").expect("set by run.sh").into(),
            Program::Telemetrygen => part("telemetrygen/telemetrygen"),
        }
    }

    /// What a program with an SDK is told: what `tagalong env` prints, and variables that OpenTelemetry specifies.
    fn variables(&self, command: &mut Command, workspace: &Workspace, endpoint: &str) {
        match self.program {
            Program::Python => command.arg("tests/e2e/python/send.py"),
            Program::JavaScript => command.arg(part("javascript/send.mjs")),
            _ => {
                let classes = format!("{}:{}", part("java").display(), part("java/libs/*").display());
                command.args(["-XX:TieredStopAtLevel=1", "-cp", &classes, "Send"])
            }
        };
        command.args([COUNT.to_string(), (SECONDS / COUNT as f64).to_string()]);
        let ours = workspace.tagalong(&["env", "--shell", "json"]);
        let ours: BTreeMap<String, String> = serde_json::from_str(&ours).unwrap();
        command.envs(ours);
        if self.protocol != Protocol::HttpProtobuf {
            command.env("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol.as_str());
            // As SDKs have it by default: a name that may well mean ::1 first.
            let endpoint = endpoint.replace("127.0.0.1", "localhost");
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{endpoint}"));
        }
        let forged: Vec<_> = FORGED.iter().map(|(key, value)| format!("{key}={value}")).collect();
        command.envs([
            ("OTEL_SERVICE_NAME", self.service.as_str()),
            ("OTEL_RESOURCE_ATTRIBUTES", &forged.join(",")),
            (
                "OTEL_EXPORTER_OTLP_COMPRESSION",
                if self.gzip { "gzip" } else { "none" },
            ),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
            ("OTEL_BSP_SCHEDULE_DELAY", "500"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "500"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
            // JavaScript's SDK says nothing of its troubles otherwise.
            ("OTEL_LOG_LEVEL", "warn"),
        ]);
    }

    fn arguments(&self, command: &mut Command, endpoint: &str) {
        let signal = self.only.expect("telemetrygen sends one signal");
        command.arg(signal.as_str());
        command.args([
            format!("--{}", signal.as_str()),
            COUNT.to_string(),
            "--batch-size".to_owned(),
            "10".to_owned(),
            "--rate".to_owned(),
            (COUNT as f64 / SECONDS).to_string(),
            "--service".to_owned(),
            self.service.clone(),
            "--otlp-insecure".to_owned(),
            "--otlp-endpoint".to_owned(),
            endpoint.to_owned(),
        ]);
        for (key, value) in FORGED {
            command.args(["--otlp-attributes".to_owned(), format!("{key}=\"{value}\"")]);
        }
        if self.protocol != Protocol::Grpc {
            command.arg("--otlp-http");
        }
    }
}

impl Program {
    fn part(self) -> &'static str {
        match self {
            Program::Python => "python",
            Program::JavaScript => "javascript",
            Program::Java => "java",
            Program::Telemetrygen => "telemetrygen",
        }
    }

    /// Java's SDK and telemetrygen have no exporter for OTLP/JSON over HTTP.
    fn protocols(self) -> &'static [Protocol] {
        match self {
            Program::Python | Program::JavaScript => &[Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson],
            Program::Java | Program::Telemetrygen => &[Protocol::Grpc, Protocol::HttpProtobuf],
        }
    }
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::HttpProtobuf => "http/protobuf",
            Protocol::HttpJson => "http/json",
        }
    }
}

fn service(program: Program, protocol: Protocol, only: Option<Signal>) -> String {
    let protocol = protocol.as_str().replace('/', "-");
    match only {
        None => format!("{}-{protocol}", program.part()),
        Some(signal) => format!("{}-{protocol}-{}", program.part(), signal.as_str()),
    }
}

/// A program on its way.
pub struct Running {
    service: String,
    /// Whether it talks when all is well.
    chatty: bool,
    child: Child,
}

impl Running {
    /// Waits for its end. An SDK only tells of an export that failed, and goes on.
    pub fn finish(self) {
        let output = self.child.wait_with_output().unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{}: {said}", self.service);
        let complaints = match self.chatty {
            true => said
                .lines()
                .filter(|line| line.contains("\tWARN\t") || line.contains("\tERROR\t"))
                .collect(),
            false => said,
        };
        assert!(complaints.is_empty(), "{}: {complaints}", self.service);
    }
}
