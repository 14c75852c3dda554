//! What is asked of the operating system beyond what every Unix answers alike: the one place that knows which one it is.
//!
//! A port is one more file beside `linux.rs`, with the same functions and the same promises. Each function there says
//! where Linux has its answer and what another system has to answer, or may leave open: what is not known is never an
//! error, and whoever asks goes on without. Nothing here decides anything, and nothing names other parts of ours.
//!
//! Linux is what is tested. `macos.rs` compiles and leaves open what it does not know; nobody has run it.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(target_os = "macos")]
pub use macos::*;

/// The text of a small file, by its absolute path; none if it cannot be had. Detection reads below a root of its own.
pub type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The first line of a text, without blanks around it; none if nothing is left.
pub fn word(text: &str) -> Option<String> {
    let word = text.lines().next()?.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

/// What uname(2) calls this machine or container, which every Unix has.
fn node_name() -> Option<String> {
    word(&rustix::system::uname().nodename().to_string_lossy())
}

/// Reads once, with the descriptors that come beside the bytes.
fn receive_with(stream: &UnixStream, bytes: &mut [u8], flags: RecvFlags) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut beside, flags)?;
    let sockets = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok((received.bytes, sockets.flatten().collect()))
}

/// Where files rest, as far as the system tells containers from machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// On a machine, or where nobody says that it is a container.
    Machine,
    /// In what this container alone writes, by that layer's name: it stays over a stop, and every other container of the
    /// same image has another one.
    Container(String),
    /// On what is mounted into a container, and carried from one to the next on purpose.
    Volume,
}

/// Why there is no keyring to be used without asking a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKeyring {
    /// Somebody would have to unlock it.
    Locked,
    /// There is none, for this reason.
    Missing(&'static str),
}

/// A descriptor for each of the sockets that may come over another: gRPC, HTTP and the containers next to the workspace.
pub const MOST_SOCKETS: usize = 3;
