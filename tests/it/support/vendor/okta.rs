//! A custom authorization server of Okta that exchanges access tokens for a service app, after "Set up OAuth 2.0
//! On-Behalf-Of Token Exchange" (developer.okta.com/docs/guides/set-up-token-exchange/main): the secret in the header, an
//! access token as the subject, none of OpenID Connect's scopes, `scp` as a list.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Reply, Request, Service, claims, token};

pub const CLIENT: &str = "0oa9service";
pub const CLIENT_SECRET: &str = "canary-okta-secret";
/// Of the authorization server, which is also who may be asked for.
pub const AUDIENCE: &str = "com.api.atko";

/// An authorization server at `<origin>/oauth2/default`.
pub async fn start() -> Service {
    Service::start(|request| {
        let issuer = format!("http://{}/oauth2/default", request.header("host"));
        match request.path.as_str() {
            "/oauth2/default/.well-known/openid-configuration"
            | "/oauth2/default/.well-known/oauth-authorization-server" => Reply::json(
                200,
                &json!({
                    "issuer": issuer, "token_endpoint": format!("{issuer}/v1/token"),
                    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
                }),
            ),
            "/oauth2/default/v1/token" if request.method == "POST" => exchange(request, &issuer),
            _ => Reply::text(404, ""),
        }
    })
    .await
}

fn exchange(request: &Request, issuer: &str) -> Reply {
    let refuse = |status, error: &str| Reply::json(status, &json!({ "error": error, "error_description": "canary" }));
    let form = request.form();
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}")));
    if request.header("authorization") != basic || form.contains_key("client_secret") {
        return refuse(401, "invalid_client");
    }
    if field("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" {
        return refuse(400, "unsupported_grant_type");
    }
    if field("subject_token_type") != "urn:ietf:params:oauth:token-type:access_token" || field("audience") != AUDIENCE {
        return refuse(400, "invalid_request");
    }
    // Within one tenant: of this server, or of one that it trusts.
    let subject = claims(field("subject_token"));
    if subject["iss"] != issuer {
        return refuse(400, "invalid_grant");
    }
    let scopes: Vec<&str> = field("scope").split(' ').collect();
    if scopes.iter().any(|scope| !scope.starts_with("api:")) {
        return refuse(400, "invalid_scope");
    }
    let access = token(json!({
        "ver": 1, "iss": issuer, "aud": AUDIENCE, "cid": CLIENT, "uid": subject["uid"], "scp": scopes,
        "sub": subject["sub"],
    }));
    Reply::json(
        200,
        &json!({
            "token_type": "Bearer", "expires_in": 3600, "access_token": access, "scope": field("scope"),
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }),
    )
}
