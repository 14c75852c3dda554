//! The device grant (RFC 8628): a person confirms a short code in a browser that may be anywhere.
//!
//! The issuer says how often it may be asked. `slow_down` makes that slower for good, an issuer that cannot be reached
//! is asked more slowly until it can, and the code's end is the end, by a clock that does not stop in suspend.
//!
//! An issuer that has PKCE (RFC 7636) gets it here too: some can be set to insist (Keycloak, "Proof Key for Code Exchange
//! Code Challenge Method" of a client), and the others ignore what they do not know (RFC 6749 section 3.1).

use std::time::Duration;

use oauth2::PkceCodeChallenge;
use url::Url;

use super::{App, LoginError};
use crate::identity::{
    claims,
    clock::Clock,
    discovery::Metadata,
    grant::{self, GrantError, Refusal, Tokens},
    secret::Secret,
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// RFC 8628 section 3.2: where the issuer says nothing.
const INTERVAL: Duration = Duration::from_secs(5);
/// RFC 8628 section 3.5.
const SLOWER: Duration = Duration::from_secs(5);
/// An issuer that is down is not asked less often than this: somebody waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Where the issuer does not say when the code ends, which it has to.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(600);

/// A login that waits for a person. Show it once.
#[derive(Debug)]
pub struct Device {
    /// Where the person goes.
    pub url: Url,
    /// The same with the code in it, for a QR code.
    pub complete_url: Option<Url>,
    /// What the person types there.
    pub user_code: String,
    /// How long the code is good for.
    pub lifetime: Duration,
    code: Secret,
    /// For an issuer that has PKCE.
    verifier: Option<Secret>,
    pace: Pace,
    began: Duration,
}

/// How often to ask.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    unreached: u32,
}

impl Device {
    /// Asks the issuer for a code.
    ///
    /// # Errors
    /// The issuer has no device grant, refuses, or cannot be reached.
    pub async fn begin(
        client: &reqwest::Client,
        metadata: &Metadata,
        app: &App,
        clock: &Clock,
    ) -> Result<Device, LoginError> {
        let endpoint = metadata
            .device_authorization_endpoint
            .as_ref()
            .ok_or(LoginError::NotOffered(
                "device grant",
                "log in with `--browser`, or allow the grant there",
            ))?;
        let scope = app.scope();
        let mut form = vec![("client_id", app.client_id.as_str()), ("scope", scope.as_str())];
        form.extend(app.audience_words());
        let pkce = metadata.has_pkce().then(PkceCodeChallenge::new_random_sha256);
        if let Some((challenge, _)) = &pkce {
            form.extend([
                ("code_challenge", challenge.as_str()),
                ("code_challenge_method", "S256"),
            ]);
        }
        let began = clock.now().boot;
        let proof = app.proof(metadata).await?;
        let (object, _) = grant::post(client, endpoint, &form, proof.as_ref(), "the issuer").await?;
        let unusable = || {
            LoginError::Grant(GrantError::Useless(
                "the issuer's answer holds no code that a person could use".to_owned(),
            ))
        };
        let url = |name: &str| object.text(name).and_then(|text| Url::parse(text).ok());
        // What is shown in a terminal must not command it.
        let user_code = object
            .text("user_code")
            .filter(|code| is_showable(code))
            .ok_or_else(unusable)?;
        let shown = |url: &Url| matches!(url.scheme(), "https" | "http");
        Ok(Device {
            url: url("verification_uri")
                // Google's name for it.
                .or_else(|| url("verification_url"))
                .filter(shown)
                .ok_or_else(unusable)?,
            complete_url: url("verification_uri_complete").filter(shown),
            user_code: user_code.to_owned(),
            lifetime: object
                .get("expires_in")
                .and_then(claims::seconds)
                .map_or(ASSUMED_LIFETIME, Duration::from_secs_f64),
            code: Secret::new(object.text("device_code").ok_or_else(unusable)?.to_owned()),
            verifier: pkce.map(|(_, verifier)| Secret::new(verifier.into_secret())),
            pace: Pace::new(object.get("interval").and_then(claims::seconds)),
            began,
        })
    }

    /// Asks until somebody confirmed, declined, or the code ended.
    ///
    /// # Errors
    /// Declined, too late, or a refusal that no further asking changes.
    pub async fn wait(
        &self,
        client: &reqwest::Client,
        metadata: &Metadata,
        app: &App,
        clock: &Clock,
    ) -> Result<Tokens, LoginError> {
        let mut form = vec![
            ("grant_type", GRANT),
            ("device_code", self.code.expose()),
            ("client_id", app.client_id.as_str()),
        ];
        form.extend(
            self.verifier
                .as_ref()
                .map(|verifier| ("code_verifier", verifier.expose())),
        );
        let proof = app.proof(metadata).await?;
        let ends = self.began + self.lifetime;
        poll(self.pace, ends, clock, || {
            grant::request(client, &metadata.token_endpoint, &form, proof.as_ref(), "the issuer")
        })
        .await
    }
}

/// Asks at the pace until there is an answer, or until `ends` (boot time).
async fn poll<F>(
    mut pace: Pace,
    ends: Duration,
    clock: &Clock,
    mut ask: impl FnMut() -> F,
) -> Result<Tokens, LoginError>
where
    F: Future<Output = Result<Tokens, GrantError>>,
{
    let mut left_alone = Duration::ZERO;
    loop {
        let left = ends.saturating_sub(clock.now().boot);
        if left.is_zero() {
            return Err(LoginError::TooLate);
        }
        let pause = pace.pause().max(std::mem::take(&mut left_alone));
        tokio::time::sleep(pause.min(left)).await;
        match ask().await {
            Ok(tokens) => return Ok(tokens),
            Err(GrantError::Refused(Refusal::AuthorizationPending)) => pace.reached(),
            Err(GrantError::Refused(Refusal::SlowDown)) => pace.slow_down(),
            Err(GrantError::Refused(Refusal::ExpiredToken)) => return Err(LoginError::TooLate),
            // RFC 8628 section 3.5: a connection that fails is no answer.
            Err(GrantError::Transient(trouble)) => {
                tracing::debug!(trouble, "the issuer is asked again, more slowly");
                pace.unreached();
            }
            // RFC 9110 section 10.2.3. The code ends meanwhile or it does not.
            Err(GrantError::Later(trouble, pause)) => {
                tracing::debug!(trouble, ?pause, "the issuer is asked again when it wants to be");
                pace.unreached();
                left_alone = pause;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Pace {
    fn new(told: Option<f64>) -> Pace {
        // Nobody wants to be asked without a pause.
        let interval = told.map_or(INTERVAL, |seconds| Duration::from_secs_f64(seconds.max(1.0)));
        Pace { interval, unreached: 0 }
    }

    fn pause(&self) -> Duration {
        let slower = self.interval * 2u32.pow(self.unreached.min(6));
        slower.min(LONGEST_PAUSE.max(self.interval))
    }

    fn reached(&mut self) {
        self.unreached = 0;
    }

    fn slow_down(&mut self) {
        self.unreached = 0;
        self.interval += SLOWER;
    }

    fn unreached(&mut self) {
        self.unreached += 1;
    }
}

/// Short, and of visible characters.
fn is_showable(code: &str) -> bool {
    code.len() <= 64 && code.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::identity::clock::Driven;

    fn driven() -> (Driven, Clock) {
        let driven = Driven::starting_at(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        (driven.clone(), Clock::Driven(driven))
    }

    fn tokens() -> Tokens {
        Tokens {
            access: Secret::new("at".to_owned()),
            id: None,
            refresh: None,
            lifetime: None,
            scope: None,
            date: None,
        }
    }

    /// Plays the answers and says at which second each was asked for.
    async fn play(answers: Vec<Result<Tokens, GrantError>>, lifetime: u64) -> (Result<Tokens, LoginError>, Vec<u64>) {
        let (_, clock) = driven();
        let asked = RefCell::new(Vec::new());
        let answers = RefCell::new(answers.into_iter());
        let result = poll(Pace::new(Some(5.0)), Duration::from_secs(lifetime), &clock, || {
            asked.borrow_mut().push(clock.now().boot.as_secs());
            let answer = answers.borrow_mut().next();
            async move { answer.unwrap_or(Err(GrantError::Refused(Refusal::AuthorizationPending))) }
        })
        .await;
        (result, asked.into_inner())
    }

    fn refused(refusal: Refusal) -> Result<Tokens, GrantError> {
        Err(GrantError::Refused(refusal))
    }

    #[tokio::test(start_paused = true)]
    async fn bug_slow_down_taken_for_the_end_is_for_ever_and_no_end() {
        let (result, asked) = play(
            vec![
                refused(Refusal::AuthorizationPending),
                refused(Refusal::SlowDown),
                refused(Refusal::AuthorizationPending),
                refused(Refusal::SlowDown),
                refused(Refusal::AuthorizationPending),
                Ok(tokens()),
            ],
            600,
        )
        .await;
        assert!(result.is_ok());
        assert_eq!(asked, [5, 10, 20, 30, 45, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_down_is_asked_more_slowly_until_it_answers() {
        let down = || Err(GrantError::Transient("502".to_owned()));
        let pending = || refused(Refusal::AuthorizationPending);
        let (result, asked) = play(vec![down(), down(), pending(), Ok(tokens())], 600).await;
        assert!(result.is_ok());
        assert_eq!(asked, [5, 15, 35, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_wants_a_pause_gets_it_once() {
        let busy = Err(GrantError::Later("429".to_owned(), Duration::from_secs(90)));
        let (result, asked) = play(vec![busy, refused(Refusal::AuthorizationPending), Ok(tokens())], 600).await;
        assert!(result.is_ok());
        assert_eq!(asked, [5, 95, 100]);
        let busy = Err(GrantError::Later("429".to_owned(), Duration::from_secs(90)));
        let (result, asked) = play(vec![busy], 60).await;
        assert_eq!(result.expect_err("the code ended meanwhile"), LoginError::TooLate);
        assert_eq!(asked, [5, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_codes_end_is_the_end_also_after_a_suspend() {
        let (result, asked) = play(Vec::new(), 12).await;
        assert_eq!(result.expect_err("too late"), LoginError::TooLate);
        assert_eq!(asked, [5, 10, 12]);

        let (machine, clock) = driven();
        let sleeper = machine.clone();
        let result = poll(Pace::new(None), Duration::from_secs(600), &clock, || {
            sleeper.suspend(Duration::from_secs(7200));
            async { refused(Refusal::AuthorizationPending) }
        })
        .await;
        assert_eq!(result.expect_err("slept through it"), LoginError::TooLate);
    }

    #[test]
    fn an_issuer_that_wants_to_be_asked_at_once_is_asked_with_a_pause() {
        for told in [0.0, 0.001, 0.999] {
            assert_eq!(Pace::new(Some(told)).pause(), Duration::from_secs(1));
        }
        assert_eq!(Pace::new(None).pause(), INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn declined_is_final() {
        let (result, asked) = play(vec![refused(Refusal::AccessDenied)], 600).await;
        assert_eq!(
            result.expect_err("declined"),
            LoginError::Grant(GrantError::Refused(Refusal::AccessDenied))
        );
        assert_eq!(asked.len(), 1);
    }

    #[test]
    fn a_code_that_commands_the_terminal_is_not_shown() {
        assert!(is_showable("WDJB-MJHT"));
        assert!(!is_showable("\x1b[2J"));
        assert!(!is_showable(&"A".repeat(65)));
    }
}
