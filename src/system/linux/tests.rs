//! Linux's tables, as texts and as this machine has them.

use std::net::{TcpListener, TcpStream};

use proptest::prelude::*;

use super::*;

const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

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
    assert_eq!(owner_in(&table, theirs, ours), Some(1000));
    assert_eq!(owner_in(&table, at("127.0.0.1:50001"), ours), None);
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
        owner_in(&table, at("127.0.0.1:50000"), at("127.0.0.1:4317")),
        Some(1000)
    );
}

#[test]
fn a_socket_that_its_process_has_left_is_not_taken_for_roots() {
    let (theirs, ours) = (at("127.0.0.1:50000"), at("127.0.0.1:4318"));
    let table = HEAD.to_owned() + &line(theirs, ours, 4, 0, 0);
    assert_eq!(owner_in(&table, theirs, ours), None);
}

#[test]
fn a_real_connection_is_our_own_by_the_kernels_word_and_by_its_table() {
    // The last as Java does it: v4 through a v6 socket.
    for (here, there) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
    ] {
        let (here, there): (IpAddr, IpAddr) = (here.parse().expect("an address"), there.parse().expect("an address"));
        let Ok(listener) = TcpListener::bind((here, 0)) else {
            continue; // A machine without IPv6.
        };
        let ours = listener.local_addr().expect("an address");
        let client = TcpStream::connect((there, ours.port())).expect("a connection");
        let theirs = client.local_addr().expect("an address");
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(owner_of(theirs, ours), Some(own), "{theirs}");
        let (theirs, ours) = (canonical(theirs), canonical(ours));
        let tables = TABLES.map(|table| fs::read_to_string(table).unwrap_or_default());
        assert_eq!(tables.iter().find_map(|table| owner_in(table, theirs, ours)), Some(own));
        // A sandbox may forbid to ask.
        assert!(diag::owner_of(theirs, ours).is_none_or(|uid| uid == own), "{theirs}");
        assert_eq!(diag::owner_of(at("127.0.0.1:1"), ours), None);
    }
}

#[test]
fn a_connection_whose_far_end_is_closed_is_nobodys_and_the_kernel_that_knows_our_end_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ours = listener.local_addr().expect("an address");
    let client = TcpStream::connect(ours).expect("a connection");
    let theirs = client.local_addr().expect("an address");
    let _accepted = listener.accept().expect("the connection");
    let open = diag::owner_of(theirs, ours);
    drop(client);
    assert_eq!(owner_of(theirs, ours), None);
    // A sandbox may forbid to ask, of either end.
    assert_eq!(diag::owner_of(ours, theirs), open);
}

#[test]
fn the_holder_of_a_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let holder = holder_of(listener.local_addr().expect("an address")).expect("somebody holds it");
    assert!(
        holder.ends_with(&format!("(process {})", std::process::id())),
        "{holder}"
    );
}

#[test]
fn a_bridge_is_found_in_the_table_of_routes_and_other_networks_are_not_taken_for_one() {
    let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    let route = |interface: &str, network: Ipv4Addr| {
        let number = u32::from_ne_bytes(network.octets());
        format!("{interface}\t{number:08X}\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n")
    };
    let default = route("eth0", Ipv4Addr::UNSPECIFIED);
    let lan = route("eth0", Ipv4Addr::new(192, 168, 1, 0));
    let docker = route("docker0", Ipv4Addr::new(172, 17, 0, 0));
    assert_eq!(bridged(&[head, &default, &lan].concat()), None);
    assert_eq!(
        bridged(&[head, &default, &lan, &docker].concat()),
        Some(Ipv4Addr::new(172, 17, 0, 2))
    );
    assert_eq!(bridged(""), None);
    assert_eq!(bridged("\ndocker0 zz"), None);
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
        let read = socket(&line(local, remote, state, uid, inode));
        prop_assert_eq!(read, Some(Socket { local, remote: canonical(remote), state, uid, inode }));
    }
}
