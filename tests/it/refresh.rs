//! The refresh of a login against a strict provider: rotation, reuse detection, crashes, quirks of answers.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use serde_json::json;
use tagalong::{
    identity::{
        keep::{Keep, Login, Place, Shown, Wanted},
        login::App,
        secret::Secret,
        source::{
            Asking, MintError, Minted, Source,
            refresh::{Flow, Session},
        },
    },
    workspace::Birthplace,
};
use tempfile::TempDir;

use crate::support::provider::{CLIENT, PATIENCE, Provider, Settings};

/// What this machine says of itself.
const HERE: &str = "boot:b1 machine:m1";

/// A login that somebody made, kept in a file as with consent.
struct LoggedIn {
    provider: Provider,
    runtime: TempDir,
}

impl LoggedIn {
    async fn with(settings: Settings) -> LoggedIn {
        let story = LoggedIn {
            provider: Provider::with(settings).await,
            runtime: tempfile::tempdir().expect("a directory"),
        };
        story.keep(&story.provider.grant(), HERE).await;
        story
    }

    async fn new() -> LoggedIn {
        LoggedIn::with(Settings::default()).await
    }

    fn app(&self) -> App {
        App {
            issuer: self.provider.url(),
            client_id: CLIENT.to_owned(),
            client_secret_file: None,
            scopes: vec!["openid".to_owned(), "offline_access".to_owned()],
            audience: "https://upstream.example".to_owned(),
        }
    }

    fn place(&self) -> Keep {
        Keep::new(Wanted::File, self.runtime.path(), &self.app().name())
    }

    async fn keep(&self, token: &str, host: &str) {
        let login = Login {
            refresh: Secret::new(token.to_owned()),
            shown: Shown::Access,
            host: Birthplace::parse(host),
            not_granted: Vec::new(),
        };
        assert_eq!(self.place().store(&login).await, Ok(Place::File));
    }

    async fn kept(&self) -> Option<String> {
        let login = self.place().load().await.expect("readable")?;
        Some(login.refresh.expose().to_owned())
    }

    /// A process of its own would have a session of its own, and so does each call.
    fn session(&self) -> Source {
        Source::Login(self.session_with(self.place()))
    }

    fn session_with(&self, keep: Keep) -> Session {
        Session::new(
            Flow::Device,
            self.app(),
            keep,
            Birthplace::parse(HERE),
            self.runtime.path(),
        )
    }

    async fn mint(&self) -> Result<Minted, MintError> {
        mint(&self.session()).await
    }

    /// A refresh that the provider has done and does not answer yet.
    async fn held(&self, source: Source) -> tokio::task::JoinHandle<Result<Minted, MintError>> {
        self.provider.hold(true);
        let minting = tokio::spawn(async move { mint(&source).await });
        self.provider.wait(|seen| seen.refreshes == 1).await;
        minting
    }

    fn marker(&self) -> std::path::PathBuf {
        self.runtime.path().join(format!("login-{}.sent", self.app().name()))
    }
}

async fn mint(source: &Source) -> Result<Minted, MintError> {
    let asking = Asking {
        audience: "https://upstream.example",
        ca_file: None,
        timeout: PATIENCE,
    };
    source.mint(&asking).await
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn each_refresh_keeps_the_new_token_and_asks_for_the_audience() {
    let story = LoggedIn::new().await;
    for number in 1..=3 {
        let minted = story.mint().await.expect("a credential");
        assert_eq!(minted.lifetime, Some(Duration::from_secs(600)));
        assert!(story.kept().await.expect("kept").ends_with(&format!("-{number}")));
        assert!(!story.marker().exists(), "nothing is under way");
    }
    let seen = story.provider.seen();
    assert_eq!((seen.refreshes, seen.reused), (3, 0));
    assert!(
        seen.audiences
            .iter()
            .all(|audience| audience == "https://upstream.example")
    );
}

#[tokio::test]
async fn what_was_not_granted_is_known_after_an_answer_that_does_not_say_it_again() {
    let story = LoggedIn::new().await;
    let lacking = |scope: serde_json::Value| {
        let (story, app) = (
            &story,
            App {
                scopes: vec!["openid".to_owned(), "telemetry".to_owned()],
                ..story.app()
            },
        );
        async move {
            let keep = Keep::new(Wanted::File, story.runtime.path(), "limited");
            let kept = story.place().load().await.expect("readable").expect("a login");
            if keep.load().await.expect("readable").is_none() {
                keep.store(&kept).await.expect("kept");
            }
            let answer = json!({"access_token": "opaque", "refresh_token": "next", "scope": scope});
            story.provider.script(200, "application/json", answer);
            let here = Birthplace::parse(HERE);
            let session = Session::new(Flow::Device, app, keep, here, story.runtime.path());
            mint(&Source::Login(session)).await.expect("a credential").not_granted
        }
    };
    assert_eq!(lacking(json!("openid")).await, ["telemetry"]);
    assert_eq!(
        lacking(json!(null)).await,
        ["telemetry"],
        "by another process, from what is kept"
    );
    assert!(lacking(json!("openid telemetry")).await.is_empty());
}

#[tokio::test]
async fn bug_refresh_token_dropped_when_the_response_omits_it() {
    let story = LoggedIn::with(Settings {
        rotates: false,
        ..Settings::default()
    })
    .await;
    let before = story.kept().await;
    for _ in 0..2 {
        story.mint().await.expect("a credential");
    }
    assert_eq!(story.kept().await, before, "the one that was sent stays good");
}

#[tokio::test]
async fn a_lifetime_that_is_a_text_missing_or_zero_is_no_trouble() {
    for (written, lifetime) in [
        (json!("300"), Some(Duration::from_secs(300))),
        (json!(null), None),
        (json!(0), None),
    ] {
        let story = LoggedIn::with(Settings {
            expires_in: written,
            ..Settings::default()
        })
        .await;
        assert_eq!(story.mint().await.expect("a credential").lifetime, lifetime);
    }
}

#[tokio::test]
async fn bug_captive_portal_200_with_html_is_no_end_of_the_login() {
    let story = LoggedIn::new().await;
    let before = story.kept().await;
    for (status, content_type, body) in [
        (200, "text/html", "<html>sign in to the wifi</html>"),
        (200, "application/json", ""),
        (502, "text/html", "<html>bad gateway</html>"),
        (429, "application/json", r#"{"error":"invalid_grant"}"#),
    ] {
        story.provider.script(status, content_type, body);
        let error = story.mint().await.expect_err("no token");
        assert!(matches!(error, MintError::Transient(_)), "{status}: {error}");
        assert_eq!(story.kept().await, before);
    }
    story.mint().await.expect("the portal is behind us");
}

#[tokio::test]
async fn an_issuer_that_wants_a_pause_says_so_to_all_who_wait_and_keeps_the_login() {
    let story = LoggedIn::new().await;
    let before = story.kept().await;
    for (status, asked, pause) in [(429, "30", 30), (503, "86400", 300)] {
        story.provider.script_pause(status, asked);
        let error = story.mint().await.expect_err("no token");
        assert_eq!(error.pause(), Some(Duration::from_secs(pause)), "{error}");
    }
    assert_eq!(story.kept().await, before);
    story.mint().await.expect("a credential");
}

#[tokio::test]
async fn bug_errors_come_as_http_200() {
    let story = LoggedIn::new().await;
    story
        .provider
        .script(200, "application/json", r#"{"error":"invalid_grant"}"#);
    let error = story.mint().await.expect_err("no token");
    assert!(matches!(error, MintError::NeedsUser(_)), "{error}");
}

#[tokio::test]
async fn invalid_grant_ends_the_login_once_and_is_not_asked_about_again() {
    let story = LoggedIn::new().await;
    story.keep("canary-rt-of-nobody", HERE).await;
    for _ in 0..3 {
        let error = story.mint().await.expect_err("no token");
        assert!(matches!(&error, MintError::NeedsUser(text) if text.matches("tagalong login").count() == 1));
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    assert_eq!(
        story.provider.seen().refresh_requests,
        1,
        "a token that is dead is sent once"
    );
}

#[tokio::test]
async fn invalid_grant_for_a_token_that_another_process_replaced_is_tried_with_the_new_one() {
    let story = LoggedIn::new().await;
    let newer = story.provider.grant();
    story
        .provider
        .script(400, "application/json", r#"{"error":"invalid_grant"}"#);
    let session = story.session();
    // Somebody without our lock (another runtime directory, the same keyring) keeps a newer one meanwhile.
    story.provider.hold(true);
    let minting = tokio::spawn(async move { mint(&session).await });
    story.provider.wait(|seen| seen.refresh_requests == 1).await;
    story.keep(&newer, HERE).await;
    story.provider.hold(false);
    minting.await.expect("it ends").expect("a credential");
}

#[tokio::test]
async fn an_unknown_refusal_is_tried_again_and_after_five_a_person_is_asked() {
    let story = LoggedIn::new().await;
    let session = story.session();
    for times in 1..=5 {
        story
            .provider
            .script(401, "application/json", r#"{"error":"of the vendors own"}"#);
        let error = mint(&session).await.expect_err("no token");
        assert_eq!(matches!(error, MintError::NeedsUser(_)), times == 5, "{times}: {error}");
    }
    mint(&session).await.expect("it was not the login's end after all");
}

#[tokio::test]
async fn a_wrong_client_is_a_setting_and_leaves_the_login_alone() {
    let story = LoggedIn::new().await;
    story
        .provider
        .script(401, "application/json", r#"{"error":"invalid_client"}"#);
    let error = story.mint().await.expect_err("no token");
    assert!(matches!(error, MintError::Config(_)), "{error}");
    assert!(story.kept().await.is_some());
}

#[tokio::test]
async fn nobody_is_logged_in_is_said_at_once_and_asks_nobody() {
    let story = LoggedIn::new().await;
    story.place().forget().await;
    let error = tokio::time::timeout(Duration::from_secs(1), story.mint()).await;
    let error = error
        .expect("bug_hang_on_expired_refresh_token: within a second")
        .expect_err("nobody");
    assert!(matches!(&error, MintError::NeedsUser(text) if text.contains("tagalong login")));
    assert_eq!(story.provider.seen(), Default::default());
}

#[tokio::test]
async fn a_copy_of_the_machine_does_not_use_the_login() {
    let story = LoggedIn::new().await;
    let token = story.kept().await.expect("kept");
    story.keep(&token, "boot:b1 machine:m2").await;
    for _ in 0..2 {
        let error = story.mint().await.expect_err("a copy");
        assert!(matches!(&error, MintError::NeedsUser(text) if text.contains("another machine")));
    }
    assert_eq!(story.provider.seen().refresh_requests, 0);
    // The original goes on.
    story.keep(&token, HERE).await;
    story.mint().await.expect("a credential");
    assert_eq!(story.provider.seen().reused, 0);
}

#[tokio::test]
async fn a_machine_that_says_more_of_itself_keeps_its_login_and_remembers_what_it_says_now() {
    let story = LoggedIn::new().await;
    let token = story.kept().await.expect("kept");
    // As it was before a package was installed that gives the machine one more name.
    story.keep(&token, "machine:m1").await;
    story.mint().await.expect("a credential");
    let kept = story.place().load().await.expect("readable").expect("a login");
    assert_eq!(kept.host, Birthplace::parse(HERE));
}

#[tokio::test]
async fn a_login_of_an_earlier_version_is_left_alone_and_a_new_one_is_asked_for() {
    let story = LoggedIn::new().await;
    let token = story.kept().await.expect("kept");
    let earlier = json!({"refresh_token": token, "shown": "access", "host": "6d0b2d1be5f5a2a1c4e0d2f3a1b2c3d4"});
    fs::write(story.place().file(), earlier.to_string()).expect("a file");
    let error = story.mint().await.expect_err("it may be a copy's");
    assert!(
        matches!(&error, MintError::NeedsUser(text) if text.contains("earlier version") && text.contains("tagalong login")),
        "{error}"
    );
    assert_eq!(story.provider.seen().refresh_requests, 0);
    assert_eq!(story.kept().await, Some(token), "it can still be revoked");
    story.session_with(story.place()).end(None).await.expect("it ends");
    assert_eq!(story.provider.seen().revoked, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_that_want_the_refresh_token_make_one_refresh() {
    let story = LoggedIn::new().await;
    story.provider.hold(true);
    let minting: Vec<_> = (0..100)
        .map(|_| {
            // Each with handles of its own, as a process would have.
            let session = story.session();
            tokio::spawn(async move { mint(&session).await })
        })
        .collect();
    story.provider.wait(|seen| seen.refreshes == 1).await;
    wait_for_followers(story.runtime.path(), 99).await;
    story.provider.hold(false);
    let mut tokens = std::collections::BTreeSet::new();
    for minting in minting {
        let minted = minting.await.expect("it ends").expect("a credential");
        tokens.insert(minted.token.expect("a token").expose().to_owned());
    }
    let seen = story.provider.seen();
    assert_eq!((tokens.len(), seen.refresh_requests, seen.reused), (1, 1, 0));
    assert_eq!(story.provider.alive(), 1);
}

/// Returns once so many wait at the socket beside the lock: the kernel lists each of their ends with its path.
pub async fn wait_for_followers(runtime: &Path, count: usize) {
    let sockets = || {
        let list = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let runtime = runtime.to_string_lossy().into_owned();
        list.lines()
            .filter(|line| line.contains(&runtime) && line.ends_with(".sock"))
            .count()
    };
    let began = std::time::Instant::now();
    // The listener itself is one more.
    while sockets() < count + 1 {
        // Whoever came gives up after half a minute, and then they are never so many.
        assert!(began.elapsed() < 2 * PATIENCE, "{} of {count} came", sockets());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_caller_gives_up_and_the_exchange_goes_on_to_its_end() {
    let story = LoggedIn::new().await;
    let minting = story.held(story.session()).await;
    minting.abort();
    let _ = minting.await;
    assert!(story.marker().exists(), "a token is on its way");
    story.provider.hold(false);
    // The lock is free once the answer is kept, and the next refresh is one with the new token.
    story.mint().await.expect("a credential");
    assert_eq!(story.provider.seen().reused, 0);
    assert_eq!(story.provider.alive(), 1);
}

#[tokio::test]
async fn a_token_rests_nowhere_but_in_its_place_and_an_access_token_nowhere() {
    let story = LoggedIn::new().await;
    let minted = story.mint().await.expect("a credential");
    let token = minted.token.expect("a token");
    let name = story.app().name();
    let mut found = files(story.runtime.path());
    found.sort();
    assert_eq!(found, [format!("login-{name}.json"), format!("login-{name}.lock")]);
    for file in found {
        let text = fs::read_to_string(story.runtime.path().join(file)).expect("readable");
        assert!(!text.contains(token.expose()));
    }
}

#[tokio::test]
async fn an_opaque_access_token_leaves_the_id_token_to_be_shown_for_good() {
    let story = LoggedIn::with(Settings {
        is_opaque: true,
        ..Settings::default()
    })
    .await;
    let login = Login {
        refresh: Secret::new(story.provider.grant()),
        shown: Shown::Id,
        host: Birthplace::parse(HERE),
        not_granted: Vec::new(),
    };
    story.place().store(&login).await.expect("kept");
    let minted = story.mint().await.expect("a credential");
    assert_eq!(minted.token.expect("a token").expose().split('.').count(), 3);
    story
        .provider
        .script(200, "application/json", json!({"access_token": "opaque"}));
    let error = story.mint().await.expect_err("no ID token");
    assert!(
        matches!(error, MintError::Config(_)),
        "another token would be another person: {error}"
    );
}

#[tokio::test]
async fn logging_out_revokes_and_forgets() {
    let story = LoggedIn::new().await;
    let session = story.session_with(story.place());
    assert_eq!(session.end(None).await, Ok(Some(true)));
    assert_eq!((story.provider.alive(), story.kept().await), (0, None));
    assert_eq!(session.end(None).await, Ok(None), "nobody is logged in any more");
    // A provider that is away keeps nobody logged in here.
    story.keep("canary-rt-0-0", HERE).await;
    story.provider.kill();
    assert_eq!(session.end(None).await, Ok(Some(false)));
    assert_eq!(story.kept().await, None);
}

#[tokio::test]
async fn logging_out_of_a_login_that_cannot_be_read_takes_nothing_away() {
    let story = LoggedIn::new().await;
    let minted = story.mint().await.expect("a credential");
    let session = story.session_with(story.place());
    let refresh = Secret::new(story.kept().await.expect("a login"));
    session
        .take_over(refresh, Shown::Access, Vec::new(), Some(minted))
        .await
        .expect("kept");
    fs::set_permissions(story.place().file(), fs::Permissions::from_mode(0o644)).expect("its owner may");
    session.end(None).await.expect_err("others can read it");
    let before = story.provider.seen().refresh_requests;
    mint(&Source::Login(session)).await.expect("the one that was brought");
    assert_eq!(story.provider.seen().refresh_requests, before);
}

#[tokio::test]
async fn logging_out_waits_for_the_refresh_that_is_under_way() {
    let story = LoggedIn::new().await;
    let minting = story.held(story.session()).await;
    let session = story.session_with(story.place());
    let (ended, ()) = tokio::join!(session.end(None), async { story.provider.hold(false) });
    assert_eq!(ended, Ok(Some(true)));
    minting
        .await
        .expect("no panic")
        .expect("a credential, for its last minutes");
    assert_eq!((story.provider.alive(), story.kept().await), (0, None));
}

/// Nobody who logs out waits for ever for an issuer that does not answer.
#[tokio::test]
async fn a_login_that_was_ended_while_it_was_renewed_stays_ended() {
    let story = LoggedIn::new().await;
    let minting = story.held(story.session()).await;
    story.place().forget().await;
    story.provider.hold(false);
    let error = minting.await.expect("no panic").expect_err("nobody is logged in");
    assert!(matches!(error, MintError::Transient(_)), "{error}");
    assert_eq!((story.provider.alive(), story.kept().await), (0, None));
}

/// The same, for whoever logs in.
#[tokio::test]
async fn a_login_that_came_while_another_was_renewed_is_the_one_that_stays() {
    let story = LoggedIn::new().await;
    let minting = story.held(story.session()).await;
    let newer = story.provider.grant();
    story.keep(&newer, HERE).await;
    story.provider.hold(false);
    minting.await.expect("no panic").expect_err("of a login that is over");
    assert_eq!(story.kept().await, Some(newer));
    story.mint().await.expect("a credential of the newer login");
    assert_eq!(story.provider.seen().reused, 0);
}

#[tokio::test]
async fn a_login_without_a_refresh_token_leaves_none_of_the_login_before_it() {
    let story = LoggedIn::new().await;
    let (first, second) = (story.mint().await.expect("one"), story.mint().await.expect("another"));
    let asked = story.provider.seen().refresh_requests;
    let keep = Keep::new(Wanted::Memory, story.runtime.path(), &story.app().name());
    let session = story.session_with(keep);
    let refresh = Secret::new(story.provider.grant());
    session.begin(Some(refresh), Shown::Access, first).await.expect("kept");
    session
        .begin(None, Shown::Access, second)
        .await
        .expect("nothing to keep");
    let source = Source::Login(session);
    mint(&source).await.expect("what the login brought");
    let error = mint(&source).await.expect_err("nobody is logged in");
    assert!(matches!(error, MintError::NeedsUser(_)), "{error}");
    assert_eq!(story.provider.seen().refresh_requests, asked);
}

#[tokio::test]
async fn a_new_refresh_token_that_its_place_does_not_take_is_held_until_it_does() {
    let story = LoggedIn::new().await;
    let place = story.place().file().to_owned();
    let source = story.session();
    let minting = story.held(source.clone()).await;
    // No file can be put in the place of a directory.
    fs::remove_file(&place).expect("the login");
    fs::create_dir(&place).expect("a directory");
    story.provider.hold(false);
    minting.await.expect("no panic").expect("a credential");
    mint(&source).await.expect("the next, under the token that was held");
    fs::remove_dir(&place).expect("still there");
    mint(&source).await.expect("another");
    assert_eq!((story.provider.seen().reused, story.provider.alive()), (0, 1));
    assert!(story.kept().await.is_some(), "it is in its place again");
    story.mint().await.expect("another process goes on with it");
}
