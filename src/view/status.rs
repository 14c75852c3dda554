//! The contract of `status --json`.
