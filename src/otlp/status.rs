//! The answers of both protocols: `google.rpc.Status`, `RetryInfo`, partial success.
use super::Signal;
use std::time::Duration;

/// A `google.rpc.Status` with the details that OTLP names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// A `google.rpc.Code`.
    pub code: i32,
    pub message: String,
    /// `google.rpc.RetryInfo.retry_delay`, where there is one.
    pub retry_delay: Option<Duration>,
    /// A `google.rpc.BadRequest` detail's first description, where there is one.
    pub bad_request: Option<String>,
}

/// An `Export…ServiceResponse`. Default: full success, `partial_success` unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub rejected: u64,
    pub message: String,
}

impl Status {
    pub fn to_protobuf(&self) -> Vec<u8> {
        unimplemented!()
    }
    pub fn to_json(&self) -> String {
        unimplemented!()
    }
    pub fn from_protobuf(_bytes: &[u8]) -> Option<Status> {
        unimplemented!()
    }
}

impl Response {
    pub fn to_protobuf(&self) -> Vec<u8> {
        unimplemented!()
    }
    pub fn to_json(&self, _signal: Signal) -> String {
        unimplemented!()
    }
    pub fn from_protobuf(_bytes: &[u8]) -> Option<Response> {
        unimplemented!()
    }
}
