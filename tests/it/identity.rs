//! Stories of a credential that is obtained, renewed, refused and replaced, with real programs and files.

use std::{path::Path, time::Duration};

use base64::Engine;
use serde_json::json;
use tagalong::{
    agent::control::{Answer, Ask, LoggedIn, Passed},
    identity::{
        Config, Identity, Principal, Receiver, State, Verdict,
        claims::{Attributes, Claims},
        clock::Clock,
        grant::Tokens,
        keep::{Keep, Login, Shown, Wanted},
        login::App,
        secret::Secret,
        source::{
            self, Asking, Endpoint, EnvToken, Gitpod as GitpodSource, MintError, Minted, Source,
            refresh::{Flow, Session},
        },
    },
    workspace::{Birthplace, Env},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::support::{
    gitpod::{Gitpod, Gp, MISLEADING},
    log::Log,
};

const AUDIENCE: &str = "https://upstream.example";
const CANARY: &str = "canary-5c1e";

/// An unsigned token of a generic issuer that lives from now on.
fn jwt(subject: &str, lifetime: u64) -> String {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let payload = json!({"iss": "https://issuer.example", "sub": subject, "iat": now, "exp": now + lifetime});
    format!(
        "{}.{}.{}",
        encode("{\"alg\":\"RS256\"}"),
        encode(&payload.to_string()),
        encode("s")
    )
}

/// What a panic over a value says: its `Debug`, by way of `expect`.
fn panic_over<T: std::fmt::Debug>(value: T) -> String {
    let refused: Result<(), T> = std::hint::black_box(Err(value));
    let over = std::panic::AssertUnwindSafe(|| refused.expect("a panic"));
    let payload = std::panic::catch_unwind(over).expect_err("it panics");
    payload.downcast_ref::<String>().expect("a message").clone()
}

#[tokio::test]
async fn a_panic_over_whatever_holds_a_token_does_not_say_it() {
    let secret = || Secret::new(CANARY.to_owned());
    let passed = || Passed::from(&secret());
    let minted = || Minted::bare(secret());
    let person = Principal::platform("gitpod", "u-1");
    let tokens = Tokens {
        access: secret(),
        id: Some(secret()),
        refresh: Some(secret()),
        lifetime: None,
        scope: None,
        date: None,
    };
    let login = Login {
        refresh: secret(),
        shown: Shown::Access,
        host: Birthplace::default(),
        not_granted: Vec::new(),
    };
    let directory = tempfile::tempdir().expect("a directory");
    let keep = Keep::new(Wanted::Memory, directory.path(), "a");
    keep.store(&login).await.expect("kept");
    let app = App {
        issuer: "https://issuer.example".to_owned(),
        client_id: "c".to_owned(),
        client_secret_file: None,
        scopes: Vec::new(),
        audience: AUDIENCE.to_owned(),
    };
    let session = Session::new(Flow::Device, app, keep.clone(), Birthplace::default(), directory.path());
    session
        .begin(Some(secret()), Shown::Access, minted())
        .await
        .expect("kept");
    let env = Env([("TOKEN".to_owned(), CANARY.to_owned())].into());
    let url = "https://tokens.example/".parse().expect("a URL");
    let address = Endpoint::new(url, &[("x-key".to_owned(), secret())], None).expect("an address");
    let receiver = Receiver::fixed(person, Some(secret()), None);
    let said = [
        panic_over(tokens),
        panic_over(login),
        panic_over(keep),
        panic_over(session.clone()),
        panic_over(Source::Login(session)),
        panic_over(Source::Env(EnvToken::new("TOKEN", &env))),
        panic_over(Source::Http(address)),
        panic_over(minted()),
        panic_over(receiver.current()),
        panic_over(receiver.current().lease()),
        panic_over(receiver),
        panic_over(Claims::decode(&jwt(CANARY, 60))),
        panic_over(LoggedIn {
            refresh: Some(passed()),
            token: passed(),
            lifetime: None,
            shows_id: false,
            not_granted: Vec::new(),
        }),
        panic_over(Answer::Token {
            token: Some(passed()),
            expires_in: None,
            principal: "u-1".to_owned(),
            audience: None,
        }),
        panic_over(source::agent::Answer::Token {
            token: Zeroizing::new(CANARY.to_owned()),
            expires_in: None,
        }),
        panic_over(Ask::Login(Some(LoggedIn {
            refresh: Some(passed()),
            token: passed(),
            lifetime: None,
            shows_id: false,
            not_granted: Vec::new(),
        }))),
    ];
    for text in said {
        assert!(text.starts_with("a panic: ") && !text.contains(CANARY), "{text}");
    }
}

struct Running {
    receiver: Receiver,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(source: Source) -> Running {
    let (identity, receiver) = Identity::build(Config {
        source,
        exchange: None,
        audience: AUDIENCE.into(),
        attributes: Attributes::Full,
        pseudonym_key: None,
        fallback: Principal::platform("gitpod", "u-1"),
        issuer: None,
        ca_file: None,
        clock: Clock::System,
    });
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(identity.run(shutdown.clone()));
    Running {
        receiver,
        shutdown,
        task,
    }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("the loop ends");
    }

    async fn generation(&mut self, wanted: u64) {
        let arrival = async {
            while self.receiver.lease().await.credential.generation < wanted {
                self.receiver.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), arrival)
            .await
            .expect("the generation arrives in time");
    }
}

fn asking(timeout: Duration) -> Asking<'static> {
    Asking {
        audience: AUDIENCE,
        ca_file: None,
        timeout,
    }
}

fn replace(path: &Path, content: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, content).expect("a token");
    std::fs::rename(next, path).expect("the token in place");
}

#[tokio::test]
async fn gp_is_asked_for_the_audience_and_sees_nothing_of_the_other_variables() {
    let gitpod = Gitpod::new(Gp::Mints(3600));
    let mut running = run(Source::Gitpod(GitpodSource::new(&gitpod.env())));
    let lease = running.receiver.lease().await;
    assert_eq!(lease.principal.subject, "u-1");
    assert_eq!(lease.principal.issuer, "https://api.gitpod.example/idp");
    assert_eq!(running.receiver.current().source, "gitpod");
    let calls = gitpod.calls();
    assert_eq!(calls.len(), 1);
    assert!(
        calls[0].starts_with("idp token --audience https://upstream.example |"),
        "{calls:?}"
    );
    assert!(
        calls[0].contains("GITPOD_WORKSPACE_ID") && !calls[0].contains("AWS_"),
        "{calls:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_short_token_is_replaced_before_it_ends() {
    let gitpod = Gitpod::new(Gp::Mints(10));
    let mut running = run(Source::Gitpod(GitpodSource::new(&gitpod.env())));
    running.generation(3).await;
    let current = running.receiver.current();
    assert_eq!((current.failures, current.rotations), (0, 2));
    running.stop().await;
}

#[tokio::test]
async fn promise_4_a_401_seen_by_a_hundred_senders_mints_once() {
    let gitpod = Gitpod::new(Gp::Mints(3600));
    let mut running = run(Source::Gitpod(GitpodSource::new(&gitpod.env())));
    let refused = running.receiver.lease().await.credential.generation;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let mut receiver = running.receiver.clone();
        senders.spawn(async move {
            receiver.verdict(refused, Verdict::Unauthenticated);
            loop {
                let lease = receiver.lease().await;
                if lease.credential.generation > refused {
                    return lease.credential.generation;
                }
                receiver.changed().await;
            }
        });
    }
    while let Some(generation) = senders.join_next().await {
        assert_eq!(generation.expect("a sender"), refused + 1);
    }
    assert_eq!(gitpod.calls().len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn where_gp_fails_the_supervisor_and_the_api_are_asked() {
    for gp in [Gp::Misleads, Gp::Chats, Gp::Absent] {
        let token = jwt("person-1", 3600);
        let gitpod = Gitpod::new(gp).with_supervisor(&token).await;
        let source = Source::Gitpod(GitpodSource::new(&gitpod.env()).with_api(&gitpod.api()));
        let minted = source.mint(&asking(Duration::from_secs(20))).await.expect("a token");
        assert_eq!(minted.token.expect("a token").expose(), token);
        let asked = gitpod.asked();
        assert!(asked[1].starts_with("GET /_supervisor/v1/token/gitpod/gitpod.example/function:getWorkspace "));
        let last = asked[2].to_ascii_lowercase();
        assert!(last.starts_with("post /gitpod.experimental.v1.identityproviderservice/getidtoken "));
        assert!(last.contains("authorization: bearer owner-token"));
        let (_, body) = asked[2].split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body, json!({"workspace_id": "acme-app-abc123", "audience": [AUDIENCE]}));
    }
}

#[tokio::test]
async fn a_gp_that_hangs_leaves_time_for_the_other_way() {
    let token = jwt("person-1", 3600);
    let gitpod = Gitpod::new(Gp::Hangs).with_supervisor(&token).await;
    let source = Source::Gitpod(GitpodSource::new(&gitpod.env()).with_api(&gitpod.api()));
    let minted = source.mint(&asking(Duration::from_secs(2))).await.expect("a token");
    assert_eq!(minted.token.expect("a token").expose(), token);
}

#[tokio::test]
async fn the_misleading_text_of_gp_is_shown_to_nobody() {
    let gitpod = Gitpod::new(Gp::Misleads);
    let source = Source::Gitpod(GitpodSource::new(&gitpod.env()));
    let error = source
        .mint(&asking(Duration::from_secs(20)))
        .await
        .expect_err("no token");
    assert!(matches!(error, MintError::Transient(_)));
    let text = error.to_string();
    assert!(
        !text.contains(MISLEADING) && text.contains("`gp idp token` failed"),
        "{text}"
    );
    assert!(text.contains("supervisor cannot be reached"), "{text}");
}

#[tokio::test]
async fn the_workspaces_own_token_never_goes_out_in_the_clear() {
    let gitpod = Gitpod::new(Gp::Absent).with_supervisor("x").await;
    let source = Source::Gitpod(GitpodSource::new(&gitpod.env()).with_api("http://192.0.2.1"));
    let error = source
        .mint(&asking(Duration::from_secs(20)))
        .await
        .expect_err("no token");
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn promise_5_another_persons_token_in_the_file_changes_principal_and_credential_together() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    let (first, second) = (jwt("person-1", 6), jwt("person-2", 60));
    replace(&path, &first);
    let mut running = run(Source::File(path.clone()));
    let lease = running.receiver.lease().await;
    assert_eq!(lease.principal.subject, "person-1");
    replace(&path, &second);
    running.generation(2).await;
    let lease = running.receiver.lease().await;
    assert_eq!(lease.principal.subject, "person-2");
    assert_eq!(lease.credential.token.as_ref().expect("a token").expose(), second);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_comes_late_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    let mut running = run(Source::File(path.clone()));
    while running.receiver.current().state != State::Starved {
        running.receiver.changed().await;
    }
    replace(&path, &jwt("person-1", 3600));
    running.receiver.refresh();
    running.generation(1).await;
    running.stop().await;
}

#[tokio::test]
async fn promise_7_no_log_line_holds_a_token_or_a_claim() {
    let log = Log::default();
    let _guard = log.capture();
    let token = jwt("canary-person", 3600);
    let gitpod = Gitpod::new(Gp::Misleads).with_supervisor(&token).await;
    let source = GitpodSource::new(&gitpod.env()).with_api(&gitpod.api());
    let mut running = run(Source::Gitpod(source));
    let generation = running.receiver.lease().await.credential.generation;
    running.receiver.verdict(generation, Verdict::Forbidden);
    while running.receiver.current().state != State::Denied {
        running.receiver.changed().await;
    }
    running.stop().await;
    let text = log.text();
    assert!(text.contains("nothing is sent"), "the log was not captured");
    let parts = token.split('.').chain(["owner-token", "canary-person", MISLEADING]);
    for secret in parts.filter(|part| part.len() > 4) {
        assert!(!text.contains(secret), "the log holds {secret}");
    }
}
