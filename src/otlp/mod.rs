//! What flows: the bytes of one OTLP export request, of one signal.
//!
//! Nothing in here does IO, and nothing decodes a whole request:
//! [`wire`] reads and writes just enough protobuf, [`check`] says whether bytes may be kept,
//! `schema` names the fields that the walkers know, [`json`] turns OTLP/JSON into the same bytes, [`split`] halves a request for a bisection,
//! and [`status`] speaks the answers of both protocols.
//! Profiles are refused on purpose: their dictionary is shared, so requests of theirs do not join by concatenation.

use bytes::Bytes;

pub mod budget;
pub mod check;
pub mod json;
pub(crate) mod schema;
pub mod split;
pub mod status;
pub mod wire;

#[cfg(test)]
mod samples;

/// The three kinds of telemetry that are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Items are spans.
    Traces,
    /// Items are data points.
    Metrics,
    /// Items are log records.
    Logs,
}

/// The bytes of one export request (`Export…ServiceRequest`, protobuf) of one signal.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Which of the three messages the bytes are.
    pub signal: Signal,
    /// `Export…ServiceRequest`, as it goes over the wire.
    pub bytes: Bytes,
}

impl Signal {
    /// In the order of the specification.
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    /// The name as it stands in URLs, settings and directories.
    pub const fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }

    /// The path below an OTLP/HTTP endpoint, without a leading slash (OTLP specification, "OTLP/HTTP Request").
    pub const fn http_path(self) -> &'static str {
        match self {
            Signal::Traces => "v1/traces",
            Signal::Metrics => "v1/metrics",
            Signal::Logs => "v1/logs",
        }
    }

    /// The gRPC method's path.
    pub const fn grpc_path(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}
