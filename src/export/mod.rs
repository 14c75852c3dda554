//! Spool to upstream.
