//! The answers of both protocols: `google.rpc.Status`, `RetryInfo`, partial success.
//!
//! Written and read by hand over [`wire`], because they are four tiny messages.
//! Details other than `RetryInfo` and `BadRequest` are skipped, and of a `BadRequest` only the first description is
//! kept. Answers are read leniently: what upstream adds to them must not turn an answer into none.

use std::time::Duration;

use serde::Serialize;

use super::Signal;
use super::wire::{self, Fields, Value, WireError, WireType};

/// A `google.rpc.Status` with the details that OTLP names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A `google.rpc.Code`.
    pub code: i32,
    /// `error_message`, for people; may be there without any rejection (a warning).
    pub message: String,
    /// `google.rpc.RetryInfo.retry_delay`, where there is one.
    pub retry_delay: Option<Duration>,
    /// A `google.rpc.BadRequest` detail's first description, where there is one.
    pub bad_request: Option<String>,
}

/// An `Export…ServiceResponse`. Default: full success, `partial_success` unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Items that were not kept: spans, data points or log records.
    pub rejected: u64,
    /// Why; or a warning, if none was rejected (R8).
    pub message: String,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// The longest `google.protobuf.Duration`, which is ten thousand years.
const MAX_DURATION: Duration = Duration::from_secs(315_576_000_000);

// === impl Status ===

impl Status {
    /// The protobuf form, for `grpc-status-details-bin` and for HTTP bodies (R16).
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.code != 0 {
            wire::put_varint_field(&mut out, 1, i64::from(self.code) as u64);
        }
        put_string(&mut out, 2, &self.message);
        if let Some(delay) = self.retry_delay {
            let mut retry_info = Vec::new();
            wire::put_len_delimited(&mut retry_info, 1, &duration_to_protobuf(delay));
            put_any(&mut out, RETRY_INFO, &retry_info);
        }
        if let Some(description) = &self.bad_request {
            let mut violation = Vec::new();
            put_string(&mut violation, 2, description);
            let mut bad_request = Vec::new();
            wire::put_len_delimited(&mut bad_request, 1, &violation);
            put_any(&mut out, BAD_REQUEST, &bad_request);
        }
        out
    }

    /// The proto3 JSON form, for the bodies of OTLP/JSON (R14, R16).
    pub fn to_json(&self) -> String {
        let retry_info = self.retry_delay.map(|delay| Detail::RetryInfo {
            retry_delay: duration_to_json(delay),
        });
        let bad_request = self.bad_request.as_deref().map(|description| Detail::BadRequest {
            field_violations: [Violation { description }],
        });
        to_json_string(&StatusJson {
            code: self.code,
            message: &self.message,
            details: retry_info.into_iter().chain(bad_request).collect(),
        })
    }

    /// Reads the protobuf form; `None` if the bytes are no such message, an HTML page for example.
    pub fn from_protobuf(bytes: &[u8]) -> Option<Status> {
        Status::read(bytes).ok()
    }

    fn read(bytes: &[u8]) -> Result<Status, Unreadable> {
        let mut status = Status::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match (field.number, field.value) {
                // An int32 travels sign-extended to 64 bits.
                (1, Value::Varint(code)) => status.code = code as i32,
                (2, Value::Bytes(message)) => status.message = text(message),
                (3, Value::Bytes(any)) => status.read_detail(any)?,
                (1..=3, _) => return Err(Unreadable),
                _ => {}
            }
        }
        Ok(status)
    }

    fn read_detail(&mut self, any: &[u8]) -> Result<(), Unreadable> {
        let type_url = last_bytes(any, 1)?.unwrap_or_default();
        let value = last_bytes(any, 2)?.unwrap_or_default();
        // The host in front of the last slash has no meaning (protobuf, `Any.type_url`).
        match type_url.rsplit(|&byte| byte == b'/').next() {
            Some(b"google.rpc.RetryInfo") => self.retry_delay = last_bytes(value, 1)?.map(read_duration).transpose()?,
            Some(b"google.rpc.BadRequest") => {
                if let Some(violation) = first_bytes(value, 1)? {
                    self.bad_request = Some(text(last_bytes(violation, 2)?.unwrap_or_default()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

// === impl Response ===

impl Response {
    /// The protobuf form; empty bytes for full success (R6).
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.is_full_success() {
            let mut partial = Vec::new();
            if self.rejected != 0 {
                wire::put_varint_field(&mut partial, 1, self.rejected_i64() as u64);
            }
            put_string(&mut partial, 2, &self.message);
            wire::put_len_delimited(&mut out, 1, &partial);
        }
        out
    }

    /// The proto3 JSON form; `{}` for full success (R6).
    pub fn to_json(&self, signal: Signal) -> String {
        if self.is_full_success() {
            return "{}".to_owned();
        }
        // An int64 is a string in JSON (J5), and zero is left out as any default value is.
        let rejected = (self.rejected != 0).then(|| self.rejected_i64().to_string());
        let mut partial = PartialSuccessJson {
            error_message: &self.message,
            ..PartialSuccessJson::default()
        };
        match signal {
            Signal::Traces => partial.rejected_spans = rejected,
            Signal::Metrics => partial.rejected_data_points = rejected,
            Signal::Logs => partial.rejected_log_records = rejected,
        }
        to_json_string(&ResponseJson {
            partial_success: partial,
        })
    }

    /// Reads the protobuf form; `None` if the bytes are no such message. An empty `partial_success` is full success
    /// (E5), and a negative count is read as zero.
    pub fn from_protobuf(bytes: &[u8]) -> Option<Response> {
        Response::read(bytes).ok()
    }

    fn read(bytes: &[u8]) -> Result<Response, Unreadable> {
        let mut response = Response::default();
        for field in Fields::new(bytes) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(partial)) => response.read_partial(partial)?,
                (1, _) => return Err(Unreadable),
                _ => {}
            }
        }
        Ok(response)
    }

    fn read_partial(&mut self, partial: &[u8]) -> Result<(), Unreadable> {
        for field in Fields::new(partial) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Varint(rejected)) => self.rejected = u64::try_from(rejected as i64).unwrap_or(0),
                (2, Value::Bytes(message)) => self.message = text(message),
                (1 | 2, _) => return Err(Unreadable),
                _ => {}
            }
        }
        Ok(())
    }

    const fn is_full_success(&self) -> bool {
        self.rejected == 0 && self.message.is_empty()
    }

    fn rejected_i64(&self) -> i64 {
        i64::try_from(self.rejected).unwrap_or(i64::MAX)
    }
}

// === JSON shapes ===

#[derive(Serialize)]
struct StatusJson<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    code: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'a> {
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo")]
    RetryInfo {
        #[serde(rename = "retryDelay")]
        retry_delay: String,
    },
    #[serde(rename = "type.googleapis.com/google.rpc.BadRequest")]
    BadRequest {
        #[serde(rename = "fieldViolations")]
        field_violations: [Violation<'a>; 1],
    },
}

#[derive(Serialize)]
struct Violation<'a> {
    description: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseJson<'a> {
    partial_success: PartialSuccessJson<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartialSuccessJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_spans: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_data_points: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_log_records: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error_message: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(code: &i32) -> bool {
    *code == 0
}

fn to_json_string(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and integers always have a JSON form")
}

/// `google.protobuf.Duration` in JSON: seconds with 0, 3, 6 or 9 digits behind the point, and an `s`.
fn duration_to_json(delay: Duration) -> String {
    let delay = delay.min(MAX_DURATION);
    let (seconds, nanos) = (delay.as_secs(), delay.subsec_nanos());
    match nanos {
        0 => format!("{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => format!("{seconds}.{:06}s", nanos / 1_000),
        _ => format!("{seconds}.{nanos:09}s"),
    }
}

// === protobuf parts ===

/// The bytes are not the message that was asked for; why does not matter to anyone.
struct Unreadable;

impl From<WireError> for Unreadable {
    fn from(_: WireError) -> Unreadable {
        Unreadable
    }
}

fn put_string(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        wire::put_len_delimited(out, number, text.as_bytes());
    }
}

/// Appends one of `Status.details`.
fn put_any(out: &mut Vec<u8>, type_url: &str, value: &[u8]) {
    let mut any = Vec::new();
    put_string(&mut any, 1, type_url);
    wire::put_len_delimited(&mut any, 2, value);
    wire::put_len_delimited(out, 3, &any);
}

fn duration_to_protobuf(delay: Duration) -> Vec<u8> {
    let delay = delay.min(MAX_DURATION);
    let mut out = Vec::new();
    for (number, value) in [(1, delay.as_secs()), (2, u64::from(delay.subsec_nanos()))] {
        if value != 0 {
            wire::put_tag(&mut out, number, WireType::Varint);
            wire::put_varint(&mut out, value);
        }
    }
    out
}

/// A negative delay is none at all; more than [`MAX_DURATION`] is cut.
fn read_duration(bytes: &[u8]) -> Result<Duration, Unreadable> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    for field in Fields::new(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(value)) => seconds = value as i64,
            (2, Value::Varint(value)) => nanos = value as i64,
            (1 | 2, _) => return Err(Unreadable),
            _ => {}
        }
    }
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let nanos = u64::try_from(nanos).unwrap_or(0).min(999_999_999);
    Ok(Duration::from_secs(seconds.min(MAX_DURATION.as_secs())) + Duration::from_nanos(nanos))
}

fn last_bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, Unreadable> {
    let mut last = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == number {
            last = Some(field.bytes().ok_or(Unreadable)?);
        }
    }
    Ok(last)
}

fn first_bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, Unreadable> {
    for field in Fields::new(message) {
        let field = field?;
        if field.number == number {
            return field.bytes().ok_or(Unreadable).map(Some);
        }
    }
    Ok(None)
}

/// For people. Whoever shortens a message may cut a character in two (R4), and the rest of the answer counts all the same.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
