//! Judges what a source gave, before anything of it is published: whose it is, and when it ends. Pure.

use std::time::{Duration, SystemTime};

use super::{
    Principal,
    claims::{Attributes, Claims},
    clock::{Expiry, Now, Skew},
    secret::Secret,
    source::{Manner, MintError, Minted},
};
use crate::workspace::Trust;

/// The lifetime of a token that says nothing of its end, from a source that mints: long lives are the exception there.
pub(super) const ASSUMED_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What a token is held against.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// The only issuer whose tokens are taken, if set.
    pub issuer: Option<String>,
    pub attributes: Attributes,
    pub pseudonym_key: Secret,
    /// For a token that names nobody.
    pub fallback: Principal,
    pub manner: Manner,
}

/// A credential in waiting.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// None only for `identity.credential = "none"`.
    pub token: Option<Secret>,
    /// Whom it speaks for.
    pub principal: Principal,
    /// None where nothing says when it ends.
    pub expiry: Option<Expiry>,
}

/// `asked` and `now` are readings from before and after the attempt: the token was minted between them.
pub(super) fn admit(minted: Minted, terms: &Terms, asked: Now, now: Now) -> Result<Admitted, MintError> {
    let claims = minted.token.as_ref().and_then(|token| Claims::decode(token.expose()));
    if let (Some(wanted), Some(claims)) = (&terms.issuer, &claims)
        && claims.text("iss").as_deref() != Some(wanted)
    {
        return Err(MintError::Config(format!(
            "the token is of another issuer than identity.issuer ({wanted})"
        )));
    }
    let expiry = match &minted.token {
        Some(_) => expiry(&minted, claims.as_ref(), terms.manner, asked, now),
        None => None,
    };
    if let Some(expiry) = expiry
        && !expiry.is_usable(now)
    {
        return Err(MintError::Transient(
            "the token had already expired when it came: it is an old one, or this machine's clock is ahead of the issuer's"
                .to_owned(),
        ));
    }
    let principal = claims
        .and_then(|claims| claims.principal())
        .or_else(|| before_exchange(&minted))
        .unwrap_or_else(|| terms.fallback.clone())
        .with_attributes(terms.attributes, &terms.pseudonym_key);
    Ok(Admitted {
        token: minted.token,
        principal,
        expiry,
    })
}

/// The person of the token that was exchanged, if the new one names nobody. Upstream cannot check that any more, so it
/// is the platform's word.
fn before_exchange(minted: &Minted) -> Option<Principal> {
    let principal = minted.subject.as_ref()?.principal()?;
    Some(Principal {
        trust: Trust::Platform,
        ..principal
    })
}

/// The earliest of what the token says itself (`exp`) and what was told beside it; else by assumption, where the source
/// mints.
fn expiry(minted: &Minted, claims: Option<&Claims>, manner: Manner, asked: Now, now: Now) -> Option<Expiry> {
    let issued = claims.and_then(|claims| claims.date("iat"));
    let ends = [claims.and_then(|claims| claims.date("exp")), minted.expires_at];
    if let Some(end) = ends.into_iter().flatten().min() {
        let skew = skew(minted, issued, asked, now);
        let mut expiry = Expiry::new(end, skew, now);
        // A skew that is too small to be believed must not lengthen anything.
        if let Some(whole) = issued.and_then(|issued| end.duration_since(issued).ok()) {
            expiry.lifetime = expiry.lifetime.min(whole);
        }
        if let Some(told) = minted.lifetime {
            // Counted from the asking, which is never later than the minting.
            let passed = now.boot.saturating_sub(asked.boot);
            expiry.lifetime = expiry.lifetime.min(told.saturating_sub(passed));
        }
        return Some(expiry);
    }
    match minted.lifetime {
        Some(told) => Some(Expiry::lasting(told, asked)),
        None => matches!(manner, Manner::Mint | Manner::Cached).then(|| Expiry::lasting(ASSUMED_LIFETIME, asked)),
    }
}

/// From the issuer's `Date`; else from `iat`, which is the issuer's time if the token is fresh, and its least
/// possible time in any case.
fn skew(minted: &Minted, issued: Option<SystemTime>, asked: Now, now: Now) -> Skew {
    if let Some(date) = minted.date {
        return bracketed(date, asked, now);
    }
    match issued.map(|issued| bracketed(issued, asked, now)) {
        Some(skew) if minted.fresh || !skew.is_behind() => skew,
        _ => Skew::default(),
    }
}

/// A time between the two readings is no skew: the attempt took that long.
fn bracketed(theirs: SystemTime, asked: Now, now: Now) -> Skew {
    if theirs < asked.wall {
        Skew::between(theirs, asked.wall)
    } else if theirs > now.wall {
        Skew::between(theirs, now.wall)
    } else {
        Skew::default()
    }
}

#[cfg(test)]
mod tests;
