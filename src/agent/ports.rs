//! The ports that the agent got: remembered in the spool's directory, and taken again at the next start,
//! so that programs that were told of them need not be told again.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::{Error, bridge, process};
use crate::{
    config::{Config, Listen},
    intake::Intake,
    otlp::budget::Budget,
    source::otlp::{self, Moved, Receiver},
};

const FILE: &str = "ports.json";
/// What a sender that is told to come again waits: long enough to drain something, short enough to keep its queue.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What was wanted and what was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ports {
    wanted_grpc: SocketAddr,
    wanted_http: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
    #[serde(default)]
    siblings: Option<SocketAddr>,
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
) -> Result<Receiver, Error> {
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
        choose(grpc, last.map(|last| last.grpc)),
        choose(http, last.map(|last| last.http)),
    );
    let receiver = Receiver::bind(
        otlp::Config {
            grpc: choose_grpc,
            http: choose_http,
            allowed_origins,
            max_request_bytes: usize::try_from(max_request_bytes).unwrap_or(usize::MAX),
            other_users,
            siblings: bridge::siblings(config, http.port()),
            retry_after: RETRY_AFTER,
            connections: process::connections(),
        },
        intake,
        Budget::new(Budget::DEFAULT_BYTES),
        handed,
    )
    .map_err(|error| Error::Part(error.to_string()))?;
    let got = Ports {
        wanted_grpc: grpc,
        wanted_http: http,
        grpc: receiver.grpc_addr(),
        http: receiver.http_addr(),
        siblings: receiver.siblings_addr(),
    };
    if last != Some(got) {
        // Without the note the next start takes the wanted ports, which is no worse than the first start.
        let _ = std::fs::write(
            config.spool.dir.join(FILE),
            serde_json::to_vec(&got).unwrap_or_default(),
        );
    }
    Ok(receiver)
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

fn read(spool_dir: &Path) -> Option<Ports> {
    serde_json::from_slice(&std::fs::read(spool_dir.join(FILE)).ok()?).ok()
}

fn is_free(address: &SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}
