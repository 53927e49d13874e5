//! One attempt at a key, of perhaps many at once.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;

use super::kept::Progress;
use super::place::Place;
use super::{BackoffTracker, Readiness, Recovery};
use crate::clock::{Clock, MonotonicClock};
use crate::policy::Backoff;
use crate::state::Decision;

/// An attempt at a key that was ready when it began, by [`BackoffTracker::attempt`].
///
/// Tell how it went by [`succeed`](Self::succeed) or [`fail`](Self::fail). One that is dropped says
/// nothing: the operation was cancelled, or its outcome is no evidence either way.
///
/// A failure counts if the key's failures are still those that the attempt began with: none, or so
/// many of the same streak. If the key has failed meanwhile, the attempt is stale, and its failure
/// belongs to the one already counted. If the key has succeeded meanwhile and not failed since, its
/// failure is the first of a new streak.
#[must_use = "an attempt that is dropped counts as neither success nor failure"]
pub struct Attempt<'a, Q: ?Sized, K, C = MonotonicClock, S = DefaultHashBuilder> {
    tracker: &'a BackoffTracker<K, C, S>,
    key: &'a Q,
    place: Place,
    began: Option<Progress>,
}

impl<'a, Q, K, C, S> Attempt<'a, Q, K, C, S>
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ?Sized,
    C: Clock,
    S: BuildHasher,
{
    #[inline]
    pub(super) fn begin(
        tracker: &'a BackoffTracker<K, C, S>,
        key: &'a Q,
    ) -> Result<Self, Readiness> {
        let place = tracker.place(key);
        let mut began = None;
        if tracker.presence.may_hold(place) {
            if let Some((kept, now)) = tracker.look(place, key) {
                match kept.readiness(now) {
                    Readiness::Ready => began = Some(kept.progress()),
                    not_now => return Err(not_now),
                }
            }
        }
        Ok(Attempt {
            tracker,
            key,
            place,
            began,
        })
    }

    /// Ends the failures of the key, also those counted since the attempt began.
    #[allow(clippy::must_use_candidate, reason = "most callers only report")]
    pub fn succeed(self) -> Option<Recovery> {
        self.tracker.succeed(self.place, self.key)
    }

    /// Counts a failure, unless the attempt is stale: then nothing changes, and the answer is what
    /// is left of the wait.
    pub fn fail(self) -> Decision
    where
        Q: ToOwned<Owned = K>,
    {
        let backoff = &self.tracker.backoff;
        self.fail_with(backoff, None)
    }

    /// The same by another policy, with a server's hint how long to stay away.
    pub fn fail_with(self, backoff: &Backoff, retry_after: Option<Duration>) -> Decision
    where
        Q: ToOwned<Owned = K>,
    {
        let Attempt {
            tracker,
            key,
            place,
            began,
        } = self;
        tracker.fail(place, key, backoff, retry_after, |progress| {
            began == Some(progress)
        })
    }
}

impl<Q: ?Sized, K, C, S> Attempt<'_, Q, K, C, S> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &Q {
        self.key
    }

    /// How many failures in a row the key had when the attempt began.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.began.map_or(0, |began| began.failures)
    }
}

impl<Q: fmt::Debug + ?Sized, K, C, S> fmt::Debug for Attempt<'_, Q, K, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("key", &self.key)
            .field("failures", &self.failures())
            .finish_non_exhaustive()
    }
}
