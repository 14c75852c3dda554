//! Each place that gives tokens: asked as its vendor documents it, and misbehaving as the real ones do.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tagalong::{
    identity::{
        secret::Secret,
        source::{self, Asking, MintError, Minted, Source},
    },
    workspace::Env,
};

use crate::support::{
    agent::{Home, client, post},
    log::Log,
    telemetry,
    upstream::{Say, Upstream},
    vendor::{
        CANARY, Mood, Reply, Service, azure_devops, azure_metadata, claims, github_actions, google, ona, pauses, token,
    },
};

const AUDIENCE: &str = "https://upstream.example";

async fn mint_within(source: &Source, timeout: Duration) -> Result<Minted, MintError> {
    let asking = Asking {
        audience: AUDIENCE,
        ca_file: None,
        timeout,
    };
    source.mint(&asking).await
}

async fn mint(source: &Source) -> Result<Minted, MintError> {
    mint_within(source, Duration::from_secs(20)).await
}

fn exposed(minted: &Minted) -> &str {
    minted.token.as_ref().expect("a token").expose()
}

/// `http` with a canary in a header, and the address that it asks.
fn address(service: &Service, path: &str, pointer: Option<&str>) -> Source {
    let url = url::Url::parse(&format!("{}{path}", service.origin)).expect("a URL");
    let headers = [("x-key".to_owned(), Secret::new(format!("{CANARY}-header")))];
    let endpoint = source::Endpoint::new(url, &headers, pointer.map(str::to_owned));
    Source::Http(endpoint.expect("an address of this machine"))
}

/// An address of somebody's own, which wants the header.
async fn own_service() -> Service {
    Service::start(|request| {
        if request.header("x-key") != "canary-header" {
            return Reply::text(401, CANARY);
        }
        let token = token(json!({ "iss": "https://own.example", "sub": "1", "aud": request.parameter("for") }));
        match request.path.as_str() {
            "/raw" => Reply::text(200, format!("{token}\n")),
            "/json" => Reply::json(200, &json!({ "access_token": token, "expires_in": 300 })),
            _ => Reply::json(200, &json!({ "data": [{ "jwt": token, "expires_at": 2_000_000_000 }] })),
        }
    })
    .await
}

/// Every source that asks over HTTP, with its service.
async fn all() -> Vec<(Source, Service)> {
    let github = github_actions::start().await;
    let azure_devops = azure_devops::start().await;
    let (gcp, azure) = (google::metadata().await, azure_metadata::start().await);
    let own = own_service().await;
    vec![
        (
            Source::Github(source::Github::new(&github_actions::env(&github))),
            github,
        ),
        (
            Source::AzureDevops(source::AzureDevops::new(None, &azure_devops::env(&azure_devops))),
            azure_devops,
        ),
        (Source::Gcp(source::Gcp::default().with_origin(&gcp.origin)), gcp),
        (
            Source::Azure(source::Azure::new(Some("canary-no-secret")).with_origin(&azure.origin)),
            azure,
        ),
        (address(&own, "/json", None), own),
    ]
}

#[tokio::test]
async fn each_vendor_gives_a_token_to_who_asks_as_it_documents() {
    for (source, service) in all().await {
        let minted = mint(&source)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", source.name()));
        assert_eq!(exposed(&minted).split('.').count(), 3, "{}", source.name());
        assert_eq!(service.asked().len(), 1, "{}", source.name());
    }
}

#[tokio::test]
async fn the_audience_is_asked_for_where_the_vendor_lets_one_choose() {
    for (source, _service) in all().await {
        let minted = mint(&source).await.expect("a token");
        let audience = claims(exposed(&minted))["aud"].clone();
        match source.name() {
            "azure-devops" => assert_eq!(audience, "api://AzureADTokenExchange"),
            "http" => {}
            name => assert_eq!(audience, AUDIENCE, "{name}"),
        }
    }
    let own = own_service().await;
    let minted = mint(&address(&own, "/raw?for={audience}", None))
        .await
        .expect("a token");
    assert_eq!(claims(exposed(&minted))["aud"], AUDIENCE);
}

#[tokio::test]
async fn no_misbehaviour_gives_a_token_or_is_taken_for_a_persons_problem() {
    let elsewhere = Service::start(|_| Reply::text(200, "canary-elsewhere")).await;
    let moods = [
        Mood::Status(401),
        Mood::Status(403),
        Mood::Status(404),
        Mood::Status(429),
        Mood::Status(500),
        Mood::Status(503),
        Mood::Page,
        Mood::Redirects(format!("{}/stolen", elsewhere.origin)),
        Mood::Endless,
    ];
    for (source, service) in all().await {
        for mood in &moods {
            service.set(mood.clone());
            let error = mint(&source).await.expect_err("no token");
            let name = source.name();
            // Azure documents which answers asking again does not mend.
            let is_lasting = name == "azure" && matches!(mood, Mood::Status(401 | 403));
            assert_eq!(
                matches!(error, MintError::Config(_)),
                is_lasting,
                "{name}, {mood:?}: {error}"
            );
            assert!(
                is_lasting || matches!(error, MintError::Transient(_)),
                "{name}: {error}"
            );
            assert!(
                !format!("{error} {error:?}").contains(CANARY),
                "{name}, {mood:?}: {error}"
            );
        }
        service.set(Mood::Chatty);
        let error = mint(&source).await.expect_err("no token");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
        service.set(Mood::Well);
        mint(&source).await.expect("it recovers by itself");
    }
    assert_eq!(elsewhere.asked().len(), 0, "no redirect was followed");
}

#[tokio::test]
async fn a_service_that_wants_a_pause_is_left_alone_for_as_long_within_reason() {
    for (source, service) in all().await {
        for (mood, seconds) in pauses() {
            service.set(mood.clone());
            let error = mint(&source).await.expect_err("no token");
            let pause = error.pause().expect("a pause").as_secs();
            assert!(seconds.contains(&pause), "{}, {mood:?}: {pause}", source.name());
        }
        service.set(Mood::Busy(503, "soon".to_owned()));
        let error = mint(&source).await.expect_err("no token");
        assert!(matches!(error, MintError::Transient(_)), "{error}");
    }
}

#[tokio::test]
async fn a_service_that_says_nothing_costs_the_attempt_and_no_more() {
    for (source, service) in all().await {
        service.set(Mood::Silent);
        let error = mint_within(&source, Duration::from_millis(300))
            .await
            .expect_err("no token");
        assert!(error.to_string().contains("did not answer within"), "{error}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_worth_another_try() {
    for (source, service) in all().await {
        drop(service);
        let error = mint(&source).await.expect_err("no token");
        assert!(
            matches!(&error, MintError::Transient(text) if !text.contains("127.0.0.1")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_end_is_read_as_a_number_as_a_text_and_not_at_all() {
    let azure = azure_metadata::start().await;
    let source = Source::Azure(source::Azure::new(None).with_origin(&azure.origin));
    for (told, seconds) in [
        (json!("3599"), Some(3599)),
        (json!(3599), Some(3599)),
        (json!(0), None),
        (json!("0"), None),
        (json!(""), None),
        (json!(null), None),
        (json!([]), None),
    ] {
        azure.set(Mood::But(json!({ "expires_in": told })));
        let minted = mint(&source).await.expect("a token");
        assert_eq!(minted.lifetime.map(|lifetime| lifetime.as_secs()), seconds, "{told}");
        assert!(minted.expires_at.is_some(), "expires_on stands beside it");
    }
    azure.set(Mood::But(json!({ "expires_on": null })));
    assert_eq!(mint(&source).await.expect("a token").expires_at, None);
}

#[tokio::test]
async fn an_address_answers_with_the_token_or_with_json_around_it() {
    let own = own_service().await;
    let raw = mint(&address(&own, "/raw", None)).await.expect("a token");
    assert_eq!((raw.lifetime, raw.expires_at), (None, None));
    let json = mint(&address(&own, "/json", None)).await.expect("a token");
    assert_eq!(json.lifetime, Some(Duration::from_secs(300)));
    let deep = mint(&address(&own, "/deep", Some("/data/0/jwt")))
        .await
        .expect("a token");
    assert_eq!(deep.expires_at, Some(UNIX_EPOCH + Duration::from_secs(2_000_000_000)));
    let error = mint(&address(&own, "/deep", Some("/data/1/jwt")))
        .await
        .expect_err("no token");
    assert!(
        matches!(&error, MintError::Transient(text) if text.contains("json_pointer")),
        "{error}"
    );
}

#[tokio::test]
async fn a_job_that_may_not_ask_is_told_what_to_write_into_its_definition() {
    let none = Env::default();
    for (source, hint) in [
        (Source::Github(source::Github::new(&none)), "id-token: write"),
        (Source::Gitlab(source::Gitlab::new(None, &none)), "id_tokens"),
        (
            Source::AzureDevops(source::AzureDevops::new(
                None,
                &Env::from([("SYSTEM_OIDCREQUESTURI", "https://dev.azure.com/x")]),
            )),
            "SYSTEM_ACCESSTOKEN",
        ),
    ] {
        let error = mint(&source).await.expect_err("no token");
        assert!(
            matches!(&error, MintError::NeedsUser(text) if text.contains(hint)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_jobs_own_token_never_goes_out_in_the_clear() {
    for (name, value) in [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://192.0.2.1/token"),
        ("SYSTEM_OIDCREQUESTURI", "http://192.0.2.1/oidctoken"),
    ] {
        let env = Env::from([
            (name, value),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "canary"),
            ("SYSTEM_ACCESSTOKEN", "canary"),
        ]);
        let source = match name {
            "SYSTEM_OIDCREQUESTURI" => Source::AzureDevops(source::AzureDevops::new(None, &env)),
            _ => Source::Github(source::Github::new(&env)),
        };
        let error = mint(&source).await.expect_err("no token");
        assert!(
            matches!(&error, MintError::Config(text) if text.contains("https")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_metadata_service_is_asked_on_this_link_only() {
    for far in [
        "http://metadata.google.internal",
        "https://metadata.example",
        "http://10.0.0.1",
    ] {
        let gcp = Source::Gcp(source::Gcp::default().with_origin(far));
        let azure = Source::Azure(source::Azure::new(None).with_origin(far));
        for source in [gcp, azure] {
            let error = mint(&source).await.expect_err("no token");
            assert!(
                matches!(&error, MintError::Config(text) if text.contains("link")),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_service_connection_speaks_for_itself() {
    let service = azure_devops::start().await;
    let source = source::AzureDevops::new(Some("c-1"), &azure_devops::env(&service));
    let minted = mint(&Source::AzureDevops(source)).await.expect("a token");
    assert_eq!(claims(exposed(&minted))["sub"], "sc://acme/app/c-1");
}

/// A GitLab job's token for an audience.
fn job_token(audience: &str) -> String {
    token(json!({
        "iss": "https://gitlab.example", "aud": audience, "sub": "project_path:g/p:ref_type:branch:ref:main",
        "project_path": "g/p", "user_id": "42", "user_login": "jdoe",
    }))
}

#[tokio::test]
async fn a_gitlab_job_has_the_token_in_the_variable_with_the_audience() {
    let (ours, other) = (job_token(AUDIENCE), job_token("https://vault.example"));
    let env = Env::from([
        ("GITLAB_CI", "true"),
        ("A_TOKEN", other.as_str()),
        ("B_TOKEN", ours.as_str()),
        ("CI_JOB_TOKEN", "glcbt-canary"),
    ]);
    let found = mint(&Source::Gitlab(source::Gitlab::new(None, &env)))
        .await
        .expect("a token");
    assert_eq!(exposed(&found), ours);
    let named = mint(&Source::Gitlab(source::Gitlab::new(Some("A_TOKEN"), &env)))
        .await
        .expect("a token");
    assert_eq!(exposed(&named), other, "a variable that is named is taken as it is");
    let only_other = Env::from([("A_TOKEN", other.as_str())]);
    let error = mint(&Source::Gitlab(source::Gitlab::new(None, &only_other)))
        .await
        .expect_err("no token");
    assert!(
        matches!(&error, MintError::NeedsUser(text) if text.contains(AUDIENCE)),
        "{error}"
    );
    assert!(!format!("{:?}", source::Gitlab::new(None, &env)).contains(CANARY));
}

#[tokio::test]
async fn a_projected_token_is_read_anew_and_one_for_the_clusters_own_api_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    let source = Source::Kubernetes(source::Kubernetes::new(Some(&path)));
    let projected = |audience: &str| {
        token(json!({
            "iss": "https://kubernetes.default.svc", "aud": [audience], "sub": "system:serviceaccount:n:s",
            "kubernetes.io": { "namespace": "n" },
        }))
    };
    assert!(
        matches!(mint(&source).await, Err(MintError::Transient(_))),
        "not mounted yet"
    );
    for _ in 0..2 {
        let next = projected(AUDIENCE);
        // As the kubelet does: a new directory, and a link that is swapped.
        let data = tempfile::tempdir_in(&directory).expect("a directory").keep();
        std::fs::write(data.join("token"), &next).expect("a token");
        let link = directory.path().join("..data_tmp");
        std::os::unix::fs::symlink(data.join("token"), &link).expect("a link");
        std::fs::rename(&link, &path).expect("the swap");
        assert_eq!(exposed(&mint(&source).await.expect("a token")), next);
    }
    std::fs::remove_file(&path).expect("the link");
    std::fs::write(&path, projected("https://kubernetes.default.svc")).expect("a token");
    let error = mint(&source).await.expect_err("no token");
    assert!(
        matches!(&error, MintError::Config(text) if text.contains("another audience")),
        "{error}"
    );
    assert!(!error.to_string().contains(CANARY));
}

/// An environment of Ona's without its command, with a token in the place where the vendor puts it.
async fn ona_without_command() -> (Source, Service, tempfile::TempDir) {
    let service = ona::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, ona::BEARER).expect("a token");
    let env = Env::from([("GITPOD_ENVIRONMENT_ID", "e-1"), ("PATH", "/nonexistent")]);
    let ona = source::Ona::new(&env).with_api(&service.origin, &file);
    (Source::Ona(ona), service, directory)
}

#[tokio::test]
async fn without_its_command_ona_is_asked_over_its_api_as_the_environment() {
    let (source, service, _directory) = ona_without_command().await;
    let minted = mint(&source).await.expect("a token");
    let claims: Value = claims(exposed(&minted));
    assert_eq!(claims["aud"], json!([AUDIENCE]));
    assert_eq!(claims["creator_id"], "c-1");
    for mood in [
        Mood::Status(401),
        Mood::Status(500),
        Mood::Page,
        Mood::Endless,
        Mood::Chatty,
    ] {
        service.set(mood);
        let error = mint(&source).await.expect_err("no token");
        assert!(
            matches!(error, MintError::Transient(_)) && !error.to_string().contains(CANARY),
            "{error}"
        );
    }
}

#[tokio::test]
async fn onas_command_is_asked_under_its_new_name_and_under_its_old_one() {
    for name in ["ona", "gitpod"] {
        let directory = tempfile::tempdir().expect("a directory");
        let printed = token(json!({ "iss": "https://app.gitpod.io", "creator_id": "c-1", "environment_id": "e-1" }));
        let script = format!("[ \"$*\" = \"idp token --audience {AUDIENCE}\" ] && echo {printed}");
        crate::support::gitpod::install(&directory.path().join(name), &script);
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let env = Env::from([("GITPOD_ENVIRONMENT_ID", "e-1"), ("PATH", path.as_str())]);
        let minted = mint(&Source::Ona(source::Ona::new(&env))).await.expect("a token");
        assert_eq!(exposed(&minted), printed);
    }
}

#[tokio::test]
async fn promise_7_no_log_line_of_any_source_holds_a_secret() {
    let log = Log::default();
    let _guard = log.capture();
    for (source, service) in all().await {
        for mood in [Mood::Well, Mood::Status(401), Mood::Page, Mood::Chatty, Mood::Endless] {
            service.set(mood);
            let outcome = mint(&source).await;
            tracing::info!(?source, ?outcome, "what a careless line would say");
        }
    }
    let (source, _service, _directory) = ona_without_command().await;
    tracing::info!(outcome = ?mint(&source).await, ?source, "the same");
    let text = log.text();
    assert!(text.contains("careless line"), "the log was not captured");
    let shown = text.replace("canary-no-secret", "");
    assert!(
        !shown.contains(CANARY),
        "{}",
        shown.lines().find(|line| line.contains(CANARY)).unwrap_or("")
    );
}

#[test]
fn up_says_ahead_of_time_that_a_gitlab_jobs_token_cannot_be_renewed() {
    let home = Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", "http://127.0.0.1:1")
        .set("TAGALONG_IDENTITY_AUDIENCE", AUDIENCE)
        .set("GITLAB_CI", "true")
        .set("MY_ID_TOKEN", job_token(AUDIENCE));
    let said = home.text(&["up", "--strict"]);
    assert!(said.contains("gitlab credential cannot be renewed"), "{said}");
    let status = home.until(|status| status["credential"]["state"] == "fresh");
    assert!(
        status["credential"]["reason"]
            .as_str()
            .expect("a reason")
            .contains("GitLab CI has an ID token"),
        "{status}"
    );
    let doctor = String::from_utf8(home.run(&["doctor"]).stdout).expect("text");
    assert!(doctor.contains("it cannot be renewed"), "{doctor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_job_sends_under_its_own_token_and_the_name_of_who_started_it_with_nothing_set() {
    let service = github_actions::start().await;
    let upstream = Upstream::start(|_| Say::Ok).await;
    let mut home = Home::new().set("TAGALONG_EXPORT_ENDPOINT", upstream.url());
    for (name, value) in github_actions::env(&service).0 {
        home = home.set(&name, value);
    }
    home.up();
    let url = home.http("v1/traces");
    assert!(post(&client(), &url, telemetry::traces(&[], telemetry::spans(1))).await);
    upstream.wait(|seen| seen.iter().any(|one| one.is_of("traces"))).await;
    let seen = upstream.seen();
    let sent = seen.iter().find(|one| one.is_of("traces")).expect("traces");
    let bearer = claims(sent.bearer().expect("a bearer"));
    assert_eq!(bearer["aud"], upstream.url(), "the audience is the upstream's origin");
    let (_, attributes) = telemetry::read_traces(&sent.body);
    for (key, value) in [("user.id", "99"), ("user.name", "jdoe")] {
        assert!(
            attributes.contains(&(key.to_owned(), value.to_owned())),
            "{attributes:?}"
        );
    }
    assert_eq!(home.status()["credential"]["source"], "github");
}
