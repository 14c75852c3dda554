//! Ona's API, after "OpenID Connect (OIDC)" (ona.com/docs/ona/configuration/oidc) and `IdentityService.GetIDToken` of
//! the vendor's Go SDK (github.com/gitpod-io/gitpod-sdk-go, identity.go): POST, the environment's bearer, a list of
//! audiences, `token` in JSON. The command is played by the Gitpod double's `gp` under another name.

use serde_json::{Value, json};

use super::{Reply, Request, Service, token};

pub const BEARER: &str = "canary-environment-token";

pub async fn start() -> Service {
    Service::start(answer).await
}

fn answer(request: &Request) -> Reply {
    if request.method != "POST" || request.path != "/api/gitpod.v1.IdentityService/GetIDToken" {
        return Reply::json(404, &json!({ "code": "not_found" }));
    }
    if request.header("authorization") != format!("Bearer {BEARER}") {
        return Reply::json(401, &json!({ "code": "unauthenticated", "message": "canary" }));
    }
    let body: Value = serde_json::from_str(&request.body).expect("JSON");
    let claims = json!({
        "iss": "https://app.gitpod.io", "sub": "organization_id:o:project_id:p", "aud": body["audience"],
        "environment_id": "e-1", "creator_principal": "user", "creator_id": "c-1", "creator_name": "Jo Doe",
        "creator_email": "jo@acme.example",
    });
    Reply::json(200, &json!({ "token": token(claims) }))
}
