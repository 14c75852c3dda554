//! Halving a request: by resource, then by scope, then by item.
use super::Signal;
use bytes::Bytes;

/// Two requests that hold, together and in order, what this one holds; `None` if it is down to a single item.
pub fn halve(_signal: Signal, _request: &Bytes) -> Option<(Bytes, Bytes)> {
    unimplemented!()
}
