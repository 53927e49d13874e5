//! One worker per key: leases, and why one is refused or lost.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::record::Record;
use crate::policy::GiveUpReason;

/// The right to work on a key, until it runs out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Lease {
    /// The fencing token: greater than that of every earlier lease of the key, even one whose
    /// record was deleted long ago. The store checks every write of the holder against it; pass it
    /// on to other systems that the work writes to, so that they can refuse a stale worker too.
    pub token: u64,
    /// Who holds it, for people to read.
    pub holder: String,
    /// When it was taken, or last extended.
    #[cfg_attr(feature = "serde", serde(with = "super::record::json::time"))]
    pub since: SystemTime,
    /// When it runs out.
    #[cfg_attr(feature = "serde", serde(with = "super::record::json::time"))]
    pub until: SystemTime,
}

impl Lease {
    /// Whether the lease has not run out at `now`.
    #[must_use]
    pub fn is_live(&self, now: SystemTime) -> bool {
        now < self.until
    }
}

/// A lease that was taken within a transaction, by
/// [`DurableTracker::start_in`](super::DurableTracker::start_in) or its blocking twin, and holds
/// once that is committed.
///
/// If this is dropped, the lease is not extended, and runs out if it holds.
#[derive(Debug)]
#[must_use = "once the transaction is committed, a lease that nobody knows of counts as a failure"]
pub struct Granted {
    pub(super) key: String,
    pub(super) record: Record,
    /// The worker's own time at which the store was asked.
    pub(super) asked: Duration,
}

impl Granted {
    pub(super) fn new(key: &str, record: Record, asked: Duration) -> Granted {
        Granted {
            key: key.to_owned(),
            record,
            asked,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Why a key cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key's wait is not over.
    BackingOff {
        /// When it will be, by the store's clock. [`check`](super::DurableTracker::check) says how
        /// long that is from now.
        until: SystemTime,
    },
    /// Somebody works on it.
    Held {
        /// Who.
        by: String,
        /// Until when, by the store's clock, unless the lease is extended.
        until: SystemTime,
    },
    /// The key gave up: it is not tried any more, until somebody forgets it.
    GaveUp(GiveUpReason),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::BackingOff { until } => write!(f, "backing off until {}", At(*until)),
            Refusal::Held { by, until } => write!(f, "held by {by:?} until {}", At(*until)),
            Refusal::GaveUp(reason) => write!(f, "gave up: {reason}; forget the key to try again"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a lease is not good any more. The key may be in other hands: stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseLost {
    /// The work was finished, failed or cancelled; or the lease ran out, and another worker has
    /// dealt with that.
    ///
    /// Where this comes of trying again after an error of the store, the first call may have ended
    /// the work: then only its answer was lost.
    Ended,
    /// The lease ran out. The next worker to take the key counts that as a failure.
    Expired {
        /// When.
        at: SystemTime,
    },
    /// The lease ran out, and somebody else holds the key.
    Taken {
        /// Who.
        by: String,
    },
}

impl fmt::Display for LeaseLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseLost::Ended => f.write_str("the lease has ended already"),
            LeaseLost::Expired { at } => write!(f, "the lease ran out at {}", At(*at)),
            LeaseLost::Taken { by } => write!(f, "the lease ran out and {by:?} has the key now"),
        }
    }
}

impl std::error::Error for LeaseLost {}

/// A time, written for people.
struct At(SystemTime);

impl fmt::Display for At {
    #[cfg(feature = "serde")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}",
            humantime::format_rfc3339_micros(super::record::within(self.0))
        )
    }

    #[cfg(not(feature = "serde"))]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_1970 = super::record::between(SystemTime::UNIX_EPOCH, self.0);
        write!(f, "{since_1970:?} after 1970")
    }
}
