//! The loop, on Tokio's paused clock and a clock that is driven by it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::*;
use crate::identity::{
    Verdict,
    claims::tests::jwt,
    clock::Driven,
    source::{Minted, Scripted},
};

const CANARY: &str = "canary-4f1d";
/// When stories begin, in seconds since the epoch.
const START: u64 = 1_800_000_000;

struct Story {
    receiver: Receiver,
    driven: Driven,
    asked: Arc<AtomicU64>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn begin() -> Driven {
    Driven::starting_at(UNIX_EPOCH + Duration::from_secs(START))
}

/// An issuer on the driven clock; `broken(n)` fails the nth asking.
fn story(lifetime: Duration, broken: impl Fn(u64) -> bool + Send + Sync + 'static) -> Story {
    let driven = begin();
    let issuer = Clock::Driven(driven.clone());
    let answer = move |number| {
        if broken(number) {
            return (
                Duration::from_millis(10),
                Err(MintError::Transient("no connection".into())),
            );
        }
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let now = seconds(issuer.now().wall);
        let payload = json!({
            "iss": "https://issuer.example", "sub": "1", "jti": format!("{CANARY}-{number}"),
            "iat": now, "exp": now + lifetime.as_secs_f64(),
        });
        let minted = Minted {
            fresh: true,
            ..Minted::bare(Secret::new(jwt(&payload)))
        };
        (Duration::from_millis(200), Ok(minted))
    };
    story_of(driven, answer)
}

/// A source that answers so, the nth asking by its number.
fn story_of(
    driven: Driven,
    answer: impl Fn(u64) -> (Duration, Result<Minted, MintError>) + Send + Sync + 'static,
) -> Story {
    let clock = Clock::Driven(driven.clone());
    let asked = Arc::new(AtomicU64::new(0));
    let (identity, receiver) = Identity::build(Config {
        source: Source::Scripted(Scripted {
            answer: Arc::new(answer),
            asked: asked.clone(),
        }),
        exchange: None,
        audience: "https://upstream.example".into(),
        attributes: Attributes::Full,
        pseudonym_key: None,
        fallback: Principal::os_user("host", "jo"),
        issuer: None,
        ca_file: None,
        clock,
    });
    let shutdown = CancellationToken::new();
    Story {
        receiver,
        driven,
        asked,
        task: tokio::spawn(identity.run(shutdown.clone())),
        shutdown,
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_gets_the_first_credential_and_then_ever_newer_ones() {
    let mut story = story(Duration::from_secs(10), |_| false);
    let mut last = 0;
    for _ in 0..200 {
        let lease = story.receiver.lease().await;
        assert!(lease.credential.generation >= last);
        last = lease.credential.generation;
        assert_eq!(lease.principal.subject, "1");
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(
            story.receiver.current().lease().is_some(),
            "a healthy issuer left a gap"
        );
    }
    // 120 s of 10-second tokens, each replaced half-way.
    assert!((20..=32).contains(&last), "{last} generations");
    // The next attempt may be under way.
    assert!(story.asked.load(Ordering::Relaxed) - last <= 1);
    let current = story.receiver.current();
    let newest = current.credential.expect("a credential").generation;
    assert_eq!(current.rotations, newest - 1);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_senders_with_a_401_get_one_new_credential() {
    let mut story = story(Duration::from_secs(3600), |_| false);
    let first = story.receiver.lease().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (mut receiver, generation) = (story.receiver.clone(), first.credential.generation);
        senders.spawn(async move {
            receiver.verdict(generation, Verdict::Unauthenticated);
            receiver.changed().await;
            receiver.lease().await.credential.generation
        });
    }
    while let Some(generation) = senders.join_next().await {
        assert_eq!(generation.expect("a sender"), 2);
    }
    assert_eq!(story.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_in_its_place_is_not_blamed_on_a_clock() {
    let token = jwt(&json!({"iss": "https://issuer.example", "sub": "1", "iat": START, "exp": START + 12}));
    let answer = move |_| (Duration::ZERO, Ok(Minted::bare(Secret::new(token.clone()))));
    let mut story = story_of(begin(), answer);
    story.receiver.lease().await;
    while story.receiver.current().state != State::Starved {
        story.receiver.changed().await;
    }
    let ended = "the token ended, and the scripted source gave no fresh one";
    loop {
        let trouble = story.receiver.current().trouble.unwrap_or_default();
        if trouble == ended {
            break;
        }
        assert!(!trouble.contains("clock"), "{trouble}");
        story.receiver.changed().await;
    }
    let file = Source::File("/run/token".into());
    assert_eq!(
        file.ended(),
        "the token in /run/token ended, and no fresh one was written"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_nobody_gets_the_old_credential() {
    let mut story = story(Duration::from_secs(300), |_| false);
    story.receiver.lease().await;
    story.driven.suspend(Duration::from_secs(7200));
    assert!(story.receiver.current().lease().is_none());
    assert_eq!(story.receiver.lease().await.credential.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_set_back_and_forth_leaves_a_usable_credential() {
    let mut story = story(Duration::from_secs(300), |_| false);
    for by in [3600, -7200, 3600] {
        story.receiver.lease().await;
        story.driven.set_wall(by);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let left = story.receiver.current().seconds_to_expiry().expect("an end");
        assert!(left > 100.0 && left <= 300.0, "{left}");
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_is_told_and_forgotten() {
    let mut story = story(Duration::from_secs(3600), |number| number <= 3);
    while story.receiver.current().failures < 3 {
        story.receiver.changed().await;
    }
    let current = story.receiver.current();
    assert_eq!(current.state, State::Starved);
    assert_eq!(current.trouble.as_deref(), Some("no connection"));
    story.receiver.lease().await;
    assert_eq!(story.receiver.current().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_gets_a_new_one_now() {
    let mut story = story(Duration::from_secs(3600), |_| false);
    story.receiver.lease().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    story.receiver.refresh();
    while story.receiver.lease().await.credential.generation < 2 {
        story.receiver.changed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_stop_forgets_the_credential() {
    let mut story = story(Duration::from_secs(3600), |_| false);
    story.receiver.lease().await;
    story.shutdown.cancel();
    story.task.await.expect("the loop ends");
    let current = story.receiver.current();
    assert_eq!(current.state, State::Stopped);
    assert!(current.credential.is_none());
}

#[tokio::test(start_paused = true)]
async fn no_debug_text_holds_the_token() {
    let mut story = story(Duration::from_secs(3600), |_| false);
    let lease = story.receiver.lease().await;
    let token = lease.credential.token.clone().expect("a token");
    let shown = format!(
        "{lease:?} {:?} {:?} {token:?}",
        story.receiver,
        story.receiver.current()
    );
    for part in token.expose().split('.') {
        assert!(!shown.contains(part), "a part of the token is shown");
    }
}

#[tokio::test]
async fn without_a_credential_the_platforms_word_is_published_before_the_loop_runs() {
    let (_identity, receiver) = Identity::build(Config {
        source: Source::None,
        exchange: None,
        audience: String::new(),
        attributes: Attributes::Pseudonym,
        pseudonym_key: Some(Secret::new(CANARY.into())),
        fallback: Principal::platform("gitpod", "u-1"),
        issuer: None,
        ca_file: None,
        clock: Clock::System,
    });
    let lease = receiver.current().lease().expect("a lease");
    assert!(lease.credential.token.is_none());
    assert_eq!(lease.principal.attributes[0].0, "user.hash");
    assert_eq!(receiver.current().source, "none");
}

#[tokio::test]
async fn an_exchange_that_says_nothing_ends_with_the_attempt_and_is_noted() {
    // Connections wait in the backlog; nobody ever answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/token", listener.local_addr().expect("an address"));
    let exchange = Exchange {
        grant: crate::identity::exchange::Grant::TokenExchange,
        endpoint: crate::identity::exchange::TokenEndpoint::At(url::Url::parse(&url).expect("a URL")),
        subject_audience: "https://issuer.example".into(),
        audience: None,
        scopes: Vec::new(),
        client_id: None,
        client_secret_file: None,
        parameters: std::collections::BTreeMap::new(),
    };
    let asking = Asking {
        audience: &exchange.subject_audience,
        ca_file: None,
        timeout: Duration::from_secs(30),
    };
    let own = Minted::bare(Secret::new(CANARY.into()));
    let mut steps = Vec::new();
    let error = swap(&exchange, own, &asking, Duration::from_millis(200), &mut steps)
        .await
        .expect_err("nobody answers");
    assert!(
        matches!(&error, MintError::Transient(text) if text.contains("in time")),
        "{error}"
    );
    assert_eq!(steps.len(), 1);
    assert!(steps[0].trouble.is_some() && !format!("{error} {steps:?}").contains(CANARY));
}
