//! The task that keeps leases alive.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::{AsyncStore, DurableTracker};
use crate::store::session::Pulse;

impl<S: AsyncStore + 'static> DurableTracker<S> {
    /// Extends all leases of the session, once in every third of their time to live, until the
    /// [session](Self::session) has expired: spawn it beside the work.
    ///
    /// After an error of the store, of any kind, it tries again, ever more slowly, until the leases
    /// have really run out: then the session has expired, and the future ends. If only some of the
    /// keys cannot be reached, only their leases run out, and it goes on. It does not wait beyond
    /// that for a store that does not answer.
    ///
    /// Dropping it stops the heartbeat: the leases run out.
    #[cfg(feature = "tokio")]
    pub fn heartbeat(&self) -> impl Future<Output = ()> + Send + 'static + use<S> {
        self.heartbeat_with(tokio::time::sleep)
    }

    /// As `heartbeat`, on any runtime: it waits by that runtime's `sleep`.
    pub fn heartbeat_with<F, Sleep>(
        &self,
        mut sleep: Sleep,
    ) -> impl Future<Output = ()> + Send + 'static + use<S, F, Sleep>
    where
        F: Future<Output = ()> + Send + 'static,
        Sleep: FnMut(Duration) -> F + Send + 'static,
    {
        let tracker = self.clone();
        async move {
            let mut pulse = Pulse::default();
            let mut well = true;
            while !tracker.session().expired() {
                sleep(tracker.session().pause(&mut pulse, well)).await;
                let patience = sleep(tracker.session().left());
                let beat = async { tracker.beat().await.is_ok() };
                well = first(beat, patience).await.unwrap_or(false);
            }
        }
    }
}

/// The output of `work`, unless `patience` ends first.
async fn first<T>(work: impl Future<Output = T>, patience: impl Future<Output = ()>) -> Option<T> {
    let mut work = pin!(work);
    let mut patience = pin!(patience);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => patience.as_mut().poll(context).map(|()| None),
    })
    .await
}
