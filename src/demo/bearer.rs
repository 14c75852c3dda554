//! Whether a bearer is right: signature, issuer, audience and expiry, with no leeway at all.
//!
//! Strict on purpose: an agent that sends a token one second too late is to be caught. Keys are fetched from the
//! issuer's JWKS and again whenever a token names a key that is not there.

use std::{io, sync::Mutex};

use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk, jwk::JwkSet};
use serde::Deserialize;

use super::serve::lock;

/// Checks the bearers of one issuer for one audience.
#[derive(Debug)]
pub(super) struct Verifier {
    issuer: String,
    audience: String,
    client: reqwest::Client,
    keys: Mutex<Option<JwkSet>>,
}

/// What is known of a bearer that was right.
#[derive(Debug)]
pub(super) struct Verified {
    /// SHA-256 of the token: tells tokens apart without keeping one.
    pub(super) hash: [u8; 32],
    pub(super) person: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    user_id: Option<String>,
}

impl Verifier {
    pub(super) fn new(issuer: String, audience: String) -> io::Result<Verifier> {
        Ok(Verifier {
            issuer,
            audience,
            client: super::client()?,
            keys: Mutex::new(None),
        })
    }

    pub(super) fn forget_keys(&self) {
        *lock(&self.keys) = None;
    }

    /// What the bearer says, or in words why it is refused.
    pub(super) async fn verify(&self, headers: &HeaderMap) -> Result<Verified, String> {
        let value = headers.get(header::AUTHORIZATION).ok_or("there is no bearer token")?;
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or("the Authorization header holds no bearer token")?;
        let kid = jsonwebtoken::decode_header(token)
            .map_err(|error| format!("the bearer is no JWT: {error}"))?
            .kid
            .ok_or("the token names no key")?;
        let jwk = self.key(&kid).await?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|error| format!("the key is of no use: {error}"))?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = 0;
        // RFC 7519, 4.1.4: "on or after" the expiry a token must not be accepted; the library alone would say "after".
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| format!("the token is refused: {error}"))?
            .claims;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Ok(Verified {
            hash,
            person: claims.user_id.unwrap_or(claims.sub),
        })
    }

    async fn key(&self, kid: &str) -> Result<Jwk, String> {
        if let Some(jwk) = self.known(kid) {
            return Ok(jwk);
        }
        let keys = self
            .fetch()
            .await
            .map_err(|error| format!("the issuer's keys cannot be had: {error}"))?;
        *lock(&self.keys) = Some(keys);
        self.known(kid).ok_or_else(|| "the issuer has no such key".to_owned())
    }

    fn known(&self, kid: &str) -> Option<Jwk> {
        let keys = lock(&self.keys);
        keys.as_ref()?.find(kid).cloned()
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let response = self
            .client
            .get(format!("{}/keys", self.issuer))
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.to_string())?;
        let bytes = response.bytes().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }
}
