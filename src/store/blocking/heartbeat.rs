//! The thread that keeps leases alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use super::{DurableTracker, Store};
use crate::store::session::Pulse;

/// A thread that extends a session's leases, until this is dropped or the session has expired.
#[derive(Debug)]
#[must_use = "the heartbeat stops when this is dropped"]
pub struct Heartbeat {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Store + Send + Sync + 'static> DurableTracker<S> {
    /// Starts a thread that extends all leases of the session at a third of their time to live.
    ///
    /// An error of the store is tried again, ever more slowly, until a lease has really run out:
    /// then the [session](Self::session) has expired, and the thread ends.
    ///
    /// # Errors
    ///
    /// The machine has no thread to give.
    pub fn heartbeat(&self) -> std::io::Result<Heartbeat> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("relent-heartbeat".to_owned());
        let (tracker, stopped) = (self.clone(), Arc::clone(&stop));
        let thread = thread.spawn(move || {
            let mut pulse = Pulse::default();
            let mut well = true;
            while !stopped.load(Relaxed) && !tracker.session().expired() {
                thread::park_timeout(tracker.session().pause(&mut pulse, well));
                well = tracker.beat().is_ok();
            }
        })?;
        Ok(Heartbeat {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}
