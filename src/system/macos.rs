//! macOS, as far as it can be written without one: it compiles, and leaves open what it does not know. Nobody has run it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::net::{SocketAddr as UnixAddress, UnixStream},
    },
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use keyring_core::CredentialStore;
use rustix::{
    io::{FdFlags, fcntl_setfd, ioctl_fionbio},
    net::{AddressFamily, RecvFlags, SocketType, socket},
};

use super::{Layer, NoKeyring, Read, node_name, receive_with};

/// Without suspends: only the wall clock notices one.
pub fn boot_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// uname(3).
pub fn host_name(_: Read<'_>) -> Option<String> {
    node_name()
}

/// Left open.
pub fn boot_id(_: Read<'_>) -> Option<String> {
    None
}

/// Left open.
pub fn machine_id(_: Read<'_>) -> Option<String> {
    None
}

/// Left open: no clone is told from its original.
pub fn machine_marks(_: Read<'_>) -> Vec<(&'static str, String)> {
    Vec::new()
}

/// Not known.
pub fn product_and_case(_: Read<'_>) -> [Option<String>; 2] {
    [None, None]
}

/// There are no containers of this system.
pub fn layer_of(_: &Path, _: Read<'_>) -> Layer {
    Layer::Machine
}

/// No table of sockets with their users is read.
pub const KNOWS_OWNERS: bool = false;

/// Left open.
pub fn owner_of(_: SocketAddr, _: SocketAddr) -> Option<u32> {
    None
}

/// Left open.
pub fn holder_of(_: SocketAddr) -> Option<String> {
    None
}

/// Container engines run their containers in a virtual machine.
pub fn bridged_network() -> Option<Ipv4Addr> {
    None
}

/// There are no containers of this system.
pub fn is_container() -> bool {
    false
}

/// There is no such namespace.
pub fn abstract_address(_: &str) -> Option<UnixAddress> {
    None
}

/// A Unix stream socket that is closed on exec and never waits.
///
/// # Errors
/// That of the system.
pub fn stream_socket() -> io::Result<OwnedFd> {
    let made = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fcntl_setfd(&made, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&made, true)?;
    Ok(made)
}

/// Reads once, with the descriptors that come beside the bytes, which are closed on exec.
///
/// # Errors
/// That of the system.
pub fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let (read, sockets) = receive_with(stream, bytes, RecvFlags::empty())?;
    for socket in &sockets {
        fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    }
    Ok((read, sockets))
}

/// The user's keychain.
///
/// # Errors
/// There is none.
pub fn keyring(_: Duration) -> Result<Arc<CredentialStore>, NoKeyring> {
    match apple_native_keyring_store::keychain::Store::new() {
        Ok(store) => Ok(store),
        Err(_) => Err(NoKeyring::Missing("there is no keychain")),
    }
}
