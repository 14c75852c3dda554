//! Whose connection it is.
//!
//! A TCP connection over loopback has no credentials of its own, but the system knows who made each of its ends. A
//! connection that it does not know comes from elsewhere (another machine, another network namespace) and belongs to
//! nobody whom we know, so it is refused like another user's. Where the system does not tell at all, nothing is checked,
//! and `listen.other_users` means nothing.

use std::{fmt, net::SocketAddr};

use crate::system;

const ROOT: u32 = 0;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    User(u32),
    /// The system has no such socket.
    Unknown,
}

// === impl Peer ===

impl Peer {
    /// Looks up the far end of a connection that was accepted: for us, its local address is our remote one. Reads files: keep it off the runtime's threads.
    pub(super) fn of(theirs: SocketAddr, ours: SocketAddr) -> Peer {
        system::owner_of(theirs, ours).map_or(Peer::Unknown, Peer::User)
    }

    /// Whether this peer may send under the name of the user `own`. Root may: it can do so anyway.
    pub(super) fn may_send_as(self, own: u32) -> bool {
        match self {
            Peer::User(uid) => uid == own || uid == ROOT,
            Peer::Unknown => !system::KNOWS_OWNERS,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::User(uid) => write!(f, "uid {uid}'s"),
            Peer::Unknown => f.write_str("from another container or machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_users_may_not_send_but_root_may() {
        assert!(Peer::User(1000).may_send_as(1000));
        assert!(Peer::User(0).may_send_as(1000));
        assert!(!Peer::User(1001).may_send_as(1000));
        assert!(!Peer::User(1000).may_send_as(0));
        assert!(!Peer::Unknown.may_send_as(1000));
    }
}
