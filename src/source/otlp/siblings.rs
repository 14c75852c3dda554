//! Containers next to the workspace: they cannot reach its loopback, so they get an address of their own and a key.
//!
//! The kernel's table knows nothing of another network namespace, so at this address it is not asked whose a connection
//! is: whoever has the workspace's key may send, and nobody else, the workspace's own user included. A key stands in no
//! log, and it says nothing about who somebody is: what comes in here is stamped like everything else.

use std::{fmt, net::SocketAddr};

use http::{HeaderMap, HeaderName};

use super::{answer::Refusal, refusals::Cause};

/// The header that the key comes in.
pub const HEADER: &str = "tagalong-key";
const NAME: HeaderName = HeaderName::from_static(HEADER);

/// Where siblings send to, and what they have to know.
#[derive(Clone, Debug)]
pub struct Siblings {
    /// An address that they can reach; another port is taken if this one is held.
    pub address: SocketAddr,
    /// What they have to show.
    pub key: Key,
}

/// A secret of this workspace's own.
#[derive(Clone)]
pub struct Key(String);

// === impl Key ===

impl Key {
    /// At least 16 bytes long, or it could be guessed.
    pub fn new(key: String) -> Option<Key> {
        (key.len() >= 16).then_some(Key(key))
    }

    /// Whether a request brings it. How long that takes says nothing about the key.
    pub(super) fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut given = headers.get_all(NAME).iter();
        let same = |value: &[u8]| aws_lc_rs::constant_time::verify_slices_are_equal(value, self.0.as_bytes()).is_ok();
        match (given.next(), given.next()) {
            (Some(value), None) if same(value.as_bytes()) => Ok(()),
            _ => Err(Refusal::forbidden(
                Cause::Key,
                "telemetry is taken here with this workspace's key only: `tagalong env --for compose` prints it",
            )),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_and_only_one_opens() {
        let key = Key::new("0123456789abcdef".to_owned()).expect("long enough");
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(NAME, http::HeaderValue::from_static(value));
            }
            key.admits(&headers).is_ok()
        };
        assert!(with(&["0123456789abcdef"]));
        for wrong in [
            &[][..],
            &[""],
            &["0123456789abcde"],
            &["0123456789abcdef0"],
            &["wrong", "0123456789abcdef"],
        ] {
            assert!(!with(wrong), "{wrong:?}");
        }
        assert!(Key::new("short".to_owned()).is_none());
        assert_eq!(format!("{key:?}"), "Key(...)");
    }
}
