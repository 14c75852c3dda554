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

use keyring_core::{CredentialStore, Error, api::CredentialStoreApi};
use zeroize::Zeroizing;

use super::KeepError;
use crate::system::{self, NoKeyring};

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

/// The store, if it is there and nobody has to unlock it.
fn open() -> Result<Arc<CredentialStore>, Option<KeepError>> {
    // Whoever waits for this thread gives up first, and calls it mute; here it would look as if there were none.
    system::keyring(2 * PATIENCE).map_err(|error| {
        Some(match error {
            NoKeyring::Locked => KeepError::Locked,
            NoKeyring::Missing(why) => KeepError::Missing(why.to_owned()),
        })
    })
}
