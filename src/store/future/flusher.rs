//! The task that writes a tracker behind.

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
    /// [Flushes](Self::flush) at this interval, at least a millisecond, for ever: to be spawned.
    /// What a crash can lose is what came within the interval, and while a flush takes.
    ///
    /// An error of the store is told to `on_error`, and the flush is tried again: at the interval,
    /// if any key could be written or the store [can tell](AsyncStore::fault) that it is about one
    /// key; else soon at first, then ever more slowly, at most 16 times the interval later. Nothing
    /// is lost meanwhile but by a crash. If `on_error` panics, it flushes on.
    ///
    /// Dropping it stops that, also midway through a flush. Flush once more before the program
    /// ends.
    #[cfg(feature = "tokio")]
    pub fn flush_every(
        self: &Arc<Self>,
        interval: Duration,
        on_error: impl FnMut(&S::Error) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.flush_every_with(interval, tokio::time::sleep, on_error)
    }

    /// As `flush_every`, on any runtime: waits by the runtime's `sleep`.
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
