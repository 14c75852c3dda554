//! The table of issuers, and what a stranger's token may contain.

use base64::Engine;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// An unsigned token of the right shape.
pub(crate) fn jwt(payload: &serde_json::Value) -> String {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        encode(r#"{"alg":"RS256","typ":"JWT"}"#),
        encode(&payload.to_string()),
        encode("signature")
    )
}

fn principal(payload: serde_json::Value) -> Principal {
    Claims::decode(&jwt(&payload))
        .expect("a token of the right shape")
        .principal()
        .expect("a token that names somebody")
}

fn attribute<'a>(principal: &'a Principal, key: &str) -> Option<&'a str> {
    let found = principal.attributes.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}

fn gitpod() -> serde_json::Value {
    json!({
        "iss": "https://api.gitpod.io/idp", "aud": ["https://otel.example.com"],
        "sub": "https://github.com/acme/app/tree/main", "user_id": "7a3e", "workspace_id": "acme-app-abc123",
        "name": "jdoe", "email": "j@acme.example", "email_verified": true,
        "iat": 1_760_000_000, "exp": 1_760_003_600,
    })
}

#[test]
fn gitpods_person_is_the_user_id_because_its_subject_is_the_workspace() {
    let person = principal(gitpod());
    assert_eq!(person.subject, "7a3e");
    assert_eq!(person.issuer, "https://api.gitpod.io/idp");
    assert_eq!(person.trust, Trust::Verified);
    assert_eq!(attribute(&person, "user.id"), Some("7a3e"));
    assert_eq!(attribute(&person, "user.email"), Some("j@acme.example"));
    assert_eq!(attribute(&person, "user.full_name"), Some("jdoe"));
}

#[test]
fn an_email_that_the_issuer_did_not_verify_is_nobodys() {
    for verified in [json!(false), json!(null), json!("false"), json!(1)] {
        let mut payload = gitpod();
        payload["email_verified"] = verified;
        assert_eq!(attribute(&principal(payload), "user.email"), None);
    }
    let mut payload = gitpod();
    payload["email_verified"] = json!("true");
    assert_eq!(attribute(&principal(payload), "user.email"), Some("j@acme.example"));
}

#[test]
fn the_person_of_a_workload_token_is_found_by_the_table() {
    let gitlab = principal(json!({
        "iss": "https://gitlab.example", "sub": "project_path:g/p:ref_type:branch:ref:main", "project_path": "g/p",
        "user_id": "42", "user_login": "jdoe", "user_email": "j@acme.example",
    }));
    assert_eq!(
        (gitlab.subject.as_str(), attribute(&gitlab, "user.name")),
        ("42", Some("jdoe"))
    );
    assert_eq!(attribute(&gitlab, "user.email"), None);

    let github = principal(json!({
        "iss": "https://token.actions.githubusercontent.com", "sub": "repo:o/r:ref:refs/heads/main",
        "actor": "jdoe", "actor_id": 99, "repository_id": "5",
    }));
    assert_eq!(
        (github.subject.as_str(), attribute(&github, "user.name")),
        ("99", Some("jdoe"))
    );

    let ona = principal(json!({
        "iss": "https://app.gitpod.io", "sub": "organization_id:o:project_id:p", "environment_id": "e",
        "creator_id": "c-1", "creator_principal": "user", "creator_name": "Jo Doe", "creator_email": "j@acme.example",
    }));
    assert_eq!(
        (ona.subject.as_str(), attribute(&ona, "user.full_name")),
        ("c-1", Some("Jo Doe"))
    );

    let oidc = principal(json!({
        "iss": "https://login.example", "sub": "s-1", "preferred_username": "jdoe", "name": "Jo Doe", "user_id": "no",
    }));
    assert_eq!(
        (oidc.subject.as_str(), attribute(&oidc, "user.name")),
        ("s-1", Some("jdoe"))
    );
}

#[test]
fn the_stable_id_is_taken_where_the_subject_is_not_stable() {
    let entra = principal(json!({
        "iss": "https://login.microsoftonline.com/t-1/v2.0", "sub": "pairwise", "oid": "o-1", "tid": "t-1",
        "azp": "app", "preferred_username": "jo@acme.example", "name": "Jo Doe", "email": "boss@acme.example",
    }));
    assert_eq!(entra.subject, "o-1");
    assert_eq!(attribute(&entra, "user.name"), Some("jo@acme.example"));
    assert_eq!(attribute(&entra, "user.email"), None, "nobody verified it");

    // A directory for customers: there `oid` is the subject, and a person all the same.
    let customer = principal(json!({"iss": "https://acme.b2clogin.example/t/v2.0/", "sub": "o-1", "oid": "o-1"}));
    assert_eq!(customer.subject, "o-1");

    let okta = principal(json!({
        "iss": "https://acme.okta.example/oauth2/default", "sub": "jo@acme.example", "uid": "00u1", "cid": "0oa1",
    }));
    assert_eq!(
        (okta.subject.as_str(), attribute(&okta, "user.name")),
        ("00u1", Some("jo@acme.example"))
    );
}

#[test]
fn a_token_of_a_pipeline_a_pod_a_machine_or_an_application_names_nobody() {
    for payload in [
        json!({"iss": "https://vstoken.dev.azure.com/o", "sub": "p://acme/app/build", "org_id": "o"}),
        json!({"iss": "https://u.tokens.sts.global.api.aws", "sub": "arn:aws:iam::1:role/r"}),
        json!({"iss": "https://app.gitpod.io", "sub": "org:o/prj:p/env:e"}),
        json!({"iss": "https://app.gitpod.io", "sub": "organization_id:o:project_id:p", "environment_id": "e",
               "creator_id": "s-1", "creator_principal": "service_account"}),
        json!({"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:n:s", "kubernetes.io": {}}),
        json!({"iss": "https://accounts.google.com", "sub": "1", "azp": "1", "email_verified": true,
               "email": "1-compute@developer.gserviceaccount.com"}),
        json!({"iss": "https://login.microsoftonline.com/t/v2.0", "sub": "o-1", "oid": "o-1", "azp": "app"}),
        json!({"iss": "https://sts.windows.net/t/", "sub": "s", "oid": "o-1", "idtyp": "app"}),
        json!({"iss": "https://acme.okta.example", "sub": "0oa1", "cid": "0oa1"}),
        json!({"iss": "https://acme.auth0.example/", "sub": "abc@clients", "gty": "client-credentials"}),
        json!({"iss": "https://kc.example/realms/r", "sub": "u-1", "azp": "CI",
               "preferred_username": "service-account-ci"}),
    ] {
        let claims = Claims::decode(&jwt(&payload)).expect("a token");
        assert_eq!(claims.principal(), None, "{payload}");
    }
}

#[test]
fn a_token_without_issuer_or_person_names_nobody() {
    for payload in [
        json!({"sub": "x"}),
        json!({"iss": "x"}),
        json!({"iss": "", "sub": "y"}),
        json!({}),
    ] {
        assert!(Claims::decode(&jwt(&payload)).expect("a shape").principal().is_none());
    }
}

#[test]
fn what_is_not_a_token_of_three_parts_is_opaque() {
    let valid = jwt(&gitpod());
    let long = format!("{valid}{}", "A".repeat(MAX_TOKEN_BYTES));
    let four = format!("{valid}.x");
    for text in [
        "",
        "abc",
        "a.b",
        "a.b.c",
        "..",
        long.as_str(),
        four.as_str(),
        "e30.W10.x",
    ] {
        assert!(Claims::decode(text).is_none(), "{} bytes", text.len());
    }
}

#[test]
fn a_changed_email_changes_no_fingerprint_and_another_person_does() {
    let mut renamed = gitpod();
    renamed["email"] = json!("other@acme.example");
    renamed["sub"] = json!("https://github.com/acme/other");
    assert_eq!(principal(gitpod()).fingerprint(), principal(renamed).fingerprint());
    let mut other = gitpod();
    other["user_id"] = json!("7a3f");
    assert_ne!(principal(gitpod()).fingerprint(), principal(other).fingerprint());
    let print = principal(gitpod()).fingerprint();
    assert!(print.len() == 32 && print.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn a_fingerprint_keeps_issuer_and_subject_apart() {
    let told = |issuer: &str, subject: &str| Principal::told(issuer.to_owned(), subject, Trust::Asserted).fingerprint();
    assert_ne!(told("ab", "c"), told("a", "bc"));
}

#[test]
fn a_pseudonym_is_keyed_stable_and_all_that_is_left() {
    let key = Secret::new("k".repeat(32));
    let hashed = |key: &Secret| {
        principal(gitpod())
            .with_attributes(Attributes::Pseudonym, key)
            .attributes
    };
    let once = hashed(&key);
    assert_eq!(once.len(), 1);
    assert_eq!(once[0].0, "user.hash");
    assert_eq!(once[0].1.len(), 32);
    assert_eq!(once, hashed(&key));
    assert_ne!(once, hashed(&random_key()));
    let none = principal(gitpod()).with_attributes(Attributes::None, &key);
    assert!(none.attributes.is_empty() && none.subject == "7a3e");
}

#[test]
fn a_claims_value_is_cut_and_carries_no_control_characters() {
    let mut payload = gitpod();
    payload["name"] = json!(format!("a\u{0}b\n{}", "c".repeat(1000)));
    let person = principal(payload);
    let name = attribute(&person, "user.full_name").expect("a name");
    assert!(name.starts_with("abc") && name.chars().count() == 256);
}

#[test]
fn platform_and_os_user_say_how_far_they_can_be_believed() {
    assert_eq!(Principal::platform("gitpod", "u-1").trust, Trust::Platform);
    let user = Principal::os_user("host", "jo");
    assert_eq!((user.trust, user.issuer.as_str()), (Trust::Asserted, "os:host"));
    assert_eq!(attribute(&user, "user.name"), Some("jo"));
}

#[test]
fn claims_do_not_print_what_they_say() {
    let claims = Claims::decode(&jwt(&gitpod())).expect("a shape");
    assert_eq!(format!("{claims:?}"), "\"...\"");
}

proptest! {
    #[test]
    fn no_text_makes_the_decoder_panic(text in ".{0,200}") {
        let _ = Claims::decode(&text).and_then(|claims| claims.principal());
    }

    #[test]
    fn no_payload_makes_the_table_panic(
        names in prop::collection::vec(prop::sample::select(vec![
            "iss", "sub", "aud", "exp", "iat", "user_id", "email", "email_verified", "name", "creator_id", "actor_id",
        ]), 0..8),
        values in prop::collection::vec(prop_oneof![
            Just(json!(null)), Just(json!(true)), Just(json!([1, "a", {}])), Just(json!({"a": 1})),
            any::<f64>().prop_map(|number| json!(number)), any::<i64>().prop_map(|number| json!(number)),
            ".{0,20}".prop_map(|text| json!(text)),
        ], 8),
    ) {
        let payload: serde_json::Map<_, _> = names.iter().map(|name| (*name).to_owned()).zip(values).collect();
        let claims = Claims::decode(&jwt(&payload.into())).expect("a shape");
        let _ = (claims.principal(), claims.audiences(), claims.date("exp"), claims.date("iat"));
    }
}
