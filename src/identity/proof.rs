//! How a confidential client proves that it is itself: with a secret (RFC 6749 section 2.3.1).
//!
//! The secret rests in a file of the user's and nowhere else. It is read anew for each request, so that a new one is
//! taken without a restart, and it is sent in the way that the issuer says it takes: whoever guesses is refused by half
//! of the issuers. Where there is no file the client is a public one, and nothing here is done.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    secret::Secret,
    source::{MintError, file},
};

const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";

/// A client's secret, ready to be sent.
#[derive(Clone, Debug)]
pub struct Proof {
    id: String,
    secret: Secret,
    goes: Goes,
}

/// In which part of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// `client_secret_basic`: `Authorization: Basic`.
    Header,
    /// `client_secret_post`: a parameter of the form.
    Form,
}

impl Proof {
    /// The proof for the client `id`, from the file that its secret is in; none without a file. `methods` is the issuer's
    /// `token_endpoint_auth_methods_supported`, empty where it does not say; none where nobody was asked.
    ///
    /// # Errors
    /// The file cannot be read or holds no secret, or the issuer takes no client secrets.
    pub async fn of(id: &str, file: Option<&Path>, methods: Option<&[String]>) -> Result<Option<Proof>, MintError> {
        let Some(path) = file else {
            return Ok(None);
        };
        let goes = Goes::by(methods).ok_or_else(|| {
            MintError::Config(
                "the issuer takes no client secrets: let the client log in with one there, or take \
                 identity.client_secret_file out"
                    .to_owned(),
            )
        })?;
        let read = file::read(path).await.map_err(|error| {
            let why = error
                .to_string()
                .replacen("the token file", "the client's secret in", 1);
            MintError::transient(why, None)
        })?;
        Ok(read.token.map(|secret| Proof {
            id: id.to_owned(),
            secret,
            goes,
        }))
    }

    /// What it adds to the form.
    pub(super) fn form(&self) -> Option<(&'static str, &str)> {
        (self.goes == Goes::Form).then(|| ("client_secret", self.secret.expose()))
    }

    /// What it adds to the headers.
    pub(super) fn header(&self) -> Option<http::HeaderValue> {
        if self.goes == Goes::Form {
            return None;
        }
        let encode = |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
        let secret = Zeroizing::new(encode(self.secret.expose()));
        let pair = Zeroizing::new(format!("{}:{}", encode(&self.id), *secret));
        let text = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*pair))));
        let mut value = http::HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Goes {
    fn by(methods: Option<&[String]>) -> Option<Goes> {
        let Some(methods) = methods else {
            // An endpoint that somebody wrote down: every issuer that has one documents the form.
            return Some(Goes::Form);
        };
        let has = |method: &str| methods.iter().any(|known| known == method);
        // RFC 8414 section 2: where it is not said, it is this one.
        if methods.is_empty() || has(BASIC) {
            Some(Goes::Header)
        } else if has(POST) {
            Some(Goes::Form)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn proof(secret: &str, methods: Option<&[&str]>) -> Result<Option<Proof>, MintError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), secret).expect("a secret");
        let methods: Option<Vec<String>> = methods.map(|methods| methods.iter().map(|&m| m.to_owned()).collect());
        Proof::of("app:1", Some(file.path()), methods.as_deref()).await
    }

    #[tokio::test]
    async fn it_goes_where_the_issuer_says_that_it_takes_it() {
        for (methods, in_header) in [
            (Some(&[][..]), true),
            (Some(&["client_secret_basic"]), true),
            (Some(&["client_secret_post", "client_secret_basic"]), true),
            (Some(&["private_key_jwt", "client_secret_post"]), false),
            (None, false),
        ] {
            let proof = proof("s3\n", methods).await.expect("readable").expect("a proof");
            assert_eq!(proof.header().is_some(), in_header, "{methods:?}");
            assert_eq!(proof.form().is_some(), !in_header, "{methods:?}");
        }
        let error = proof("s3", Some(&["private_key_jwt"])).await.expect_err("no secret");
        assert!(matches!(&error, MintError::Config(text) if text.contains("client_secret_file")));
    }

    #[tokio::test]
    async fn id_and_secret_are_encoded_before_they_are_joined() {
        let proof = proof("a:b%c", Some(&[])).await.expect("readable").expect("a proof");
        let header = proof.header().expect("a header");
        let encoded = header.to_str().expect("text").strip_prefix("Basic ").expect("basic");
        assert_eq!(STANDARD.decode(encoded).expect("base64"), b"app%3A1:a%3Ab%25c");
        assert!(header.is_sensitive());
    }

    #[tokio::test]
    async fn without_a_file_there_is_none_and_no_error_repeats_what_is_in_one() {
        assert!(Proof::of("app", None, None).await.expect("public").is_none());
        let error = proof("canary two words", Some(&[])).await.expect_err("no secret");
        assert!(!error.to_string().contains("canary"), "{error}");
        assert!(error.to_string().contains("secret"), "{error}");
        let held = proof("canary", Some(&[])).await.expect("readable");
        assert!(!format!("{held:?} {:?}", held.as_ref().and_then(Proof::header)).contains("canary"));
    }
}
