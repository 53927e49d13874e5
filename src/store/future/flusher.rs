//! The task that flushes a tracker to its store.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{AsyncStore, WriteBehind};
use crate::clock::Clock;
use crate::store::behind::{Listener, Pace};

impl<S, C> WriteBehind<S, C>
where
    S: AsyncStore + 'static,
    C: Clock + Send + Sync + 'static,
{
    /// [Flushes](Self::flush) at this interval, at least a millisecond, for ever: spawn it. A crash
    /// loses at most what came within the interval, and during a flush.
    ///
    /// An error of the store is passed to `on_error`, and the flush is tried again: at the
    /// interval, if any key could be written or the store [can tell](AsyncStore::fault) that the
    /// error is about one key; otherwise soon at first, then ever more slowly, at most 16 times the
    /// interval later. Meanwhile only a crash loses anything. A panic of `on_error` is caught:
    /// the flushing goes on.
    ///
    /// Dropping the future stops the flushing, even midway through a flush. Flush once more before
    /// the program ends; but drop it first: one that is left unpolled midway keeps all other flushes
    /// waiting.
    #[cfg(feature = "tokio")]
    pub fn flush_every(
        self: &Arc<Self>,
        interval: Duration,
        on_error: impl FnMut(&S::Error) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.flush_every_with(interval, tokio::time::sleep, on_error)
    }

    /// As `flush_every`, on any runtime: it waits by that runtime's `sleep`.
    pub fn flush_every_with<F>(
        self: &Arc<Self>,
        interval: Duration,
        mut sleep: impl FnMut(Duration) -> F + Send + 'static,
        on_error: impl FnMut(&S::Error) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let behind = Arc::clone(self);
        async move {
            let mut pace = Pace::new(interval);
            let mut listener = Listener::new(on_error);
            let mut well = true;
            loop {
                sleep(pace.pause(well)).await;
                let flushed = behind.write().await;
                well = flushed.is_well();
                if let Err(error) = flushed.all() {
                    listener.tell(&error);
                }
            }
        }
    }
}
