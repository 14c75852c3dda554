//! One refresh for all who want it at the same time: whoever holds the lock listens on a socket beside it, and tells
//! everyone who came what came of it. The access token goes from process to process of one OS user and rests nowhere.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use zeroize::Zeroizing;

use super::{MintError, Minted};
use crate::identity::{claims, secret::Secret};

/// More than a token and what stands around it.
const MAX_TOLD: u64 = 128 * 1024;
/// Longer than a turn takes: discovery and the exchange, each with its limit. Whoever was stopped in one holds the lock for
/// ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// A listener that does not read is not waited for.
const TELL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Sharing {
    listener: UnixListener,
    path: PathBuf,
}

impl Sharing {
    /// The lock is held, so a socket that is there is of a process that is gone.
    pub(super) fn listen(path: PathBuf) -> io::Result<Sharing> {
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        // Nobody is waited for: who came is in the kernel's queue.
        listener.set_nonblocking(true)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Sharing { listener, path })
    }

    /// Tells everybody who has come until now.
    pub(super) async fn tell(self, result: &Result<Minted, MintError>) {
        let text = render(result);
        // Whoever comes after this finds nobody, and asks for the lock.
        let _ = fs::remove_file(&self.path);
        while let Ok((stream, _)) = self.listener.accept() {
            let tell = async {
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream)?.write_all(text.as_bytes()).await
            };
            if !matches!(tokio::time::timeout(TELL, tell).await, Ok(Ok(()))) {
                tracing::debug!("somebody who waited for the refresh went away");
            }
        }
    }
}

/// Waits for what another process's refresh comes to; none if there is none, or it went away without a word.
pub(super) async fn follow(path: &Path) -> Option<Result<Minted, MintError>> {
    let stream = UnixStream::connect(path).await.ok()?;
    let mut text = Zeroizing::new(Vec::with_capacity(16 * 1024));
    let mut told = stream.take(MAX_TOLD);
    tokio::time::timeout(PATIENCE, told.read_to_end(&mut text))
        .await
        .ok()?
        .ok()?;
    parse(&text)
}

fn render(result: &Result<Minted, MintError>) -> Zeroizing<String> {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .map(|since| since.as_secs())
    };
    let value = match result {
        Ok(minted) => json!({
            "token": minted.token.as_ref().map(Secret::expose),
            "lifetime": minted.lifetime.map(|lifetime| lifetime.as_secs_f64()),
            "date": minted.date.and_then(seconds),
            "not_granted": minted.not_granted,
        }),
        Err(MintError::Transient(text)) => json!({"transient": text}),
        Err(MintError::Later(text, pause)) => json!({"transient": text, "pause": pause.as_secs_f64()}),
        Err(MintError::Config(text)) => json!({"config": text}),
        Err(MintError::NeedsUser(text)) => json!({"needs_user": text}),
    };
    let text = Zeroizing::new(value.to_string());
    if let Value::Object(mut object) = value
        && let Some(Value::String(token)) = object.get_mut("token")
    {
        zeroize::Zeroize::zeroize(token);
    }
    text
}

fn parse(text: &[u8]) -> Option<Result<Minted, MintError>> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    let failed = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    if let Some(text) = failed("transient") {
        let pause = value.get("pause").and_then(claims::seconds);
        return Some(Err(MintError::transient(text, pause.map(Duration::from_secs_f64))));
    }
    if let Some(text) = failed("config") {
        return Some(Err(MintError::Config(text)));
    }
    if let Some(text) = failed("needs_user") {
        return Some(Err(MintError::NeedsUser(text)));
    }
    let Value::String(token) = value.get_mut("token")?.take() else {
        return None;
    };
    Some(Ok(Minted {
        lifetime: value
            .get("lifetime")
            .and_then(claims::seconds)
            .map(Duration::from_secs_f64),
        date: value.get("date").and_then(claims::numeric_date),
        fresh: true,
        not_granted: claims::texts(value.get("not_granted")),
        ..Minted::bare(Secret::new(token))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let minted = Minted {
            lifetime: Some(Duration::from_secs(20)),
            date: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            fresh: true,
            not_granted: vec!["telemetry".to_owned()],
            ..Minted::bare(Secret::new("at".to_owned()))
        };
        let heard = parse(render(&Ok(minted)).as_bytes()).expect("told").expect("a token");
        assert_eq!(heard.token.expect("one").expose(), "at");
        assert_eq!(heard.lifetime, Some(Duration::from_secs(20)));
        assert_eq!(heard.not_granted, ["telemetry"]);
        assert!(heard.date.is_some());
        for error in [
            MintError::Transient("a".to_owned()),
            MintError::Later("a".to_owned(), Duration::from_secs(7)),
            MintError::Config("b".to_owned()),
            MintError::NeedsUser("c".to_owned()),
        ] {
            let heard = parse(render(&Err(error.clone())).as_bytes()).expect("told");
            assert_eq!(heard.expect_err("failed"), error);
        }
        assert!(parse(b"").is_none(), "whoever was killed says nothing");
    }
}
