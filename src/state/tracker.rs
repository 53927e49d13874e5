//! The keyed tracker: which keys are failing, and when each may be tried again.

mod attempt;
mod builder;
mod kept;
mod place;
mod presence;
mod room;
mod shard;
mod snapshot;
mod survey;
mod timeline;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;

use super::{BackoffState, Decision, Readiness, Recovery};
use crate::clock::{Clock, MonotonicClock};
use crate::policy::{Backoff, from_nanos};

pub use attempt::Attempt;
pub use builder::BackoffTrackerBuilder;
pub use snapshot::{Snapshot, SnapshotKey};

use kept::{Cause, Kept, Progress};
use place::{Place, SHARDS};
use presence::Presence;
use room::Room;
use shard::{CANDIDATES, Entry, Open, Shard};
use timeline::Ahead;

/// Which keys are failing, and when each may be tried again: for whoever calls many hosts,
/// reconciles many objects, or serves many tenants.
///
/// Ask [`check`](Self::check) before an attempt, and tell how it went with
/// [`record_failure`](Self::record_failure) or [`record_success`](Self::record_success). Keys are
/// independent of each other, and each draws its own jitter. A key is tracked from its first failure
/// to its next success.
///
/// All methods take `&self`: share the tracker by reference, in a `static` or in an `Arc`. A key
/// that is not failing costs next to nothing: no lock, no clock, no allocation. Keys are passed by
/// reference (`&str` for `String`) and only cloned when they first fail.
///
/// # What it forgets
///
/// Nothing that still matters, as long as there is room. A key is forgotten once it has been due, or
/// given up, for the [retention](BackoffTrackerBuilder::retention): its next failure is a first one.
/// At the [bound](BackoffTrackerBuilder::max_keys), a newcomer takes the place of the key of least
/// worth among some: of one that is due if there is any, else of the one due soonest, and last of
/// one that gave up. [`evicted`](Self::evicted) counts them.
///
/// # Your code and its locks
///
/// Each operation locks the part of the keys in which its key is, and only that. While a lock is
/// held, keys are hashed, compared and cloned; nothing else of yours runs, neither the clock nor a
/// closure nor a key's `drop`. So `Hash`, `Eq` and `Clone` of `K` must not call the tracker.
///
/// # Example
///
/// ```
/// use relent::{Backoff, BackoffTracker, Decision, Jitter, Readiness};
/// use std::time::Duration;
///
/// const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60))
///     .jitter(Jitter::None)
///     .give_up_after_failures(3);
///
/// let tracker: BackoffTracker<String> = BackoffTracker::new(POLICY);
/// assert_eq!(tracker.check("eu-1"), Readiness::Ready);
///
/// let decision = tracker.record_failure("eu-1");
/// assert_eq!(decision, Decision::Retry { after: Duration::from_secs(1) });
/// assert!(matches!(tracker.check("eu-1"), Readiness::Wait(left) if left <= Duration::from_secs(1)));
/// assert_eq!(tracker.check("eu-2"), Readiness::Ready);
///
/// let recovery = tracker.record_success("eu-1").expect("it was failing");
/// assert_eq!(recovery.failures, 1);
/// assert_eq!(tracker.record_success("eu-1"), None);
/// ```
pub struct BackoffTracker<K, C = MonotonicClock, S = DefaultHashBuilder> {
    backoff: Backoff,
    seed: u64,
    retention: u64,
    clock: C,
    ahead: Ahead,
    hasher: S,
    presence: Presence,
    shards: Box<[Shard<K>; SHARDS]>,
    room: Room,
}

/// How a failing key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Streak {
    /// How many failures in a row, and the interval after the last.
    pub state: BackoffState,
    /// The time since the first of them.
    pub elapsed: Duration,
    /// Whether the key may be tried now.
    pub readiness: Readiness,
}

impl<K> BackoffTracker<K> {
    /// A tracker whose keys all follow `backoff`, on the machine's own clock.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        BackoffTracker::builder(backoff).build()
    }

    /// A tracker with another clock, hasher, seed, bound or retention than the usual ones.
    pub fn builder(backoff: Backoff) -> BackoffTrackerBuilder<K> {
        BackoffTrackerBuilder::new(backoff)
    }
}

/// What happened to a key, and whether to try it.
impl<K: Hash + Eq, C: Clock, S: BuildHasher> BackoffTracker<K, C, S> {
    /// Counts a failure of `key`, and decides when to try it again, by the tracker's policy.
    ///
    /// Every call counts, also while the key is waiting. Where many attempts run at once, take an
    /// [`attempt`](Self::attempt) for each: of those, one failure counts for all.
    ///
    /// Once the key gave up it stays so until a success: later failures count, and get the same
    /// answer.
    pub fn record_failure<Q>(&self, key: &Q) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.record_failure_with(key, &self.backoff, None)
    }

    /// The same by another policy, with a server's hint how long to stay away.
    ///
    /// The policy passed decides about this failure, whichever decided about those before: only
    /// the count and the interval are kept. See [`Backoff::next`] for what a hint does.
    pub fn record_failure_with<Q>(
        &self,
        key: &Q,
        backoff: &Backoff,
        retry_after: Option<Duration>,
    ) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.fail(self.place(key), key, backoff, retry_after, |_| true)
    }

    /// Ends the failures of `key`: it is tracked no more.
    ///
    /// Tells what they had come to, if there were any: that is the place to log a recovery.
    #[inline(always)]
    pub fn record_success<Q>(&self, key: &Q) -> Option<Recovery>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.room.taken() == 0 {
            return None;
        }
        self.succeed(self.place(key), key)
    }

    /// Counts a failure of `key` if `result` is one, else ends its failures.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker};
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(Backoff::DEFAULT);
    /// let result: Result<u16, _> = "no number".parse();
    /// if let Some(decision) = tracker.record("config", &result) {
    ///     println!("failed, next attempt after {:?}", decision.delay());
    /// }
    /// ```
    pub fn record<Q, T, E>(&self, key: &Q, result: &Result<T, E>) -> Option<Decision>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if result.is_err() {
            return Some(self.record_failure(key));
        }
        self.record_success(key);
        None
    }

    /// Whether `key` may be tried now.
    ///
    /// Takes nothing: all who ask while a key is ready are told so.
    #[inline(always)]
    pub fn check<Q>(&self, key: &Q) -> Readiness
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.room.taken() == 0 {
            return Readiness::Ready;
        }
        let place = self.place(key);
        if !self.presence.may_hold(place) {
            return Readiness::Ready;
        }
        match self.look(place, key) {
            None => Readiness::Ready,
            Some((kept, now)) => kept.readiness(now),
        }
    }

    /// How `key` stands; `None` if it is not failing.
    pub fn get<Q>(&self, key: &Q) -> Option<Streak>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = self.place(key);
        if !self.presence.may_hold(place) {
            return None;
        }
        let (kept, now) = self.look(place, key)?;
        Some(kept.streak(now))
    }

    /// Begins an attempt at `key`, for an operation of which many may run at once.
    ///
    /// Of all attempts that began before the key's last failure was counted, only the first to fail
    /// counts: a hundred requests that fail together are one failure of their host. See
    /// [`Attempt`].
    ///
    /// # Errors
    ///
    /// The [`Readiness`] of a key that is waiting or gave up; never [`Readiness::Ready`].
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker};
    /// # let fetch = |_: &str| Err::<(), _>("timeout");
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(Backoff::DEFAULT);
    /// match tracker.attempt("example.org") {
    ///     Err(not_now) => println!("{not_now:?}"),
    ///     Ok(attempt) => match fetch("example.org") {
    ///         Ok(()) => { attempt.succeed(); }
    ///         Err(_) => { let _ = attempt.fail(); }
    ///     },
    /// }
    /// ```
    #[inline]
    pub fn attempt<'a, Q>(&'a self, key: &'a Q) -> Result<Attempt<'a, Q, K, C, S>, Readiness>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Attempt::begin(self, key)
    }

    /// Begins an attempt at `key` also if it is waiting or gave up: because somebody asked for it,
    /// or because something has changed.
    ///
    /// The same as [`attempt`](Self::attempt) where the key is ready. Where it is not, a success
    /// ends the streak as ever, but a failure changes nothing: it is no news, and being asked often
    /// should not make the wait longer. The answer is then what is left of it.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker};
    /// # use std::time::Duration;
    /// const POLICY: Backoff = Backoff::fixed(Duration::from_secs(60)).give_up_after_failures(2);
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(POLICY);
    /// let _ = tracker.record_failure("example.org");
    ///
    /// // Somebody presses a button, thrice.
    /// for _ in 0..3 {
    ///     let left = tracker.attempt_now("example.org").fail().delay();
    ///     assert!(left.is_some_and(|left| left <= Duration::from_secs(60)));
    /// }
    /// let recovery = tracker.attempt_now("example.org").succeed();
    /// assert_eq!(recovery.map(|recovery| recovery.failures), Some(1));
    /// ```
    pub fn attempt_now<'a, Q>(&'a self, key: &'a Q) -> Attempt<'a, Q, K, C, S>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Attempt::begin_now(self, key)
    }

    /// Forgets `key`, as if it had never failed. True if it was failing.
    pub fn forget<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.record_success(key).is_some()
    }
}

/// What the tracker is.
impl<K, C, S> BackoffTracker<K, C, S> {
    /// The policy that all keys follow unless told otherwise.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// How many keys are tracked: waiting, due, or given up. Those to be forgotten count until they
    /// are [purged](Self::purge).
    pub fn len(&self) -> usize {
        self.room.taken()
    }

    /// Whether no key is tracked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys had to make room for others at the [bound](BackoffTrackerBuilder::max_keys),
    /// ever. If it grows, keys are retried sooner than their policy says.
    pub fn evicted(&self) -> u64 {
        self.room.evicted()
    }
}

impl<K: Hash + Eq, C: Clock, S: BuildHasher> BackoffTracker<K, C, S> {
    #[inline(always)]
    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> Place {
        Place::new(self.hasher.hash_one(key))
    }

    /// Counts a failure, if it `counts` for a streak that has come so far.
    #[inline]
    fn fail<Q>(
        &self,
        place: Place,
        key: &Q,
        backoff: &Backoff,
        retry_after: Option<Duration>,
        counts: impl Fn(Progress) -> bool,
    ) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let cause = Cause {
            backoff,
            retry_after,
            seed: self.seed ^ place.hash,
        };
        let time = self.time();
        let mut table = self.shard(place).lock();
        if let Some(now) = table.seen.at(time) {
            if let Some(kept) = table.find_mut(place, key) {
                if !kept.is_stale(now, self.retention) {
                    if counts(kept.progress()) {
                        return kept.fail(&cause, now);
                    }
                    return kept.decision(now);
                }
            }
        }
        drop(table);
        self.fail_first(place, key, &cause, time, counts)
    }

    /// Counts a failure of a key that was not there, at a time read before.
    #[inline(never)]
    fn fail_first<Q>(
        &self,
        place: Place,
        key: &Q,
        cause: &Cause<'_>,
        mut time: u64,
        counts: impl Fn(Progress) -> bool,
    ) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let shard = place.shard();
        let mut owned = key.to_owned();
        // Dropped after the lock is released.
        let mut gone = Vec::new();
        loop {
            let (mut open, now) = self.enter_at(shard, time);
            let mut first = Kept::begin(open.table.next_streak(), now);
            if let Some(kept) = open.table.find_mut(place, key) {
                if kept.is_stale(now, self.retention) {
                    *kept = first;
                } else if !counts(kept.progress()) {
                    return kept.decision(now);
                }
                return kept.fail(cause, now);
            }
            let decision = first.fail(cause, now);
            let entry = Entry {
                key: owned,
                kept: first,
            };
            match self.admit(&mut open, place, entry, now, &mut gone) {
                Ok(()) => return decision,
                Err(entry) => owned = entry.key,
            }
            drop(open);
            self.make_room(place);
            time = self.time();
        }
    }

    /// Puts in a key that is not there, or gives it back because there is no room.
    fn admit(
        &self,
        open: &mut Open<'_, K, S>,
        place: Place,
        entry: Entry<K>,
        now: u64,
        gone: &mut Vec<Entry<K>>,
    ) -> Result<(), Entry<K>> {
        open.sweep(gone, |kept| kept.is_stale(now, self.retention));
        if !self.room.take() {
            return Err(entry);
        }
        open.insert(place, entry);
        Ok(())
    }

    /// Takes out a key to make room for one that comes to `place`.
    #[cold]
    fn make_room(&self, place: Place) {
        let mut candidates = Vec::with_capacity(CANDIDATES);
        // Mostly the first shard has enough of them. Where there are few keys, more have to do.
        for next in 0..SHARDS {
            let (open, now) = self.enter((place.shard() + next) % SHARDS);
            open.candidates(place, now, &mut candidates);
            if candidates.len() == CANDIDATES {
                break;
            }
        }
        candidates.sort_unstable_by_key(|candidate| candidate.worth);
        for candidate in candidates {
            let (mut open, now) = self.enter(candidate.shard);
            let gone = open.remove_candidate(&candidate);
            drop(open);
            if let Some(Entry { kept, .. }) = gone {
                if !kept.is_stale(now, self.retention) {
                    self.room.count_eviction();
                }
                return;
            }
        }
    }

    #[inline(never)]
    fn look<Q>(&self, place: Place, key: &Q) -> Option<(Kept, u64)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (mut kept, mut seen) = {
            let table = self.shard(place).lock();
            (*table.find(place, key)?, table.seen)
        };
        // Read only now, so that whoever asks for a key that is not there reads no clock.
        let mut now = seen.at(self.time());
        if now.is_none() {
            let (open, noted) = self.enter(place.shard());
            kept = *open.table.find(place, key)?;
            now = Some(noted);
        }
        let now = now?;
        (!kept.is_stale(now, self.retention)).then_some((kept, now))
    }

    #[inline(always)]
    fn succeed<Q>(&self, place: Place, key: &Q) -> Option<Recovery>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if !self.presence.may_hold(place) {
            return None;
        }
        self.recover(place, key)
    }

    #[inline(never)]
    fn recover<Q>(&self, place: Place, key: &Q) -> Option<Recovery>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (entry, seen) = {
            let mut open = self.open(place.shard());
            (open.remove(place, key)?, open.table.seen)
        };
        let now = self.time().max(seen.get());
        let kept = entry.kept;
        (!kept.is_stale(now, self.retention)).then(|| Recovery {
            failures: kept.failures,
            outage: from_nanos(now.saturating_sub(kept.first_failure)),
        })
    }

    #[inline]
    fn shard(&self, place: Place) -> &Shard<K> {
        &self.shards[place.shard()]
    }

    #[inline]
    fn open(&self, shard: usize) -> Open<'_, K, S> {
        Open {
            table: self.shards[shard].lock(),
            shard,
            presence: &self.presence,
            room: &self.room,
            hasher: &self.hasher,
        }
    }

    /// Opens a shard and tells its time. The clock is read before the lock is taken.
    #[inline]
    fn enter(&self, shard: usize) -> (Open<'_, K, S>, u64) {
        self.enter_at(shard, self.time())
    }

    #[inline]
    fn enter_at(&self, shard: usize, time: u64) -> (Open<'_, K, S>, u64) {
        let mut open = self.open(shard);
        if let Some(now) = open.table.seen.at(time) {
            return (open, now);
        }
        let seen = open.table.seen.get();
        drop(open);
        self.enter_after(shard, seen)
    }

    #[cold]
    fn enter_after(&self, shard: usize, seen: u64) -> (Open<'_, K, S>, u64) {
        let time = self.ahead.read_after(&self.clock, seen);
        let mut open = self.open(shard);
        let now = open.table.seen.at_least(time);
        (open, now)
    }

    #[inline]
    fn time(&self) -> u64 {
        self.ahead.read(&self.clock)
    }
}

impl<K, C, S> fmt::Debug for BackoffTracker<K, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackoffTracker")
            .field("backoff", &self.backoff)
            .field("len", &self.len())
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}
