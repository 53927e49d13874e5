//! Where time enters: the machine's clock, tokio's, and one that tests move.
//!
//! How they do is in the [recipes](crate::docs::recipes#tests).

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::atomic::{AtomicI64, AtomicU64};

/// What time it is: for waiting, and for what outlives the process.
///
/// ```
/// use relent::clock::Clock;
/// use std::time::Duration;
///
/// /// A clock of a simulation that runs a thousand times as fast.
/// struct Fast<C>(C);
///
/// impl<C: Clock> Clock for Fast<C> {
///     fn now(&self) -> Duration {
///         self.0.now() * 1000
///     }
/// }
/// ```
pub trait Clock {
    /// The time since some instant that stays the same while the clock lives.
    ///
    /// Should never run back. If it does all the same, no wait becomes longer than the policy's
    /// `max`. Nor should it pass 137 years: there a tracker's time stands still, and no wait ends.
    fn now(&self) -> Duration;

    /// The time of day: for what outlives the process. Snapshots, and the waits and leases of
    /// stores, go by it; loops and the tracker in memory never wait by it. Unless implemented it is
    /// the machine's, and panics where that has none.
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock behind a pointer shows the same.
macro_rules! behind {
    ($($pointer:ty),*) => {$(
        impl<C: Clock + ?Sized> Clock for $pointer {
            fn now(&self) -> Duration {
                (**self).now()
            }

            fn wall(&self) -> SystemTime {
                (**self).wall()
            }
        }
    )*};
}

behind!(&C, Box<C>, Rc<C>, Arc<C>);

/// What the clocks here count from.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's own clock, which never runs back: [`std::time::Instant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        // The origin first: reading it later than the time would lose the first reading.
        let origin = *ORIGIN;
        Instant::now().saturating_duration_since(origin)
    }
}

/// Tokio's clock, which a test can pause and move: [`tokio::time::Instant`].
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokioClock;

/// What tokio's clock shows at the origin. A runtime paused before the origin was taken is behind
/// it, and would stand still there if there were nothing before zero.
#[cfg(feature = "tokio")]
const AHEAD: Duration = Duration::from_secs(365 * 86_400);

#[cfg(feature = "tokio")]
impl Clock for TokioClock {
    fn now(&self) -> Duration {
        let now = tokio::time::Instant::now().into_std();
        match now.checked_duration_since(*ORIGIN) {
            Some(since) => AHEAD + since,
            None => AHEAD.saturating_sub(ORIGIN.saturating_duration_since(now)),
        }
    }
}

/// The runtime's clock, by which async loops tell the time unless told otherwise: under the feature
/// `tokio` tokio's, which outside a runtime shows the machine's time; otherwise the
/// [`MonotonicClock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuntimeClock;

impl Clock for RuntimeClock {
    fn now(&self) -> Duration {
        #[cfg(not(feature = "tokio"))]
        use MonotonicClock as Runtimes;
        #[cfg(feature = "tokio")]
        use TokioClock as Runtimes;
        Runtimes.now()
    }
}

/// A clock that stands still until it is moved, for tests. Clones are the same clock.
///
/// ```
/// use relent::clock::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(90));
/// assert_eq!(clock.now(), Duration::from_secs(90));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    now: AtomicU64,
    /// The time of day less `now`, in nanoseconds since 1970.
    wall_ahead: AtomicI64,
}

impl ManualClock {
    /// A clock that shows zero, and midnight of 1 January 1970.
    #[must_use]
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves the time, and the time of day, forward. Stops at `u64::MAX` nanoseconds.
    pub fn advance(&self, by: Duration) {
        let later = |now: u64| Some(now.saturating_add(nanos(by)));
        // It never refuses.
        let _ = self.0.now.fetch_update(Relaxed, Relaxed, later);
    }

    /// Sets the time, back too, as no real monotonic clock would. The time of day moves with it.
    pub fn set(&self, now: Duration) {
        self.0.now.store(nanos(now), Relaxed);
    }

    /// Sets the time of day alone, as an administrator would. Before 1970 counts as 1970, also
    /// where [`set`](Self::set) takes it there; and the two are at most 292 years apart.
    pub fn set_wall(&self, wall: SystemTime) {
        let since_1970 = i128::from(nanos(wall.duration_since(UNIX_EPOCH).unwrap_or_default()));
        let ahead = since_1970 - i128::from(self.0.now.load(Relaxed));
        let ahead = ahead.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.0.wall_ahead.store(ahead, Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.now.load(Relaxed))
    }

    fn wall(&self) -> SystemTime {
        let now = self.0.now.load(Relaxed);
        let since_1970 = now.saturating_add_signed(self.0.wall_ahead.load(Relaxed));
        UNIX_EPOCH + Duration::from_nanos(since_1970)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
