//! T5: a clock that jumps; T6: user code that calls back.

use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use proptest::prelude::*;
use relent::clock::{Clock, ManualClock};
use relent::{Backoff, BackoffTracker, Decision, Readiness};

use crate::{DOUBLING, builder, next_due, secs, tracker};

#[test]
fn t5_a_step_back_lengthens_no_wait() {
    let (clock, tracker) = tracker(DOUBLING);
    clock.set(secs(100_000));
    for _ in 0..4 {
        tracker.record_failure("a");
    }
    clock.advance(secs(3));
    tracker.record_failure("b");
    // An hour back. A key that was waiting goes on waiting for as long as it would have.
    clock.set(secs(96_400));
    assert!(matches!(tracker.check("a"), Readiness::Wait(left) if left <= secs(8)));
    clock.advance(secs(8));
    assert_eq!(tracker.check("a"), Readiness::Ready);
    assert_eq!(tracker.check("b"), Readiness::Ready);
    assert_eq!(next_due(&tracker), None);
}

#[test]
fn t5_whoever_only_asks_for_the_next_due_is_not_held_up_either() {
    let (clock, tracker) = tracker(DOUBLING);
    clock.set(secs(100_000));
    tracker.record_failure("a");
    clock.set(secs(0));
    assert_eq!(next_due(&tracker), Some(secs(1)));
    clock.advance(secs(1));
    assert_eq!((next_due(&tracker), tracker.waiting()), (None, 0));
}

#[test]
fn t5_a_step_back_shortens_no_outage() {
    let (clock, tracker) = tracker(DOUBLING);
    clock.set(secs(5000));
    tracker.record_failure("a");
    clock.advance(secs(50));
    tracker.record_failure("a");
    clock.set(secs(1));
    assert_eq!(tracker.record_success("a").unwrap().outage, secs(50));
}

#[test]
fn t5_at_the_end_of_time_keys_still_wait() {
    let (clock, tracker) = tracker(DOUBLING);
    clock.set(Duration::MAX);
    assert_eq!(
        tracker.record_failure("a"),
        Decision::Retry { after: secs(1) }
    );
    assert_eq!(tracker.check("a"), Readiness::Wait(secs(1)));
    let (_, tracker) = crate::tracker(Backoff::fixed(Duration::MAX));
    tracker.record_failure("a");
    assert!(matches!(tracker.check("a"), Readiness::Wait(left) if left > secs(1 << 32)));
}

#[test]
fn t2_after_a_step_back_too_one_failure_of_a_window_counts() {
    let (clock, tracker) = tracker(DOUBLING);
    clock.set(secs(1 << 30));
    for (failures, interval) in (1..).zip([1, 2, 4]) {
        let attempts = [(); 3].map(|()| tracker.attempt("a").unwrap());
        for attempt in attempts {
            clock.set(clock.now() / 2);
            let after = secs(interval);
            assert_eq!(attempt.fail(), Decision::Retry { after });
        }
        let counted = tracker.get("a").map(|streak| streak.state.failures);
        assert_eq!(counted, Some(failures));
        clock.advance(secs(interval));
    }
}

proptest! {
    #[test]
    fn t5_no_wait_exceeds_max_whatever_the_clock_does(
        steps in prop::collection::vec((0_u64..1 << 55, 0_u32..64, 0_u8..5, 0_u8..6), 1..80),
    ) {
        let (clock, builder) = builder(Backoff::exponential(secs(1), secs(60)));
        let tracker = builder.build();
        let max = secs(60);
        for (reading, shift, key, action) in steps {
            clock.set(Duration::from_nanos(reading >> shift));
            match action {
                0 | 1 => {
                    let decision = tracker.record_failure(&key);
                    prop_assert!(decision.delay().unwrap() <= max);
                    prop_assert_ne!(tracker.check(&key), Readiness::Ready);
                }
                2 => { tracker.purge(); }
                3 => { tracker.record_success(&key); }
                _ => {}
            }
            if let Readiness::Wait(left) = tracker.check(&key) {
                prop_assert!(left <= max);
                clock.advance(left);
                prop_assert_eq!(tracker.check(&key), Readiness::Ready);
            }
            prop_assert!(next_due(&tracker).unwrap_or_default() <= max);
        }
    }
}

type Calls = Arc<dyn Fn() + Send + Sync>;

/// Runs a hook whenever it is read, but not while the hook runs.
#[derive(Clone, Default)]
struct Nosy(ManualClock, Arc<OnceLock<Calls>>);

thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });

fn once(call: &dyn Fn()) {
    if !INSIDE.replace(true) {
        call();
        INSIDE.set(false);
    }
}

impl Clock for Nosy {
    fn now(&self) -> Duration {
        if let Some(call) = self.1.get() {
            once(&**call);
        }
        self.0.now()
    }
}

/// Calls back when it is dropped.
#[derive(PartialEq, Eq, Hash)]
struct Loud(u64);

static ON_DROP: Mutex<Option<Calls>> = Mutex::new(None);

impl Clone for Loud {
    fn clone(&self) -> Loud {
        Loud(self.0)
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        let call = ON_DROP.lock().unwrap().clone();
        if let Some(call) = call {
            once(&*call);
        }
    }
}

#[test]
fn t6_no_lock_is_held_while_user_code_runs() {
    let (done, finished) = channel();
    std::thread::spawn(move || {
        let clock = Nosy::default();
        let builder = BackoffTracker::builder(DOUBLING).clock(clock.clone());
        let tracker: Arc<BackoffTracker<Loud, Nosy>> =
            Arc::new(builder.max_keys(500).retention(secs(10)).build());
        let weak: Weak<_> = Arc::downgrade(&tracker);
        // Locks every shard, one after the other.
        let touch: Calls = Arc::new(move || {
            if let Some(tracker) = weak.upgrade() {
                let _ = (tracker.waiting(), next_due(&tracker));
            }
        });
        clock.1.set(touch.clone()).ok().unwrap();
        *ON_DROP.lock().unwrap() = Some(touch.clone());
        for n in 0..1000 {
            let key = Loud(n);
            tracker.record_failure(&key);
            let _ = tracker.check(&key);
            let _ = tracker.get(&key);
            if n % 3 == 0 {
                tracker.record_success(&key);
                tracker.attempt(&key).unwrap().fail();
            }
            if n % 100 == 0 {
                clock.0.advance(secs(20));
                clock.0.set(clock.0.now() / 2);
            }
        }
        tracker.retain(|key, _| {
            once(&*touch);
            tracker.record_failure(key);
            key.0 % 2 == 0
        });
        let snapshot = tracker.snapshot();
        tracker.restore(snapshot);
        clock.0.advance(secs(1000));
        tracker.purge();
        *ON_DROP.lock().unwrap() = None;
        done.send(tracker.evicted()).unwrap();
    });
    let evicted = finished
        .recv_timeout(Duration::from_secs(60))
        .expect("no deadlock");
    assert!(evicted > 0, "keys were dropped to make room");
}

#[test]
fn a_snapshot_has_each_key_once_though_the_tables_grow_meanwhile() {
    const KEYS: u64 = 220_000;
    let clock = Nosy::default();
    let builder = BackoffTracker::builder(DOUBLING).clock(clock.clone());
    let tracker: Arc<BackoffTracker<u64, Nosy>> = Arc::new(builder.build());
    for key in 0..KEYS {
        tracker.record_failure(&key);
    }
    // The first reading is for the snapshot as a whole, the second for the first keys. At the third
    // it is amid the first shard: then all shards grow.
    let readings = Mutex::new(0);
    let weak = Arc::downgrade(&tracker);
    let grow: Calls = Arc::new(move || {
        *readings.lock().unwrap() += 1;
        if *readings.lock().unwrap() == 3 {
            let tracker = weak.upgrade().unwrap();
            for key in KEYS..2 * KEYS {
                tracker.record_failure(&key);
            }
        }
    });
    clock.1.set(grow).ok().unwrap();
    let mut keys: Vec<_> = tracker
        .snapshot()
        .keys
        .iter()
        .map(|kept| kept.key)
        .collect();
    keys.sort_unstable();
    assert_eq!(tracker.len() as u64, 2 * KEYS);
    assert!(keys.iter().take(KEYS as usize).copied().eq(0..KEYS));
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
}

/// Puts all keys into four shards, and there into the first bucket that is free.
#[derive(Default)]
struct Queued(u64);

impl Hasher for Queued {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = u64::from(bytes[0] % 4);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// At each of the first readings of the clock a third of the keys recover, and fail again in
/// another order.
#[test]
fn who_looks_at_all_keys_sees_each_once_though_they_recover_and_fail_meanwhile() {
    const KEYS: u64 = 3000;
    type Shuffled = BackoffTracker<u64, Nosy, BuildHasherDefault<Queued>>;
    let looks: [fn(&Shuffled) -> Vec<u64>; 3] = [
        |tracker| {
            let snapshot = tracker.snapshot();
            snapshot.keys.iter().map(|kept| kept.key).collect()
        },
        |tracker| (0..tracker.waiting() as u64).collect(),
        |tracker| {
            let mut asked = vec![];
            tracker.retain(|key, _| {
                asked.push(*key);
                true
            });
            asked
        },
    ];
    for look in looks {
        let clock = Nosy::default();
        let builder = BackoffTracker::builder(DOUBLING).clock(clock.clone());
        let tracker: Arc<Shuffled> = Arc::new(builder.hasher(BuildHasherDefault::new()).build());
        for key in 0..KEYS {
            tracker.record_failure(&key);
        }
        let readings = Mutex::new(0..5);
        let weak = Arc::downgrade(&tracker);
        let shuffle: Calls = Arc::new(move || {
            if let Some(nth) = readings.lock().unwrap().next() {
                let tracker = weak.upgrade().unwrap();
                let some = (0..KEYS).filter(|key| key / 4 % 3 == nth % 3);
                for key in some.clone() {
                    tracker.record_success(&key);
                }
                for key in some.rev() {
                    tracker.record_failure(&key);
                }
            }
        });
        clock.1.set(shuffle).ok().unwrap();
        let mut seen = look(&tracker);
        seen.sort_unstable();
        assert_eq!(seen.len() as u64, KEYS);
        assert!(seen.into_iter().eq(0..KEYS));
    }
}

/// However often the clock is read: whenever it is, keys of the same shard recover and fail again.
#[test]
fn who_looks_at_all_keys_comes_to_an_end_though_they_move_all_the_time() {
    const KEYS: u64 = 600;
    const ENOUGH: u32 = 1000;
    type Crowded = BackoffTracker<u64, Nosy, BuildHasherDefault<Queued>>;
    let clock = Nosy::default();
    let builder = BackoffTracker::builder(DOUBLING).clock(clock.clone());
    let tracker: Arc<Crowded> = Arc::new(builder.hasher(BuildHasherDefault::new()).build());
    // All of them in one shard.
    let keys = || (0..KEYS).map(|key| key * 4);
    for key in keys() {
        tracker.record_failure(&key);
    }
    let readings = Arc::new(Mutex::new(0));
    let (counted, weak) = (readings.clone(), Arc::downgrade(&tracker));
    let shuffle: Calls = Arc::new(move || {
        *counted.lock().unwrap() += 1;
        if *counted.lock().unwrap() < ENOUGH {
            let tracker = weak.upgrade().unwrap();
            for key in keys().take(5) {
                tracker.record_success(&key);
                tracker.record_failure(&key);
            }
        }
    });
    clock.1.set(shuffle).ok().unwrap();
    assert_eq!(tracker.waiting() as u64, KEYS);
    let readings = *readings.lock().unwrap();
    assert!(readings < ENOUGH, "only when they stay where they are");
}
