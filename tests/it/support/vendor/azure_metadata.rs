//! Azure's Instance Metadata Service, after "How to use managed identities on an Azure VM to acquire an access token"
//! (learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token): the header
//! `Metadata: true`, numbers as texts, and the same token again while its cache holds it.

use std::sync::OnceLock;

use serde_json::json;

use super::{Reply, Request, Service, claims, token};

pub async fn start() -> Service {
    let cached = OnceLock::new();
    Service::start(move |request| answer(request, &cached)).await
}

fn answer(request: &Request, cached: &OnceLock<String>) -> Reply {
    let refuse = |error: &str| Reply::json(400, &json!({ "error": error, "error_description": "canary" }));
    if request.method != "GET" || request.path != "/metadata/identity/oauth2/token" {
        return Reply::text(404, "");
    }
    if request.header("metadata") != "true" || request.headers.contains_key("x-forwarded-for") {
        return refuse("bad_request_102");
    }
    if request.parameter("api-version") != "2018-02-01" || request.parameter("resource").is_empty() {
        return refuse("invalid_request");
    }
    let token = cached.get_or_init(|| {
        token(json!({
            "iss": "https://sts.windows.net/t-1/", "aud": request.parameter("resource"), "sub": "o-1", "oid": "o-1",
            "appid": request.parameter("client_id"),
        }))
    });
    let expires_on = claims(token)["exp"].to_string();
    Reply::json(
        200,
        &json!({
            "access_token": token, "refresh_token": "", "expires_in": "3599", "expires_on": expires_on,
            "not_before": "1506484173", "resource": request.parameter("resource"), "token_type": "Bearer",
        }),
    )
}
