//! How one thread ends another's wait.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Ends the waits of blocking loops, from any thread. Clones are the same token.
///
/// ```
/// use relent::{Backoff, CancelToken, StopReason};
/// use std::time::Duration;
///
/// const POLICY: Backoff = Backoff::fixed(Duration::from_secs(3600));
///
/// let shutdown = CancelToken::new();
/// let worker = std::thread::spawn({
///     let shutdown = shutdown.clone();
///     move || POLICY.retry(|| Err::<(), _>("down")).cancel_on(&shutdown).outcome()
/// });
/// shutdown.cancel();
/// assert_eq!(worker.join().unwrap().stop, StopReason::Cancelled);
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    cancelled: Mutex<bool>,
    changed: Condvar,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends every wait on this token, now and from now on.
    pub fn cancel(&self) {
        *self.0.cancelled.lock() = true;
        self.0.changed.notify_all();
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.lock()
    }

    /// Waits for `delay`, or until cancelled; a delay beyond what clocks can show, for that alone.
    pub(super) fn wait(&self, delay: Duration) {
        let mut cancelled = self.0.cancelled.lock();
        let Signal { changed, .. } = &*self.0;
        changed.wait_while_for(&mut cancelled, |cancelled| !*cancelled, delay);
    }
}
