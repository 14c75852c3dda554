//! What it costs to forward a span, between a relay that decodes and encodes again and the least that it can cost,
//! measured in the same run.
//!
//! `cargo bench --bench forward` runs everything; `-- micro` only the single steps, `-- end-to-end` only the processes.
//! Costs are CPU time, so that a busy machine makes the run longer and the figures hardly worse. Neighbours on the same host
//! take caches and memory all the same: the rows take turns, each ratio is one of neighbours in time, and the best round
//! stands beside all of them. It measures and prints; it asserts nothing, because a limit that holds on one machine says
//! nothing on another.

// A bench may wait, unwrap and print: nothing shares its threads, its panic is its report, and so is what it prints.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod end_to_end;
mod floor;
mod load;
mod micro;
mod process;
mod relay;
mod sample;
#[path = "../../tests/it/support/tls.rs"]
mod tls;
mod upstream;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, port, upstream] = arguments.as_slice() {
        match mode.as_str() {
            relay::MODE => return relay::run(port, upstream),
            floor::MODE => return floor::run(port, upstream),
            _ => {}
        }
    }
    let asked = |part: &str| arguments.iter().any(|argument| argument == part);
    let all = !asked("micro") && !asked("end-to-end");
    println!(
        "requests of {} spans, {} bytes each, 10 attributes; {} bytes a request\n",
        sample::SPANS,
        sample::SPAN_BYTES,
        sample::request(0).len()
    );
    let steps = (all || asked("micro")).then(micro::run);
    if all || asked("end-to-end") {
        end_to_end::run(steps);
    }
}
