//! How one thread ends another's wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

    /// Waits for `delay`, or until cancelled; a delay that no clock can show waits for that alone.
    pub(super) fn wait(&self, delay: Duration) {
        let mut cancelled = self.0.cancelled.lock();
        match Instant::now().checked_add(delay) {
            None => self
                .0
                .changed
                .wait_while(&mut cancelled, |cancelled| !*cancelled),
            Some(until) => {
                let changed = &self.0.changed;
                while !*cancelled && !changed.wait_until(&mut cancelled, until).timed_out() {}
            }
        }
    }
}
