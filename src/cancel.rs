//! How one part of a program ends another's waits.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Ends the waits of loops, blocking and async, from anywhere. Clones are the same token.
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
/// let outcome = worker.join().unwrap();
/// assert_eq!((outcome.stop, outcome.result), (StopReason::Cancelled, Err("down")));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    state: Mutex<State>,
    /// Wakes the threads that wait.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// Of the futures that wait.
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

// What another thread's panic leaves behind is a flag and some wakers: always whole.
impl UnwindSafe for CancelToken {}
impl RefUnwindSafe for CancelToken {}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends every wait on this token, now and from now on.
    pub fn cancel(&self) {
        let wakers = {
            let mut state = self.0.state.lock();
            state.cancelled = true;
            std::mem::take(&mut state.wakers)
        };
        self.0.changed.notify_all();
        // Without the lock: what is woken may look at the token at once.
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.state.lock().cancelled
    }

    /// A future that is ready once this token is cancelled: for a `select!`.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled {
            token: self.clone(),
            waiting: None,
        }
    }

    /// Blocks the thread until this token is cancelled, but no longer than for `delay`. Returns
    /// whether it is cancelled.
    ///
    /// For a thread that waits by itself, as `cancelled` is for a task. A delay too long for the
    /// machine's clock never passes.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker, CancelToken};
    /// # use std::time::Duration;
    /// # let reconcile = |_: &str| -> Result<(), String> { Ok(()) };
    /// const IDLE: Duration = Duration::from_secs(60);
    ///
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(Backoff::DEFAULT);
    /// let shutdown = CancelToken::new();
    /// # shutdown.cancel();
    /// loop {
    ///     let round = tracker.now();
    ///     for key in ["a", "b", "c"] {
    ///         if tracker.check(key).is_ready() {
    ///             tracker.record(key, &reconcile(key));
    ///         }
    ///     }
    ///     if shutdown.cancelled_within(tracker.next_due(round).unwrap_or(IDLE)) {
    ///         break;
    ///     }
    /// }
    /// let to_be_restored = tracker.snapshot();
    /// # assert!(to_be_restored.keys.is_empty());
    /// ```
    #[must_use = "whether it is cancelled is the answer"]
    pub fn cancelled_within(&self, delay: Duration) -> bool {
        let mut state = self.0.state.lock();
        let Signal { changed, .. } = &*self.0;
        changed.wait_while_for(&mut state, |state| !state.cancelled, delay);
        state.cancelled
    }
}

/// As [`cancelled`](CancelToken::cancelled).
impl IntoFuture for &CancelToken {
    type Output = ();
    type IntoFuture = Cancelled;

    fn into_future(self) -> Cancelled {
        self.cancelled()
    }
}

/// Ready once its token is cancelled, and ever after. From [`CancelToken::cancelled`].
///
/// Dropping it leaves nothing behind in the token.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Cancelled {
    token: CancelToken,
    /// The number under which the token keeps the waker.
    waiting: Option<u64>,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Wakers are made and dropped without the lock: they may be anybody's code.
        let waker = cx.waker().clone();
        let this = &mut *self;
        let mut state = this.token.0.state.lock();
        if state.cancelled {
            this.waiting = None;
            return Poll::Ready(());
        }
        let number = *this.waiting.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let replaced = state.wakers.insert(number, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(number) = self.waiting {
            let removed = self.token.0.state.lock().wakers.remove(&number);
            drop(removed);
        }
    }
}
