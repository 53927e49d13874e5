//! A thread that works until it is told to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A thread that is told to stop, and waited for, when this is dropped.
#[derive(Debug)]
pub(super) struct Background<T> {
    stop: Stop,
    thread: Option<JoinHandle<T>>,
}

/// Whether the thread has been told to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Waits for `pause`, or until told to stop; sometimes for less, as parked threads do. Returns
    /// whether it is told.
    pub(super) fn told_within(&self, pause: Duration) -> bool {
        let is_told = || self.0.load(Ordering::Acquire);
        if !is_told() {
            thread::park_timeout(pause);
        }
        is_told()
    }
}

impl<T: Send + 'static> Background<T> {
    pub(super) fn spawn(
        name: &str,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> io::Result<Background<T>> {
        let stop = Stop::default();
        let told = stop.clone();
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = Some(thread.spawn(move || work(&told))?);
        Ok(Background { stop, thread })
    }
}

impl<T> Background<T> {
    /// Tells the thread to stop, and waits for its result; `None` the second time.
    pub(super) fn end(&mut self) -> Option<thread::Result<T>> {
        let thread = self.thread.take()?;
        // Released, so that the thread sees what was done before this.
        self.stop.0.store(true, Ordering::Release);
        thread.thread().unpark();
        Some(thread.join())
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        // A thread that panicked has nothing more to say.
        let _ = self.end();
    }
}
