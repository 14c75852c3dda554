//! Claims to a principal, by a table per issuer.
