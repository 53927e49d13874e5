//! A tracker's settings.

use std::hash::BuildHasher;
use std::marker::PhantomData;
use std::time::Duration;
use std::{array, fmt};

use super::presence::Presence;
use super::room::Room;
use super::shard::Shard;
use super::timeline::Ahead;
use super::{BackoffTracker, DefaultHashBuilder};
use crate::clock::{Clock, MonotonicClock};
use crate::policy::{Backoff, Plan, nanos};
use crate::random;

/// The settings of a [`BackoffTracker`], by [`BackoffTracker::builder`].
///
/// ```
/// use relent::clock::ManualClock;
/// use relent::{Backoff, BackoffTracker};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let tracker: BackoffTracker<String, _> = BackoffTracker::builder(Backoff::DEFAULT)
///     .clock(clock.clone())
///     .max_keys(100_000)
///     .retention(Duration::from_secs(3600))
///     .build();
/// # assert!(tracker.is_empty());
/// ```
#[must_use = "settings do nothing until they are built"]
pub struct BackoffTrackerBuilder<K, C = MonotonicClock, S = DefaultHashBuilder> {
    keys: PhantomData<fn() -> K>,
    clock: C,
    hasher: S,
    settings: Settings,
}

/// The settings whose types never vary.
#[derive(Clone, Copy)]
struct Settings {
    backoff: Backoff,
    seed: Option<u64>,
    max_keys: usize,
    retention: Duration,
}

/// Whatever the keys are: there are none yet.
impl<K, C: Clone, S: Clone> Clone for BackoffTrackerBuilder<K, C, S> {
    fn clone(&self) -> Self {
        BackoffTrackerBuilder {
            keys: PhantomData,
            clock: self.clock.clone(),
            hasher: self.hasher.clone(),
            settings: self.settings,
        }
    }
}

/// The defaults, for keys of any type.
impl BackoffTrackerBuilder<()> {
    /// Room for 2²⁰ keys: more than most programs have peers, and at most some 85 MB beside keys of
    /// 8 bytes, or 100 MB beside `String`s.
    pub const MAX_KEYS: usize = 1 << 20;

    /// A day: longer than any wait that a person would set.
    pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
}

impl<K> BackoffTrackerBuilder<K> {
    pub(super) fn new(backoff: Backoff) -> Self {
        BackoffTrackerBuilder {
            keys: PhantomData,
            clock: MonotonicClock,
            hasher: DefaultHashBuilder::default(),
            settings: Settings {
                backoff,
                seed: None,
                max_keys: BackoffTrackerBuilder::MAX_KEYS,
                retention: BackoffTrackerBuilder::RETENTION,
            },
        }
    }
}

impl<K, C, S> BackoffTrackerBuilder<K, C, S> {
    /// Another clock than the machine's: tokio's, or one that a test moves.
    pub fn clock<D: Clock>(self, clock: D) -> BackoffTrackerBuilder<K, D, S> {
        BackoffTrackerBuilder {
            keys: PhantomData,
            clock,
            hasher: self.hasher,
            settings: self.settings,
        }
    }

    /// Another hasher. Two keys with the same hash draw the same jitter, so it should use all 64
    /// bits; and where strangers choose the keys, it should be seeded, as the default one is.
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> BackoffTrackerBuilder<K, C, T> {
        BackoffTrackerBuilder {
            keys: PhantomData,
            clock: self.clock,
            hasher,
            settings: self.settings,
        }
    }

    /// The seed of the jitter, instead of fresh entropy. Together with a
    /// [`hasher`](Self::hasher) of fixed keys it makes the delays of a test the same at every run.
    ///
    /// Processes must not share it, or they all return at the same time. Fresh entropy is drawn by
    /// [`build`](Self::build), so a process that forks should build its trackers afterwards.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// How many keys are tracked at most; 0 counts as 1.
    /// [`MAX_KEYS`](BackoffTrackerBuilder::MAX_KEYS) unless set. [`BackoffTracker`] says what
    /// happens [at the bound](BackoffTracker#what-it-forgets).
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.settings.max_keys = keys;
        self
    }

    /// How long a key is remembered after its wait ended, or after the last failure of one that
    /// gave up. [`RETENTION`](BackoffTrackerBuilder::RETENTION) unless set.
    ///
    /// It should be longer than the time from one attempt at a key to the next, or the key's
    /// failures never add up. Zero forgets a key as soon as its wait has passed. In front of a
    /// [store](crate::store::blocking::WriteBehind) nothing is forgotten by time.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.settings.retention = retention;
        self
    }

    /// The tracker. Allocates some 50 kB, whatever the bound.
    #[must_use]
    pub fn build(self) -> BackoffTracker<K, C, S> {
        let Settings {
            backoff,
            seed,
            max_keys,
            retention,
        } = self.settings;
        BackoffTracker {
            plan: Plan::of(&backoff),
            backoff,
            seed: seed.unwrap_or_else(random::seed),
            retention: nanos(retention),
            clock: self.clock,
            ahead: Ahead::new(),
            hasher: self.hasher,
            presence: Presence::new(),
            shards: Box::new(array::from_fn(|_| Shard::new())),
            room: Room::new(max_keys.max(1)),
        }
    }
}

impl<K, C, S> fmt::Debug for BackoffTrackerBuilder<K, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings {
            backoff,
            seed,
            max_keys,
            retention,
        } = &self.settings;
        f.debug_struct("BackoffTrackerBuilder")
            .field("backoff", backoff)
            .field("seed", seed)
            .field("max_keys", max_keys)
            .field("retention", retention)
            .finish_non_exhaustive()
    }
}
