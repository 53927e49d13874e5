//! An async store behind the blocking face.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::unconstrained;

use super::{Store, Transactional};
use crate::store::change::Change;
use crate::store::error::Fault;
use crate::store::future::{AsyncStore, AsyncTransactional};
use crate::store::lease::LeaseLost;
use crate::store::listing::{Listed, Page};
use crate::store::record::Record;
use crate::store::step::Start;

/// An async store behind the blocking face, for workers that may block: each call waits for its
/// future on the caller's thread.
///
/// The runtime drives what the store waits for, on threads of its own. A runtime that has none (a
/// `current_thread` one) must be run by another thread meanwhile, or the call does not return.
///
/// Nor does a call return while tasks of the runtime make such calls on all of its threads at once:
/// on a machine with one processor, one such task is enough. In a task, use the async store, or
/// `spawn_blocking`.
///
/// ```
/// use relent::Backoff;
/// use relent::store::{Inline, MemoryStore, blocking::{Block, DurableTracker}};
///
/// let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
/// // Say, a store in PostgreSQL.
/// let store = Block::new(Inline(MemoryStore::new()), runtime.handle().clone());
/// let tracker = DurableTracker::new(store, Backoff::DEFAULT);
/// tracker.record_failure("mx.example.org", "no answer")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Block<S> {
    store: S,
    runtime: Handle,
}

impl<S> Block<S> {
    /// Puts an async store behind the blocking face. `runtime` is the one that the store's
    /// connections belong to.
    pub fn new(store: S, runtime: Handle) -> Block<S> {
        Block { store, runtime }
    }

    /// The store.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.store
    }

    /// Unlike the runtime's own `block_on`, this does not panic on one of its threads.
    ///
    /// Nor does it hand the thread's other tasks to another thread, by `block_in_place`: that panics
    /// where tokio does not allow it, within a `LocalSet`, say, and nothing tells beforehand.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let _within = self.runtime.enter();
        let bell = Arc::new(Bell {
            thread: thread::current(),
            rung: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&bell));
        // Unconstrained, as this may run within a task: once that had used up its budget, tokio's
        // futures would never be ready again.
        let mut future = pin!(unconstrained(future));
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            // Only the bell counts: somebody else may `unpark` this thread, or use up our `unpark`
            // by parking it.
            while !bell.rung.swap(false, AcqRel) {
                thread::park();
            }
        }
    }
}

/// Wakes a thread that waits for a future.
struct Bell {
    thread: Thread,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        self.rung.swap(true, AcqRel);
        self.thread.unpark();
    }
}

impl<S: AsyncStore> Store for Block<S> {
    type Error = S::Error;

    fn fault(&self, error: &S::Error) -> Fault {
        self.store.fault(error)
    }

    fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        self.wait(self.store.update(key, change))
    }

    fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, S::Error> {
        self.wait(self.store.update_all(keys, change))
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), S::Error> {
        self.wait(self.store.load(key))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, S::Error> {
        self.wait(self.store.list(page))
    }

    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, S::Error> {
        self.wait(self.store.claim(start, limit))
    }

    fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), S::Error> {
        self.wait(self.store.extend(leases, time_to_live, told))
    }
}

impl<S: AsyncTransactional> Transactional for Block<S> {
    type Connection<'a> = S::Connection<'a>;

    fn update_in<R: Send + 'static>(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        self.wait(self.store.update_in(connection, key, change))
    }
}
