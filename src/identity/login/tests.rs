//! What a login asks for, and which of its tokens is shown.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

fn app(issuer: &str, audience: &str) -> App {
    App {
        issuer: issuer.to_owned(),
        client_id: "tagalong".to_owned(),
        client_secret_file: None,
        scopes: vec!["openid".to_owned(), "offline_access".to_owned()],
        audience: audience.to_owned(),
    }
}

fn tokens(access: &str, id: Option<&str>) -> Tokens {
    Tokens {
        access: Secret::new(access.to_owned()),
        id: id.map(|id| Secret::new(id.to_owned())),
        refresh: None,
        lifetime: None,
        scope: None,
        date: None,
    }
}

fn jwt() -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.c2ln",
        part(r#"{"alg":"ES256"}"#),
        part(r#"{"iss":"i","sub":"s"}"#)
    )
}

#[test]
fn the_audience_is_asked_for_in_the_words_that_the_issuer_knows() {
    let generic = app("https://id.example", "https://otlp.example.com");
    assert_eq!(
        generic.audience_words(),
        [
            ("audience", "https://otlp.example.com"),
            ("resource", "https://otlp.example.com")
        ]
    );
    assert_eq!(
        app("https://id.example", "telemetry").audience_words(),
        [("audience", "telemetry")]
    );
    let entra = app("https://login.microsoftonline.com/tenant/v2.0", "api://telemetry");
    assert_eq!(entra.audience_words(), []);
}

#[test]
fn upstream_is_shown_a_token_that_it_can_read() {
    let app = app("https://id.example", "a");
    assert_eq!(app.choose(&tokens(&jwt(), Some(&jwt()))), Shown::Access);
    assert_eq!(app.choose(&tokens("opaque", Some(&jwt()))), Shown::Id);
    assert_eq!(app.choose(&tokens("opaque", None)), Shown::Access);
}

#[test]
fn logins_for_different_things_have_different_names() {
    let one = app("https://id.example", "a");
    assert_eq!(one.name(), app("https://id.example", "a").name());
    assert_ne!(one.name(), app("https://id.example", "b").name());
    assert_ne!(one.name(), app("https://other.example", "a").name());
}
