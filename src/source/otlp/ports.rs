//! Listening sockets: at the wanted addresses, or beside them where another process was faster.
//!
//! A workspace may already run a collector on 4317. Failing then would cost the developer all of their telemetry,
//! so another port is taken and reported; nothing is ever taken away from whoever was first.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket};

use crate::system;

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// A listener that could not have the port it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What it was asked for.
    pub wanted: SocketAddr,
    /// Where it listens.
    pub got: SocketAddr,
    /// The process that holds the wanted port, where the system tells.
    pub held_by: Option<String>,
}

/// An address cannot be listened on, and no other port would help.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The wanted one.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Listens on `wanted`, or on another port of the same address if that one is taken. Must be called within a runtime.
///
/// A socket of `handed` that listens there already is taken instead.
pub(super) fn listen(
    wanted: SocketAddr,
    handed: &mut Vec<std::net::TcpListener>,
) -> Result<(TcpListener, SocketAddr, Option<Moved>), BindError> {
    let failed = |source| BindError {
        address: wanted,
        source,
    };
    let ours = handed
        .iter()
        .position(|socket| socket.local_addr().ok() == Some(wanted));
    if let Some(ours) = ours {
        let socket = handed.swap_remove(ours);
        let listener = socket
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(socket))
            .map_err(failed)?;
        return Ok((listener, wanted, None));
    }
    let (listener, taken) = match bind(wanted) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let beside = bind(SocketAddr::new(wanted.ip(), 0)).map_err(failed)?;
            (beside, true)
        }
        result => (result.map_err(failed)?, false),
    };
    let got = listener.local_addr().map_err(failed)?;
    let moved = taken.then(|| Moved {
        wanted,
        got,
        held_by: system::holder_of(wanted),
    });
    Ok((listener, got, moved))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an earlier start that linger in TIME_WAIT do not keep the port from us; a listener still does.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
