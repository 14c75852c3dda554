//! `tagalong logs`: the agent's own log, and its growth.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    time::Duration,
};

use super::{
    Context,
    failure::{Failure, Kind},
};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(context: &Context, follow: bool) -> Result<(), Failure> {
    let path = crate::agent::log_path(&context.loaded.config.dirs);
    let mut file = File::open(&path).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("there is no log to read at {}: {error}", path.display()),
        )
        .hint("an agent that was started with `tagalong up` writes one")
    })?;
    loop {
        copy(&mut file)?;
        if !follow {
            return Ok(());
        }
        // A new log may have been begun: once the old one is read to its end, go on with that one.
        if let (Ok(new), Ok(old)) = (std::fs::metadata(&path), file.metadata())
            && new.ino() != old.ino()
        {
            copy(&mut file)?;
            file = File::open(&path)?;
        }
        std::thread::park_timeout(LOOK);
    }
}

fn copy(file: &mut File) -> Result<(), Failure> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    match io::stdout().write_all(&text).and_then(|()| io::stdout().flush()) {
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}
