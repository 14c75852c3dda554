//! A process that is measured: started, asked what it used, and killed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a process may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// From the start to the first connection that was taken.
    pub ready_after: Duration,
}

impl Process {
    /// Starts the command and waits until `address` takes connections.
    pub fn start(command: &mut Command, address: SocketAddr) -> Result<Process, String> {
        let start = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("it does not start: {error}"))?;
        while TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended with {status} before it listened"));
            }
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it does not listen on {address} after {PATIENCE:?}"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(Process {
            child,
            ready_after: start.elapsed(),
        })
    }

    /// CPU time so far, of all threads, in user and kernel mode. The kernel counts in hundredths of a second.
    pub fn cpu(&self) -> Duration {
        ticks(&self.read("stat"))
    }

    /// CPU time so far of the thread with that name.
    pub fn cpu_of(&self, thread: &str) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let tasks = tasks.into_iter().flatten().flatten().map(|task| task.path());
        let named =
            |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == thread);
        let stats = tasks
            .filter(named)
            .map(|task| std::fs::read_to_string(task.join("stat")));
        stats.flatten().map(|stat| ticks(&stat)).sum()
    }

    /// A line of `/proc/PID/status` in MiB: `VmRSS`, `VmHWM`.
    pub fn mebibytes(&self, line: &str) -> f64 {
        let status = self.read("status");
        let found = status
            .lines()
            .find_map(|other| other.strip_prefix(line)?.strip_prefix(':'));
        let kibibytes = found.and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
        kibibytes.unwrap_or(f64::NAN) / 1024.0
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }
}

/// The name in parentheses may hold spaces; `utime` and `stime` are the 12th and 13th field behind it (proc(5)).
fn ticks(stat: &str) -> Duration {
    let behind = stat.rsplit(')').next().unwrap_or("");
    let ticks = behind
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}
