//! Which keys are due, and when the next one is.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use super::place::SHARDS;
use super::shard::Entry;
use super::timeline::Moment;
use super::{BackoffTracker, Streak};
use crate::clock::Clock;

/// Which keys wait, and which are due. These look at all keys in turn, as
/// [`retain`](Self::retain) does.
impl<K: Hash + Eq, C: Clock, S: BuildHasher> BackoffTracker<K, C, S> {
    /// How many keys are waiting: neither due nor given up.
    pub fn waiting(&self) -> usize {
        let count = |waiting: &mut usize, entry: &Entry<K>, now| {
            *waiting += usize::from(entry.kept.is_waiting(now));
        };
        (0..SHARDS).map(|shard| self.survey(shard, count)).sum()
    }

    /// The first `limit` keys that may be tried again, in the order in which they became due: their
    /// waits are over, and they are not [forgotten](Self#what-it-forgets) yet. Those that gave up
    /// are not among them.
    ///
    /// Listing claims nothing: a key is listed until it fails again, succeeds or is forgotten.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker, clock::ManualClock};
    /// # use std::time::Duration;
    /// # let clock = ManualClock::new();
    /// # let tracker = BackoffTracker::builder(Backoff::DEFAULT).clock(clock.clone()).build();
    /// # let fetch = |_: &str| Err::<(), _>("timeout");
    /// # tracker.record_failure("example.org");
    /// # clock.advance(Duration::from_secs(60));
    /// for (host, streak) in tracker.due(100) {
    ///     println!("{host} once more, after {} failures", streak.state.failures);
    ///     tracker.record(&host, &fetch(&host));
    /// }
    /// # assert_eq!(tracker.get("example.org").unwrap().state.failures, 2);
    /// ```
    #[must_use]
    pub fn due(&self, limit: usize) -> Vec<(K, Streak)>
    where
        K: Clone,
    {
        // So that no more are copied than asked for.
        let last = if limit < self.len() {
            self.due_after(limit)
        } else {
            u64::MAX
        };
        let copy = |copies: &mut Vec<_>, Entry { key, kept }: &Entry<K>, now| {
            if kept.until <= last && kept.is_due(now, self.retention) {
                copies.push((kept.until, key.clone(), kept.streak(now)));
            }
        };
        let all = (0..SHARDS).flat_map(|shard| self.survey(shard, copy));
        let mut due: Vec<_> = all.collect();
        due.sort_by_key(|(until, ..)| *until);
        let due = due.into_iter().take(limit);
        due.map(|(_, key, streak)| (key, streak)).collect()
    }

    /// The present moment by the tracker's clock: to be noted when a round of attempts begins, for
    /// [`next_due`](Self::next_due).
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.latest())
    }

    /// How long until a key is due that was not due at the moment `since`; `None` if there is none.
    ///
    /// Zero if such a key is due already. So a loop that notes the time, tries what is due, and
    /// then sleeps that long misses no key that falls due while it is busy; nor does it spin
    /// because of keys that were due before and that it chose not to try. Keys that gave up are
    /// never due. A key that failed at the very moment `since`, and whose wait is zero, counts as
    /// due before.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker, clock::ManualClock};
    /// # let clock = ManualClock::new();
    /// # let tracker = BackoffTracker::builder(Backoff::DEFAULT).clock(clock.clone()).build();
    /// # let mut answers = [Err("timeout"); 4].into_iter();
    /// # let mut fetch = |_: &str| answers.next().unwrap_or(Ok(()));
    /// # let sleep = |wait| clock.advance(wait);
    /// # let hosts = ["example.org", "example.net"].map(String::from);
    /// loop {
    ///     let round = tracker.now();
    ///     for host in &hosts {
    ///         if let Ok(attempt) = tracker.attempt(host) {
    ///             match fetch(host) {
    ///                 Ok(()) => { attempt.succeed(); }
    ///                 Err(_) => { attempt.fail(); }
    ///             }
    ///         }
    ///     }
    ///     match tracker.next_due(round) {
    ///         Some(wait) => sleep(wait),
    ///         None => break,
    ///     }
    /// }
    /// # assert!(tracker.is_empty());
    /// ```
    pub fn next_due(&self, since: Moment) -> Option<Duration> {
        let soonest = |soonest: &mut Option<Duration>, entry: &Entry<K>, now| {
            // Where the clock stepped back, who had been due may be waiting.
            if entry.kept.is_waiting(since.0.min(now)) {
                let wait = entry.kept.wait(now);
                *soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
            }
        };
        (0..SHARDS)
            .filter_map(|shard| self.survey(shard, soonest))
            .min()
    }

    /// When the key was due that comes after so many others; the end of time if there is none.
    fn due_after(&self, others: usize) -> u64 {
        let until = |due: &mut Vec<u64>, entry: &Entry<K>, now| {
            if entry.kept.is_due(now, self.retention) {
                due.push(entry.kept.until);
            }
        };
        let all = (0..SHARDS).flat_map(|shard| self.survey(shard, until));
        let mut all: Vec<_> = all.collect();
        if others < all.len() {
            *all.select_nth_unstable(others).1
        } else {
            u64::MAX
        }
    }
}
