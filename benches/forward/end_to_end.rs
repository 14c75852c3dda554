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

/// Each process is under load for so many rounds: what else the machine does slows some of them down and speeds none up.
const ROUNDS: u32 = 4;
/// As fast as answers come.
const SATURATING: Load = Load {
    how_long: Duration::from_secs(2),
    spans: SPANS,
    rate: None,
};
/// A thousand requests a second.
const STEADY: Load = Load {
    rate: Some(1000),
    ..SATURATING
};
/// Requests of 4 MiB.
const LARGE: Load = Load {
    spans: 10_000,
    ..SATURATING
};
/// How long the rest may take to reach upstream.
const DRAIN: Duration = Duration::from_secs(60);
/// Writes and syncs of the bare loop.
const SYNCS: u32 = 1000;

/// How the agent sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nowhere,
    Plain,
    Gzip,
    Tls,
}

/// What a load cost.
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

    /// In nanoseconds.
    fn per_span(&self, cpu: Duration) -> f64 {
        cpu.as_nanos() as f64 / self.spans as f64
    }

    fn add(&mut self, round: &Cost) {
        self.spans += round.spans;
        self.elapsed += round.elapsed;
        self.cpu += round.cpu;
        self.taking += round.taking;
    }
}

/// Prints one line for each process and load, and what they say about the parts.
pub fn run(steps: Option<Steps>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let home = tempfile::tempdir().expect("a temporary directory");
    let seconds = SATURATING.how_long.as_secs();
    println!("end to end, {CONNECTIONS} connections, {ROUNDS} rounds of {seconds} s each");
    let bare = bare_syncs(home.path(), None);
    println!(
        "{:>10.2} ms p50, {:.2} ms p99 of a bare write and fdatasync",
        millis(load::percentile(&bare, 0.50)),
        millis(load::percentile(&bare, 0.99))
    );
    println!(
        "   µs/span best round  of it taking    spans/s best round   p50 ms   p99 ms  start ms  idle MiB  peak MiB"
    );
    let agent = |name: &str, way, load| measure_agent(name, way, load, home.path(), &runtime);
    agent("agent, nothing sent", Way::Nowhere, SATURATING);
    let plain = agent("agent", Way::Plain, SATURATING);
    agent("agent, gzip", Way::Gzip, SATURATING);
    agent("agent, TLS", Way::Tls, SATURATING);
    let yardstick = measure_peer(
        "yardstick: a relay that decodes, encodes, keeps nothing",
        relay::MODE,
        &runtime,
    );
    let floor = measure_peer(
        "floor: takes, writes and syncs, sends; looks at nothing",
        floor::MODE,
        &runtime,
    );
    let ratio = |over: Option<Cost>, under: Option<Cost>, name: &str| {
        if let (Some(over), Some(under)) = (over, under) {
            let ratio = over.per_span(over.cpu) / under.per_span(under.cpu);
            println!("{ratio:>10.2}x  {name}, of their best rounds");
        }
    };
    ratio(yardstick, plain, "yardstick to agent");
    ratio(plain, floor, "agent to floor");
    if let (Some(steps), Some(plain)) = (steps, plain) {
        print_split(steps, plain);
    }
    println!("\nat {} requests a second", STEADY.rate.unwrap_or(0));
    let bare = bare_syncs(home.path(), STEADY.rate);
    let p99 = millis(load::percentile(&bare, 0.99));
    println!("{p99:>10.2} ms p99 of a bare write and fdatasync");
    agent("agent", Way::Plain, STEADY);
    let bytes = sample::request_of(LARGE.spans, 0).len();
    println!("\nrequests of {bytes} bytes");
    agent("agent", Way::Plain, LARGE);
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
    let receive = plain.per_span(plain.taking) - check - redact - stamp - spool;
    let send = plain.per_span(plain.cpu - plain.taking);
    println!(
        "{:>10} ns a span: receive {receive:.0}, check {check:.0}, redact {redact:.0}, stamp {stamp:.0}, spool {spool:.0}, send {send:.0}",
        "in"
    );
}

fn measure_agent(name: &str, way: Way, load: Load, home: &Path, runtime: &tokio::runtime::Runtime) -> Option<Cost> {
    let home = tempfile::tempdir_in(home).expect("a temporary directory");
    let upstream = runtime.block_on(Upstream::start());
    let mut url = format!("http://{}", upstream.address);
    if way == Way::Tls {
        let (secure, authority) = runtime.block_on(tls::terminator(upstream.address));
        std::fs::write(home.path().join("ca.pem"), authority).expect("the temporary directory is writable");
        url = secure;
    }
    let address = free_port();
    let process = Process::start(&mut agent(home.path(), address, way, &url), address);
    let upstream = (way != Way::Nowhere).then_some(&upstream);
    measure(name, process, address, load, upstream, runtime)
}

fn measure_peer(name: &str, mode: &str, runtime: &tokio::runtime::Runtime) -> Option<Cost> {
    let upstream = runtime.block_on(Upstream::start());
    let address = free_port();
    let process = Process::start(&mut peer(mode, address, &upstream), address);
    measure(name, process, address, SATURATING, Some(&upstream), runtime)
}

/// The cost of the round in which a span cost least.
fn measure(
    name: &str,
    process: Result<Process, String>,
    address: SocketAddr,
    load: Load,
    upstream: Option<&Upstream>,
    runtime: &tokio::runtime::Runtime,
) -> Option<Cost> {
    let process = match process {
        Ok(process) => process,
        Err(reason) => {
            println!("    {name}: not measured: {reason}");
            return None;
        }
    };
    let idle = process.mebibytes("VmRSS");
    let (mut all, mut rounds) = (Cost::default(), Vec::new());
    let (mut latencies, mut refused) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (cpu, taking) = (process.cpu(), process.cpu_of("spool"));
        let seen = runtime.block_on(load::run(address, load));
        if let Some(upstream) = upstream {
            drain(upstream, all.spans + seen.spans);
        }
        let round = Cost {
            spans: seen.spans,
            elapsed: seen.elapsed,
            cpu: process.cpu() - cpu,
            taking: process.cpu_of("spool") - taking,
        };
        all.add(&round);
        rounds.push(round);
        latencies.extend(seen.latencies);
        refused += seen.refused;
    }
    latencies.sort_unstable();
    let cost = |round: &Cost| round.per_span(round.cpu);
    let cheapest = rounds.iter().copied().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    let fastest = rounds.iter().map(Cost::spans_per_second).fold(0.0, f64::max);
    println!(
        "{:>10.3} {:>10.3} {:>14.3} {:>10.0} {:>10.0} {:>8.2} {:>8.2} {:>9.1} {:>9.1} {:>9.1}  {name}",
        cost(&all) / 1e3,
        cost(&cheapest) / 1e3,
        cheapest.per_span(cheapest.taking) / 1e3,
        all.spans_per_second(),
        fastest,
        millis(load::percentile(&latencies, 0.50)),
        millis(load::percentile(&latencies, 0.99)),
        millis(process.ready_after),
        idle,
        process.mebibytes("VmHWM"),
    );
    if refused > 0 {
        println!("{refused:>10} requests refused");
    }
    if let Some(upstream) = upstream.filter(|upstream| upstream.received() < all.spans) {
        println!("{:>10} spans upstream, {} accepted", upstream.received(), all.spans);
    }
    Some(cheapest)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Waits until `upstream` has `spans`.
fn drain(upstream: &Upstream, spans: u64) {
    let start = Instant::now();
    while upstream.received() < spans && start.elapsed() < DRAIN {
        std::thread::sleep(Duration::from_millis(1));
    }
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
fn peer(mode: &str, address: SocketAddr, upstream: &Upstream) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable has a path"));
    command
        .args([
            mode,
            &address.port().to_string(),
            &format!("http://{}", upstream.address),
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// What the disk alone takes: the same bytes appended and synced, one after the other, at that many a second.
fn bare_syncs(home: &Path, rate: Option<u32>) -> Vec<Duration> {
    let bytes = sample::request(0);
    let mut file = File::create(home.join("bare")).expect("the temporary directory is writable");
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
