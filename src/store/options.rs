//! How a tracker goes about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, MonotonicClock};
use crate::policy::Backoff;

/// How a [`DurableTracker`](super::DurableTracker) goes about it, of either face.
///
/// A policy alone will do: wherever these are asked for, a [`Backoff`] is taken.
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
    /// With a policy for the failures that bring none of their own; or with `None`, which goes on
    /// with the last interval, at least a second.
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

    /// Takes leases under this name, for people to read. Unless told, the process's number and a
    /// few random digits.
    ///
    /// Of a name longer than 255 bytes the beginning is kept, and a NUL is kept as `�`.
    #[must_use]
    pub fn holder(mut self, name: impl Into<String>) -> Options {
        self.holder = Some(name.into());
        self
    }

    /// Takes leases that live this long without a heartbeat; at least a millisecond. Unless told,
    /// 30 seconds.
    ///
    /// A dead worker blocks its key for as long, and a store that is away for longer costs all
    /// leases: so let it be well above what the store may be away for.
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Options {
        self.time_to_live = time_to_live;
        self
    }

    /// Measures its own leases by this clock: what [`Session::expired`](super::Session::expired)
    /// goes by, and nothing else. The store has its own.
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
