//! The thread that keeps leases alive.

use super::background::Background;
use super::{DurableTracker, Store};
use crate::store::session::Pulse;

/// A thread that extends a session's leases, until this is dropped or the session has expired.
#[derive(Debug)]
#[must_use = "the heartbeat stops when this is dropped"]
pub struct Heartbeat {
    _thread: Background<()>,
}

impl<S: Store + Send + Sync + 'static> DurableTracker<S> {
    /// Starts a thread that extends all leases of the session, once in every third of their time to
    /// live.
    ///
    /// After an error of the store, of any kind, it tries again, ever more slowly, until the leases
    /// have really run out: then the [session](Self::session) has expired, and the thread ends. If
    /// only some of the keys cannot be reached, only their leases run out, and the thread goes on.
    ///
    /// # Errors
    ///
    /// The operating system could not start a thread.
    pub fn heartbeat(&self) -> std::io::Result<Heartbeat> {
        let tracker = self.clone();
        let thread = Background::spawn("relent-heartbeat", move |stop| {
            let mut pulse = Pulse::default();
            let mut well = true;
            let session = tracker.session();
            while !session.expired() && !stop.told_within(session.pause(&mut pulse, well)) {
                well = tracker.beat().is_ok();
            }
        });
        Ok(Heartbeat { _thread: thread? })
    }
}
