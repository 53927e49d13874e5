//! One worker per key: leases, and why there is none.

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
    /// The fencing token: greater than that of every earlier lease of the key, also of one whose
    /// record is long gone. Every write of the holder is checked against it; pass it on to whatever
    /// else the work writes to, to have that refuse a stale worker too.
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
    /// Whether it has not run out at `now`.
    #[must_use]
    pub fn is_live(&self, now: SystemTime) -> bool {
        now < self.until
    }
}

/// A lease that holds once the transaction is committed in which it was taken, by
/// [`DurableTracker::start_in`](super::DurableTracker::start_in) or its blocking twin.
///
/// Dropped, it is not extended, and runs out if it holds.
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
    /// Its wait is not over.
    BackingOff {
        /// When it is, by the store's clock. [`check`](super::DurableTracker::check) says how long
        /// that is from now.
        until: SystemTime,
    },
    /// Somebody works on it.
    Held {
        /// Who.
        by: String,
        /// Until when by the store's clock, if the lease is not extended.
        until: SystemTime,
    },
    /// It is not tried any more, until somebody forgets it.
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

/// Why a lease cannot be used any more. What it was for may be in other hands: stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseLost {
    /// It was finished, failed or cancelled; or it ran out and another worker has dealt with that.
    ///
    /// After an error of the store, when the same is tried again, it may have been done the first
    /// time: then only the answer was lost.
    Ended,
    /// It ran out. The next to take the key counts that as a failure.
    Expired {
        /// When.
        at: SystemTime,
    },
    /// It ran out, and somebody else holds the key.
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

/// A time for people.
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
