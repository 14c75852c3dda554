//! From the workspace's token to another one, by each exchange, against issuers that take only what is documented.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tagalong::{
    demo::issuer::Issuer,
    identity::{
        Config, Identity, Principal,
        claims::Attributes,
        clock::Clock,
        exchange::{Exchange, Grant, ServiceAccount, Step, TokenEndpoint},
        secret::Secret,
        source::{Asking, MintError, Minted, Source},
    },
    workspace::Trust,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::support::{
    agent::{Home, client, executable, post},
    log::Log,
    telemetry,
    upstream::{Say, Upstream},
    vendor::{CANARY, Mood, Reply, Service, claims, google, issuer, okta, pauses, token},
};

const UPSTREAM: &str = "https://upstream.example";

/// The workspace's own token, which names the person.
fn own(audience: &str) -> Minted {
    let token = token(json!({
        "iss": "https://api.gitpod.example/idp", "aud": audience, "sub": "https://github.com/acme/app",
        "user_id": "u-1", "workspace_id": "w-1", "name": "Jo Doe",
    }));
    Minted::bare(Secret::new(token))
}

fn rfc8693(service: &Service) -> Exchange {
    let issuer = format!("{}/tenant", service.origin);
    Exchange {
        grant: Grant::TokenExchange,
        endpoint: TokenEndpoint::Of(issuer.clone()),
        subject_audience: issuer,
        audience: Some(UPSTREAM.to_owned()),
        scopes: vec!["telemetry".to_owned(), "write".to_owned()],
        client_id: None,
        client_secret_file: None,
        parameters: BTreeMap::new(),
    }
}

fn entra(service: &Service) -> Exchange {
    Exchange {
        grant: Grant::ClientAssertion,
        subject_audience: "api://AzureADTokenExchange".to_owned(),
        audience: None,
        scopes: vec![issuer::SCOPE.to_owned()],
        client_id: Some(issuer::CLIENT.to_owned()),
        ..rfc8693(service)
    }
}

fn google_sts(service: &Service, account: bool) -> Exchange {
    let origin = Url::parse(&service.origin).expect("a URL");
    Exchange {
        grant: Grant::GoogleSts(account.then(|| ServiceAccount {
            email: google::ACCOUNT.to_owned(),
            audience: Some(UPSTREAM.to_owned()),
            origin: Some(origin.clone()),
        })),
        endpoint: TokenEndpoint::At(origin.join("/v1/token").expect("a URL")),
        subject_audience: format!("https:{}", google::PROVIDER),
        audience: Some(google::PROVIDER.to_owned()),
        scopes: Vec::new(),
        ..rfc8693(service)
    }
}

async fn swap_own(exchange: &Exchange, own: Minted) -> (Vec<Step>, Result<Minted, MintError>) {
    let asking = Asking {
        audience: &exchange.subject_audience,
        ca_file: None,
        timeout: Duration::from_secs(20),
    };
    let mut steps = Vec::new();
    let swapped = exchange.swap(own, &asking, &mut steps).await;
    (steps, swapped)
}

async fn swap(exchange: &Exchange) -> Result<Minted, MintError> {
    swap_own(exchange, own(&exchange.subject_audience)).await.1
}

fn exposed(minted: &Minted) -> &str {
    minted.token.as_ref().expect("a token").expose()
}

/// Every exchange, with its issuer.
async fn all() -> Vec<(Exchange, Service)> {
    let (generic, microsoft) = (issuer::start().await, issuer::start().await);
    let (federated, borrowed) = (google::sts().await, google::sts().await);
    vec![
        (rfc8693(&generic), generic),
        (entra(&microsoft), microsoft),
        (google_sts(&federated, false), federated),
        (google_sts(&borrowed, true), borrowed),
    ]
}

#[tokio::test]
async fn a_token_exchange_gives_a_token_for_upstream_with_the_scopes_that_were_asked_for() {
    let service = issuer::start().await;
    let minted = swap(&rfc8693(&service)).await.expect("a token");
    let claims = claims(exposed(&minted));
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!(UPSTREAM), &json!("s-1")));
    assert_eq!(minted.lifetime, Some(Duration::from_secs(300)));
    let asked = service.asked();
    assert_eq!(asked.len(), 2, "the metadata, and one form");
    assert_eq!(asked[1].form()["scope"], "telemetry write");
    assert!(!asked[1].form().contains_key("client_secret"));
}

#[tokio::test]
async fn okta_exchanges_the_access_token_of_a_login_for_one_that_names_the_person() {
    let service = okta::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("secret");
    std::fs::write(&file, okta::CLIENT_SECRET).expect("a secret");
    let issuer = format!("{}/oauth2/default", service.origin);
    let plain = Exchange {
        endpoint: TokenEndpoint::Of(issuer.clone()),
        subject_audience: "api://default".to_owned(),
        audience: Some(okta::AUDIENCE.to_owned()),
        scopes: vec!["api:access:read".to_owned(), "api:access:write".to_owned()],
        client_id: Some(okta::CLIENT.to_owned()),
        client_secret_file: Some(file),
        ..rfc8693(&service)
    };
    let login = || {
        Minted::bare(Secret::new(token(json!({
            "iss": issuer, "aud": "api://default", "sub": "jo@acme.example", "uid": "00u1", "cid": "0oa1native",
        }))))
    };
    swap_own(&plain, login()).await.1.expect_err("that is no ID token");
    let access = "urn:ietf:params:oauth:token-type:access_token";
    let exchange = Exchange {
        parameters: BTreeMap::from([("subject_token_type".to_owned(), Secret::new(access.to_owned()))]),
        ..plain
    };
    let minted = swap_own(&exchange, login()).await.1.expect("a token");
    let claims = claims(exposed(&minted));
    assert_eq!(
        (&claims["aud"], &claims["uid"]),
        (&json!(okta::AUDIENCE), &json!("00u1"))
    );
    assert_eq!(minted.lifetime, Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn a_confidential_client_shows_the_secret_that_is_in_the_file_now() {
    let service = issuer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("secret");
    let exchange = Exchange {
        client_id: Some(issuer::CLIENT.to_owned()),
        client_secret_file: Some(file.clone()),
        ..rfc8693(&service)
    };
    std::fs::write(&file, "canary-old-secret\n").expect("a secret");
    let error = swap(&exchange).await.expect_err("an old secret");
    assert!(
        matches!(&error, MintError::Config(text) if text.contains("client_id")),
        "{error}"
    );
    std::fs::write(&file, format!("{}\n", issuer::CLIENT_SECRET)).expect("a secret");
    swap(&exchange).await.expect("a token");
}

#[tokio::test]
async fn further_parameters_are_sent_once_and_replace_no_secret() {
    let service = issuer::start().await;
    let parameters = [
        ("connector_id", "github"),
        ("audience", "other"),
        ("subject_token", "mine"),
        ("grant_type", "password"),
    ];
    let exchange = Exchange {
        parameters: parameters
            .map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())))
            .into(),
        ..rfc8693(&service)
    };
    let claims = claims(exposed(&swap(&exchange).await.expect("a token")));
    assert_eq!(
        (&claims["connector"], &claims["aud"]),
        (&json!("github"), &json!("other"))
    );
}

#[tokio::test]
async fn entra_takes_the_workspaces_token_as_the_clients_assertion() {
    let service = issuer::start().await;
    let minted = swap(&entra(&service)).await.expect("a token");
    assert_eq!(claims(exposed(&minted))["idtyp"], "app");
    let form = service.asked()[1].form();
    assert_eq!(form["scope"], issuer::SCOPE);
    assert!(!form.contains_key("audience"), "Entra is asked by scope");
}

#[tokio::test]
async fn google_gives_a_federated_token_or_one_of_a_service_account() {
    let service = google::sts().await;
    let federated = swap(&google_sts(&service, false)).await.expect("a token");
    assert_eq!(exposed(&federated), google::FEDERATED);
    let id = swap(&google_sts(&service, true)).await.expect("a token");
    assert_eq!(claims(exposed(&id))["aud"], UPSTREAM);
    let exchange = Exchange {
        scopes: vec!["https://www.googleapis.com/auth/trace.append".to_owned()],
        ..google_sts(&service, true)
    };
    let access = swap(&exchange).await.expect("a token");
    assert_eq!(exposed(&access), "canary-ya29");
    assert!(access.expires_at.is_some(), "expireTime is a text");
}

#[tokio::test]
async fn an_end_is_read_as_a_number_as_a_text_and_not_at_all() {
    let service = google::sts().await;
    let exchange = google_sts(&service, false);
    for (told, seconds) in [
        (json!(3599), Some(3599)),
        (json!("3599"), Some(3599)),
        (json!(0), None),
        (json!(null), None),
    ] {
        service.set(Mood::But(json!({ "expires_in": told })));
        let minted = swap(&exchange).await.expect("a token");
        assert_eq!(minted.lifetime.map(|lifetime| lifetime.as_secs()), seconds, "{told}");
    }
}

#[tokio::test]
async fn no_misbehaviour_of_an_issuer_gives_a_token_or_ends_the_trying() {
    let elsewhere = Service::start(|_| Reply::text(200, "canary-elsewhere")).await;
    for (exchange, service) in all().await {
        // Discovery has tests of its own.
        let exchange = Exchange {
            endpoint: match &exchange.endpoint {
                TokenEndpoint::Of(issuer) => TokenEndpoint::At(Url::parse(&format!("{issuer}/token")).expect("a URL")),
                at => at.clone(),
            },
            ..exchange
        };
        for mood in [
            Mood::Status(401),
            Mood::Status(403),
            Mood::Status(404),
            Mood::Status(429),
            Mood::Status(503),
            Mood::Page,
            Mood::Chatty,
            Mood::Redirects(format!("{}/stolen", elsewhere.origin)),
            Mood::Endless,
        ] {
            service.set(mood.clone());
            let (steps, swapped) = swap_own(&exchange, own(&exchange.subject_audience)).await;
            let error = swapped.expect_err("no token");
            assert!(
                matches!(error, MintError::Transient(_)),
                "{}, {mood:?}: {error}",
                exchange.name()
            );
            assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
            assert_eq!(
                steps.last().expect("a step").trouble.as_deref(),
                Some(error.to_string().as_str())
            );
        }
        service.set(Mood::Well);
        swap(&exchange).await.expect("it recovers by itself");
    }
    assert_eq!(elsewhere.asked().len(), 0, "no redirect was followed");
}

#[tokio::test]
async fn an_issuer_that_wants_a_pause_is_left_alone_for_as_long_within_reason() {
    // Where the endpoint is discovered, discovery is what gets the answer.
    for (exchange, service) in all().await {
        for (mood, seconds) in pauses() {
            service.set(mood.clone());
            let error = swap(&exchange).await.expect_err("no token");
            let pause = error.pause().expect("a pause").as_secs();
            assert!(seconds.contains(&pause), "{}, {mood:?}: {pause}", exchange.name());
        }
    }
}

#[tokio::test]
async fn a_refusal_names_the_setting_to_compare() {
    let service = issuer::start().await;
    let cases = [
        (
            Exchange {
                subject_audience: "https://elsewhere.example".to_owned(),
                ..rfc8693(&service)
            },
            "https://elsewhere.example",
        ),
        (
            Exchange {
                subject_audience: "https://elsewhere.example".to_owned(),
                ..entra(&service)
            },
            "federated credential",
        ),
        (
            Exchange {
                scopes: vec!["read".to_owned()],
                ..entra(&service)
            },
            "identity.scopes",
        ),
        (
            Exchange {
                client_id: Some("app-2".to_owned()),
                ..entra(&service)
            },
            "unauthorized_client",
        ),
    ];
    for (exchange, hint) in cases {
        let error = swap(&exchange).await.expect_err("no token").to_string();
        assert!(error.contains(hint) && !error.contains(CANARY), "{error}");
    }
}

#[tokio::test]
async fn an_exchange_never_goes_out_in_the_clear() {
    let service = issuer::start().await;
    for exchange in [
        Exchange {
            endpoint: TokenEndpoint::At(Url::parse("http://192.0.2.1/token").expect("a URL")),
            ..rfc8693(&service)
        },
        Exchange {
            endpoint: TokenEndpoint::Of("http://issuer.example".to_owned()),
            ..rfc8693(&service)
        },
    ] {
        let error = swap(&exchange).await.expect_err("no token");
        assert!(matches!(error, MintError::Config(_)), "{error}");
    }
}

#[tokio::test]
async fn each_step_of_the_chain_is_noted_and_the_first_that_fails_is_the_last() {
    let service = google::sts().await;
    let (steps, swapped) = swap_own(&google_sts(&service, true), own(&format!("https:{}", google::PROVIDER))).await;
    swapped.expect("a token");
    let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
    assert_eq!(names, ["gcp-sts", "service account"]);
    let (steps, swapped) = swap_own(&google_sts(&service, true), own("wrong")).await;
    swapped.expect_err("a wrong audience");
    assert_eq!(steps.len(), 1);
    assert!(steps[0].trouble.is_some());
}

/// An identity whose own token lies in a file.
fn identity(exchange: Exchange, file: &std::path::Path) -> (Identity, tagalong::identity::Receiver) {
    Identity::build(Config {
        source: Source::File(file.to_owned()),
        exchange: Some(exchange),
        audience: UPSTREAM.to_owned(),
        attributes: Attributes::Full,
        pseudonym_key: None,
        fallback: Principal::os_user("host", "root"),
        issuer: None,
        ca_file: None,
        clock: Clock::System,
    })
}

#[tokio::test]
async fn the_person_of_the_workspaces_token_stays_the_principal_where_the_new_one_names_nobody() {
    for (make, trust, issuer) in [
        (
            entra as fn(&Service) -> Exchange,
            Trust::Platform,
            "https://api.gitpod.example/idp",
        ),
        (rfc8693 as fn(&Service) -> Exchange, Trust::Verified, "/tenant"),
    ] {
        let service = issuer::start().await;
        let exchange = make(&service);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, exposed(&own(&exchange.subject_audience))).expect("a token");
        let (identity, mut receiver) = identity(exchange, &file);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(identity.run(shutdown.clone()));
        let lease = receiver.lease().await;
        assert!(lease.principal.issuer.ends_with(issuer), "{:?}", lease.principal);
        assert_eq!(lease.principal.trust, trust);
        let steps: Vec<&str> = receiver.current().steps.iter().map(|step| step.name).collect();
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert_eq!(steps[0], "file");
        shutdown.cancel();
        task.await.expect("the loop ends");
    }
}

#[tokio::test]
async fn promise_7_no_log_line_of_an_exchange_holds_a_secret() {
    let log = Log::default();
    let _guard = log.capture();
    for (exchange, service) in all().await {
        for mood in [Mood::Well, Mood::Status(401), Mood::Page, Mood::Chatty] {
            service.set(mood);
            let outcome = swap(&exchange).await;
            tracing::info!(?exchange, ?outcome, "what a careless line would say");
        }
    }
    let text = log.text();
    assert!(text.contains("careless line"), "the log was not captured");
    assert!(
        !text.contains(CANARY),
        "{}",
        text.lines().find(|line| line.contains(CANARY)).unwrap_or("")
    );
}

/// A user whose token is exchanged, and the upstream that it goes to.
fn exchanging(issuer: &str, own_issuer: &str, audience: &str, upstream: &str) -> Home {
    let exec = json!([
        executable(),
        "demo-token",
        "--issuer",
        own_issuer,
        "--audience",
        audience
    ]);
    Home::new()
        .set("TAGALONG_EXPORT_ENDPOINT", upstream)
        .set("TAGALONG_IDENTITY_EXEC", exec.to_string())
        .set("TAGALONG_IDENTITY_EXCHANGE", "rfc8693")
        .set("TAGALONG_IDENTITY_ISSUER", format!("{issuer}/tenant"))
}

/// The lines of `doctor` about one link, as verdict and text.
fn links(home: &Home, name: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_slice(&home.run(&["doctor", "--json"]).stdout).expect("JSON");
    let links = report["links"].as_array().expect("links").iter();
    let text = |link: &Value, key: &str| link[key].as_str().unwrap_or_default().to_owned();
    links
        .filter(|link| link["link"] == name)
        .map(|link| {
            (
                text(link, "verdict"),
                format!("{} {}", text(link, "found"), text(link, "hint")),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exchanged_is_what_upstream_gets_and_doctor_shows_each_step() {
    let service = issuer::start().await;
    let platform = Issuer::start(Default::default()).await.expect("an issuer");
    let upstream = Upstream::start(|_| Say::Ok).await;
    let audience = format!("{}/tenant", service.origin);
    let home = exchanging(&service.origin, &platform.url(), &audience, &upstream.url());
    assert_eq!(links(&home, "exchange")[0].0, "note", "nobody exchanges yet");
    home.up();
    assert!(
        post(
            &client(),
            &home.http("v1/traces"),
            telemetry::traces(&[], telemetry::spans(1))
        )
        .await
    );
    // Doctor looked in before, without a credential.
    upstream.wait(|seen| seen.iter().any(|one| one.is_of("traces"))).await;
    let seen = upstream.seen();
    let first = seen.iter().find(|one| one.is_of("traces")).expect("traces");
    let bearer = claims(first.bearer().expect("a bearer"));
    assert_eq!(
        (&bearer["iss"], &bearer["aud"]),
        (&json!(audience), &json!(upstream.url()))
    );
    let credential = home.status()["credential"].clone();
    assert_eq!(credential["source"], "exec");
    assert_eq!(credential["reason"], "identity.exec is set.");
    assert_eq!(credential["steps"].as_array().expect("steps").len(), 2);
    assert!(home.text(&["status"]).contains("exchanged: rfc8693"));
    let steps = links(&home, "exchange");
    assert_eq!(steps.len(), 1);
    assert!(steps[0].0 == "ok" && steps[0].1.contains("rfc8693"), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_refused_is_the_link_that_doctor_blames() {
    let service = issuer::start().await;
    let platform = Issuer::start(Default::default()).await.expect("an issuer");
    let home = exchanging(
        &service.origin,
        &platform.url(),
        "https://wrong.example",
        "http://127.0.0.1:1",
    );
    home.up();
    home.until(|status| status["credential"]["state"] == "starved");
    assert_eq!(links(&home, "credential")[0].0, "ok");
    let steps = links(&home, "exchange");
    assert!(
        steps[0].0 == "failed" && steps[0].1.contains("does not take the workspace's token"),
        "{steps:?}"
    );
}
