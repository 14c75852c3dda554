//! What a program or a server says when it is asked for a token: the token alone, a JSON object of one of the shapes
//! in use, or Kubernetes' ExecCredential. Nothing of what is not a token is ever repeated in an error.

use std::time::SystemTime;

use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::{MintError, Minted, token};
use crate::identity::{claims, timestamp, web};

/// Where a token stands in an object, the likeliest first.
const NAMES: [&str; 3] = ["token", "access_token", "id_token"];

/// JSON that is zeroed on drop: other tokens may stand beside the one that is wanted.
struct Parsed(Value);

/// A raw token, or a JSON object with one and perhaps with its end.
pub(super) fn read(content: &[u8], whence: &str) -> Result<Minted, MintError> {
    let trimmed = content.trim_ascii_start();
    if !trimmed.starts_with(b"{") {
        return token(content, whence).map(Minted::bare);
    }
    let mut parsed = Parsed::read(trimmed, whence)?;
    if parsed.0.get("kind").and_then(Value::as_str) == Some("ExecCredential") {
        return exec_credential(parsed, whence);
    }
    match NAMES.iter().find_map(|name| text(parsed.0.get_mut(*name))) {
        Some(found) => with_end(&found, parsed.0.as_object(), whence),
        // An error that came with a success may be over soon.
        None => Err(MintError::Transient(format!(
            "{whence} has no `token`, `access_token` or `id_token`"
        ))),
    }
}

/// The token at `pointer` (RFC 6901), with its end where that stands beside it.
pub(super) fn read_at(content: &[u8], pointer: &str, whence: &str) -> Result<Minted, MintError> {
    let mut parsed = Parsed::read(content, whence)?;
    let Some(found) = text(parsed.0.pointer_mut(pointer)) else {
        return Err(MintError::Transient(format!(
            "{whence} has no text at {pointer}: check identity.json_pointer"
        )));
    };
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    let beside = parsed.0.pointer(parent).and_then(Value::as_object);
    with_end(&found, beside, whence)
}

/// The token that stands under `name` in a server's answer; its `Date` comes along.
pub(crate) fn member(answer: &web::Answer, name: &str, whom: &str) -> Result<Minted, MintError> {
    let whence = format!("what {whom} answered");
    let Some(object) = answer.object() else {
        return Err(MintError::Transient(format!("{whence} is not a JSON object")));
    };
    let Some(found) = object.text(name) else {
        return Err(MintError::Transient(format!("{whence} has no `{name}`")));
    };
    Ok(Minted {
        date: answer.date,
        lifetime: object.get("expires_in").and_then(claims::lifetime),
        expires_at: ["expires_on", "expires_at", "expireTime"]
            .iter()
            .find_map(|name| object.get(name).and_then(end)),
        ..Minted::bare(token(found.as_bytes(), &whence)?)
    })
}

/// Asks, and takes nothing but a success. `advice` says what to look at where the answer blames us.
pub(super) async fn ask(request: reqwest::RequestBuilder, whom: &str, advice: &str) -> Result<web::Answer, MintError> {
    let answer = web::ask(request, whom).await.map_err(MintError::Transient)?;
    match answer.status {
        200..300 => Ok(answer),
        status @ 300..400 => Err(MintError::Transient(format!(
            "{whom} answered {status}, a redirect, which is never followed with a secret"
        ))),
        status @ (400..=407 | 409..=428) => Err(MintError::Transient(format!("{whom} answered {status}: {advice}"))),
        status => Err(MintError::transient(
            format!("{whom} answered {status}"),
            answer.retry_after,
        )),
    }
}

/// `client.authentication.k8s.io`: token and end stand in `status`. A client certificate is nothing that can be sent.
fn exec_credential(mut parsed: Parsed, whence: &str) -> Result<Minted, MintError> {
    let Some(found) = text(parsed.0.pointer_mut("/status/token")) else {
        return Err(MintError::Transient(format!(
            "{whence} is an ExecCredential without a token"
        )));
    };
    Ok(Minted {
        expires_at: parsed.0.pointer("/status/expirationTimestamp").and_then(end),
        ..Minted::bare(token(found.as_bytes(), whence)?)
    })
}

fn with_end(found: &str, object: Option<&Map<String, Value>>, whence: &str) -> Result<Minted, MintError> {
    let member = |name: &str| object?.get(name);
    Ok(Minted {
        lifetime: member("expires_in").and_then(claims::lifetime),
        expires_at: member("expires_at").and_then(end),
        ..Minted::bare(token(found.as_bytes(), whence)?)
    })
}

/// Seconds since 1970, or RFC 3339.
fn end(value: &Value) -> Option<SystemTime> {
    claims::numeric_date(value).or_else(|| timestamp::rfc3339(value.as_str()?))
}

/// Takes the text out, if it is one and not empty.
fn text(value: Option<&mut Value>) -> Option<Zeroizing<String>> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(Zeroizing::new(std::mem::take(text))),
        _ => None,
    }
}

impl Parsed {
    fn read(content: &[u8], whence: &str) -> Result<Parsed, MintError> {
        let parsed = serde_json::from_slice(content);
        parsed
            .map(Parsed)
            .map_err(|_| MintError::Transient(format!("{whence} is not valid JSON")))
    }
}

impl Drop for Parsed {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_end_beside_a_token_is_read_in_every_form_in_use() {
        for (end, seconds) in [
            (json!(1_800_000_000), Some(1_800_000_000)),
            (json!("1800000000"), Some(1_800_000_000)),
            (json!("2027-01-15T08:00:00Z"), Some(1_800_000_000)),
            (json!("soon"), None),
            (json!({}), None),
        ] {
            let answered = json!({ "token": "t", "expires_at": end }).to_string();
            let minted = read(answered.as_bytes(), "the answer").expect("a token");
            let since = minted.expires_at.map(|end| end.duration_since(SystemTime::UNIX_EPOCH));
            assert_eq!(
                since.map(|since| since.expect("after 1970").as_secs()),
                seconds,
                "{end}"
            );
        }
    }

    #[test]
    fn a_pointer_that_leads_nowhere_or_to_no_text_names_the_setting() {
        let answered = br#"{"a": {"b": ["t", 1, "", null]}, "": "root"}"#;
        assert!(read_at(answered, "/a/b/0", "the answer").is_ok());
        assert!(read_at(answered, "/", "the answer").is_ok());
        for pointer in ["/a/b/1", "/a/b/2", "/a/b/3", "/a/b/9", "/a", "/x/y", "/a/b/0/c"] {
            let error = read_at(answered, pointer, "the answer").expect_err("no token");
            assert!(error.to_string().contains("identity.json_pointer"), "{pointer}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_answered_makes_the_reader_panic_or_is_repeated(
            content in prop_oneof![
                any::<Vec<u8>>(),
                r#"\{("(token|access_token|kind|status|expires_in|expires_at)":("[ -~]{0,20}"|-?[0-9e.]{1,9}|\{\}),?){0,4}\}"#
                    .prop_map(String::into_bytes),
            ],
            pointer in "(/[a-z0-9~]{0,3}){0,3}",
        ) {
            for outcome in [read(&content, "it"), read_at(&content, &pointer, "it")] {
                if let Err(error) = outcome {
                    let known = ["it ", "identity.json_pointer"];
                    prop_assert!(known.iter().any(|start| error.to_string().contains(start)));
                    prop_assert!(error.to_string().len() < 120 + pointer.len());
                }
            }
        }
    }
}
