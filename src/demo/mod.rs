//! The embedded issuer and upstream, and the demonstration that uses them.
//!
//! Nothing here is used by an agent at work, and none of it listens anywhere but on loopback.

use std::{io, time::Duration};

mod bearer;
pub mod issuer;
mod reply;
pub mod serve;
pub mod upstream;

/// A fresh token for `audience` from the embedded issuer at `issuer`.
pub async fn token(issuer: &str, audience: &str) -> io::Result<String> {
    let url = issuer::token_url(issuer, audience);
    let response = client()?.get(url).send().await.map_err(io::Error::other)?;
    let response = response.error_for_status().map_err(io::Error::other)?;
    response.text().await.map_err(io::Error::other)
}

/// A client for loopback: no proxy, and no long waits.
pub(crate) fn client() -> io::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(io::Error::other)
}
