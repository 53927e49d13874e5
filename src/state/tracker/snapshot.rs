//! What outlives the process.

use std::hash::{BuildHasher, Hash};
use std::time::{Duration, SystemTime};

use super::BackoffTracker;
use super::kept::Kept;
use super::place::SHARDS;
use super::shard::Entry;
use crate::clock::Clock;
use crate::policy::{GiveUpReason, from_nanos, nanos};

/// All that a tracker knows of its keys, in times of day: to be written down, and restored by the
/// next process.
///
/// With the feature `serde` it can be serialized, and carries a version: one that this crate does
/// not know is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Snapshot<K> {
    version: Version,
    /// When it was taken.
    #[cfg_attr(feature = "serde", serde(with = "written::time"))]
    pub taken_at: SystemTime,
    /// The keys that were failing, in no order.
    pub keys: Vec<SnapshotKey<K>>,
}

/// A failing key in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct SnapshotKey<K> {
    /// The key.
    pub key: K,
    /// How many failures in a row.
    pub failures: u32,
    /// The interval after the last of them, before jitter.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::config::duration"))]
    pub interval: Duration,
    /// When the first of them was.
    #[cfg_attr(feature = "serde", serde(with = "written::time"))]
    pub first_failure: SystemTime,
    /// When the key is due; for one that gave up, when its last failure was.
    #[cfg_attr(feature = "serde", serde(with = "written::time"))]
    pub until: SystemTime,
    /// Why it gave up, if it did.
    #[cfg_attr(feature = "serde", serde(default))]
    pub gave_up: Option<GiveUpReason>,
}

/// How a snapshot is written. Raised when that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version;

impl<K> Snapshot<K> {
    /// A snapshot of these keys, taken at this time of day.
    pub(crate) fn new(taken_at: SystemTime, keys: Vec<SnapshotKey<K>>) -> Snapshot<K> {
        Snapshot {
            version: Version,
            taken_at,
            keys,
        }
    }
}

impl<K: Hash + Eq, C: Clock, S: BuildHasher> BackoffTracker<K, C, S> {
    /// All that is known of the keys, to be [restored](Self::restore) later, mostly by another
    /// process.
    ///
    /// The policy is not part of it. Other threads go on meanwhile: a key that changes is in the
    /// snapshot as it was or as it is.
    ///
    /// ```
    /// # #[cfg(feature = "serde")]
    /// # {
    /// use relent::{Backoff, BackoffTracker};
    /// use std::time::Duration;
    ///
    /// const POLICY: Backoff = Backoff::fixed(Duration::from_secs(3600));
    ///
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(POLICY);
    /// tracker.record_failure("eu-1");
    /// let written = serde_json::to_string(&tracker.snapshot())?;
    ///
    /// // In the next process:
    /// let tracker: BackoffTracker<String> = BackoffTracker::new(POLICY);
    /// tracker.restore(serde_json::from_str(&written)?);
    /// assert!(!tracker.check("eu-1").is_ready());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// What must not be lost when a process is killed is for a [store](crate::store).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K>
    where
        K: Clone,
    {
        // Once, for all keys: the time of day may be set meanwhile. And first: what passes before
        // the other reading shortens the waits.
        let taken_at = self.clock.wall();
        let at = self.latest();
        let mut keys = Vec::with_capacity(self.len());
        for shard in 0..SHARDS {
            let copy = |copies: &mut Vec<_>, Entry { key, kept }: &Entry<K>, now| {
                if !kept.is_stale(now, self.retention) {
                    copies.push(SnapshotKey {
                        key: key.clone(),
                        failures: kept.failures,
                        interval: from_nanos(kept.interval),
                        first_failure: shifted(taken_at, at, kept.first_failure),
                        until: shifted(taken_at, at, kept.until),
                        gave_up: kept.gave_up(),
                    });
                }
            };
            keys.append(&mut self.survey(shard, copy));
        }
        Snapshot {
            version: Version,
            taken_at,
            keys,
        }
    }

    /// The time of day by the tracker's clock.
    pub(crate) fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    /// Forgets nothing by time alone, whatever its retention.
    pub(crate) fn never_forgetting(self) -> Self {
        let retention = u64::MAX;
        BackoffTracker { retention, ..self }
    }

    /// Makes room for so many keys more, whatever its bound.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.room.reserve(keys);
    }

    /// Goes on where a snapshot left off. The time since then has passed for the keys too, up to
    /// nine years of it.
    ///
    /// Keys that are tracked already stay as they are. The others come in like keys that fail for
    /// the first time: at the [bound](super::BackoffTrackerBuilder::max_keys), others make room for
    /// them.
    ///
    /// If the time of day is now before that of the snapshot, no time has passed: no clock makes a
    /// wait longer. Nor does a wrong time in the snapshot: no key waits for longer than the `max`
    /// of the tracker's policy, or twice the key's interval, whichever is longer.
    pub fn restore(&self, snapshot: Snapshot<K>) {
        self.bring_in(snapshot, |kept| {
            self.plan.max.max(kept.interval.saturating_mul(2))
        });
    }

    /// The same of what a store has: no wait is cut, since it may be what a server asked for.
    pub(crate) fn restore_whole(&self, snapshot: Snapshot<K>) {
        self.bring_in(snapshot, |_| u64::MAX);
    }

    fn bring_in(&self, snapshot: Snapshot<K>, longest: impl Fn(&Kept) -> u64) {
        // Again what passes between the readings, and while all this goes on, shortens the waits.
        let at = self.latest();
        let wall = self.clock.wall().max(snapshot.taken_at);
        let mut gone = Vec::new();
        for SnapshotKey {
            key,
            failures,
            interval,
            first_failure,
            until,
            gave_up,
        } in snapshot.keys
        {
            let place = self.place(&key);
            let mut newcomer = Some(key);
            while let Some(key) = &newcomer {
                let (mut open, now) = self.enter(place.shard());
                let mut kept = Kept::begin(open.table.next_streak(), now);
                kept.failures = failures;
                kept.interval = nanos(interval);
                kept.first_failure = unshifted(wall, at, first_failure).min(now);
                let longest = match gave_up {
                    None => longest(&kept),
                    Some(reason) => {
                        kept.give_up(reason);
                        0
                    }
                };
                kept.until = unshifted(wall, at, until).min(at.saturating_add(longest));
                if failures == 0 || kept.is_stale(now, self.retention) {
                    break;
                }
                if let Some(there) = open.table.find_mut::<K>(place, key) {
                    if there.is_stale(now, self.retention) {
                        *there = kept;
                    }
                    break;
                }
                if !self.admit(&mut open, place, &mut newcomer, kept, now, &mut gone) {
                    drop(open);
                    self.make_room(place);
                }
            }
            gone.clear();
        }
    }
}

/// The time of day at `then`, if it is `wall` now.
fn shifted(wall: SystemTime, now: u64, then: u64) -> SystemTime {
    let then = match then.checked_sub(now) {
        Some(ahead) => wall.checked_add(from_nanos(ahead)),
        None => wall.checked_sub(from_nanos(now - then)),
    };
    then.unwrap_or(wall)
}

/// The inverse.
fn unshifted(wall: SystemTime, now: u64, then: SystemTime) -> u64 {
    match then.duration_since(wall) {
        Ok(ahead) => now.saturating_add(nanos(ahead)),
        Err(past) => now.saturating_sub(nanos(past.duration())),
    }
}

#[cfg(feature = "serde")]
mod written {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Version;
    use crate::policy::{from_nanos, nanos};

    const VERSION: u32 = 1;

    impl Serialize for Version {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            VERSION.serialize(to)
        }
    }

    impl<'de> Deserialize<'de> for Version {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
            match u32::deserialize(from)? {
                VERSION => Ok(Version),
                other => Err(D::Error::custom(format_args!(
                    "version: this is a snapshot of version {other}, and only version {VERSION} can be read; \
                     start without it, or read it with the version of relent that wrote it"
                ))),
            }
        }
    }

    /// A time of day: RFC 3339 in formats for people, nanoseconds since 1970 in others. Times
    /// before 1970 and after 2554 are written as those.
    pub(super) mod time {
        use super::{
            Deserialize, Deserializer, Duration, Error, Serialize, Serializer, SystemTime,
            UNIX_EPOCH, from_nanos, nanos,
        };

        pub(in super::super) fn serialize<S: Serializer>(
            time: &SystemTime,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            let since_1970: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let since_1970 = nanos(since_1970);
            if to.is_human_readable() {
                let time = UNIX_EPOCH + from_nanos(since_1970);
                to.collect_str(&humantime::format_rfc3339_nanos(time))
            } else {
                since_1970.serialize(to)
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<SystemTime, D::Error> {
            if !from.is_human_readable() {
                return Ok(UNIX_EPOCH + from_nanos(u64::deserialize(from)?));
            }
            let text = String::deserialize(from)?;
            humantime::parse_rfc3339(&text).map_err(|reason| {
                D::Error::custom(format_args!(
                    "{text:?} is no time ({reason}); write it as in \"2025-01-31T23:59:59Z\""
                ))
            })
        }
    }
}
