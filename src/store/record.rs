//! What is kept for one key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::lease::Lease;
use crate::policy::GiveUpReason;
use crate::state::BackoffState;

/// What is kept for one key: plain columns, or one JSON object. Never the policy.
///
/// A key without a record is healthy and free. A record is there while a key's streak of failures
/// lasts, while somebody holds its lease, or both.
///
/// Times are the store's own, and are kept to the nanosecond, or to what the database can tell
/// apart, at least the microsecond. They lie between 1970 and 2262, where 64 bits of nanoseconds
/// end: what would be due later is due then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize),
    serde(from = "json::Flat")
)]
pub struct Record {
    /// What the streak has come to. Healthy if the record is there for its lease alone.
    pub state: BackoffState,
    /// When the streak began. Meaningless while healthy.
    pub first_failure: SystemTime,
    /// When the last failure was recorded, or, while healthy, when the lease was taken.
    pub since: SystemTime,
    /// When the wait is over.
    pub until: SystemTime,
    /// Why the key gave up, if it did.
    pub gave_up: Option<GiveUpReason>,
    /// What went wrong last, in the words of whoever recorded it: at most
    /// [`MAX_CAUSE`](super::MAX_CAUSE) bytes of them.
    pub cause: String,
    /// The lease of whoever works on the key.
    pub lease: Option<Lease>,
}

/// The latest time there is: 64 bits of nanoseconds since 1970.
pub(crate) const END: Duration = Duration::from_nanos(i64::MAX as u64);

impl Record {
    /// A key without a streak, as of `now`.
    pub(crate) fn healthy(now: SystemTime) -> Record {
        Record {
            state: BackoffState::default(),
            first_failure: now,
            since: now,
            until: now,
            gave_up: None,
            cause: String::new(),
            lease: None,
        }
    }

    /// When the key can be taken: when its wait is over and its lease has run out. `None` if it
    /// gave up.
    ///
    /// Stores list and index by this.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        let free = self.lease.as_ref().map_or(self.until, |lease| lease.until);
        match self.gave_up {
            None => Some(self.until.max(free)),
            Some(_) => None,
        }
    }

    /// Whether this was written at a time that is yet to come, because the store's clock was set
    /// back.
    ///
    /// The next transition of the key then moves its times back too, so that no wait becomes longer
    /// than was told. A store lists such a record as due.
    #[must_use]
    pub fn is_from_the_future(&self, now: SystemTime) -> bool {
        self.written() > now
    }

    /// The later of the times at which its parts were written.
    pub(crate) fn written(&self) -> SystemTime {
        let lease = self.lease.as_ref();
        lease.map_or(self.since, |lease| lease.since.max(self.since))
    }

    /// The lease, if it has not run out at `now`.
    #[must_use]
    pub fn live_lease(&self, now: SystemTime) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.is_live(now))
    }
}

/// `now + delay`, or the end of time.
pub(crate) fn after(now: SystemTime, delay: Duration) -> SystemTime {
    let end = UNIX_EPOCH + END;
    now.checked_add(delay).map_or(end, |time| time.min(end))
}

/// The nearest time from 1970 to the end of time: any that a record can hold, and that every store
/// can write.
#[cfg(feature = "serde")]
pub(crate) fn within(time: SystemTime) -> SystemTime {
    after(UNIX_EPOCH, between(UNIX_EPOCH, time))
}

/// The time from `earlier` to `later`; zero if a clock was set back between them.
pub(crate) fn between(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

#[cfg(feature = "serde")]
pub(crate) mod json;
