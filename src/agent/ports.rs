//! The ports that the agent got: remembered in the spool's directory, and taken again at the next start,
//! so that programs that were told of them need not be told again.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::{Error, bridge, process};
use crate::{
    config::{Config, Listen},
    intake::Intake,
    otlp::budget::Budget,
    source::otlp::{self, Moved, Receiver},
    system,
};

const FILE: &str = "ports.json";
/// What a sender that is told to come again waits: long enough to drain something, short enough to keep its queue.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What was wanted and what was got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ports {
    wanted_grpc: SocketAddr,
    wanted_http: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
    #[serde(default)]
    siblings: Option<SocketAddr>,
    /// Why these are not the wanted ones. Notes of older versions do not say.
    #[serde(default)]
    taken: Vec<Taken>,
}

/// A wanted port that somebody held when another one was taken in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    wanted: SocketAddr,
    by: Option<String>,
    at: SystemTime,
}

/// A bound receiver, and what there is to say about where it listens.
pub(super) struct Listening {
    pub(super) receiver: Receiver,
    /// One line for people about each port that is not the wanted one.
    pub(super) moved: Vec<String>,
    /// Why containers next to the workspace cannot send though they are wanted, in words.
    pub(super) siblings_trouble: Option<String>,
}

/// Binds the receiver, which is to run in `runtime`: to the ports of the last start if the settings still want the same
/// and they are free.
///
/// Sockets that an agent before this one handed over are listened on where their addresses are wanted, and closed where
/// they are not.
pub(super) fn bind(
    config: &Config,
    runtime: &Handle,
    intake: Intake,
    handed: Vec<TcpListener>,
) -> Result<Listening, Error> {
    let _entered = runtime.enter();
    let Listen {
        grpc,
        http,
        allowed_origins,
        max_request_bytes,
        other_users,
        siblings: _,
    } = config.listen.clone();
    let last = read(&config.spool.dir).filter(|last| last.wanted_grpc == grpc && last.wanted_http == http);
    let is_ours = |address: &SocketAddr| handed.iter().any(|socket| socket.local_addr().ok() == Some(*address));
    let may_have = |address: &SocketAddr| is_ours(address) || is_free(address);
    let choose = |wanted: SocketAddr, got: Option<SocketAddr>| got.filter(may_have).unwrap_or(wanted);
    let (choose_grpc, choose_http) = (
        choose(grpc, last.as_ref().map(|last| last.grpc)),
        choose(http, last.as_ref().map(|last| last.http)),
    );
    let siblings = bridge::siblings(config, http.port());
    let receiver = Receiver::bind(
        otlp::Config {
            grpc: choose_grpc,
            http: choose_http,
            allowed_origins,
            max_request_bytes: usize::try_from(max_request_bytes).unwrap_or(usize::MAX),
            other_users,
            siblings: siblings.clone().unwrap_or_default(),
            retry_after: RETRY_AFTER,
            connections: process::connections(),
        },
        intake,
        Budget::new(Budget::DEFAULT_BYTES),
        handed,
    )
    .map_err(|error| Error::Part(error.to_string()))?;
    let siblings_trouble = siblings.err();
    let siblings_trouble = siblings_trouble.or_else(|| receiver.siblings_error().map(ToString::to_string));
    let siblings_trouble = siblings_trouble
        .map(|trouble| format!("containers next to this workspace cannot send (listen.siblings): {trouble}"));
    if let Some(trouble) = &siblings_trouble {
        tracing::warn!("{trouble}");
    }

    let (mut moved, mut taken) = (Vec::new(), Vec::new());
    for now in receiver.moved() {
        moved.push(moved_text(&now));
        taken.push(Taken {
            wanted: now.wanted,
            by: now.held_by,
            at: SystemTime::now(),
        });
    }
    let before = last.as_ref().map_or(&[][..], |last| &last.taken);
    for (wanted, got) in BTreeMap::from([(grpc, receiver.grpc_addr()), (http, receiver.http_addr())]) {
        let is_told = taken.iter().any(|now| now.wanted == wanted);
        if wanted == got || wanted.port() == 0 || is_told {
            continue;
        }
        let then = before.iter().find(|then| then.wanted == wanted);
        moved.push(match is_free(&wanted) {
            true => kept_text(wanted, got, then, SystemTime::now(), &config.spool.dir),
            false => moved_text(&Moved {
                wanted,
                got,
                held_by: system::holder_of(wanted),
            }),
        });
        taken.extend(then.cloned());
    }
    let got = Ports {
        wanted_grpc: grpc,
        wanted_http: http,
        grpc: receiver.grpc_addr(),
        http: receiver.http_addr(),
        siblings: receiver.siblings_addr(),
        taken,
    };
    if last.as_ref() != Some(&got) {
        // Without the note the next start takes the wanted ports, which is no worse than the first start.
        let _ = std::fs::write(
            config.spool.dir.join(FILE),
            serde_json::to_vec(&got).unwrap_or_default(),
        );
    }
    Ok(Listening {
        receiver,
        moved,
        siblings_trouble,
    })
}

/// The addresses of the last start, for settings that must not point back at the agent.
pub fn remembered(spool_dir: &Path) -> Vec<SocketAddr> {
    read(spool_dir).map_or_else(Vec::new, |ports| {
        [ports.grpc, ports.http].into_iter().chain(ports.siblings).collect()
    })
}

/// One line for people about a port that was taken.
pub(super) fn moved_text(moved: &Moved) -> String {
    let holder = moved.held_by.as_deref().unwrap_or("another process");
    format!(
        "{} is held by {holder}; listening on {} instead (`tagalong env` tells programs)",
        moved.wanted, moved.got
    )
}

/// The same of one that is free again: programs that were told of the other need not be told again.
fn kept_text(wanted: SocketAddr, got: SocketAddr, then: Option<&Taken>, now: SystemTime, spool_dir: &Path) -> String {
    let holder = then.and_then(|then| then.by.as_deref()).unwrap_or("another process");
    // A clock that was set back knows no date.
    let when = match then.filter(|then| then.at <= now) {
        Some(then) => format!("on {:.10}", humantime::format_rfc3339_seconds(then.at).to_string()),
        None => "at an earlier start".to_owned(),
    };
    let note = spool_dir.join(FILE);
    format!(
        "{wanted} was held by {holder} {when}; still listening on {got}, of which programs may have been told \
         (`tagalong env` tells them). To go back to {wanted}: `tagalong down`, remove {}, `tagalong up`",
        note.display()
    )
}

fn read(spool_dir: &Path) -> Option<Ports> {
    serde_json::from_slice(&std::fs::read(spool_dir.join(FILE)).ok()?).ok()
}

fn is_free(address: &SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_kept_says_who_held_the_wanted_one_and_when() {
        let [wanted, got] = [4318, 40001].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let then = Taken {
            wanted,
            by: Some("otelcol (process 99)".to_owned()),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(951_782_400),
        };
        let later = then.at + Duration::from_secs(3600);
        let spool = Path::new("/spool");
        insta::assert_snapshot!(kept_text(wanted, got, Some(&then), later, spool), @"127.0.0.1:4318 was held by otelcol (process 99) on 2000-02-29; still listening on 127.0.0.1:40001, of which programs may have been told (`tagalong env` tells them). To go back to 127.0.0.1:4318: `tagalong down`, remove /spool/ports.json, `tagalong up`");
        insta::assert_snapshot!(kept_text(wanted, got, Some(&then), SystemTime::UNIX_EPOCH, spool), @"127.0.0.1:4318 was held by otelcol (process 99) at an earlier start; still listening on 127.0.0.1:40001, of which programs may have been told (`tagalong env` tells them). To go back to 127.0.0.1:4318: `tagalong down`, remove /spool/ports.json, `tagalong up`");
        insta::assert_snapshot!(kept_text(wanted, got, None, later, spool), @"127.0.0.1:4318 was held by another process at an earlier start; still listening on 127.0.0.1:40001, of which programs may have been told (`tagalong env` tells them). To go back to 127.0.0.1:4318: `tagalong down`, remove /spool/ports.json, `tagalong up`");
    }

    #[test]
    fn what_an_older_version_noted_is_still_read() {
        let old = r#"{"wanted_grpc":"127.0.0.1:4317","wanted_http":"127.0.0.1:4318","grpc":"127.0.0.1:4317","http":"127.0.0.1:40001","siblings":null}"#;
        let ports: Ports = serde_json::from_str(old).expect("a note");
        assert_eq!(ports.taken, []);
    }
}
