//! Azure DevOps' ID tokens for jobs, after "Oidctoken - Create"
//! (learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create): POST without a body, the API's version
//! in the query, `oidcToken` in JSON. Who is not known gets the sign-in page, with 203.

use serde_json::json;
use tagalong::workspace::Env;

use super::{Reply, Request, Service, token};

pub const BEARER: &str = "canary-system-access-token";

pub async fn start() -> Service {
    Service::start(answer).await
}

/// What a step finds that maps the job's token.
pub fn env(service: &Service) -> Env {
    let url = format!(
        "{}/acme/p-1/_apis/distributedtask/hubs/build/plans/1/jobs/2/oidctoken",
        service.origin
    );
    Env::from([
        ("TF_BUILD", "True"),
        ("SYSTEM_OIDCREQUESTURI", url.as_str()),
        ("SYSTEM_ACCESSTOKEN", BEARER),
    ])
}

fn answer(request: &Request) -> Reply {
    if request.method != "POST" || !request.path.ends_with("/oidctoken") {
        return Reply::text(405, "");
    }
    if request.parameter("api-version") != "7.1-preview.1" {
        return Reply::text(400, "");
    }
    if request.header("authorization") != format!("Bearer {BEARER}") {
        return Reply::text(203, "<html>Sign in, canary</html>");
    }
    let sub = match request.parameter("serviceConnectionId") {
        "" => "p://acme/app/build".to_owned(),
        connection => format!("sc://acme/app/{connection}"),
    };
    let claims = json!({
        "iss": "https://vstoken.dev.azure.com/o-1", "aud": "api://AzureADTokenExchange", "sub": sub,
        "org_id": "o-1", "prj_id": "p-1", "run_id": "7",
    });
    Reply::json(200, &json!({ "oidcToken": token(claims) }))
}
