//! Whole processes under load: the real executable, and the yardstick relay, against the same upstream and senders.
//!
//! The agent also writes every request to the disk and syncs it before it answers, which the relay does not; a bare
//! loop of writes and syncs of the same bytes shows how much of the latency is the disk.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::load::{self, CONNECTIONS, Load};
use crate::micro::Steps;
use crate::process::{Process, free_port};
use crate::sample::{self, SPANS};
use crate::upstream::Upstream;
use crate::{floor, relay, tls};

/// Rounds, and in each of them every row has a process of its own under load, one row after the other: what else the
/// machine does then falls on all rows alike, and so does the luck of a process with its place in memory.
const ROUNDS: u32 = 9;
/// Each process takes the same load for so long before it is measured: files and buffers grow once in its life.
const WARM_UP: Duration = Duration::from_secs(1);
/// As fast as answers come.
const SATURATING: Load = Load {
    how_long: Duration::from_secs(2),
    spans: SPANS,
    rate: None,
};
/// A thousand requests a second. A pause of 25 ms that somebody else on the machine makes is more than a hundredth of a
/// round, so there are many short ones.
const STEADY: Load = Load {
    how_long: Duration::from_secs(1),
    rate: Some(1000),
    ..SATURATING
};
const STEADY_ROUNDS: u32 = 19;
/// Requests of 4 MiB.
const LARGE: Load = Load {
    spans: 10_000,
    ..SATURATING
};
/// How long the rest may take to reach upstream.
const DRAIN: Duration = Duration::from_secs(60);
/// Writes and syncs of the bare loop: as many as the steady load has requests in a round.
const SYNCS: u32 = 1000;

/// How the agent sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nowhere,
    Plain,
    Gzip,
    Tls,
}

/// What is measured in a row.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Agent(Way),
    /// This executable, in that mode.
    Peer(&'static str),
}

/// What a load cost one process.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    spans: u64,
    elapsed: Duration,
    cpu: Duration,
    /// Of the thread that takes requests and writes them; a part of `cpu`.
    taking: Duration,
}

impl Cost {
    fn spans_per_second(&self) -> f64 {
        self.spans as f64 / self.elapsed.as_secs_f64()
    }

    /// In nanoseconds, of all CPU time.
    fn per_span(&self) -> f64 {
        self.part(self.cpu)
    }

    /// In nanoseconds a span.
    fn part(&self, cpu: Duration) -> f64 {
        cpu.as_nanos() as f64 / self.spans as f64
    }

    fn add(&mut self, round: &Cost) {
        self.spans += round.spans;
        self.elapsed += round.elapsed;
        self.cpu += round.cpu;
        self.taking += round.taking;
    }
}

/// What was seen of a row, in all its rounds.
#[derive(Debug, Default)]
struct Row {
    rounds: Vec<Cost>,
    latencies: Vec<Duration>,
    refused: u64,
    /// Accepted, and not upstream after [`DRAIN`].
    missing: u64,
    /// The slowest start and the largest process of all rounds; sizes are in MiB.
    ready_after: Duration,
    idle: f64,
    peak: f64,
}

impl Row {
    fn all(&self) -> Cost {
        let mut all = Cost::default();
        self.rounds.iter().for_each(|round| all.add(round));
        all
    }

    fn print(&mut self, name: &str) {
        self.latencies.sort_unstable();
        let all = self.all();
        let cheapest = self.rounds.iter().map(Cost::per_span).fold(f64::INFINITY, f64::min);
        let fastest = self.rounds.iter().map(Cost::spans_per_second).fold(0.0, f64::max);
        println!(
            "{:>10.3} {:>10.3} {:>12.3} {:>10.0} {:>10.0} {:>8.2} {:>8.2} {:>9.1} {:>9.1} {:>9.1}  {name}",
            all.per_span() / 1e3,
            cheapest / 1e3,
            all.part(all.taking) / 1e3,
            all.spans_per_second(),
            fastest,
            millis(load::percentile(&self.latencies, 0.50)),
            p99(&self.latencies),
            millis(self.ready_after),
            self.idle,
            self.peak,
        );
        if self.refused > 0 {
            println!("{:>10} requests refused", self.refused);
        }
        if self.missing > 0 {
            println!("{:>10} spans accepted and not upstream", self.missing);
        }
    }
}

/// Prints one line for each row and load, and what they say about the parts.
pub fn run(steps: Option<Steps>) {
    let bench = Bench {
        runtime: tokio::runtime::Runtime::new().expect("a runtime"),
        home: tempfile::tempdir().expect("a temporary directory"),
    };
    let seconds = SATURATING.how_long.as_secs();
    println!(
        "end to end, {CONNECTIONS} connections, {ROUNDS} rounds of {seconds} s, each row's process started anew in each \
         and warmed up"
    );
    let bare = bench.bare_syncs(None);
    println!(
        "{:>10.2} ms p50, {:.2} ms p99 of a bare write and fdatasync",
        millis(load::percentile(&bare, 0.50)),
        p99(&bare)
    );
    println!("   µs/span best round  of it taking  spans/s best round   p50 ms   p99 ms  start ms  idle MiB  peak MiB");
    let [_, plain, _, _, yardstick, floor] = bench.rows(
        SATURATING,
        [
            ("agent, nothing sent", Subject::Agent(Way::Nowhere)),
            ("agent", Subject::Agent(Way::Plain)),
            ("agent, gzip", Subject::Agent(Way::Gzip)),
            ("agent, TLS", Subject::Agent(Way::Tls)),
            (
                "yardstick: a relay that decodes, encodes, keeps nothing",
                Subject::Peer(relay::MODE),
            ),
            (
                "floor: takes, writes and syncs, sends; looks at nothing",
                Subject::Peer(floor::MODE),
            ),
        ],
    );
    print_ratio("yardstick to agent", &yardstick, &plain);
    print_ratio("agent to floor", &plain, &floor);
    if let Some(steps) = steps {
        print_split(steps, plain.all());
    }
    println!(
        "\nat {} requests a second, {STEADY_ROUNDS} rounds of {} s",
        STEADY.rate.unwrap_or(0),
        STEADY.how_long.as_secs()
    );
    bench.steady();
    let bytes = sample::request_of(LARGE.spans, 0).len();
    println!("\nrequests of {bytes} bytes");
    bench.rows(LARGE, [("agent", Subject::Agent(Way::Plain))]);
}

fn print_ratio(name: &str, over: &Row, under: &Row) {
    let rounds = over.rounds.iter().zip(&under.rounds);
    print_middle(
        name,
        rounds.map(|(over, under)| over.per_span() / under.per_span()).collect(),
    );
}

/// Of ratios by rounds, because what is measured in one round is neighbour in time.
fn print_middle(name: &str, mut ratios: Vec<f64>) {
    ratios.sort_unstable_by(f64::total_cmp);
    if let [least, .., most] = ratios[..] {
        let middle = ratios[ratios.len() / 2];
        println!("{middle:>10.2}x  {name}, in the middle round of {least:.2} to {most:.2}");
    }
}

/// One thread takes and writes, and its steps were measured one by one; what is left of it is receiving and answering.
/// Another one sends.
fn print_split(steps: Steps, plain: Cost) {
    let Steps {
        check,
        redact,
        stamp,
        spool,
    } = steps;
    let receive = plain.part(plain.taking) - check - redact - stamp - spool;
    let send = plain.part(plain.cpu - plain.taking);
    println!(
        "{:>10} ns a span: receive {receive:.0}, check {check:.0}, redact {redact:.0}, stamp {stamp:.0}, spool {spool:.0}, send {send:.0}",
        "in"
    );
}

/// What all rows share.
#[derive(Debug)]
struct Bench {
    /// The senders' and the upstreams'.
    runtime: tokio::runtime::Runtime,
    home: tempfile::TempDir,
}

impl Bench {
    /// Measures the rows round by round and prints them.
    fn rows<const N: usize>(&self, load: Load, subjects: [(&str, Subject); N]) -> [Row; N] {
        let mut rows: [Row; N] = std::array::from_fn(|_| Row::default());
        for _ in 0..ROUNDS {
            for ((_, subject), row) in subjects.iter().zip(&mut rows) {
                self.round(*subject, load, row);
            }
        }
        for ((name, _), row) in subjects.iter().zip(&mut rows) {
            row.print(name);
        }
        rows
    }

    /// The agent at a steady rate, each round behind one of the disk alone at the same rate.
    fn steady(&self) {
        let (mut agent, mut bare, mut ratios) = (Row::default(), Vec::new(), Vec::new());
        for _ in 0..STEADY_ROUNDS {
            let syncs = self.bare_syncs(STEADY.rate);
            let before = agent.latencies.len();
            self.round(Subject::Agent(Way::Plain), STEADY, &mut agent);
            let mut answers = agent.latencies[before..].to_vec();
            answers.sort_unstable();
            ratios.push(p99(&answers) / p99(&syncs));
            bare.extend(syncs);
        }
        bare.sort_unstable();
        println!("{:>10.2} ms p99 of a bare write and fdatasync", p99(&bare));
        agent.print("agent");
        print_middle("p99 of an answer to p99 of a bare write and fdatasync", ratios);
    }

    /// One process from its start to its end.
    fn round(&self, subject: Subject, load: Load, row: &mut Row) {
        let home = tempfile::tempdir_in(&self.home).expect("a temporary directory");
        let upstream = self.runtime.block_on(Upstream::start());
        let mut url = format!("http://{}", upstream.address);
        if let Subject::Agent(Way::Tls) = subject {
            let (secure, authority) = self.runtime.block_on(tls::terminator(upstream.address));
            std::fs::write(home.path().join("ca.pem"), authority).expect("the temporary directory is writable");
            url = secure;
        }
        let address = free_port();
        let mut command = match subject {
            Subject::Agent(way) => agent(home.path(), address, way, &url),
            Subject::Peer(mode) => peer(mode, address, &url),
        };
        let process = Process::start(&mut command, address)
            .unwrap_or_else(|reason| panic!("{subject:?} cannot be measured: {reason}"));
        row.ready_after = row.ready_after.max(process.ready_after);
        row.idle = row.idle.max(process.mebibytes("VmRSS"));
        let sends = !matches!(subject, Subject::Agent(Way::Nowhere));
        let warm_up = Load {
            how_long: WARM_UP,
            ..load
        };
        let before = self.runtime.block_on(load::run(address, warm_up)).spans;
        if sends {
            missing_after_drain(&upstream, before);
        }
        let (cpu, taking) = (process.cpu(), process.cpu_of("spool"));
        let seen = self.runtime.block_on(load::run(address, load));
        if sends {
            row.missing += missing_after_drain(&upstream, before + seen.spans);
        }
        row.rounds.push(Cost {
            spans: seen.spans,
            elapsed: seen.elapsed,
            cpu: process.cpu() - cpu,
            taking: process.cpu_of("spool") - taking,
        });
        row.latencies.extend(seen.latencies);
        row.refused += seen.refused;
        row.peak = row.peak.max(process.mebibytes("VmHWM"));
    }

    /// What the disk alone takes: the same bytes appended and synced, one after the other, at that many a second.
    fn bare_syncs(&self, rate: Option<u32>) -> Vec<Duration> {
        let bytes = sample::request(0);
        let mut file = File::create(self.home.path().join("bare")).expect("the temporary directory is writable");
        let start = Instant::now();
        let mut took: Vec<Duration> = (0..SYNCS)
            .map(|number| {
                if let Some(rate) = rate {
                    let due = start + Duration::from_secs(1) * number / rate;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                let start = Instant::now();
                file.write_all(&bytes)
                    .and_then(|()| file.sync_data())
                    .expect("the disk takes the bytes");
                start.elapsed()
            })
            .collect();
        took.sort_unstable();
        took
    }
}

/// Waits until `upstream` has `spans`; how many it has not in the end.
fn missing_after_drain(upstream: &Upstream, spans: u64) -> u64 {
    let start = Instant::now();
    while upstream.received() < spans && start.elapsed() < DRAIN {
        std::thread::sleep(Duration::from_millis(1));
    }
    spans.saturating_sub(upstream.received())
}

/// The real executable, with nothing of this machine's environment or settings.
fn agent(home: &Path, address: SocketAddr, way: Way, upstream: &str) -> Command {
    let compression = if way == Way::Gzip { "gzip" } else { "none" };
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command
        .args(["up", "--foreground"])
        .env_clear()
        .current_dir(home)
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("TAGALONG_HOME", home.join("state"))
        .env("TAGALONG_LISTEN_HTTP", address.to_string())
        .env("TAGALONG_LISTEN_GRPC", "127.0.0.1:0")
        .env("TAGALONG_IDENTITY_CREDENTIAL", "none")
        .env("TAGALONG_EXPORT_COMPRESSION", compression)
        .env("TAGALONG_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if way != Way::Nowhere {
        command.env("TAGALONG_EXPORT_ENDPOINT", upstream);
    }
    if way == Way::Tls {
        command.env("TAGALONG_EXPORT_CA_FILE", home.join("ca.pem"));
    }
    command
}

/// This executable as one of those that the agent is compared with.
fn peer(mode: &str, address: SocketAddr, upstream: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable has a path"));
    command
        .args([mode, &address.port().to_string(), upstream])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn p99(sorted: &[Duration]) -> f64 {
    millis(load::percentile(sorted, 0.99))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
