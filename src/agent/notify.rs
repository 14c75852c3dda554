//! What a supervisor that listens is told: systemd's protocol for services of `Type=notify` (sd_notify(3)), which is one
//! datagram of `NAME=VALUE` lines to the socket that `NOTIFY_SOCKET` names.
//!
//! Nobody has to listen, and nothing waits for whoever does.

use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::{system, workspace::Env};

/// Where the socket is; a name that begins with `@` is in the abstract namespace (unix(7)).
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// The ports accept.
    Ready,
    /// It drains, and will end.
    Stopping,
}

/// The supervisor's socket, if there is one.
#[derive(Debug, Default)]
pub(super) struct Supervisor(Option<SocketAddr>);

impl Supervisor {
    /// An address that cannot be one is as good as none.
    pub(super) fn of(env: &Env) -> Supervisor {
        let name = env.get(VARIABLE);
        let address = name.and_then(|name| match name.strip_prefix('@') {
            Some(name) => system::abstract_address(name),
            None => SocketAddr::from_pathname(name).ok(),
        });
        Supervisor(address)
    }

    pub(super) fn tell(&self, news: News) {
        let Some(address) = &self.0 else { return };
        let text = match news {
            News::Ready => "READY=1\n",
            News::Stopping => "STOPPING=1\n",
        };
        let told = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(text.as_bytes(), address)
        });
        if let Err(error) = told {
            tracing::debug!(%error, "the supervisor was not told");
        }
    }
}
