//! The desktop's keyring, behind a thread and a time limit.
//!
//! Every call blocks, some for ever: a locked Secret Service waits for a person, a D-Bus that hangs for nobody. So each
//! runs on a plain thread that is forgotten if it is late, never on the runtime, whose end would wait for it. While one
//! is late no second is started. What a keyring says of its errors is told by kind only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[cfg(not(target_os = "macos"))]
use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
use keyring_core::{Error, api::CredentialStoreApi};
use zeroize::Zeroizing;

use super::KeepError;

/// Tens of milliseconds are usual.
const PATIENCE: Duration = Duration::from_secs(3);
const SERVICE: &str = "tagalong";
const PROBE: &str = "probe";

/// The keyring of the session. Clones share the knowledge that it hangs.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyring {
    hangs: Arc<AtomicBool>,
}

impl Keyring {
    /// Writes, reads and clears an entry: constructors succeed where nothing can be kept.
    pub(super) async fn probe(&self) -> Result<(), KeepError> {
        self.call(|store| {
            let entry = store.build(SERVICE, PROBE, None)?;
            let written = std::process::id().to_string();
            entry.set_password(&written)?;
            let read = entry.get_password()?;
            entry.delete_credential()?;
            // Two processes may probe at once, so another number is an answer too.
            if read.parse::<u32>().is_ok() {
                Ok(())
            } else {
                Err(Error::BadStoreFormat("it gives back something else".to_owned()))
            }
        })
        .await
        .or_else(|error| match error {
            // Cleared by another process's probe in between: it works.
            None => Ok(()),
            Some(error) => Err(error),
        })
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, KeepError> {
        let name = name.to_owned();
        let read = self.call(move |store| Ok(Zeroizing::new(store.build(SERVICE, &name, None)?.get_password()?)));
        match read.await {
            Ok(text) => Ok(Some(text)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    pub(super) async fn write(&self, name: &str, text: Zeroizing<String>) -> Result<(), KeepError> {
        let name = name.to_owned();
        let written = self.call(move |store| store.build(SERVICE, &name, None)?.set_password(&text));
        written
            .await
            .map_err(|error| error.unwrap_or_else(|| KeepError::Missing("it has no entry to write".to_owned())))
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), KeepError> {
        let name = name.to_owned();
        let removed = self.call(move |store| store.build(SERVICE, &name, None)?.delete_credential());
        removed.await.or_else(|error| error.map_or(Ok(()), Err))
    }

    /// `Err(None)`: there is no such entry.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn CredentialStoreApi) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Option<KeepError>> {
        if self.hangs.swap(true, Ordering::AcqRel) {
            return Err(Some(KeepError::Mute));
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let hangs = Arc::clone(&self.hangs);
        let thread = std::thread::Builder::new().name("keyring".to_owned()).spawn(move || {
            let result = open().and_then(|store| work(&*store).map_err(kind));
            hangs.store(false, Ordering::Release);
            // Whoever asked may have given up.
            let _ = tell.send(result);
        });
        if let Err(error) = thread {
            self.hangs.store(false, Ordering::Release);
            return Err(Some(KeepError::Missing(format!("no thread for it: {error}"))));
        }
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                self.hangs.store(false, Ordering::Release);
                Err(Some(KeepError::Missing("its client failed".to_owned())))
            }
            Err(_) => Err(Some(KeepError::Mute)),
        }
    }
}

/// By kind alone: the texts of errors hold paths and what was asked for.
fn kind(error: Error) -> Option<KeepError> {
    match error {
        Error::NoEntry => None,
        Error::NoStorageAccess(_) => Some(KeepError::Locked),
        Error::Ambiguous(_) => Some(KeepError::Missing("it has several entries for one login".to_owned())),
        _ => Some(KeepError::Missing("it refuses".to_owned())),
    }
}

#[cfg(not(target_os = "macos"))]
type Store = dbus_secret_service_keyring_store::Store;
#[cfg(target_os = "macos")]
type Store = apple_native_keyring_store::keychain::Store;

/// The store, if it is there and nobody has to unlock it.
#[cfg(not(target_os = "macos"))]
fn open() -> Result<Arc<Store>, Option<KeepError>> {
    let missing = |why: &str| Some(KeepError::Missing(why.to_owned()));
    let bus = dbus::blocking::LocalConnection::new_session().map_err(|_| missing("no D-Bus session"))?;
    // The client unlocks what it finds locked, and that asks a person: so look first.
    let default = bus.with_proxy(
        "org.freedesktop.secrets",
        "/org/freedesktop/secrets/aliases/default",
        // Whoever waits for this thread gives up first, and calls it mute; here it would look as if there were none.
        2 * PATIENCE,
    );
    match default.get("org.freedesktop.Secret.Collection", "Locked") {
        Ok(false) => {}
        Ok(true) => return Err(Some(KeepError::Locked)),
        Err(_) => return Err(missing("no Secret Service with a default collection")),
    }
    Store::new().map_err(|_| missing("it refuses a session"))
}

#[cfg(target_os = "macos")]
fn open() -> Result<Arc<Store>, Option<KeepError>> {
    Store::new().map_err(|_| Some(KeepError::Missing("there is no keychain".to_owned())))
}
