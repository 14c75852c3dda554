//! Linux: what `/proc`, `/sys` and a few more files say, and the calls that only it has.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
use keyring_core::CredentialStore;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socket_with};

use super::{Layer, NoKeyring, Read, node_name, receive_with, word};

mod diag;

/// Time since boot that goes on in suspend and never jumps: `CLOCK_BOOTTIME` (clock_gettime(2)).
///
/// A port answers with a clock that counts suspends; one that does not leaves them to the wall clock.
pub fn boot_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

// === which machine this is ===

/// The name of this machine or container: `/proc/sys/kernel/hostname`, else uname(2), which says the same.
///
/// A port answers what `hostname` prints.
pub fn host_name(read: Read<'_>) -> Option<String> {
    first_line("/proc/sys/kernel/hostname", read).or_else(node_name)
}

/// What is another one after each boot, and the same for all who ask during it: the kernel's random `boot_id` (proc(5)).
///
/// A port answers anything that a restart changes and a suspend does not; none makes a copied login outlive a restart.
pub fn boot_id(read: Read<'_>) -> Option<String> {
    first_line("/proc/sys/kernel/random/boot_id", read)
}

/// The number that an installation gave itself, and that a clone is to replace: `/etc/machine-id` (machine-id(5)).
///
/// A port answers the hardware's or the installation's number.
pub fn machine_id(read: Read<'_>) -> Option<String> {
    first_line("/etc/machine-id", read)
}

/// What tells this machine from a clone of it, by name, as far as it can be read: its [`machine_id`], and what is given
/// to it from outside and so is no part of a copied disk. That is the instance that cloud-init has found itself in; the
/// machine's own number in its firmware, which hypervisors make anew for a clone (and root alone may read); what Xen
/// calls it; and the instance that Amazon writes where boards have their asset tag.
///
/// A port answers what it has. The names are kept on disk: a name never changes its meaning.
pub fn machine_marks(read: Read<'_>) -> Vec<(&'static str, String)> {
    let is_instance = |tag: &String| tag.starts_with("i-");
    [
        ("machine", machine_id(read)),
        ("instance", first_line("/var/lib/cloud/data/instance-id", read)),
        ("firmware", first_line("/sys/class/dmi/id/product_uuid", read)),
        ("hypervisor", first_line("/sys/hypervisor/uuid", read)),
        (
            "board",
            first_line("/sys/class/dmi/id/board_asset_tag", read).filter(is_instance),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// What the firmware calls the product, and the asset tag of its case, which everybody may read: clouds are known by them.
///
/// A port answers what it has.
pub fn product_and_case(read: Read<'_>) -> [Option<String>; 2] {
    ["/sys/class/dmi/id/product_name", "/sys/class/dmi/id/chassis_asset_tag"].map(|path| first_line(path, read))
}

/// What the files in `dir` rest on: of a container whose root is an overlay, the mounts in `/proc/self/mountinfo` name
/// its upper directory.
///
/// A port without containers answers [`Layer::Machine`].
pub fn layer_of(dir: &Path, read: Read<'_>) -> Layer {
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    match upper_directory(&mounts) {
        None => Layer::Machine,
        Some(_) if mount_of(&mounts, dir) != Some("/") => Layer::Volume,
        Some(upper) => Layer::Container(upper.to_owned()),
    }
}

/// Of the overlay that is mounted at `/`, if one is (proc_pid_mountinfo(5): the optional fields end with a dash).
fn upper_directory(mounts: &str) -> Option<&str> {
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, rest) = root.split_once(" - ")?;
    let mut fields = rest.split(' ');
    if fields.next() != Some("overlay") {
        return None;
    }
    fields
        .nth(1)?
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="))
}

/// The mount point that a path is below: the longest that fits.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.len())
}

fn first_line(path: &str, read: Read<'_>) -> Option<String> {
    word(&read(path)?)
}

// === whose socket it is ===

/// Whether [`owner_of`] can tell at all: what it then does not know belongs to nobody here.
///
/// A port without such a table says no, and then nobody's user is checked.
pub const KNOWS_OWNERS: bool = true;

/// The tables of sockets, the commoner first (proc(5)). A v4 connection that was made through a v6 socket (Java's habit)
/// stands in the second, as a mapped address.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Whether the kernel said nothing about a socket that its table has: it is not asked again, as each question may make it
/// look for a module.
static MUTE: AtomicBool = AtomicBool::new(false);

/// The state of a listening socket (`TCP_LISTEN`).
const LISTEN: u8 = 0x0a;

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

/// The user whose TCP socket goes from `theirs` to `ours` on this machine, in this network namespace. Reads files: keep
/// it off the runtime's threads.
///
/// A port answers the effective user of the socket's maker; none if there is no such socket.
pub fn owner_of(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let (theirs, ours) = (canonical(theirs), canonical(ours));
    if !MUTE.load(Ordering::Relaxed) {
        let owner = diag::owner_of(theirs, ours);
        // Who knows our own end would know theirs: it is closed, and the table would say no more.
        if owner.is_some() || diag::owner_of(ours, theirs).is_some() {
            return owner;
        }
    }
    let mut tables = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok());
    let found = tables.find_map(|table| owner_in(&table, theirs, ours));
    MUTE.fetch_or(found.is_some(), Ordering::Relaxed);
    found
}

/// Names the process that listens on `address`, as far as we may look: `java (process 4711)`. Looks through the
/// descriptors of all processes.
///
/// A port may leave it open: it is for a person who finds the port taken.
pub fn holder_of(address: SocketAddr) -> Option<String> {
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

/// A socket without an inode was closed by its process, and the kernel shows root as its user whoever that was: it counts for nothing.
fn owner_in(table: &str, theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    sockets(table)
        .find(|socket| socket.inode != 0 && socket.local == theirs && socket.remote == ours)
        .map(|socket| socket.uid)
}

fn sockets(table: &str) -> impl Iterator<Item = Socket> {
    table.lines().skip(1).filter_map(socket)
}

/// One line: `sl local remote state queues timer retransmits uid timeout inode …` (proc_net_tcp in the kernel's documentation).
fn socket(line: &str) -> Option<Socket> {
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
        8 => IpAddr::V4(Ipv4Addr::from(octets(ip)?)),
        32 => {
            let mut all = [0; 16];
            for (index, four) in all.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&octets(ip.get(index * 8..index * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(all)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn octets(hex: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
}

/// Without flow label and scope, and with mapped v4 addresses as what they are: as the table's addresses are read.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

// === containers next to us ===

/// The default bridges of Docker and Podman.
const BRIDGES: [&str; 3] = ["docker0", "podman0", "cni-podman0"];

/// An address in the network of a container engine's bridge, not the bridge's own: the kernel's table of routes knows the
/// bridges by name (`/proc/net/route`).
///
/// A port whose engines run their containers in a machine of their own answers none: there is no bridge here.
pub fn bridged_network() -> Option<Ipv4Addr> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    bridged(&routes)
}

/// `iface destination gateway flags …`, addresses as numbers in the machine's byte order.
fn bridged(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let interface = fields.next()?;
        let network = u32::from_str_radix(fields.next()?, 16).ok()?;
        let first = u32::from(Ipv4Addr::from(network.to_ne_bytes())).checked_add(2)?;
        (BRIDGES.contains(&interface) && network != 0).then(|| Ipv4Addr::from(first))
    })
}

/// Whether this is a container of Docker or Podman: by the mark that each leaves in its containers.
///
/// A port answers no where there are none.
pub fn is_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists())
}

// === sockets between processes ===

/// A socket of this name in the abstract namespace, which is no file (unix(7)): where systemd may want to be told.
///
/// A port without that namespace answers none.
pub fn abstract_address(name: &str) -> Option<UnixAddress> {
    UnixAddress::from_abstract_name(name).ok()
}

/// A Unix stream socket that is closed on exec and never waits, both from its first moment on (`SOCK_CLOEXEC` and
/// `SOCK_NONBLOCK`, socket(2)).
///
/// A port sets both as soon as it has it.
///
/// # Errors
/// That of the system: there is no descriptor left.
pub fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Reads once, with the descriptors that come beside the bytes, which are closed on exec from their first moment on
/// (`MSG_CMSG_CLOEXEC`, recvmsg(2)). More than [`MOST_SOCKETS`](super::MOST_SOCKETS) are dropped.
///
/// A port marks them as soon as it has them.
///
/// # Errors
/// That of the system.
pub fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    receive_with(stream, bytes, RecvFlags::CMSG_CLOEXEC)
}

// === the desktop's keyring ===

/// The store of the session, if it is there and nobody has to unlock it: the Secret Service on the session's D-Bus. It
/// waits for the service for as long as `patience`.
///
/// A port answers its own store; one that would ask a person is locked.
///
/// # Errors
/// There is none, or it is locked.
pub fn keyring(patience: Duration) -> Result<Arc<CredentialStore>, NoKeyring> {
    let bus = dbus::blocking::LocalConnection::new_session().map_err(|_| NoKeyring::Missing("no D-Bus session"))?;
    // The client unlocks what it finds locked, and that asks a person: so look first.
    let default = bus.with_proxy(
        "org.freedesktop.secrets",
        "/org/freedesktop/secrets/aliases/default",
        patience,
    );
    match default.get("org.freedesktop.Secret.Collection", "Locked") {
        Ok(false) => {}
        Ok(true) => return Err(NoKeyring::Locked),
        Err(_) => return Err(NoKeyring::Missing("no Secret Service with a default collection")),
    }
    match dbus_secret_service_keyring_store::Store::new() {
        Ok(store) => Ok(store),
        Err(_) => Err(NoKeyring::Missing("it refuses a session")),
    }
}

#[cfg(test)]
mod tests;
