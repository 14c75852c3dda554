//! The address that containers next to the workspace can reach: where `listen.siblings` is "auto".
//!
//! A container engine on this machine has a bridge, and every container of its networks can reach the bridge's address.
//! Where the workspace is a container itself, its siblings reach it by its own address. Nothing is sent to find out:
//! connecting a UDP socket only asks the kernel which address it would send from.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
};

use super::parts::kept_key;
use crate::{
    config::{self, Config},
    source::otlp::siblings::{Key, Siblings},
};

pub use crate::source::otlp::siblings::HEADER;

/// The file in the state directory that holds the key of those who send there.
pub const KEY_FILE: &str = "siblings-key";

const ROUTES: &str = "/proc/net/route";
/// The default bridges of Docker and Podman.
const BRIDGES: [&str; 3] = ["docker0", "podman0", "cni-podman0"];
/// What the two engines leave in their containers.
const MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Of a network that is only in examples (RFC 5737): what leads there is the default route.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What the receiver needs for `listen.siblings`: none if they are not wanted, or if they cannot be let in, which is
/// logged and keeps nobody else out. `port` is the one that they find OTLP/HTTP at if it is free there.
pub(super) fn siblings(config: &Config, port: u16) -> Option<Siblings> {
    let address = match config.listen.siblings {
        config::Siblings::Off => return None,
        config::Siblings::At(address) => Some(address),
        config::Siblings::Auto => address(),
    };
    let Some(address) = address else {
        tracing::warn!("no container engine's bridge is here: listen.siblings = \"auto\" finds no address");
        return None;
    };
    let key = kept_key(&config.dirs.state, KEY_FILE)
        .inspect_err(|error| tracing::warn!(%error, "the key for containers next to this workspace cannot be kept"))
        .ok()?;
    Some(Siblings {
        address: SocketAddr::new(address, port),
        key: Key::new(key.expose().trim().to_owned())?,
    })
}

/// None where there is neither a bridge nor a container around us.
pub(super) fn address() -> Option<IpAddr> {
    let routes = std::fs::read_to_string(ROUTES).unwrap_or_default();
    let on_bridge = bridged(&routes).and_then(source_towards);
    on_bridge.or_else(|| {
        let in_container = MARKS.iter().any(|mark| Path::new(mark).exists());
        in_container.then(|| source_towards(ELSEWHERE))?
    })
}

/// An address in a bridge's network, by the kernel's table of routes (`iface destination gateway flags …`, addresses as
/// numbers in the machine's byte order).
fn bridged(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let interface = fields.next()?;
        let network = u32::from_str_radix(fields.next()?, 16).ok()?;
        let first = u32::from(Ipv4Addr::from(network.to_ne_bytes())).checked_add(2)?;
        (BRIDGES.contains(&interface) && network != 0).then(|| Ipv4Addr::from(first))
    })
}

/// The address that the kernel would send from.
fn source_towards(target: Ipv4Addr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // The discard port; nothing is written.
    socket.connect((target, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
