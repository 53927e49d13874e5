//! The options of a durable tracker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, MonotonicClock};
use crate::policy::Backoff;

/// The options of a [`DurableTracker`](super::DurableTracker), blocking or async.
///
/// Wherever options are taken, a [`Backoff`] alone will do.
///
/// ```
/// use relent::Backoff;
/// use relent::store::{DurableTracker, MemoryStore, Options};
/// use std::time::Duration;
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// const POLICY: Backoff = Backoff::exponential(MINUTE, Duration::from_secs(3600));
///
/// let options = Options::new(POLICY).holder("worker-7").time_to_live(Duration::from_secs(10));
/// let tracker = DurableTracker::new(MemoryStore::new(), options);
/// assert_eq!(tracker.session().holder(), "worker-7");
/// ```
#[derive(Clone)]
pub struct Options {
    pub(super) backoff: Option<Backoff>,
    pub(super) holder: Option<String>,
    pub(super) time_to_live: Duration,
    pub(super) clock: Arc<dyn Clock + Send + Sync>,
    pub(super) seed: Option<u64>,
}

impl Options {
    /// Options with a policy for the failures that bring none of their own. With `None`, such a
    /// failure repeats the last interval, at least a second.
    #[must_use]
    pub fn new(backoff: impl Into<Option<Backoff>>) -> Options {
        Options {
            backoff: backoff.into(),
            holder: None,
            time_to_live: Duration::from_secs(30),
            clock: Arc::new(MonotonicClock),
            seed: None,
        }
    }

    /// Takes leases under this name, for people to read. By default, the process's number and a few
    /// random digits.
    ///
    /// A name longer than 255 bytes is cut to that, and a NUL is kept as `�`.
    #[must_use]
    pub fn holder(mut self, name: impl Into<String>) -> Options {
        self.holder = Some(name.into());
        self
    }

    /// Takes leases that live this long without a heartbeat; at least a millisecond. By default, 30
    /// seconds.
    ///
    /// A dead worker blocks its key for this long. But a store that cannot be reached for this long
    /// costs all leases, so let it be well above the outages that the store may have.
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Options {
        self.time_to_live = time_to_live;
        self
    }

    /// Measures the session's leases by this clock: [`Session::expired`](super::Session::expired)
    /// goes by it, and nothing else does. The store has a clock of its own.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + Send + Sync + 'static) -> Options {
        self.clock = Arc::new(clock);
        self
    }

    /// Draws jitter from this seed, so that a test is the same each time.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Options {
        self.seed = Some(seed);
        self
    }
}

impl From<Backoff> for Options {
    fn from(backoff: Backoff) -> Options {
        Options::new(backoff)
    }
}

impl From<Option<Backoff>> for Options {
    fn from(backoff: Option<Backoff>) -> Options {
        Options::new(backoff)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("backoff", &self.backoff)
            .field("holder", &self.holder)
            .field("time_to_live", &self.time_to_live)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
