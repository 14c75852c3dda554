//! A part of the agent as a task, which is waited for so long and no longer.
//!
//! One that panics is a fault of tagalong. The others go on, because what is taken and written is worth more than what is
//! sent; but nobody starts it anew here, so `status` and `doctor` say it, and `up` replaces the agent.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::task::AbortOnDropHandle;

/// The parts that panicked.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended(Arc<Mutex<Vec<&'static str>>>);

impl Ended {
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.0.lock().expect("nothing panics while it is held");
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Runs a part, and remembers its name if it panics.
    pub(super) fn watch(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let ended = self.clone();
        let part = AbortOnDropHandle::new(tokio::spawn(part));
        tokio::spawn(async move {
            if part.await.is_err() {
                // Where is in the log already.
                tracing::error!("{name} ended by a fault of tagalong");
                ended.0.lock().expect("nothing panics while it is held").push(name);
            }
        })
    }
}

/// Joins a part, or says that it did not end in time and drops it.
pub(super) async fn stop(name: &str, mut task: JoinHandle<()>, patience: Duration) {
    match timeout(patience, &mut task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "{name} ended badly"),
        Err(_) => {
            tracing::info!("{name} did not end within {patience:?}; what it held is in the spool");
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_is_named_and_one_that_ends_is_not() {
        let ended = Ended::default();
        let well = ended.watch("the receiver", async {});
        let badly = ended.watch("the export", async { panic!("a fault") });
        for task in [well, badly] {
            task.await.expect("it is watched");
        }
        assert_eq!(ended.names(), ["the export"]);
    }

    #[tokio::test]
    async fn a_part_that_does_not_end_is_dropped_with_who_watches_it() {
        let held = Arc::new(());
        let seen = Arc::downgrade(&held);
        let task = Ended::default().watch("the export", async move {
            let _held = held;
            std::future::pending().await
        });
        stop("the export", task, Duration::ZERO).await;
        while seen.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
