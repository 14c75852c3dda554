//! OTLP/JSON to the protobuf bytes of the same request.
use super::{Signal, check::Malformed};
use bytes::Bytes;

pub fn to_protobuf(_signal: Signal, _json: &[u8]) -> Result<Bytes, Malformed> {
    unimplemented!()
}
