//! GitHub Actions' address for ID tokens, after "OpenID Connect reference"
//! (docs.github.com/en/actions/reference/security/oidc) and `getIDToken` of the toolkit's
//! `packages/core/src/oidc-utils.ts`: GET with the runner's bearer, the audience added to the query, `value` in JSON.

use serde_json::json;
use tagalong::workspace::Env;

use super::{Reply, Request, Service, token};

pub const BEARER: &str = "canary-runner-token";

pub async fn start() -> Service {
    Service::start(answer).await
}

/// What a job with `permissions: id-token: write` finds in its environment.
pub fn env(service: &Service) -> Env {
    let url = format!("{}/idtoken/run/job?api-version=2.0", service.origin);
    Env::from([
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", BEARER),
    ])
}

fn answer(request: &Request) -> Reply {
    let is_known = request.method == "GET" && request.path == "/idtoken/run/job";
    if !is_known || request.parameter("api-version") != "2.0" {
        return Reply::text(404, "");
    }
    if !request
        .header("authorization")
        .eq_ignore_ascii_case(&format!("bearer {BEARER}"))
    {
        return Reply::json(401, &json!({ "message": "canary" }));
    }
    let claims = json!({
        "iss": "https://token.actions.githubusercontent.com",
        "aud": request.parameter("audience"),
        "sub": "repo:acme/app:ref:refs/heads/main",
        "actor": "jdoe", "actor_id": "99", "repository": "acme/app", "repository_id": "5", "run_id": "7",
    });
    Reply::json(200, &json!({ "count": 1, "value": token(claims) }))
}
