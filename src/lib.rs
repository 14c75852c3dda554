//! `tagalong`: a workspace's telemetry, tagged with who and where, never lost, under a credential that rotates by itself.
//!
//! ```text
//!  programs ──OTLP──▶ source ─▶ intake ─▶ spool ══ disk ══▶ export ─▶ upstream
//!                                 ▲                           ▲
//!                      workspace (where)             identity (who, and proof)
//!
//!  agent builds and supervises all of it; cli starts it and asks it.
//! ```
//!
//! The modules, in the order in which they are best read.

#![forbid(unsafe_code)]
// Not of tests and benches, where nothing can be reached.
#![warn(unreachable_pub)]

pub mod agent;
pub mod cli;
pub mod config;
pub mod demo;
pub mod export;
pub mod identity;
pub mod intake;
pub mod otlp;
pub mod pieces;
pub mod seldom;
pub mod setup;
pub mod source;
pub mod spool;
pub mod stamp;
pub mod system;
pub mod view;
pub mod workspace;
