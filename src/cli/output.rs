//! What a command says, and what becomes of it where standard output or standard error takes no more.
//!
//! That ends no command in the middle of its work: what is left to be said is dropped, and the exit code tells at the end.

use std::{
    fmt::Arguments,
    io::{self, Write},
    sync::OnceLock,
};

use super::failure::{Failure, Kind};

/// Why standard output takes no more, if it does not. The process's own, as standard output is.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output, until that fails for the first time.
pub(super) fn print(text: Arguments<'_>) {
    if !is_lost() {
        let mut stdout = io::stdout().lock();
        note(stdout.write_fmt(text).and_then(|()| stdout.flush()));
    }
}

/// Writes a line to standard error. If that fails, there is nobody left to tell.
pub(super) fn remark(text: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Keeps in mind that a result could not be written.
pub(super) fn note(written: io::Result<()>) {
    if let Err(error) = written {
        let _ = LOST.set(error);
    }
}

/// Whether something was said that nobody reads.
pub(super) fn is_lost() -> bool {
    LOST.get().is_some()
}

/// What is left to be done is done. Whoever closed the pipe has seen enough, and that is a success.
pub(super) fn end() -> Result<(), Failure> {
    match LOST.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Kind::Failed,
            format!("standard output cannot be written: {error}"),
        )
        .hint("what there was to do is done; only what there was to say is missing")),
        _ => Ok(()),
    }
}
