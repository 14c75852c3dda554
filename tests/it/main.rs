//! One test binary. `support` holds a builder for each outside party; the other modules are stories.

// Builders and stories unwrap: their panic is the report, outside of test functions too.
#![allow(clippy::unwrap_used)]
// A story that cannot be told here says so, and one that measures says what.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod agent;
mod agent_promises;
mod cli;
mod descriptors;
mod doctor;
mod endure;
mod exchange;
mod exporter;
mod exporter_identity;
mod exporter_rows;
mod exporter_tls;
mod gitpod;
mod identity;
mod lifecycle;
mod login;
mod places;
mod pseudonyms;
mod receiver;
mod receiver_door;
mod receiver_grpc;
mod refresh;
mod sharing;
mod siblings;
mod sources;
mod streams;
mod support;
mod tidy;
mod turns;
mod workspace;
