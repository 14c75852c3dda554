//! `device` and `browser`: minting from the refresh token of a login (RFC 6749 section 6), which the issuer may replace
//! each time (RFC 9700 section 2.2.2).
//!
//! A refresh token that is used twice is one that the issuer takes for stolen, and then the whole login is over. So:
//! - one process at a time refreshes, under a lock; whoever comes meanwhile gets what the first one got;
//! - the new refresh token rests before the access token is given to anybody;
//! - once it is sent, nothing cancels the exchange: it runs as a task of its own;
//! - a marker says that one was sent, so that a start after a crash knows why the issuer may refuse it;
//! - a machine that is a copy of the one that logged in does not use it at all.
//!
//! Nothing here asks a person. Where only a person helps, it says `tagalong login`, once, and goes on waiting.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{Asking, MintError, Minted};
use crate::identity::{
    discovery::{Metadata, discover},
    grant::{self, GrantError, Refusal, Tokens},
    keep::{Keep, KeepError, Login, Place, Shown},
    login::{self, App},
    proof::Proof,
    secret::Secret,
    web,
};
use crate::workspace::Birthplace;

mod lock;
mod marker;
mod sharing;

use lock::Lock;
use marker::Marker;
use sharing::Sharing;

/// How long a login or logout waits for a refresh: less than the command line waits for the agent.
const ALONE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether another process is done: it says so itself, but it may have been killed.
const LOOK: Duration = Duration::from_millis(25);
/// How long after an exchange without an answer an issuer may still take the same token again: Okta's default.
const GRACE: Duration = Duration::from_secs(30);
/// So many refusals without a known reason are a refusal.
const UNCLEAR: u32 = 5;

/// What to say where only a person helps, after what happened: whoever tells it for the second time takes it off the end.
pub const LOG_IN: &str = "run `tagalong login`";

/// How a person logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With a code, on any device (RFC 8628).
    Device,
    /// In a browser on this machine (RFC 8252).
    Browser,
}

/// A login, and the credentials that are minted from it. Clones are the same login.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    flow: Flow,
    app: App,
    keep: Keep,
    /// This machine, under `keep`'s setting.
    host: Birthplace,
    /// For the lock, the marker and the socket: `login-NAME.*`.
    directory: PathBuf,
    /// What a login just brought, not yet asked for.
    fresh: Mutex<Option<Minted>>,
    /// The issuer's endpoints, until something of it fails.
    metadata: Mutex<Option<Metadata>>,
    unclear: AtomicU32,
}

impl Flow {
    /// The value of `identity.credential`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Flow::Device => "device",
            Flow::Browser => "browser",
        }
    }
}

impl Session {
    /// `directory` is the runtime directory, in which others cannot write; it need not exist yet.
    pub fn new(flow: Flow, app: App, keep: Keep, host: Birthplace, directory: &Path) -> Session {
        Session(Arc::new(Inner {
            flow,
            app,
            keep,
            host,
            directory: directory.to_owned(),
            fresh: Mutex::default(),
            metadata: Mutex::default(),
            unclear: AtomicU32::new(0),
        }))
    }

    /// How a person logs in.
    pub fn flow(&self) -> Flow {
        self.0.flow
    }

    /// Who logs in where, for what.
    pub fn app(&self) -> &App {
        &self.0.app
    }

    /// Where the login rests.
    pub fn resting(&self) -> &Keep {
        &self.0.keep
    }

    /// Takes in what a login brought. The refresh token rests before anything else happens; without one, whoever brings it
    /// has seen to what rests elsewhere.
    ///
    /// # Errors
    /// It rests nowhere.
    pub async fn begin(
        &self,
        refresh: Option<Secret>,
        shown: Shown,
        minted: Minted,
    ) -> Result<Option<Place>, KeepError> {
        let _alone = self.0.alone().await;
        let place = match refresh {
            Some(refresh) => {
                let login = Login {
                    refresh,
                    shown,
                    host: self.0.host.clone(),
                    not_granted: minted.not_granted.clone(),
                };
                Some(self.0.keep.store(&login).await?)
            }
            None => {
                self.0.keep.forget_memory();
                None
            }
        };
        self.0.marker().clear();
        *self.0.fresh() = Some(minted);
        Ok(place)
    }

    /// Goes on with a login that another process of this user had in its memory, and does not use any more. What that
    /// one had sent without an answer is still marked, because the issuer may still refuse it.
    ///
    /// # Errors
    /// It rests nowhere.
    pub async fn take_over(
        &self,
        refresh: Secret,
        shown: Shown,
        not_granted: Vec<String>,
        minted: Option<Minted>,
    ) -> Result<(), KeepError> {
        let login = Login {
            refresh,
            shown,
            host: self.0.host.clone(),
            not_granted,
        };
        self.0.keep.store(&login).await?;
        *self.0.fresh() = minted;
        Ok(())
    }

    /// Revokes and forgets. True if the issuer said that it revoked.
    ///
    /// # Errors
    /// The login cannot be read; nothing was forgotten.
    pub async fn end(&self, ca_file: Option<&Path>) -> Result<Option<bool>, KeepError> {
        let _alone = self.0.alone().await;
        let kept = self.0.keep.load().await?;
        *self.0.fresh() = None;
        let revoked = match &kept {
            Some(kept) => Some(self.0.revoke(&kept.refresh, ca_file).await),
            None => None,
        };
        self.0.keep.forget().await;
        self.0.marker().clear();
        Ok(revoked)
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        if let Some(minted) = self.0.fresh().take() {
            return Ok(minted);
        }
        let began = tokio::time::Instant::now();
        loop {
            match Lock::take(&self.0.path("lock"))
                .map_err(|error| MintError::Transient(format!("the lock of the login cannot be had: {error}")))?
            {
                Some(lock) => {
                    let (inner, ca_file) = (Arc::clone(&self.0), asking.ca_file.map(Path::to_owned));
                    // Its own task: whoever waits may give up, a refresh token that was sent must not be.
                    let turn = tokio::spawn(async move { inner.turn(lock, ca_file.as_deref()).await });
                    return turn
                        .await
                        .unwrap_or_else(|_| Err(MintError::Transient("the refresh broke off".to_owned())));
                }
                None => match sharing::follow(&self.0.path("sock")).await {
                    Some(result) => return result,
                    None if began.elapsed() >= sharing::PATIENCE => {
                        return Err(MintError::Transient(format!(
                            "another process began to renew the login and does not end: it holds {}",
                            self.0.path("lock").display()
                        )));
                    }
                    // Not yet there, or gone already.
                    None => tokio::time::sleep(LOOK).await,
                },
            }
        }
    }
}

impl Inner {
    /// `login-NAME.EXTENSION` in the runtime directory.
    fn path(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("login-{}.{extension}", self.app.name()))
    }

    fn marker(&self) -> Marker {
        Marker::new(self.path("sent"))
    }

    /// Waits for the refresh that is under way anywhere: what that keeps would come after what is to be kept or forgotten
    /// now. Not for ever, because a person waits for this.
    async fn alone(&self) -> Option<Lock> {
        let path = self.path("lock");
        let free = async {
            loop {
                match Lock::take(&path) {
                    Ok(Some(lock)) => return Some(lock),
                    Ok(None) => tokio::time::sleep(LOOK).await,
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(ALONE_WITHIN, free).await.ok().flatten()
    }

    fn fresh(&self) -> MutexGuard<'_, Option<Minted>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Option<Metadata>> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One refresh under the lock, for everybody who waits for it.
    async fn turn(&self, lock: Lock, ca_file: Option<&Path>) -> Result<Minted, MintError> {
        let sharing = Sharing::listen(self.path("sock"));
        let result = self.refresh(ca_file).await;
        if let Ok(sharing) = sharing {
            sharing.tell(&result).await;
        }
        drop(lock);
        result
    }

    async fn refresh(&self, ca_file: Option<&Path>) -> Result<Minted, MintError> {
        let mut login = self.load().await?;
        let client = web::client(ca_file)?;
        let metadata = self.metadata(&client).await?;
        let proof = self.app.proof(&metadata).await?;
        let marker = self.marker();
        let interrupted = marker.age_of(&login.refresh);
        let mut retried = false;
        loop {
            marker.set(&login.refresh).await.map_err(|error| {
                MintError::Transient(format!(
                    "nothing can be written to {}: {error}",
                    self.directory.display()
                ))
            })?;
            let error = match self.exchange(&client, &metadata, proof.as_ref(), &login).await {
                Ok(tokens) if self.is_over(&login).await => {
                    if let Some(refresh) = &tokens.refresh {
                        login::revoke(&client, &metadata, &self.app, refresh).await;
                    }
                    let text = "somebody logged in or out while the login was renewed";
                    return Err(MintError::Transient(text.to_owned()));
                }
                Ok(tokens) => {
                    let minted = self.persist(&login, tokens).await?;
                    marker.clear();
                    self.unclear.store(0, Ordering::Relaxed);
                    return Ok(minted);
                }
                Err(error) => error,
            };
            if error != GrantError::Refused(Refusal::InvalidGrant) {
                return Err(self.judge(error));
            }
            let newer = self.load().await?;
            let is_newer = newer.refresh.expose() != login.refresh.expose();
            if !retried && (is_newer || interrupted.is_some_and(|age| age < GRACE)) {
                retried = true;
                login = newer;
                continue;
            }
            // It will never be taken again: to send it at each start would be a loop.
            self.keep.forget().await;
            marker.clear();
            return Err(MintError::NeedsUser(if interrupted.is_some() {
                format!("the login ended: an earlier refresh was cut short before its answer was kept; {LOG_IN}")
            } else {
                format!("the issuer has ended the login (invalid_grant): {LOG_IN}")
            }));
        }
    }

    /// What is kept, if it may be used here.
    async fn load(&self) -> Result<Login, MintError> {
        if self.app.issuer.is_empty() || self.app.client_id.is_empty() {
            return Err(MintError::NeedsUser(format!(
                "identity.issuer or identity.client_id is not set, so nobody can log in: {LOG_IN}"
            )));
        }
        let kept = self.keep.load().await.map_err(|error| match error {
            // A person's move, but no login is missing: look again soon.
            KeepError::Locked | KeepError::Mute | KeepError::File(..) => MintError::Transient(error.to_string()),
            KeepError::Missing(_) => MintError::NeedsUser(format!("{error}: set identity.keep")),
        })?;
        let login = kept.ok_or_else(|| MintError::NeedsUser(format!("nobody is logged in here: {LOG_IN}")))?;
        let both_unknown = self.host.is_unknown() && login.host.is_unknown();
        match self.host.is(&login.host) {
            Some(true) => Ok(login),
            None if both_unknown => Ok(login),
            Some(false) => Err(MintError::NeedsUser(format!(
                "the login was made on another machine, of which this one is a copy: {LOG_IN}"
            ))),
            None => Err(MintError::NeedsUser(format!(
                "nothing says that the kept login was made on this machine (an earlier version kept it in another way): \
                 {LOG_IN}"
            ))),
        }
    }

    /// Whether another one, or none, is kept in its place by now: nobody who logs in or out waits for ever for a refresh.
    async fn is_over(&self, login: &Login) -> bool {
        let kept = self.keep.load().await;
        kept.is_ok_and(|kept| kept.is_none_or(|kept| kept.refresh.expose() != login.refresh.expose()))
    }

    async fn metadata(&self, client: &reqwest::Client) -> Result<Metadata, MintError> {
        if let Some(known) = self.known().clone() {
            return Ok(known);
        }
        let found = discover(client, &self.app.issuer).await?;
        *self.known() = Some(found.clone());
        Ok(found)
    }

    async fn exchange(
        &self,
        client: &reqwest::Client,
        metadata: &Metadata,
        proof: Option<&Proof>,
        login: &Login,
    ) -> Result<Tokens, GrantError> {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", login.refresh.expose()),
            ("client_id", self.app.client_id.as_str()),
        ];
        form.extend(self.app.audience_words());
        // No scope: RFC 6749 section 6 then means what the login was granted.
        grant::request(client, &metadata.token_endpoint, &form, proof, "the issuer").await
    }

    /// The new refresh token rests, in memory at least; only then is there an access token to speak of.
    async fn persist(&self, login: &Login, tokens: Tokens) -> Result<Minted, MintError> {
        let said = tokens.not_granted(&self.app.scopes);
        let not_granted = said.unwrap_or_else(|| login.not_granted.clone());
        let replaced = tokens
            .refresh
            .as_ref()
            .filter(|refresh| refresh.expose() != login.refresh.expose());
        if let Some(refresh) = replaced {
            let login = Login {
                refresh: refresh.clone(),
                shown: login.shown,
                // Found to be the same one, which may say more of itself by now.
                host: self.host.clone(),
                not_granted: not_granted.clone(),
            };
            if let Err(error) = self.keep.store(&login).await {
                // The issuer takes no other one any more, so it must not be dropped.
                tracing::warn!(%error, "the renewed login is kept in memory until its place takes it again");
                self.keep.hold(login);
            }
        }
        minted(tokens, login.shown, not_granted)
    }

    /// A refusal that is no `invalid_grant`.
    fn judge(&self, error: GrantError) -> MintError {
        // The endpoint may have moved.
        *self.known() = None;
        if !matches!(error, GrantError::Unclear(_)) {
            self.unclear.store(0, Ordering::Relaxed);
            return error.into();
        }
        let times = self.unclear.fetch_add(1, Ordering::Relaxed) + 1;
        if times < UNCLEAR {
            error.into()
        } else {
            MintError::NeedsUser(format!("{error}, {times} times in a row: {LOG_IN}"))
        }
    }

    async fn revoke(&self, token: &Secret, ca_file: Option<&Path>) -> bool {
        let Ok(client) = web::client(ca_file) else {
            return false;
        };
        match self.metadata(&client).await {
            Ok(metadata) => login::revoke(&client, &metadata, &self.app, token).await,
            Err(_) => false,
        }
    }
}

/// The token that upstream is shown.
///
/// # Errors
/// It is to be the ID token, and none came: with the access token upstream would see somebody else.
pub fn minted(tokens: Tokens, shown: Shown, not_granted: Vec<String>) -> Result<Minted, MintError> {
    let (token, lifetime) = match (shown, tokens.id) {
        (Shown::Access, _) => (tokens.access, tokens.lifetime),
        // `expires_in` is the access token's; an ID token has its `exp`.
        (Shown::Id, Some(id)) => (id, None),
        (Shown::Id, None) => {
            return Err(MintError::Config(
                "the issuer gives an ID token at the login alone, and its access tokens cannot be read by upstream: \
                 let it issue JWT access tokens"
                    .to_owned(),
            ));
        }
    };
    Ok(Minted {
        token: Some(token),
        lifetime,
        expires_at: None,
        date: tokens.date,
        fresh: true,
        subject: None,
        not_granted,
    })
}
