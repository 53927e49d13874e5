//! The thread that flushes a tracker to its store.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::background::Background;
use super::{Store, WriteBehind};
use crate::clock::Clock;
use crate::store::behind::{Listener, Pace};

/// A thread that flushes a [`WriteBehind`] at an interval, and once more at its end.
///
/// Dropping it ends the thread too, and waits for that last flush, whose error goes to `on_error`;
/// [`close`](Self::close) returns it.
#[must_use = "the flusher stops when this is dropped"]
pub struct Flusher<E> {
    thread: Background<Result<usize, E>>,
    /// Whether `close` returns the result of the last flush.
    is_closed: Arc<AtomicBool>,
}

impl<S, C> WriteBehind<S, C>
where
    S: Store + Send + Sync + 'static,
    C: Clock + Send + Sync + 'static,
{
    /// Starts a thread that [flushes](Self::flush) at this interval, at least a millisecond. A
    /// crash loses at most what came within the interval, and during a flush.
    ///
    /// An error of the store is passed to `on_error`, and the flush is tried again: at the
    /// interval, if any key could be written or the store [can tell](Store::fault) that the error
    /// is about one key; otherwise soon at first, then ever more slowly, at most 16 times the
    /// interval later. Meanwhile only a crash loses anything. When the [`Flusher`] is dropped, an
    /// error of the last flush is passed to `on_error` too, but the flush is not tried again. If
    /// `on_error` panics, the thread flushes on, and [`close`](Flusher::close) resumes the panic at
    /// the end.
    ///
    /// # Errors
    ///
    /// The operating system could not start a thread.
    ///
    /// ```
    /// use relent::{Backoff, BackoffTracker};
    /// use relent::store::{MemoryStore, blocking::WriteBehind};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let tracker = BackoffTracker::new(Backoff::DEFAULT);
    /// let behind = Arc::new(WriteBehind::open(MemoryStore::new(), tracker)?);
    /// let flusher = behind.flush_every(Duration::from_secs(1), |error| eprintln!("{error}"))?;
    /// behind.tracker().record_failure("mx.example.org");
    /// assert_eq!(flusher.close()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush_every(
        self: &Arc<Self>,
        interval: Duration,
        on_error: impl FnMut(&S::Error) + Send + 'static,
    ) -> std::io::Result<Flusher<S::Error>> {
        let behind = Arc::clone(self);
        let is_closed = Arc::new(AtomicBool::new(false));
        let is_answered = Arc::clone(&is_closed);
        let thread = Background::spawn("relent-flusher", move |stop| {
            let mut pace = Pace::new(interval);
            let mut listener = Listener::new(on_error);
            let mut well = true;
            while !stop.told_within(pace.pause(well)) {
                let flushed = behind.write();
                well = flushed.is_well();
                if let Err(error) = flushed.all() {
                    listener.tell(&error);
                }
            }
            let last = behind.flush();
            if let (Err(error), false) = (&last, is_answered.load(Relaxed)) {
                listener.tell(error);
            }
            listener.dismiss();
            last
        });
        Ok(Flusher {
            thread: thread?,
            is_closed,
        })
    }
}

impl<E> Flusher<E> {
    /// Ends the thread, and flushes a last time. Returns how many keys were written.
    ///
    /// # Errors
    ///
    /// The store's, from the last flush. Another flush can still be tried.
    ///
    /// # Panics
    ///
    /// If the thread or `on_error` panicked.
    pub fn close(mut self) -> Result<usize, E> {
        self.is_closed.store(true, Relaxed);
        match self.thread.end() {
            Some(Ok(flushed)) => flushed,
            Some(Err(panic)) => resume_unwind(panic),
            // It ends only once, here.
            None => Ok(0),
        }
    }
}

impl<E> fmt::Debug for Flusher<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}
