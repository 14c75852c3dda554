//! Parse, run, exit code.

use std::process::ExitCode;

mod memory;

fn main() -> ExitCode {
    memory::bound();
    tagalong::cli::main()
}
