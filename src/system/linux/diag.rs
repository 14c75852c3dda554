//! Whose socket it is, by the kernel's own lookup (sock_diag(7)): one question, one answer, microseconds.
//!
//! `/proc/net/tcp` knows the same, but the kernel walks its whole table for it, which takes milliseconds of CPU on a
//! machine with much memory, for each new connection. It answers nothing about listening sockets or processes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
    netlink::{SOCK_DIAG, SocketAddrNetlink},
    recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h): the type of the question and of its answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` (netlink(7)).
const REQUEST: u16 = 1;
const TCP: u8 = 6;
/// Of a `nlmsghdr` (netlink(7)).
const HEADER: usize = 16;
/// Of a `nlmsghdr` and an `inet_diag_req_v2`.
const QUESTION: usize = HEADER + 56;
/// Of a `nlmsghdr` and an `inet_diag_msg`.
const ANSWER: usize = HEADER + 72;

/// The user whose socket goes from `theirs` to `ours`, both canonical.
///
/// `None` says nothing: a sandbox may forbid the question, and a kernel without the module for it answers as one without
/// that socket does.
pub(super) fn owner_of(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )
    .ok()?;
    // From now on nobody else's messages come in.
    connect(&kernel, &SocketAddrNetlink::new(0, 0)).ok()?;
    send(&kernel, &question(theirs, ours), SendFlags::empty()).ok()?;
    let mut answer = [0; ANSWER];
    let (read, _) = recv(&kernel, &mut answer, RecvFlags::DONTWAIT).ok()?;
    owner_in(answer.get(..read)?, theirs, ours)
}

fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let mut question = Vec::with_capacity(QUESTION);
    question.extend((QUESTION as u32).to_ne_bytes());
    question.extend(BY_FAMILY.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    // A sequence number and the port of who asks: neither is needed for one answer.
    question.extend([0; 8]);
    question.extend([family.as_raw() as u8, TCP, 0, 0]);
    // Whatever its state is.
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(local.port().to_be_bytes());
    question.extend(remote.port().to_be_bytes());
    question.extend(address(local.ip()));
    question.extend(address(remote.ip()));
    // Of any interface, and without a cookie from an earlier answer (`INET_DIAG_NOCOOKIE`).
    question.extend([0; 4]);
    question.extend([u8::MAX; 8]);
    question
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut padded = [0; 16];
            padded[..4].copy_from_slice(&ip.octets());
            padded
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The kernel falls back to whoever listens on that address, so the answer must name both ends. A socket without an inode
/// was closed by its process, and the kernel shows root as its user whoever that was.
fn owner_in(answer: &[u8], theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    if answer.len() < ANSWER || answer[4..6] != BY_FAMILY.to_ne_bytes() {
        return None;
    }
    let message = &answer[HEADER..];
    let is_v6 = u16::from(message[0]) == AddressFamily::INET6.as_raw();
    let end = |port: usize, ip: usize| {
        let port = u16::from_be_bytes([message[port], message[port + 1]]);
        let octets: [u8; 16] = message[ip..ip + 16].try_into().expect("sixteen bytes");
        let [a, b, c, d, ..] = octets;
        let ip = match is_v6 {
            true => Ipv6Addr::from(octets).to_canonical(),
            false => Ipv4Addr::new(a, b, c, d).into(),
        };
        SocketAddr::new(ip, port)
    };
    let word = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().expect("four bytes"));
    let (uid, inode) = (word(64), word(68));
    (end(4, 8) == theirs && end(6, 24) == ours && inode != 0).then_some(uid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THEIRS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40000);
    const OURS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);

    /// As the kernel writes it for a socket of user 1000.
    fn answer(family: AddressFamily, theirs: [u8; 16], port: u16, inode: u32) -> Vec<u8> {
        let mut answer = (ANSWER as u32).to_ne_bytes().to_vec();
        answer.extend(BY_FAMILY.to_ne_bytes());
        answer.extend([0; 10]);
        answer.extend([family.as_raw() as u8, 1, 0, 0]);
        answer.extend(port.to_be_bytes());
        answer.extend(OURS.port().to_be_bytes());
        answer.extend(theirs);
        answer.extend(if family == AddressFamily::INET6 {
            mapped()
        } else {
            address(OURS.ip())
        });
        answer.extend([0; 4 + 8 + 4 + 4 + 4]);
        answer.extend(1000_u32.to_ne_bytes());
        answer.extend(inode.to_ne_bytes());
        answer
    }

    fn mapped() -> [u8; 16] {
        Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets()
    }

    #[test]
    fn an_answer_about_both_ends_names_the_user_also_where_v4_is_spoken_through_a_v6_socket() {
        let plain = answer(AddressFamily::INET, address(THEIRS.ip()), 40000, 7);
        assert_eq!(owner_in(&plain, THEIRS, OURS), Some(1000));
        let through_v6 = answer(AddressFamily::INET6, mapped(), 40000, 7);
        assert_eq!(owner_in(&through_v6, THEIRS, OURS), Some(1000));
    }

    #[test]
    fn an_answer_about_another_socket_a_closed_one_or_nothing_at_all_says_nothing() {
        let here = address(THEIRS.ip());
        let fine = answer(AddressFamily::INET, here, 40000, 7);
        let refused = [&fine[..4], &2_u16.to_ne_bytes(), &fine[6..]].concat();
        for bytes in [
            answer(AddressFamily::INET, here, 40001, 7),
            answer(
                AddressFamily::INET,
                address(Ipv4Addr::new(10, 0, 0, 1).into()),
                40000,
                7,
            ),
            answer(AddressFamily::INET, here, 40000, 0),
            refused,
            fine[..ANSWER - 1].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(owner_in(&bytes, THEIRS, OURS), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2 * ANSWER)) {
            let _ = owner_in(&bytes, THEIRS, OURS);
        }
    }
}
