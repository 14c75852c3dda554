//! How long a hook is held: by the first `up`, by those after it, by one whose agent hangs, and by one that fails. What
//! counts is the release build on a machine that does nothing else; `true`, run the same way, says what a process costs.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::agent::{Home, signal};

const RUNS: usize = 20;
/// What a debug build may take longer.
const SLOWER: u32 = if cfg!(debug_assertions) { 5 } else { 1 };

/// The times of a command that succeeds, the shortest first.
fn times(mut run: impl FnMut() -> std::process::Command, mut after: impl FnMut()) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let mut command = run();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let began = Instant::now();
            let status = command.status().expect("it runs");
            let took = began.elapsed();
            assert!(status.success(), "never an exit code");
            after();
            took
        })
        .collect();
    times.sort();
    times
}

fn shown(times: &[Duration]) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    format!("{:.1} ms (worst {:.1})", ms(median(times)), ms(times[times.len() - 1]))
}

fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

#[test]
#[ignore = "takes minutes: just endure"]
fn a_hook_is_hardly_held() {
    let home = Home::new();
    let process = times(|| std::process::Command::new("true"), || ());
    let up = || home.command(&["up"]);
    home.up();
    home.text(&["down"]);
    let cold = times(up, || drop(home.text(&["down"])));
    home.up();
    let second = times(up, || ());
    let pid = home.pid().expect("an agent runs");
    signal(pid, Signal::STOP);
    let hanging = times(up, || ());
    signal(pid, Signal::CONT);
    home.text(&["down"]);
    let broken = Home::new().set("TAGALONG_SPOOL_DIR", "/proc/nowhere");
    let failing = times(|| broken.command(&["up"]), || ());
    println!(
        "endure: hooks: true {}; up cold {}; second {}; hanging {}; failing {}",
        shown(&process),
        shown(&cold),
        shown(&second),
        shown(&hanging),
        shown(&failing)
    );
    for (what, times, most) in [
        ("cold", &cold, 50),
        ("second", &second, 10),
        ("hanging", &hanging, 100),
        ("failing", &failing, 100),
    ] {
        let most = Duration::from_millis(most) * SLOWER + median(&process);
        assert!(median(times) <= most, "{what}: {:?}", median(times));
    }
}
