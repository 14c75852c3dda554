//! Starting an agent that outlives the hook, terminal or pipe that started it.
//!
//! The starter runs this same executable again and waits for one line that says that the ports accept.
//! The new process leaves the session and holds none of the descriptors that it was born with,
//! so a hook that waits for the end of its pipes is not held. Nothing in here talks to a running agent.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
};

/// What the new process says when its ports accept; all else that it says is its failure's text.
const READY: &str = "ready";

/// The log's size at which a new one is begun; the old one is kept once, as `agent.log.1`.
const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// Starts `program arguments…` in its own session with `log` as its standard error, and waits until it is ready, but no
/// longer than `patience`; it goes on also if that was too short. It finds `settings` by [`settings`]: its arguments are
/// for everybody to read for as long as it lives.
///
/// # Errors
/// The text that the new process gave, as it is fit for a person, or that of the operating system; `TimedOut`.
pub fn spawn(program: &Path, arguments: &[&str], settings: &[String], log: File, patience: Duration) -> io::Result<()> {
    // Hooks leak descriptors (editors, task runners), and a leaked pipe holds its reader for as long as the agent lives.
    close_fds::set_fds_cloexec(3, &[]);
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended without a look at them says why, or its log does.
        let _ = stdin.write_all(&serde_json::to_vec(settings)?);
    }
    let answer = first_line(&mut child, patience)?;
    match answer.trim_end() {
        READY => Ok(()),
        "" => Err(io::Error::other("it ended before it was ready")),
        text => Err(io::Error::other(text.to_owned())),
    }
}

/// In the new process: what the starter's `--set` flags said, from standard input, which is let go.
///
/// # Errors
/// The starter went away before it had said all of it.
pub fn settings() -> io::Result<Vec<String>> {
    let settings = serde_json::from_reader(io::stdin().lock())?;
    rustix::stdio::dup2_stdin(null()?)?;
    Ok(settings)
}

/// In the new process: leaves the session that it was born in.
pub fn leave_session() {
    // It fails only for a process that leads a group already, which is then free of the hook's group anyway.
    let _ = rustix::process::setsid();
}

/// In the new process: says that the ports accept, and lets the starter's pipe go.
pub fn say_ready() -> io::Result<()> {
    say(READY)
}

/// In the new process: says why it will not be ready, in one line.
pub fn say_failure(text: &str) -> io::Result<()> {
    say(&text.replace('\n', " · "))
}

fn say(line: &str) -> io::Result<()> {
    // The starter may be gone: that is its business, not a reason to stop.
    let _ = writeln!(io::stdout(), "{line}");
    let _ = io::stdout().flush();
    rustix::stdio::dup2_stdout(null()?)?;
    Ok(())
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn first_line(child: &mut Child, patience: Duration) -> io::Result<String> {
    let mut line = String::new();
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(line);
    };
    let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
    let wanted = PollFd::new(&stdout, PollFlags::IN);
    if rustix::event::poll(&mut [wanted], Some(&timeout))? == 0 {
        let text = format!("it is not ready after {patience:?}, but goes on");
        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
    }
    // One short line is one write, and the end is one too.
    stdout.read_to_string(&mut line)?;
    Ok(line)
}

/// Opens the agent's log for appending, and begins a new one when it has grown beyond its cap.
///
/// # Errors
/// It, or the directory that it is in, cannot be made or written.
pub fn open_log(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES) {
        let _ = std::fs::rename(path, path.with_extension("log.1"));
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// In the new process: its log, which is its standard error, so that a panic is in there too. It begins a new one by the
/// same rule as a start.
#[derive(Debug)]
pub(super) struct Log {
    /// Where the log is by name.
    pub(super) path: PathBuf,
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if rustix::fs::fstat(io::stderr()).is_ok_and(|file| file.st_size.cast_unsigned() > LOG_BYTES) {
            // Another agent may have begun it already. Where it cannot be, a long log is better than none.
            let _ = open_log(&self.path).and_then(|log| Ok(rustix::stdio::dup2_stderr(log)?));
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
