//! The embedded issuer and upstream, and the demonstration that uses them.
