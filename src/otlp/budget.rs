//! The byte budgets of requests on their way in and on their way out (promise 2): one for all that come in, and one for
//! each signal that goes out. Whoever sends as fast as answers come would else leave the exporter nothing, and the spool
//! would grow; and a signal that upstream does not take would hold up the others.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A cheap handle on the budget.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    /// 6 MiB: one of the largest requests that a Collector takes by default and some others, or dozens of what SDKs send,
    /// of which a batch of 512 spans is a few hundred KiB. What is read from the spool or being stamped comes on top.
    pub const DEFAULT_BYTES: u32 = 6 * 1024 * 1024;

    /// A budget of `total` bytes.
    pub fn new(total: u32) -> Budget {
        Budget {
            bytes: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits until `bytes` are free. A request larger than the whole budget waits for all of it, so that one such request at a time may exceed it.
    pub async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total);
        self.bytes
            .clone()
            .acquire_many_owned(wanted)
            .await
            .expect("the budget's semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    //! Who gets bytes at once, and who waits.

    use std::task::Poll;

    use super::*;

    /// Polls once: whether the bytes were free.
    async fn at_once(budget: &Budget, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let mut take = std::pin::pin!(budget.take(bytes));
        std::future::poll_fn(|context| {
            Poll::Ready(match take.as_mut().poll(context) {
                Poll::Ready(permit) => Some(permit),
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn bytes_are_free_again_when_the_permit_is_dropped() {
        let budget = Budget::new(10);
        let first = at_once(&budget, 6).await.expect("ten are free");
        assert!(at_once(&budget, 5).await.is_none());
        let second = at_once(&budget, 4).await.expect("four are free");
        drop((first, second));
        assert!(at_once(&budget, 10).await.is_some());
    }

    #[tokio::test]
    async fn one_request_larger_than_the_budget_goes_alone() {
        let budget = Budget::new(10);
        let small = at_once(&budget, 1).await.expect("all are free");
        assert!(at_once(&budget, usize::MAX).await.is_none());
        drop(small);
        let large = at_once(&budget, usize::MAX).await.expect("all are free");
        assert!(at_once(&budget, 1).await.is_none());
        drop(large);
        assert!(at_once(&budget, 1).await.is_some());
    }
}
