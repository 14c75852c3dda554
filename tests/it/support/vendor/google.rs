//! Google's metadata service, Security Token Service and service accounts, after "Verify VM identity"
//! (cloud.google.com/compute/docs/instances/verifying-instance-identity), "Method: token"
//! (cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token) with the form of AIP-4117 (google.aip.dev/auth/4117),
//! and "Method: projects.serviceAccounts.generateIdToken" and "...generateAccessToken"
//! (cloud.google.com/iam/docs/reference/credentials/rest).

use serde_json::{Value, json};

use super::{Reply, Request, Service, claims, token};

pub const PROVIDER: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";
pub const ACCOUNT: &str = "telemetry@acme.iam.gserviceaccount.com";
/// Opaque, as Google's federated tokens are.
pub const FEDERATED: &str = "canary-federated-token";

pub async fn metadata() -> Service {
    Service::start(|request| {
        let path = "/computeMetadata/v1/instance/service-accounts/default/identity";
        if request.method != "GET" || request.path != path || request.parameter("audience").is_empty() {
            return Reply::text(404, "");
        }
        // What a proxy passed on is refused, and so is what a page could have sent.
        if request.header("metadata-flavor") != "Google" || request.headers.contains_key("x-forwarded-for") {
            return Reply::text(403, "");
        }
        assert_eq!(request.parameter("format"), "full");
        let claims = json!({
            "iss": "https://accounts.google.com", "aud": request.parameter("audience"), "azp": "1", "sub": "1",
            "email": "1-compute@developer.gserviceaccount.com", "email_verified": true,
        });
        Reply::text(200, token(claims))
    })
    .await
}

/// The exchange and the service accounts on one origin.
pub async fn sts() -> Service {
    Service::start(|request| match request.path.as_str() {
        "/v1/token" => exchange(request),
        _ => borrow(request),
    })
    .await
}

fn exchange(request: &Request) -> Reply {
    let refuse = |error: &str| Reply::json(400, &json!({ "error": error, "error_description": "canary" }));
    let form = request.form();
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    // "Do not send the Authorization HTTP header."
    if request.method != "POST" || request.headers.contains_key("authorization") {
        return refuse("invalid_request");
    }
    if field("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange"
        || field("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token"
        || field("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt"
        || field("scope").is_empty()
    {
        return refuse("invalid_request");
    }
    if field("audience") != PROVIDER {
        return refuse("invalid_target");
    }
    let subject = claims(field("subject_token"));
    // The provider's full name, with or without the scheme.
    let wanted = [Value::from(PROVIDER), Value::from(format!("https:{PROVIDER}"))];
    let audience = match &subject["aud"] {
        Value::Array(several) => several[0].clone(),
        one => one.clone(),
    };
    if !wanted.contains(&audience) {
        return refuse("invalid_grant");
    }
    Reply::json(
        200,
        &json!({
            "access_token": FEDERATED, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer", "expires_in": 3599,
        }),
    )
}

fn borrow(request: &Request) -> Reply {
    let account = ACCOUNT.replace('@', "%40");
    let Some(method) = request
        .path
        .strip_prefix(&format!("/v1/projects/-/serviceAccounts/{account}:"))
    else {
        return Reply::json(404, &json!({ "error": { "code": 404, "message": "canary" } }));
    };
    if request.method != "POST" || request.header("authorization") != format!("Bearer {FEDERATED}") {
        return Reply::json(401, &json!({ "error": { "code": 401, "message": "canary" } }));
    }
    let body: Value = serde_json::from_str(&request.body).expect("JSON");
    match method {
        "generateIdToken" => {
            assert_eq!(body["includeEmail"], true);
            let claims = json!({
                "iss": "https://accounts.google.com", "aud": body["audience"], "sub": "2", "azp": "2",
                "email": ACCOUNT, "email_verified": true,
            });
            Reply::json(200, &json!({ "token": token(claims) }))
        }
        "generateAccessToken" => {
            assert!(body["scope"].is_array());
            Reply::json(
                200,
                &json!({ "accessToken": "canary-ya29", "expireTime": "2099-01-01T00:00:00Z" }),
            )
        }
        _ => Reply::text(404, ""),
    }
}
