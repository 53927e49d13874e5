//! One attempt at a key, of perhaps many at once.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use super::kept::Progress;
use super::place::Place;
use super::{BackoffTracker, DefaultHashBuilder, NotReady, Recovery};
use crate::clock::{Clock, MonotonicClock};
use crate::policy::{Backoff, Plan};
use crate::state::Decision;

/// An attempt at a key, by [`BackoffTracker::attempt`] or [`BackoffTracker::attempt_now`].
///
/// Tell how it went by [`succeed`](Self::succeed) or [`fail`](Self::fail). One that is dropped says
/// nothing: the operation was cancelled, or its outcome is no evidence either way.
///
/// A failure counts if no other failure of the key was counted since the attempt began. If one was,
/// the attempt is stale: its failure is part of the one already counted. If the key has succeeded
/// meanwhile and not failed since, the failure is the first of a new streak.
///
/// One that began before the key was ready is stale from the start, unless the streak has ended
/// meanwhile and no other has begun: then its failure is the first of a new one.
#[must_use = "an attempt that is dropped counts as neither success nor failure"]
pub struct Attempt<'a, Q: ?Sized, K, C = MonotonicClock, S = DefaultHashBuilder> {
    tracker: &'a BackoffTracker<K, C, S>,
    key: &'a Q,
    place: Place,
    began: Option<Progress>,
    was_ready: bool,
}

#[allow(clippy::must_use_candidate, reason = "most callers only report")]
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
    ) -> Result<Self, NotReady> {
        let place = tracker.place(key);
        let mut began = None;
        if tracker.presence.may_hold(place) {
            if let Some((kept, now)) = tracker.look(place, key) {
                kept.ready(now)?;
                began = Some(kept.progress());
            }
        }
        Ok(Attempt {
            tracker,
            key,
            place,
            began,
            was_ready: true,
        })
    }

    pub(super) fn begin_now(tracker: &'a BackoffTracker<K, C, S>, key: &'a Q) -> Self {
        let place = tracker.place(key);
        let mut attempt = Attempt {
            tracker,
            key,
            place,
            began: None,
            was_ready: true,
        };
        if tracker.presence.may_hold(place) {
            if let Some((kept, now)) = tracker.look(place, key) {
                attempt.began = Some(kept.progress());
                attempt.was_ready = kept.ready(now).is_ok();
            }
        }
        attempt
    }

    /// Ends the failures of the key, even those counted since the attempt began.
    pub fn succeed(self) -> Option<Recovery> {
        self.tracker.succeed(self.place, self.key)
    }

    /// Counts a failure, unless the attempt is stale: then nothing changes, and the answer is what
    /// is left of the wait.
    pub fn fail(self) -> Decision
    where
        Q: ToOwned<Owned = K>,
    {
        let plan = &self.tracker.plan;
        self.fail_by(plan, None)
    }

    /// The same by another policy, and with a server's hint of how long to stay away.
    pub fn fail_with(self, backoff: &Backoff, retry_after: Option<Duration>) -> Decision
    where
        Q: ToOwned<Owned = K>,
    {
        self.fail_by(&Plan::of(backoff), retry_after)
    }

    fn fail_by(self, plan: &Plan, retry_after: Option<Duration>) -> Decision
    where
        Q: ToOwned<Owned = K>,
    {
        let Attempt {
            tracker,
            key,
            place,
            began,
            was_ready,
        } = self;
        tracker.fail(place, key, plan, retry_after, |progress| {
            was_ready && began == Some(progress)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::clock::ManualClock;
    use crate::{Backoff, BackoffTracker, Decision, GiveUpReason, Jitter, Readiness};

    const SECOND: Duration = Duration::from_secs(1);

    const POLICY: Backoff = Backoff::exponential(SECOND, SECOND.saturating_mul(60))
        .jitter(Jitter::None)
        .give_up_after_failures(3);

    fn tracker() -> (ManualClock, BackoffTracker<u8, ManualClock>) {
        let clock = ManualClock::new();
        let tracker = BackoffTracker::builder(POLICY);
        (clock.clone(), tracker.clock(clock).build())
    }

    #[test]
    fn t2_an_attempt_out_of_turn_never_escalates() {
        let (clock, tracker) = tracker();
        tracker.record_failure(&7);
        clock.advance(SECOND / 4);
        let attempt = tracker.attempt_now(&7);
        assert_eq!(attempt.failures(), 1);
        let left = Decision::Retry {
            after: SECOND * 3 / 4,
        };
        assert_eq!(attempt.fail(), left);
        assert_eq!(tracker.get(&7).map(|streak| streak.state.failures), Some(1));

        // Nor one that fails after the wait: the key was not tried in its turn yet.
        let attempt = tracker.attempt_now(&7);
        clock.advance(SECOND);
        let now = Decision::Retry {
            after: Duration::ZERO,
        };
        assert_eq!(attempt.fail(), now);
        assert_eq!(tracker.check(&7), Readiness::Ready);
    }

    /// By a success, by being forgotten or evicted: there is nothing left that it could escalate.
    #[test]
    fn t2_an_attempt_out_of_turn_begins_a_streak_where_the_old_one_has_ended() {
        type Tracker = BackoffTracker<u8, ManualClock>;
        let ends: [fn(&ManualClock, &Tracker); 4] = [
            |_, tracker| assert!(tracker.record_success(&7).is_some()),
            |_, tracker| assert!(tracker.forget(&7)),
            // Past its retention, though still in its place.
            |clock, _| clock.advance(SECOND * 1_000),
            // There is room for one.
            |_, tracker| assert!(tracker.record_failure(&8).delay().is_some()),
        ];
        for (nth, end) in ends.iter().enumerate() {
            let clock = ManualClock::new();
            let tracker = BackoffTracker::builder(POLICY).clock(clock.clone());
            let tracker = tracker.max_keys(1).retention(SECOND * 100).build();
            tracker.record_failure(&7);
            clock.advance(SECOND);
            tracker.record_failure(&7);
            let (out_of_turn, another) = (tracker.attempt_now(&7), tracker.attempt_now(&7));
            end(&clock, &tracker);
            assert_eq!(tracker.get(&7), None, "end {nth}");
            let first = Decision::Retry { after: SECOND };
            assert_eq!(out_of_turn.fail(), first, "end {nth}");
            // Which the other, as much out of turn, does not escalate.
            assert_eq!(another.fail(), first, "end {nth}");
            assert_eq!(tracker.get(&7).map(|streak| streak.state.failures), Some(1));
        }
    }

    #[test]
    fn t2_in_turn_it_is_an_attempt_like_any_other() {
        let (clock, tracker) = tracker();
        let first = tracker.attempt_now(&7);
        assert_eq!(first.fail(), Decision::Retry { after: SECOND });
        clock.advance(SECOND);
        let second = tracker.attempt_now(&7);
        assert_eq!(second.fail(), Decision::Retry { after: SECOND * 2 });
    }

    #[test]
    fn g3_an_attempt_out_of_turn_ends_giving_up_by_success_alone() {
        let (_, tracker) = tracker();
        for _ in 0..3 {
            tracker.record_failure(&7);
        }
        let gave_up = Decision::GiveUp(GiveUpReason::Failures);
        assert_eq!(tracker.attempt_now(&7).fail(), gave_up);
        tracker.attempt(&7).unwrap_err();
        let recovery = tracker.attempt_now(&7).succeed();
        assert_eq!(recovery.map(|recovery| recovery.failures), Some(3));
        assert_eq!(tracker.check(&7), Readiness::Ready);
    }
}
