//! What the types promise to the compiler.

use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;

use relent::clock::{ManualClock, MonotonicClock};
use relent::{Attempt, BackoffTracker, BackoffTrackerBuilder, DefaultHashBuilder, Readiness};

use crate::{DOUBLING, secs, tracker};

#[test]
fn it_is_shared_among_threads_and_with_what_may_panic() {
    fn promises<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    promises::<BackoffTracker<String>>();
    promises::<BackoffTracker<u64, Arc<ManualClock>>>();
    promises::<BackoffTracker<Arc<str>, MonotonicClock, std::hash::RandomState>>();
    promises::<Attempt<'static, str, String>>();

    let (_, tracker) = tracker(DOUBLING);
    let caught = catch_unwind(|| {
        tracker.record_failure("a");
        panic!("as a job may");
    });
    assert!(caught.is_err());
    assert!(matches!(tracker.check("a"), Readiness::Wait(_)));
}

/// For any type of key: none is named here.
#[test]
fn the_usual_settings_can_be_named() {
    assert_eq!(BackoffTrackerBuilder::MAX_KEYS, 1 << 20);
    assert_eq!(BackoffTrackerBuilder::RETENTION, secs(24 * 3600));
}

/// Nor is anything of them needed to build two trackers alike.
#[test]
fn settings_are_cloned_whatever_the_keys_are() {
    struct Key;
    let settings: BackoffTrackerBuilder<Key> = BackoffTracker::builder(DOUBLING).max_keys(7);
    assert!(settings.clone().build().is_empty());
    assert!(format!("{settings:?}").contains("max_keys: 7"));
}

#[test]
fn the_usual_hasher_can_be_named_and_is_seeded_anew() {
    let mut all = vec![];
    for _ in 0..10 {
        let hasher = DefaultHashBuilder::default();
        let same = hasher.clone();
        // Its seed would be no secret in a log.
        assert_eq!(format!("{hasher:?}"), "DefaultHashBuilder { .. }");
        for key in [(1_u8, -1_i64), (2, -1)] {
            assert_eq!(hasher.hash_one(key), same.hash_one(key));
            all.push(hasher.hash_one(key));
        }
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 20);
    let tracker: BackoffTracker<String, MonotonicClock, DefaultHashBuilder> =
        BackoffTracker::new(DOUBLING);
    assert!(tracker.is_empty());
}

#[test]
fn the_usual_hasher_tells_keys_of_every_type_apart() {
    #[track_caller]
    fn assert_distinct<K: Hash>(keys: [K; 3]) {
        let hasher = DefaultHashBuilder::default();
        let [a, b, c] = keys.map(|key| hasher.hash_one(key));
        assert!(a != b && b != c && c != a);
    }
    assert_distinct([1_u8, 2, 3]);
    assert_distinct([1_u16, 2, 3]);
    assert_distinct([1_u32, 2, 3]);
    assert_distinct([1_u64, 2, 3]);
    assert_distinct([1_u128, 2, 3]);
    assert_distinct([1_usize, 2, 3]);
    assert_distinct([-1_i64, 0, 1]);
    assert_distinct(["a", "b", ""]);
    assert_distinct([("a", 1_u16), ("a", 2), ("b", 1)]);
}
