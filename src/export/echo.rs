//! What upstream says, without the secrets that it was sent.
//!
//! Some gateways put the header that they refuse into their refusal; and what upstream says is logged, shown by `status`
//! and kept beside what is set aside, where no token may be (promise 7). So it is taken out before an answer is judged,
//! and before it is cut to what is shown: of a secret that was cut, too little may be left to be known by.

use std::iter;

use url::Url;

use super::retry::Answer;
use crate::{identity::secret::Secret, stamp::redact::REDACTED};

/// A secret is known by so many of its first bytes, because upstream may cut it; a shorter one by all of them.
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
    for text in texts.filter(|text| !text.is_empty()) {
        // They are not shown, so what they part here would be whole again there.
        text.retain(|letter| !letter.is_control());
        for secret in secrets(token, headers, url) {
            if let Some(without) = without(text, secret) {
                *text = without;
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

/// The text without each run of the secret, to the end of the word: from somewhere on it may be written in another way.
/// `None` if there is none.
fn without(text: &str, secret: &str) -> Option<String> {
    let telling = &secret[..secret.floor_char_boundary(TELLING)];
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find(telling) {
        out.push_str(&rest[..at]);
        out.push_str(REDACTED);
        let run = &rest[at..];
        let same = run.bytes().zip(secret.bytes()).take_while(|(a, b)| a == b).count();
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
    fn a_short_token_is_taken_out_whole_and_an_empty_one_is_none() {
        assert_eq!(
            concealed("no hunter2 here, nor hunter", "hunter2"),
            "no [redacted] here, nor hunter"
        );
        assert_eq!(concealed("nothing", ""), "nothing");
    }
}
