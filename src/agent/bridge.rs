//! The address that containers next to the workspace can reach: where `listen.siblings` is "auto".
//!
//! A container engine on this machine has a bridge, and every container of its networks can reach the bridge's address.
//! Where the workspace is a container itself, its siblings reach it by its own address. Nothing is sent to find out:
//! connecting a UDP socket only asks the kernel which address it would send from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use super::parts::kept_key;
use crate::{
    config::{self, Config},
    source::otlp::siblings::{Key, Siblings},
    system,
};

pub use crate::source::otlp::siblings::HEADER;

/// The file in the state directory that holds the key of those who send there.
pub const KEY_FILE: &str = "siblings-key";

/// Of a network that is only in examples (RFC 5737): what leads there is the default route.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What the receiver needs for `listen.siblings`; none if they are not wanted. `port` is the one that they find OTLP/HTTP
/// at if it is free there.
///
/// # Errors
/// Why they cannot be let in, in words, which keeps nobody else out.
pub(super) fn siblings(config: &Config, port: u16) -> Result<Option<Siblings>, String> {
    let address = match config.listen.siblings {
        config::Siblings::Off => return Ok(None),
        config::Siblings::At(address) => Some(address),
        config::Siblings::Auto => address(),
    };
    let address = address.ok_or("no container engine's bridge is here, so \"auto\" finds no address")?;
    let file = config.dirs.state.join(KEY_FILE);
    let key = kept_key(&config.dirs.state, KEY_FILE)
        .map_err(|error| format!("the key in {} cannot be kept: {error}", file.display()))?;
    let key = Key::new(key.expose().trim().to_owned());
    Ok(Some(Siblings {
        address: SocketAddr::new(address, port),
        key: key.ok_or_else(|| format!("the key in {} is too short", file.display()))?,
    }))
}

/// None where there is neither a bridge nor a container around us.
pub(super) fn address() -> Option<IpAddr> {
    let on_bridge = system::bridged_network().and_then(source_towards);
    on_bridge.or_else(|| system::is_container().then(|| source_towards(ELSEWHERE))?)
}

/// The address that the kernel would send from.
fn source_towards(target: Ipv4Addr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // The discard port; nothing is written.
    socket.connect((target, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}
