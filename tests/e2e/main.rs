//! The promises against real parts: unmodified programs with OpenTelemetry's SDKs and tools, through the real
//! executable in what looks like a Gitpod workspace, to upstreams that check tokens. `run.sh` installs the parts.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod collector;
mod embedded;
mod gateway;
mod output;
mod sender;
mod transcode;
mod workspace;
