//! One test binary. `support` holds a builder for each outside party; the other modules are stories.

// Builders and stories unwrap: their panic is the report, outside of test functions too.
#![allow(clippy::unwrap_used)]

mod agent;
mod agent_promises;
mod cli;
mod doctor;
mod endure;
mod exchange;
mod exporter;
mod exporter_identity;
mod exporter_rows;
mod exporter_tls;
mod gitpod;
mod identity;
mod places;
mod pseudonyms;
mod receiver;
mod receiver_door;
mod receiver_grpc;
mod sources;
mod support;
mod tidy;
mod workspace;
