//! A token endpoint that exchanges: RFC 8693 (OAuth 2.0 Token Exchange, section 2.2) and client credentials with an
//! assertion (RFC 7523 section 2.2) as Entra takes it, after "Microsoft identity platform and the OAuth 2.0 client
//! credentials flow", third case (learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow), and
//! "Workload identity federation" (learn.microsoft.com/entra/workload-id/workload-identity-federation). With the
//! metadata of OpenID Connect Discovery 1.0.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Reply, Request, Service, claims, token};

pub const CLIENT: &str = "app-1";
pub const CLIENT_SECRET: &str = "canary-client-secret";
pub const SCOPE: &str = "api://gateway/.default";

/// An issuer at `<origin>/tenant`.
pub async fn start() -> Service {
    Service::start(|request| {
        let issuer = format!("http://{}/tenant", request.header("host"));
        match request.path.as_str() {
            "/tenant/.well-known/openid-configuration" => Reply::json(
                200,
                &json!({ "issuer": issuer, "token_endpoint": format!("{issuer}/token") }),
            ),
            "/tenant/token" if request.method == "POST" => grant(request, &issuer),
            _ => Reply::text(404, ""),
        }
    })
    .await
}

fn refuse(error: &str) -> Reply {
    // Descriptions name what was sent, and some vendors' name more.
    Reply::json(
        400,
        &json!({ "error": error, "error_description": "canary", "error_codes": [700213] }),
    )
}

fn grant(request: &Request, issuer: &str) -> Reply {
    if request.header("content-type") != "application/x-www-form-urlencoded" {
        return refuse("invalid_request");
    }
    let form = request.form();
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    match field("grant_type") {
        "urn:ietf:params:oauth:grant-type:token-exchange" => exchange(request, &form, issuer),
        "client_credentials" => assertion(&form),
        _ => refuse("unsupported_grant_type"),
    }
}

fn exchange(request: &Request, form: &BTreeMap<String, String>, issuer: &str) -> Reply {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    // Where the metadata says nothing of it, the secret comes in the header (RFC 8414 section 2).
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}")));
    if field("client_id") == CLIENT && (request.header("authorization") != basic || form.contains_key("client_secret"))
    {
        return refuse("invalid_client");
    }
    if field("subject_token_type") != "urn:ietf:params:oauth:token-type:id_token" {
        return refuse("invalid_request");
    }
    let subject = claims(field("subject_token"));
    if !subject["aud"].to_string().contains(issuer) {
        return refuse("invalid_grant");
    }
    let access = token(json!({
        "iss": issuer, "aud": field("audience"), "sub": "s-1", "preferred_username": "jdoe", "azp": CLIENT,
        "connector": field("connector_id"),
    }));
    Reply::json(
        200,
        &json!({
            "access_token": access, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer", "expires_in": 300, "scope": field("scope"),
        }),
    )
}

fn assertion(form: &BTreeMap<String, String>) -> Reply {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let is_jwt = field("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    if !is_jwt || field("client_assertion").is_empty() || form.contains_key("client_secret") {
        return refuse("invalid_request");
    }
    if field("client_id") != CLIENT {
        return refuse("unauthorized_client");
    }
    if !field("scope").ends_with("/.default") {
        return refuse("invalid_scope");
    }
    // AADSTS700212: the audience of the assertion is not the one that the federated credential names.
    if claims(field("client_assertion"))["aud"] != "api://AzureADTokenExchange" {
        return refuse("invalid_client");
    }
    let access = token(json!({
        "iss": "https://login.microsoftonline.com/t-1/v2.0", "aud": "api://gateway", "sub": "o-9", "oid": "o-9",
        "azp": CLIENT, "idtyp": "app",
    }));
    Reply::json(
        200,
        &json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": access }),
    )
}
