//! What upstream says, without the secrets that it was sent.
//!
//! Some gateways put the header that they refuse into their refusal; and what upstream says is logged, shown by `status`
//! and kept beside what is set aside, where no token may be (promise 7). So it is taken out before an answer is judged,
//! and before it is cut to what is shown: of a secret that was cut, too little may be left to be known by.

use std::{collections::HashMap, iter};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

use super::retry::Answer;
use crate::{identity::secret::Secret, stamp::redact::REDACTED};

/// A secret is known by any so many of its bytes in a row, because upstream may cut it; a shorter one by all of them.
const TELLING: usize = 16;

/// A shorter value of a header is no secret but a tenant's number or a switch, and part of many a word.
const SHORTEST: usize = 8;

/// Takes the token, the values of configured headers and those of the endpoint's query out of all that is said.
pub(super) fn conceal(answer: &mut Answer, token: Option<&Secret>, headers: &[(String, String)], url: &Url) {
    let (said, response) = match answer {
        Answer::Http { message, response, .. } => (message, response.as_mut()),
        Answer::Grpc { message, response, .. } => (message, Some(response)),
        Answer::Nothing { reason } => (reason, None),
    };
    let texts = iter::once(said).chain(response.map(|response| &mut response.message));
    let texts: Vec<&mut String> = texts.filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        return;
    }
    let plain: Vec<&str> = secrets(token, headers, url).collect();
    let encoded: Vec<Zeroizing<String>> = plain.iter().copied().flat_map(in_base64).collect();
    let hide = |text: &str| {
        let all = plain
            .iter()
            .copied()
            .chain(encoded.iter().map(|secret| secret.as_str()));
        all.fold(None, |hidden: Option<String>, secret| {
            without(hidden.as_deref().unwrap_or(text), secret).or(hidden)
        })
    };
    for text in texts {
        // They are not shown, so what they part here would be whole again there.
        text.retain(|letter| !letter.is_control());
        if let Some(hidden) = hide(text) {
            *text = hidden;
        }
        if text.contains('%') {
            let mut decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
            decoded.retain(|letter| !letter.is_control());
            if let Some(hidden) = hide(&decoded) {
                *text = hidden;
            }
        }
    }
}

fn secrets<'a>(
    token: Option<&'a Secret>,
    headers: &'a [(String, String)],
    url: &'a Url,
) -> impl Iterator<Item = &'a str> {
    let token = token.map(Secret::expose).filter(|token| !token.is_empty());
    // Often a scheme stands before the secret, and is not repeated with it.
    let values = headers
        .iter()
        .flat_map(|(_, value)| iter::once(value.as_str()).chain(value.split_whitespace()));
    let query = url.query().into_iter().flat_map(|query| query.split(['&', '=']));
    let configured = values.chain(query).filter(|value| value.len() >= SHORTEST);
    token.into_iter().chain(configured)
}

/// What of a secret is the same in base64 whatever stands before and after it: three bytes become four letters, so there
/// are three ways. A short one would be too little to be known by.
fn in_base64(secret: &str) -> impl Iterator<Item = Zeroizing<String>> {
    let starts = if secret.len() < TELLING { 0..0 } else { 0..3 };
    starts.map(|start| {
        let (whole, _) = secret.as_bytes()[start..].as_chunks::<3>();
        Zeroizing::new(BASE64_STANDARD.encode(whole.as_flattened()))
    })
}

/// The text without each run of the secret, to the end of the word: from somewhere on it may be written in another way.
/// `None` if there is none.
fn without(text: &str, secret: &str) -> Option<String> {
    let secret = secret.as_bytes();
    let telling = secret.len().min(TELLING);
    let parts: HashMap<&[u8], usize> = secret.windows(telling).zip(0..).collect();
    let find = |text: &str| {
        text.char_indices()
            .find_map(|(at, _)| Some((at, *parts.get(text.as_bytes().get(at..at + telling)?)?)))
    };
    let mut rest = text;
    let mut out = String::new();
    while let Some((at, part)) = find(rest) {
        out.push_str(&rest[..at]);
        out.push_str(REDACTED);
        let run = &rest[at..];
        let same = run.bytes().zip(&secret[part..]).take_while(|(a, b)| a == *b).count();
        let after = &run[run.floor_char_boundary(same)..];
        let ends = |letter: char| letter.is_whitespace() || "\"'`<>()[]{},;".contains(letter);
        rest = &after[after.find(ends).unwrap_or(after.len())..];
    }
    (!out.is_empty()).then(|| out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concealed(said: &str, token: &str) -> String {
        let mut answer = Answer::Nothing {
            reason: said.to_owned(),
        };
        let headers = [("a", "Basic YWRhOmh1bnRlcjI="), ("b", "7"), ("c", "tenant-one")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = Url::parse("https://upstream.example/?key=canary-of-the-query").unwrap();
        conceal(&mut answer, Some(&Secret::new(token.to_owned())), &headers, &url);
        match answer {
            Answer::Nothing { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_upstream_was_sent_in_confidence_is_taken_out() {
        let token = "canary-0123456789/abcdef";
        for (said, wanted) in [
            ("'Bearer canary-0123456789/abcdef'", "'Bearer [redacted]'"),
            (
                "canary-0123456789/abcdef, and canary-0123456789",
                "[redacted], and [redacted]",
            ),
            (
                "no signature 0123456789/abcdef is known",
                "no signature [redacted] is known",
            ),
            ("cut to canary-012345678... here", "cut to [redacted] here"),
            (r"canary-0123456789\/abcdef and so on", "[redacted] and so on"),
            ("canary-\n0123456789/\r\nabcdef", "[redacted]"),
            ("a: Basic YWRhOmh1bnRlcjI=", "a: [redacted]"),
            ("bad credentials (YWRhOmh1bnRlcjI=)", "bad credentials ([redacted])"),
            (
                "no POST to /?key=canary-of-the-query&x=1",
                "no POST to /?key=[redacted]",
            ),
            ("7 items of tenant-one, 17 in all", "7 items of [redacted], 17 in all"),
            (
                "canary-0123 is too little to be known by, ü",
                "canary-0123 is too little to be known by, ü",
            ),
        ] {
            assert_eq!(concealed(said, token), wanted);
        }
    }

    #[test]
    fn a_token_is_taken_out_in_other_writings_too() {
        let token = "ca/na+ry=0/1+2=345/6789ab";
        for (said, wanted) in [
            ("token=ca%2Fna%2Bry%3D0%2F1%2B2%3D345%2F6789ab&x", "token=[redacted]"),
            ("token=ca%2Fna%2Bry%3D0%0A%2F1%2B2%3D345%2F6789ab", "token=[redacted]"),
            (
                "sent QmVhcmVyIGNhL25hK3J5PTAvMSsyPTM0NS82Nzg5YWI=, no",
                "sent QmVhcmVyIGNh[redacted], no",
            ),
            (
                "sent IEJlYXJlciBjYS9uYStyeT0wLzErMj0zNDUvNjc4OWFi, no",
                "sent IEJlYXJlciBj[redacted], no",
            ),
            ("sent Y2EvbmErcnk9MC8xKzI9MzQ1LzY3ODlhYg, no", "sent [redacted], no"),
            ("50% of 100%25 is fine", "50% of 100%25 is fine"),
        ] {
            assert_eq!(concealed(said, token), wanted);
        }
    }

    #[test]
    fn a_short_token_is_taken_out_whole_and_an_empty_one_is_none() {
        assert_eq!(
            concealed("no hunter2 here, nor hunter", "hunter2"),
            "no [redacted] here, nor hunter"
        );
        assert_eq!(concealed("nothing", ""), "nothing");
    }
}
