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

use crate::load::{self, CONNECTIONS, Seen};
use crate::process::{Process, free_port};
use crate::relay;
use crate::sample;
use crate::upstream::Upstream;

/// How long the senders send.
const LOAD: Duration = Duration::from_secs(5);
/// How long the rest may take to reach upstream.
const DRAIN: Duration = Duration::from_secs(60);
/// Writes and syncs of the bare loop.
const SYNCS: usize = 500;

/// Prints one block for each process, or why it could not be measured.
pub fn run() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a temporary directory");
    println!("end to end, {CONNECTIONS} connections, {} s", LOAD.as_secs());
    bare_syncs(directory.path());
    let upstream = runtime.block_on(Upstream::start());
    let address = free_port();
    let agent = Process::start(&mut agent(directory.path(), address, &upstream), address);
    measure("tagalong up --foreground", agent, address, &upstream, &runtime);

    let upstream = runtime.block_on(Upstream::start());
    let address = free_port();
    let yardstick = Process::start(&mut yardstick(address, &upstream), address);
    measure(
        "yardstick: a relay that decodes, encodes, keeps nothing",
        yardstick,
        address,
        &upstream,
        &runtime,
    );
}

fn measure(
    name: &str,
    process: Result<Process, String>,
    address: SocketAddr,
    upstream: &Upstream,
    runtime: &tokio::runtime::Runtime,
) {
    println!("\n  {name}");
    let process = match process {
        Ok(process) => process,
        Err(reason) => return println!("    not measured: {reason}"),
    };
    let idle = process.mebibytes("VmRSS");
    let before = process.cpu();
    let seen = runtime.block_on(load::run(address, LOAD));
    let drained = drain(upstream, seen.spans);
    report(&process, &seen, idle, process.cpu().saturating_sub(before), drained);
    if upstream.received() != seen.spans {
        println!(
            "    {:>10} spans upstream, {} accepted",
            upstream.received(),
            seen.spans
        );
    }
}

fn report(process: &Process, seen: &Seen, idle: f64, cpu: Duration, drained: Duration) {
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "    {:>10.3} µs of CPU time per span, until upstream had them all",
        micros(cpu) / seen.spans as f64
    );
    println!(
        "    {:>10.0} spans/s accepted",
        seen.spans as f64 / seen.elapsed.as_secs_f64()
    );
    println!("    {:>10.2} ms p50 of an answer", millis(seen.percentile(0.50)));
    println!("    {:>10.2} ms p99 of an answer", millis(seen.percentile(0.99)));
    println!("    {:>10.1} ms from exec to a connection", millis(process.ready_after));
    println!("    {idle:>10.1} MiB VmRSS idle");
    println!("    {:>10.1} MiB VmHWM", process.mebibytes("VmHWM"));
    println!("    {:>10.1} ms until upstream had the rest", millis(drained));
    if seen.refused > 0 {
        println!("    {:>10} requests refused", seen.refused);
    }
}

/// Waits until upstream has `spans`, and how long that took.
fn drain(upstream: &Upstream, spans: u64) -> Duration {
    let start = Instant::now();
    while upstream.received() < spans && start.elapsed() < DRAIN {
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

/// The real executable, with nothing of this machine's environment or settings.
fn agent(directory: &Path, address: SocketAddr, upstream: &Upstream) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command
        .args(["up", "--foreground"])
        .env_clear()
        .current_dir(directory)
        .env("HOME", directory)
        .env("XDG_RUNTIME_DIR", directory)
        .env("TAGALONG_HOME", directory.join("state"))
        .env("TAGALONG_LISTEN_HTTP", address.to_string())
        .env("TAGALONG_LISTEN_GRPC", "127.0.0.1:0")
        .env("TAGALONG_EXPORT_ENDPOINT", format!("http://{}", upstream.address))
        .env("TAGALONG_EXPORT_COMPRESSION", "none")
        .env("TAGALONG_IDENTITY_CREDENTIAL", "none")
        .env("TAGALONG_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn yardstick(address: SocketAddr, upstream: &Upstream) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable has a path"));
    command
        .args([
            relay::MODE,
            &address.port().to_string(),
            &format!("http://{}", upstream.address),
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// What the disk alone takes: the same bytes appended and synced, one after the other.
fn bare_syncs(directory: &Path) {
    let bytes = sample::request(0);
    let mut file = File::create(directory.join("bare")).expect("the temporary directory is writable");
    let mut took: Vec<Duration> = (0..SYNCS)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&bytes)
                .and_then(|()| file.sync_data())
                .expect("the disk takes the bytes");
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    let millis = |share| load::percentile(&took, share).as_secs_f64() * 1e3;
    println!(
        "    {:>10.2} ms p50, {:.2} ms p99 of a bare write and fdatasync",
        millis(0.50),
        millis(0.99)
    );
}
