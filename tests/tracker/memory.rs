//! T4: how much memory the keys take, counted by the allocator.

use std::hash::{BuildHasherDefault, DefaultHasher};

use allocation_counter::measure;
use relent::{BackoffTracker, Readiness};

use crate::{DOUBLING, builder, secs};

/// The same hashes at every run, so that the tables are as full as they were.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// What `fill` leaves allocated, and what it had allocated at most.
fn bytes(
    fill: impl FnOnce() -> BackoffTracker<u64, relent::clock::ManualClock, Fixed>,
) -> (u64, u64) {
    let mut kept = None;
    let info = measure(|| kept = Some(fill()));
    drop(kept);
    (u64::try_from(info.bytes_current).unwrap(), info.bytes_max)
}

#[test]
fn t4_a_key_takes_at_most_48_bytes_beside_itself() {
    const KEYS: u64 = 100_000;
    let (held, _) = bytes(|| {
        let (_, builder) = builder(DOUBLING);
        let tracker = builder.hasher(Fixed::new()).build();
        for key in 0..KEYS {
            tracker.record_failure(&key);
        }
        tracker
    });
    let beside = held as f64 / KEYS as f64 - size_of::<u64>() as f64;
    println!("{beside:.2} bytes a key beside the key");
    assert!(beside <= 48.0, "{beside} bytes");
}

/// A tenth of that without optimisation, which takes ten times as long. `.ci/run` runs both.
const DISTINCT: u64 = if cfg!(debug_assertions) {
    1_000_000
} else {
    10_000_000
};

#[test]
fn t4_ten_million_distinct_keys_take_no_more_than_the_bound() {
    const MOST: u64 = 10_000;
    let (held, at_most) = bytes(|| {
        let (clock, builder) = builder(DOUBLING);
        let tracker = builder.hasher(Fixed::new()).max_keys(MOST as usize).build();
        for key in 0..DISTINCT {
            tracker.record_failure(&key);
            if key % 64 == 0 {
                clock.advance(secs(1) / 100);
            }
        }
        assert_eq!(tracker.len() as u64, MOST);
        assert_eq!(tracker.evicted(), DISTINCT - MOST);
        assert_ne!(tracker.check(&(DISTINCT - 1)), Readiness::Ready);
        tracker
    });
    println!("{held} bytes in the end, {at_most} at most");
    assert!(at_most < 200 * MOST, "{at_most} bytes");
}

#[test]
fn t4_after_an_outage_the_memory_is_given_back() {
    let (empty, _) = bytes(|| builder(DOUBLING).1.hasher(Fixed::new()).build());
    for ended in ["by successes", "by a purge"] {
        let (recovered, at_most) = bytes(|| {
            let (clock, builder) = builder(DOUBLING);
            let builder = builder.hasher(Fixed::new()).retention(secs(60));
            let tracker = builder.build();
            for key in 0..100_000 {
                tracker.record_failure(&key);
            }
            if ended == "by a purge" {
                clock.advance(secs(3600));
                assert_eq!(tracker.purge(), 100_000);
            }
            for key in 0..100_000 {
                tracker.record_success(&key);
            }
            assert!(tracker.is_empty());
            tracker
        });
        println!("{ended}: {empty} bytes when new, {at_most} at most, {recovered} in the end");
        // What stays are the filters, and a table of a few keys in each shard.
        assert!(recovered - empty < 1_000_000, "{ended}: {recovered} bytes");
    }
}

#[test]
fn a_healthy_system_allocates_nothing() {
    let (_, builder) = builder(DOUBLING);
    let tracker = builder.build();
    tracker.record_failure("failing");
    let keys: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let info = measure(|| {
        for key in &keys {
            assert_eq!(tracker.check(key), Readiness::Ready);
            assert_eq!(tracker.attempt(key).unwrap().succeed(), None);
            assert_eq!(tracker.record_success(key), None);
        }
        tracker.record_failure("failing");
    });
    assert_eq!(info.count_total, 0);
}
