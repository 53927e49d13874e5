//! The keyed tracker: which keys are failing, and when each may be tried again.

mod attempt;
mod builder;
mod due;
mod engine;
mod hasher;
mod kept;
mod place;
mod presence;
mod room;
mod shard;
mod snapshot;
mod streak;
mod survey;
mod timeline;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use super::{Decision, NotReady, Readiness, Recovery};
use crate::clock::{Clock, MonotonicClock};
use crate::policy::{Backoff, Plan};

pub use attempt::Attempt;
pub use builder::BackoffTrackerBuilder;
pub use hasher::DefaultHashBuilder;
pub use snapshot::{Snapshot, SnapshotKey};
pub use streak::Streak;
pub use timeline::Moment;

use place::SHARDS;
use presence::Presence;
use room::Room;
use shard::Shard;
use timeline::Ahead;

/// Which keys are failing, and when each may be tried again: for programs that call many hosts,
/// reconcile many objects, or serve many tenants.
///
/// Ask [`check`](Self::check) before an attempt, and tell how it went with
/// [`record_failure`](Self::record_failure) or [`record_success`](Self::record_success). Keys are
/// independent of each other, and each draws its own jitter. A key is tracked from its first
/// failure to its next success.
///
/// All methods take `&self`: share the tracker by reference, in a `static` or in an `Arc`. A key
/// that is not failing costs next to nothing: hardly ever a lock, no clock, no allocation.
///
/// # Keys
///
/// Keys are passed by reference, and only cloned when they first fail. A key can be looked up by
/// whatever it borrows as, but to count a failure takes a reference to the key, or what makes one
/// by [`ToOwned`], as `&str` makes a `String`. So a `&'static str` or an `Arc<str>` is looked up by
/// `&str`, and its failures are counted by the key itself.
///
/// ```
/// # use relent::{Backoff, BackoffTracker};
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// const HOURLY: Backoff = Backoff::fixed(Duration::from_secs(3600));
/// let regions: BackoffTracker<&'static str> = BackoffTracker::new(HOURLY);
/// regions.record_failure(&"eu-1");
/// assert!(!regions.check("eu-1").is_ready());
///
/// let tenants: BackoffTracker<Arc<str>> = BackoffTracker::new(HOURLY);
/// let tenant: Arc<str> = "tenant-42".into();
/// tenants.record_failure(&tenant);
/// assert!(!tenants.check("tenant-42").is_ready());
/// ```
///
/// # What it forgets
///
/// Nothing that still matters, as long as there is room. A key is forgotten once it has been due,
/// or given up, for the [retention](BackoffTrackerBuilder::retention): its next failure is a first
/// one. At the [bound](BackoffTrackerBuilder::max_keys), a new key takes the place of another,
/// chosen among a few: one that is due if there is any, else the one due soonest, and one that gave
/// up only if all have. [`evicted`](Self::evicted) counts the keys that had to go.
///
/// # Your code and its locks
///
/// Each operation locks the part of the keys in which its key is, and never two parts at once.
/// While a lock is held, keys are hashed, compared and cloned; nothing else of yours runs, neither
/// the clock nor a closure nor a key's `drop`. So `Hash`, `Eq` and `Clone` of `K` must not call the
/// tracker.
///
/// Any of it may panic: the panic passes through, and each key is left as it was before the
/// operation or as it should be after it.
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
    /// What `backoff` comes to.
    plan: Plan,
    seed: u64,
    retention: u64,
    clock: C,
    ahead: Ahead,
    hasher: S,
    presence: Presence,
    shards: Box<[Shard<K>; SHARDS]>,
    room: Room,
}

impl<K> BackoffTracker<K> {
    /// A tracker whose keys all follow `backoff`, on the machine's own clock.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        BackoffTracker::builder(backoff).build()
    }

    /// A tracker with a clock, hasher, seed, bound or retention of your choice.
    pub fn builder(backoff: Backoff) -> BackoffTrackerBuilder<K> {
        BackoffTrackerBuilder::new(backoff)
    }
}

/// What happened to a key, and whether to try it.
impl<K: Hash + Eq, C: Clock, S: BuildHasher> BackoffTracker<K, C, S> {
    /// Counts a failure of `key`, and decides when to try it again, by the tracker's policy.
    ///
    /// Every call counts, even while the key is waiting. Where many attempts run at once, take an
    /// [`attempt`](Self::attempt) for each: of those, one failure counts for all.
    ///
    /// Once the key gave up it stays so until a success, or until it is
    /// [forgotten](Self#what-it-forgets): later failures count, and get the same answer.
    ///
    /// Where the compiler says "expected `&str`, found `String`": keys that are a
    /// `&'static str` or an `Arc<str>` are passed [themselves](Self#keys), as in
    /// `record_failure(&"eu-1")`.
    pub fn record_failure<Q>(&self, key: &Q) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.fail(self.place(key), key, &self.plan, None, |_| true)
    }

    /// The same by another policy, and with a server's hint of how long to stay away.
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
        let plan = Plan::of(backoff);
        self.fail(self.place(key), key, &plan, retry_after, |_| true)
    }

    /// Ends the failures of `key`: it is no longer tracked.
    ///
    /// Returns what they had come to, if there were any: that is the place to log a recovery.
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
    /// Why the key may not be tried now: it is waiting, or it gave up.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker};
    /// # let fetch = |_: &str| Err::<(), _>("timeout");
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(Backoff::DEFAULT);
    /// match tracker.attempt("example.org") {
    ///     Err(not_ready) => println!("example.org is {not_ready}"),
    ///     Ok(attempt) => match fetch("example.org") {
    ///         Ok(()) => { attempt.succeed(); }
    ///         Err(_) => { attempt.fail(); }
    ///     },
    /// }
    /// ```
    #[inline]
    pub fn attempt<'a, Q>(&'a self, key: &'a Q) -> Result<Attempt<'a, Q, K, C, S>, NotReady>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Attempt::begin(self, key)
    }

    /// Begins an attempt at `key` even if it is waiting or gave up: because somebody asked for it,
    /// or because something has changed.
    ///
    /// The same as [`attempt`](Self::attempt) where the key is ready. Where it is not, a success
    /// ends the streak as usual, but a failure changes nothing: it is no news, and impatience
    /// should not make the wait longer. The answer is then what is left of the wait. If the streak
    /// has ended meanwhile and no other has begun, the failure is the first of a new one.
    ///
    /// ```
    /// # use relent::{Backoff, BackoffTracker};
    /// # use std::time::Duration;
    /// const POLICY: Backoff = Backoff::fixed(Duration::from_secs(60)).give_up_after_failures(2);
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(POLICY);
    /// tracker.record_failure("example.org");
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

    /// How many keys are tracked: waiting, due, or given up. Those that are as good as forgotten
    /// count until they are [purged](Self::purge).
    pub fn len(&self) -> usize {
        self.room.taken()
    }

    /// Whether no key is tracked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys have had to make room for others at the
    /// [bound](BackoffTrackerBuilder::max_keys) so far. While it grows, keys are retried sooner
    /// than their policy says.
    pub fn evicted(&self) -> u64 {
        self.room.evicted()
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
