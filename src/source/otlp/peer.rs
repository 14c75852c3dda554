//! Whose socket is at the other end of a connection, and which process holds a port: the kernel's socket table.
//!
//! A TCP connection over loopback has no credentials of its own, but both of its ends stand in `/proc/net/tcp` and `/proc/net/tcp6`
//! with the user who made them (proc(5)). A connection that is not there comes from elsewhere (another machine, another network namespace)
//! and belongs to nobody whom we know, so it is refused like another user's.
//! Only Linux has the table: elsewhere nothing is checked, and `listen.other_users` means nothing.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// The tables, the commoner first. A v4 connection that was made through a v6 socket (Java's habit) stands in the second, as a mapped address.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The state of a listening socket (`TCP_LISTEN`).
const LISTEN: u8 = 0x0a;

const ROOT: u32 = 0;

/// One socket of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    uid: u32,
    /// Zero for a socket that no process holds any more; its user id is then not the owner's but root's.
    inode: u64,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    User(u32),
    /// The table has no such socket.
    Unknown,
}

// === impl Peer ===

impl Peer {
    /// Looks up the far end of a connection that was accepted: for us, its local address is our remote one. Reads files: keep it off the runtime's threads.
    pub(super) fn of(theirs: SocketAddr, ours: SocketAddr) -> Peer {
        TABLES
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .find_map(|table| owner_of(&table, theirs, ours))
            .map_or(Peer::Unknown, Peer::User)
    }

    /// Whether this peer may send under the name of the user `own`. Root may: it can do so anyway.
    pub(super) fn may_send_as(self, own: u32) -> bool {
        match self {
            Peer::User(uid) => uid == own || uid == ROOT,
            Peer::Unknown => !cfg!(target_os = "linux"),
        }
    }
}

/// Names the process that listens on `address`, as far as we may look: `java (process 4711)`.
pub(super) fn holder_of(address: SocketAddr) -> Option<String> {
    let socket = TABLES
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| sockets(&table).find(|socket| holds(socket, address)))?;
    let wanted = format!("socket:[{}]", socket.inode);
    let found = fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let name = process.file_name().into_string().ok()?;
        let id: u32 = name.parse().ok()?;
        has_descriptor(&process.path(), &wanted).then(|| {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("{} (process {id})", command.trim())
        })
    });
    // Another user's descriptors cannot be read, but whose they are is known.
    found.or_else(|| Some(format!("a process of user {}", socket.uid)))
}

fn has_descriptor(process: &Path, wanted: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted))
}

fn holds(socket: &Socket, address: SocketAddr) -> bool {
    let ip = socket.local.ip();
    socket.state == LISTEN
        && socket.local.port() == address.port()
        && (ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified())
}

/// The user of the socket from `theirs` to `ours`.
/// A socket without an inode was closed by its process, and the kernel shows root as its user whoever that was: it counts for nothing.
fn owner_of(table: &str, theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let (theirs, ours) = (canonical(theirs), canonical(ours));
    sockets(table)
        .find(|socket| socket.inode != 0 && socket.local == theirs && socket.remote == ours)
        .map(|socket| socket.uid)
}

fn sockets(table: &str) -> impl Iterator<Item = Socket> {
    table.lines().skip(1).filter_map(parse)
}

/// One line: `sl local remote state queues timer retransmits uid timeout inode …` (proc_net_tcp in the kernel's documentation).
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Socket {
        local,
        remote,
        state,
        uid,
        inode,
    })
}

/// `0100007F:10DD`: an address as 32-bit words in the machine's byte order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(ip)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(ip.get(index * 8..index * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn word(hex: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
}

/// Without flow label and scope, and with mapped v4 addresses as what they are: as the table's addresses are read.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(local: SocketAddr, remote: SocketAddr, state: u8, uid: u32, inode: u64) -> String {
        let show = |address: SocketAddr| {
            let words: String = match address.ip() {
                IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
                IpAddr::V6(ip) => ip
                    .octets()
                    .chunks_exact(4)
                    .map(|word| format!("{:08X}", u32::from_ne_bytes(word.try_into().expect("four bytes"))))
                    .collect(),
            };
            format!("{words}:{:04X}", address.port())
        };
        format!(
            "   7: {} {} {state:02X} 00000000:00000000 00:00000000 00000000 {uid:5}        0 {inode} 1 0000000000000000 20 4 30 10 -1\n",
            show(local),
            show(remote)
        )
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_far_end_is_found_by_both_addresses() {
        let (theirs, ours) = (at("127.0.0.1:50000"), at("127.0.0.1:4318"));
        let table = [
            HEAD.to_owned(),
            line(ours, theirs, 1, 1, 11),
            line(theirs, at("127.0.0.1:4317"), 1, 2, 12),
            line(theirs, ours, 1, 1000, 13),
        ]
        .concat();
        assert_eq!(owner_of(&table, theirs, ours), Some(1000));
        assert_eq!(owner_of(&table, at("127.0.0.1:50001"), ours), None);
    }

    #[test]
    fn a_v4_connection_through_a_v6_socket_is_found() {
        let table = HEAD.to_owned()
            + &line(
                at("[::ffff:127.0.0.1]:50000"),
                at("[::ffff:127.0.0.1]:4317"),
                1,
                1000,
                5,
            );
        assert_eq!(
            owner_of(&table, at("127.0.0.1:50000"), at("127.0.0.1:4317")),
            Some(1000)
        );
    }

    #[test]
    fn a_socket_that_its_process_has_left_is_not_taken_for_roots() {
        let (theirs, ours) = (at("127.0.0.1:50000"), at("127.0.0.1:4318"));
        let table = HEAD.to_owned() + &line(theirs, ours, 4, 0, 0);
        assert_eq!(owner_of(&table, theirs, ours), None);
    }

    #[test]
    fn other_users_may_not_send_but_root_may() {
        assert!(Peer::User(1000).may_send_as(1000));
        assert!(Peer::User(0).may_send_as(1000));
        assert!(!Peer::User(1001).may_send_as(1000));
        assert!(!Peer::User(1000).may_send_as(0));
        #[cfg(target_os = "linux")]
        assert!(!Peer::Unknown.may_send_as(1000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_real_connection_is_our_own() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue; // A machine without IPv6.
            };
            let ours = listener.local_addr().expect("an address");
            let client = TcpStream::connect(ours).expect("a connection");
            let peer = Peer::of(client.local_addr().expect("an address"), ours);
            assert_eq!(peer, Peer::User(rustix::process::geteuid().as_raw()));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let holder = holder_of(listener.local_addr().expect("an address")).expect("somebody holds it");
        assert!(
            holder.ends_with(&format!("(process {})", std::process::id())),
            "{holder}"
        );
    }

    proptest! {
        #[test]
        fn no_table_makes_the_parser_panic(text in "[ -~\n]{0,400}") {
            let _ = sockets(&text).count();
        }

        #[test]
        fn every_socket_is_read_back(
            local: (Ipv4Addr, u16), remote: (Ipv6Addr, u16), state: u8, uid: u32, inode: u64,
        ) {
            let (local, remote) = (SocketAddr::from(local), SocketAddr::from(remote));
            let read = parse(&line(local, remote, state, uid, inode));
            prop_assert_eq!(read, Some(Socket { local, remote: canonical(remote), state, uid, inode }));
        }
    }
}
