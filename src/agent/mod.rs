//! The composition root and supervisor.
