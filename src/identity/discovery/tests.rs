//! Discovery against a server on loopback that has nothing but documents.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::*;
use crate::demo::serve::{Server, answer};

/// Documents by path; anything else is 404.
struct Documents {
    server: Server,
    pages: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
}

impl Documents {
    async fn start() -> Documents {
        let pages = Arc::<Mutex<BTreeMap<String, (u16, String)>>>::default();
        let held = pages.clone();
        let server = Server::start(move |request| {
            let page = held.lock().expect("no panic").get(request.uri().path()).cloned();
            let response = match page {
                Some((status, text)) => answer(status, "application/json", text),
                None => answer(404, "text/html", "<h1>nothing here</h1>"),
            };
            Box::pin(async move { Some(response) })
        })
        .await
        .expect("a port");
        Documents { server, pages }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    fn put(&self, path: &str, status: u16, text: impl ToString) {
        let mut pages = self.pages.lock().expect("no panic");
        pages.insert(path.to_owned(), (status, text.to_string()));
    }
}

fn client() -> reqwest::Client {
    crate::identity::web::client(None).expect("a client")
}

fn document(issuer: &str) -> serde_json::Value {
    serde_json::json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "device_authorization_endpoint": format!("{issuer}/device"),
        "scopes_supported": ["openid", "offline_access"],
    })
}

#[tokio::test]
async fn openid_connects_document_is_found_below_a_path() {
    let issuer = Documents::start().await;
    let name = issuer.url("/realms/acme");
    issuer.put("/realms/acme/.well-known/openid-configuration", 200, document(&name));
    let found = discover(&client(), &name).await.expect("a document");
    assert_eq!(found.token_endpoint.as_str(), format!("{name}/token"));
    assert_eq!(found.scopes_supported, ["openid", "offline_access"]);
    assert_eq!(found.revocation_endpoint, None);
}

#[tokio::test]
async fn rfc_8414s_document_stands_between_host_and_path() {
    let issuer = Documents::start().await;
    let name = issuer.url("/tenant");
    issuer.put("/.well-known/oauth-authorization-server/tenant", 200, document(&name));
    assert_eq!(discover(&client(), &name).await.expect("a document").issuer, name);
}

#[tokio::test]
async fn an_issuer_that_calls_itself_otherwise_is_refused() {
    let issuer = Documents::start().await;
    let place = "/.well-known/openid-configuration";
    issuer.put(place, 200, document("https://elsewhere.example"));
    let error = discover(&client(), &issuer.url("")).await.expect_err("another issuer");
    assert!(matches!(&error, DiscoveryError::Wrong(text) if text.contains("another issuer")));
    let with_slash = issuer.url("/");
    issuer.put(place, 200, document(&with_slash));
    let error = discover(&client(), &issuer.url(""))
        .await
        .expect_err("not to the letter");
    assert!(
        error.to_string().contains(&format!("calls itself {with_slash}")),
        "{error}"
    );
}

#[tokio::test]
async fn an_endpoint_in_the_clear_is_refused() {
    let issuer = Documents::start().await;
    let name = issuer.url("");
    let mut document = document(&name);
    document["token_endpoint"] = "http://id.example/token".into();
    issuer.put("/.well-known/openid-configuration", 200, document);
    let error = discover(&client(), &name).await.expect_err("no TLS");
    assert!(error.to_string().contains("token_endpoint"), "{error}");
    assert!(matches!(
        discover(&client(), "http://id.example").await,
        Err(DiscoveryError::Wrong(_))
    ));
}

#[tokio::test]
async fn an_outage_and_a_captive_portal_are_worth_another_try_and_a_missing_document_is_not() {
    let issuer = Documents::start().await;
    let name = issuer.url("");
    assert!(matches!(
        discover(&client(), &name).await,
        Err(DiscoveryError::Wrong(_))
    ));
    issuer.put("/.well-known/openid-configuration", 503, "");
    assert!(matches!(
        discover(&client(), &name).await,
        Err(DiscoveryError::Transient(_))
    ));
    issuer.put(
        "/.well-known/openid-configuration",
        200,
        "<html>sign in to the wifi</html>",
    );
    assert!(matches!(
        discover(&client(), &name).await,
        Err(DiscoveryError::Transient(_))
    ));
    issuer.server.kill();
    assert!(matches!(
        discover(&client(), &name).await,
        Err(DiscoveryError::Transient(_))
    ));
}

#[tokio::test]
async fn an_upstream_says_which_issuer_it_believes() {
    let upstream = Documents::start().await;
    let endpoint = Url::parse(&upstream.url("/otlp")).expect("a URL");
    let described = serde_json::json!({
        "resource": upstream.url(""),
        "authorization_servers": ["https://id.example"],
        "scopes_supported": ["openid", "telemetry"],
        "client_id": "tagalong",
    });
    upstream.put("/.well-known/oauth-protected-resource", 200, described);
    let found = protected_resource(&client(), &endpoint)
        .await
        .expect("the origin's word");
    assert_eq!(found.issuers, ["https://id.example"]);
    assert_eq!(found.client_id.as_deref(), Some("tagalong"));
    assert_eq!(found.audience, upstream.url(""));
    let nearer = serde_json::json!({
        "resource": endpoint.as_str(),
        "authorization_servers": ["https://other.example"],
        "audience": "api://telemetry",
    });
    upstream.put("/.well-known/oauth-protected-resource/otlp", 200, nearer);
    let found = protected_resource(&client(), &endpoint)
        .await
        .expect("the path's own word");
    assert_eq!(
        (found.issuers, found.audience),
        (vec!["https://other.example".to_owned()], "api://telemetry".to_owned())
    );
}

#[tokio::test]
async fn a_description_of_another_resource_is_refused() {
    let upstream = Documents::start().await;
    let endpoint = Url::parse(&upstream.url("")).expect("a URL");
    let described = serde_json::json!({
        "resource": "https://elsewhere.example",
        "authorization_servers": ["https://id.example"],
    });
    upstream.put("/.well-known/oauth-protected-resource", 200, described);
    let error = protected_resource(&client(), &endpoint).await.expect_err("another's");
    assert!(error.to_string().contains("another resource"), "{error}");
    upstream.put(
        "/.well-known/oauth-protected-resource",
        200,
        serde_json::json!({"resource": endpoint.as_str()}),
    );
    assert!(protected_resource(&client(), &endpoint).await.is_err(), "no issuer");
}
