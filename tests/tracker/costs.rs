//! What an operation may cost: one hash; and for a healthy key, neither a reading of the clock nor
//! a lock.

use std::cell::RefCell;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use relent::clock::{Clock, ManualClock};
use relent::{BackoffTracker, Readiness};

use crate::{DOUBLING, builder, secs};

/// The same hashes at every run.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// Counts the hashes it makes.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

struct Counted(DefaultHasher, Arc<AtomicU64>);

impl BuildHasher for Counting {
    type Hasher = Counted;

    fn build_hasher(&self) -> Counted {
        Counted(DefaultHasher::new(), self.0.clone())
    }
}

impl Hasher for Counted {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.1.fetch_add(1, Relaxed);
        self.0.finish()
    }
}

impl Counting {
    /// How many hashes `run` makes.
    fn of<T>(&self, run: impl FnOnce() -> T) -> u64 {
        let before = self.0.load(Relaxed);
        run();
        self.0.load(Relaxed) - before
    }
}

type Hashed = BackoffTracker<u64, ManualClock, Counting>;

fn hashed() -> (ManualClock, Counting, Hashed) {
    let hasher = Counting::default();
    let (clock, builder) = builder(DOUBLING);
    (clock, hasher.clone(), builder.hasher(hasher).build())
}

#[test]
fn each_operation_on_a_key_hashes_it_once() {
    type Operation = fn(&Hashed, &u64);
    let operations: [(&str, Operation); 12] = [
        ("check", |t, key| {
            let _ = t.check(key);
        }),
        ("get", |t, key| {
            t.get(key);
        }),
        ("record_failure", |t, key| {
            t.record_failure(key);
        }),
        ("record a failure", |t, key| {
            t.record(key, &Err::<(), _>(()));
        }),
        ("attempt", |t, key| {
            let _ = t.attempt(key);
        }),
        ("attempt, fail", |t, key| {
            let _ = t.attempt(key).map(relent::Attempt::fail);
        }),
        ("attempt, succeed", |t, key| {
            let _ = t.attempt(key).map(relent::Attempt::succeed);
        }),
        ("attempt_now, fail", |t, key| {
            t.attempt_now(key).fail();
        }),
        ("attempt_now, succeed", |t, key| {
            t.attempt_now(key).succeed();
        }),
        ("record_success", |t, key| {
            t.record_success(key);
        }),
        ("record a success", |t, key| {
            t.record(key, &Ok::<_, ()>(()));
        }),
        ("forget", |t, key| {
            t.forget(key);
        }),
    ];
    for (name, operation) in operations {
        for due in [true, false] {
            let (clock, hasher, tracker) = hashed();
            for key in 0..20 {
                tracker.record_failure(&key);
            }
            if due {
                clock.advance(secs(1));
            }
            let present = hasher.of(|| operation(&tracker, &7));
            assert_eq!(present, 1, "{name}, of a key that is failing; due: {due}");
            let absent = hasher.of(|| operation(&tracker, &77));
            assert_eq!(absent, 1, "{name}, of a key that is not failing");
        }
    }
}

#[test]
fn where_nothing_fails_nothing_is_hashed_but_for_attempts() {
    let (_, hasher, tracker) = hashed();
    assert_eq!(hasher.of(|| tracker.check(&1)), 0);
    assert_eq!(hasher.of(|| tracker.record_success(&1)), 0);
    assert_eq!(hasher.of(|| tracker.attempt(&1).unwrap().succeed()), 1);
}

/// Tables that grow or shrink hash the keys that they move; a key that is there moves nothing.
#[test]
fn others_are_hashed_when_keys_come_and_go_and_then_seldom() {
    const KEYS: u64 = 100_000;
    let (_, hasher, tracker) = hashed();
    let came = hasher.of(|| {
        for key in 0..KEYS {
            tracker.record_failure(&key);
        }
    });
    for key in 0..KEYS {
        assert_eq!(hasher.of(|| tracker.record_failure(&key)), 1);
        assert_eq!(hasher.of(|| tracker.check(&key)), 1);
        assert_eq!(hasher.of(|| tracker.attempt_now(&key).fail()), 1);
    }
    let gone = hasher.of(|| {
        for key in 0..KEYS {
            tracker.record_success(&key);
        }
    });
    assert!(tracker.is_empty());
    println!("{came} hashes for {KEYS} keys that come, {gone} when they go");
    assert!(came < 4 * KEYS && gone < 4 * KEYS, "{came} and {gone}");
}

/// Counts how often it is read.
#[derive(Clone, Default)]
struct Watched(Arc<AtomicU64>);

impl Clock for Watched {
    fn now(&self) -> Duration {
        self.0.fetch_add(1, Relaxed);
        secs(1000)
    }
}

/// All that a program does with a healthy key.
fn use_well<C: Clock, S: BuildHasher>(tracker: &BackoffTracker<u64, C, S>, key: u64) {
    assert_eq!(tracker.check(&key), Readiness::Ready);
    assert_eq!(tracker.record_success(&key), None);
    assert_eq!(tracker.record(&key, &Ok::<_, ()>(())), None);
    assert!(!tracker.forget(&key));
    assert_eq!(tracker.get(&key), None);
    assert_eq!(tracker.attempt(&key).unwrap().succeed(), None);
    drop(tracker.attempt(&key).unwrap());
    assert_eq!(tracker.attempt_now(&key).succeed(), None);
}

/// Even where so many keys fail that some healthy ones must be looked up: they are not found, so
/// there is nothing to compare the time with.
#[test]
fn a_healthy_key_reads_no_clock_however_many_others_fail() {
    for failing in [0, 1, 1000, 100_000] {
        let clock = Watched::default();
        let tracker = BackoffTracker::builder(DOUBLING).clock(clock.clone());
        let tracker = tracker.hasher(Fixed::new()).build();
        for key in 0..failing {
            tracker.record_failure(&key);
        }
        clock.0.store(0, Relaxed);
        for key in 0..20_000 {
            use_well(&tracker, 1 << 40 | key);
        }
        assert_eq!(clock.0.load(Relaxed), 0, "{failing} failing");
        let _ = tracker.check(&0);
        assert_eq!(
            clock.0.load(Relaxed),
            u64::from(failing > 0),
            "but for its own"
        );
    }
}

/// A key that can be held in the midst of a comparison, which happens under its lock.
#[derive(Clone, Eq)]
struct Held(u64);

thread_local!(static GATE: RefCell<Option<(Sender<()>, Receiver<()>)>> = const { RefCell::new(None) });

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        if let Some((inside, go)) = GATE.take() {
            inside.send(()).unwrap();
            go.recv().unwrap();
        }
        self.0 == other.0
    }
}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn a_healthy_key_takes_no_lock() {
    const FAILING: Held = Held(7);
    let (_, builder) = builder(DOUBLING);
    let tracker = Arc::new(builder.hasher(Fixed::new()).build());
    tracker.record_failure(&FAILING);

    let (inside, is_inside) = channel();
    let (go, may_go) = channel();
    let holder = thread::spawn({
        let tracker = tracker.clone();
        move || {
            GATE.set(Some((inside, may_go)));
            tracker.record_failure(&FAILING)
        }
    });
    is_inside.recv().unwrap();

    // The lock is held: whoever asks for the same key waits for it.
    let released = Arc::new(AtomicBool::new(false));
    let together = Arc::new(Barrier::new(2));
    let other = thread::spawn({
        let (tracker, released, together) = (tracker.clone(), released.clone(), together.clone());
        move || {
            together.wait();
            let readiness = tracker.check(&FAILING);
            assert!(released.load(Relaxed), "the lock was not held");
            readiness
        }
    });
    together.wait();

    // Eight of these are under the lock that is held, if they ask for one.
    let (done, finished) = channel();
    thread::spawn({
        let tracker = tracker.clone();
        move || {
            for key in (1000..3000).map(Held) {
                assert_eq!(tracker.check(&key), Readiness::Ready);
                assert_eq!(tracker.record_success(&key), None);
                assert_eq!(tracker.attempt(&key).unwrap().succeed(), None);
            }
            done.send(()).unwrap();
        }
    });
    let in_time = finished.recv_timeout(secs(60));
    released.store(true, Relaxed);
    go.send(()).unwrap();
    in_time.expect("a healthy key waited for a lock");
    assert_eq!(holder.join().unwrap().delay(), Some(secs(2)));
    assert_ne!(other.join().unwrap(), Readiness::Ready);
}
