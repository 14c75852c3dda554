//! Answers of token endpoints as they are seen, each against a server on loopback.

use super::*;
use crate::demo::serve::{Server, answer};

async fn asked(status: u16, content_type: &'static str, body: impl ToString) -> Result<Tokens, GrantError> {
    let body = body.to_string();
    let server = Server::start(move |_| {
        let response = answer(status, content_type, body.clone());
        Box::pin(async move { Some(response) })
    })
    .await
    .expect("a port");
    let client = crate::identity::web::client(None).expect("a client");
    let endpoint = Url::parse(&format!("http://{}/token", server.address())).expect("a URL");
    request(
        &client,
        &endpoint,
        &[("grant_type", "refresh_token")],
        None,
        "the issuer",
    )
    .await
}

async fn told(body: serde_json::Value) -> Result<Tokens, GrantError> {
    asked(200, "application/json", body).await
}

#[tokio::test]
async fn a_lifetime_may_be_a_number_a_text_missing_or_nothing() {
    for (written, lifetime) in [
        (serde_json::json!(300), Some(Duration::from_secs(300))),
        // Entra has been seen to write a text.
        (serde_json::json!("300"), Some(Duration::from_secs(300))),
        (serde_json::json!(0), None),
        (serde_json::json!(-1), None),
        (serde_json::json!(null), None),
    ] {
        let tokens = told(serde_json::json!({"access_token": "at", "expires_in": written})).await;
        assert_eq!(tokens.expect("tokens").lifetime, lifetime);
    }
    let tokens = told(serde_json::json!({"access_token": "at"})).await.expect("tokens");
    assert_eq!(tokens.lifetime, None);
    assert!(tokens.refresh.is_none());
}

#[tokio::test]
async fn errors_with_status_200_are_errors() {
    let error = told(serde_json::json!({"error": "authorization_pending"})).await;
    assert_eq!(
        error.expect_err("no token"),
        GrantError::Refused(Refusal::AuthorizationPending)
    );
}

#[tokio::test]
async fn a_captive_portals_page_is_worth_another_try() {
    for (status, page) in [
        (200, "<html>sign in</html>"),
        (200, ""),
        (302, ""),
        (403, "<html>"),
        (511, ""),
    ] {
        let error = asked(status, "text/html", page).await.expect_err("no token");
        assert!(matches!(error, GrantError::Transient(_)), "{status}: {error}");
        assert!(matches!(MintError::from(error), MintError::Transient(_)));
    }
}

#[tokio::test]
async fn an_outage_is_transient_whatever_its_body_says() {
    let body = serde_json::json!({"error": "invalid_grant"});
    for status in [408, 429, 500, 502, 503, 504] {
        let error = asked(status, "application/json", &body).await.expect_err("no token");
        assert!(matches!(error, GrantError::Transient(_)), "{status}: {error}");
    }
    let error = asked(
        400,
        "application/json",
        serde_json::json!({"error": "temporarily_unavailable"}),
    )
    .await;
    assert!(matches!(error, Err(GrantError::Transient(_))));
}

#[tokio::test]
async fn invalid_grant_needs_a_person_and_a_wrong_client_needs_a_setting() {
    for (word, needs_person) in [
        ("invalid_grant", true),
        ("invalid_client", false),
        ("invalid_scope", false),
    ] {
        let error = asked(400, "application/json", serde_json::json!({"error": word})).await;
        let error = MintError::from(error.expect_err("refused"));
        assert_eq!(matches!(error, MintError::NeedsUser(_)), needs_person, "{error}");
        assert_eq!(matches!(error, MintError::Config(_)), !needs_person, "{error}");
    }
}

#[tokio::test]
async fn promise_7_no_text_of_an_issuers_is_repeated_as_it_may_hold_what_was_sent() {
    for word in ["invalid_grant", "temporarily_unavailable", "canary-of-the-issuer"] {
        let body = serde_json::json!({
            "error": word,
            "error_description": "no such refresh_token: canary-rt",
            "error_uri": "https://id.example/?code=canary-code",
        });
        for status in [200, 400, 401, 500] {
            let error = asked(status, "application/json", &body).await.expect_err("no token");
            assert!(!format!("{error} {error:?}").contains("canary"), "{word}, {status}");
        }
    }
    let unclear = asked(
        401,
        "application/json",
        serde_json::json!({"error": "canary-of-the-issuer"}),
    )
    .await;
    assert_eq!(unclear.expect_err("refused"), GrantError::Unclear(401));
}

#[tokio::test]
async fn a_token_that_needs_a_proof_of_possession_is_of_no_use() {
    let error = told(serde_json::json!({"access_token": "at", "token_type": "DPoP"})).await;
    assert!(matches!(error, Err(GrantError::Useless(_))));
    assert!(
        told(serde_json::json!({"access_token": "at", "token_type": "bearer"}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_token_that_no_header_may_carry_is_none() {
    let error = told(serde_json::json!({"access_token": "a\r\nX-Evil: 1"})).await;
    assert!(matches!(error, Err(GrantError::Transient(_))));
}

#[tokio::test]
async fn tokens_print_nothing() {
    let tokens = told(serde_json::json!({
        "access_token": "canary-at", "refresh_token": "canary-rt", "id_token": "canary-it", "scope": "openid",
    }))
    .await
    .expect("tokens");
    assert!(!format!("{tokens:?}").contains("canary"));
    assert_eq!(tokens.refresh.expect("one").expose(), "canary-rt");
}

#[test]
fn a_form_is_written_in_one_piece_and_escaped() {
    let form = encode(&[
        ("scope", "openid offline_access"),
        ("audience", "https://a.example/?x=1&y"),
    ]);
    assert_eq!(
        form,
        "scope=openid+offline_access&audience=https%3A%2F%2Fa.example%2F%3Fx%3D1%26y".as_bytes()
    );
}
