//! The one byte budget that requests on their way in and out share (promise 2).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A cheap handle on the budget.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    /// 16 MiB: sixteen of the largest batches that SDKs send by default are a few hundred KiB each.
    pub const DEFAULT_BYTES: u32 = 16 * 1024 * 1024;

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
