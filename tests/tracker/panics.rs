//! User code that panics, wherever the tracker calls it: what was begun is done or not done, and
//! nothing is lost.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use relent::BackoffTracker;
use relent::clock::{Clock, ManualClock};

use crate::{DOUBLING, next_due, secs};

thread_local!(static FUSE: Cell<Option<u32>> = const { Cell::new(None) });

/// What is thrown.
struct Blown;

/// Called wherever user code is: panics once, after as many calls as the fuse says.
fn burn() {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            panic_any(Blown);
        }
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

/// A key all of whose code may panic.
#[derive(Debug, Eq)]
struct Frail(u16);

impl Hash for Frail {
    fn hash<H: Hasher>(&self, state: &mut H) {
        burn();
        state.write_u16(self.0);
    }
}

impl PartialEq for Frail {
    fn eq(&self, other: &Frail) -> bool {
        burn();
        self.0 == other.0
    }
}

impl Clone for Frail {
    fn clone(&self) -> Frail {
        burn();
        Frail(self.0)
    }
}

impl Drop for Frail {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            burn();
        }
    }
}

/// Puts the keys into two shards, which grow and shrink early.
#[derive(Default)]
struct Crowded(u64);

impl Hasher for Crowded {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = u64::from(bytes[0] % 2);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone, Default)]
struct Fragile(ManualClock);

impl Clock for Fragile {
    fn now(&self) -> Duration {
        burn();
        self.0.now()
    }

    fn wall(&self) -> SystemTime {
        burn();
        self.0.wall()
    }
}

type Tracker = BackoffTracker<Frail, Fragile, BuildHasherDefault<Crowded>>;

const KEYS: u16 = 300;

#[derive(Clone, Debug)]
enum Action {
    /// Each of a number of keys, from one on.
    Fail(u16, u16),
    Attempt(u16),
    Succeed(u16, u16),
    Retain(u16),
    Purge,
    Restart,
    Ask,
}

fn action() -> impl Strategy<Value = Action> {
    let keys = || (0..KEYS, prop_oneof![4 => 1_u16..10, 1 => 10_u16..200]);
    prop_oneof![
        8 => keys().prop_map(|(from, keys)| Action::Fail(from, keys)),
        2 => (0..KEYS).prop_map(Action::Attempt),
        4 => keys().prop_map(|(from, keys)| Action::Succeed(from, keys)),
        1 => (1_u16..10).prop_map(Action::Retain),
        1 => Just(Action::Purge),
        1 => Just(Action::Restart),
        1 => Just(Action::Ask),
    ]
}

struct World {
    clock: ManualClock,
    most: usize,
    tracker: Tracker,
}

impl World {
    fn new(most: usize, retention: Duration) -> World {
        let clock = Fragile::default();
        let builder = BackoffTracker::builder(DOUBLING).clock(clock.clone());
        let builder = builder.hasher(BuildHasherDefault::new());
        World {
            clock: clock.0,
            most,
            tracker: builder.max_keys(most).retention(retention).build(),
        }
    }

    fn act(&self, action: &Action) {
        let tracker = &self.tracker;
        let keys = |from: u16, keys: u16| (from..from + keys).map(|key| Frail(key % KEYS));
        match *action {
            Action::Fail(from, count) => keys(from, count).for_each(|key| {
                tracker.record_failure(&key);
            }),
            Action::Attempt(key) => {
                let key = Frail(key);
                tracker.attempt_now(&key).fail();
                drop(tracker.attempt(&key));
            }
            Action::Succeed(from, count) => keys(from, count).for_each(|key| {
                tracker.record_success(&key);
            }),
            Action::Retain(divisor) => tracker.retain(|key, _| {
                burn();
                key.0 % divisor != 0
            }),
            Action::Purge => {
                tracker.purge();
            }
            Action::Restart => {
                let snapshot = tracker.snapshot();
                tracker.retain(|key, _| key.0 % 3 == 0);
                tracker.restore(snapshot);
            }
            Action::Ask => {
                let _ = (tracker.waiting(), next_due(tracker), tracker.due(5));
                let _ = tracker.check(&Frail(7));
            }
        }
    }

    /// All ways to ask what there is agree, and there is room for a newcomer.
    #[track_caller]
    fn is_whole(&self) {
        let tracker = &self.tracker;
        let newcomer = Frail(KEYS);
        assert!(tracker.record_failure(&newcomer).delay().is_some());
        assert!(tracker.record_success(&newcomer).is_some());
        tracker.purge();
        let kept: BTreeMap<u16, u32> = tracker
            .snapshot()
            .keys
            .iter()
            .map(|kept| (kept.key.0, kept.failures))
            .collect();
        assert_eq!(tracker.len(), kept.len());
        assert!(kept.len() <= self.most);
        for key in 0..KEYS {
            let streak = tracker.get(&Frail(key));
            let failures = streak.map(|streak| streak.state.failures);
            assert_eq!(failures, kept.get(&key).copied(), "{key}");
        }
    }
}

/// Runs `test` in a thread of its own, which must not take forever.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    let in_time = finished.recv_timeout(secs(300));
    assert_ne!(
        in_time,
        Err(RecvTimeoutError::Timeout),
        "it goes on forever"
    );
    thread.join().unwrap();
}

/// Nobody needs to read of a hundred thousand panics that were meant.
fn be_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Blown>() {
            usual(info);
        }
    }));
}

#[test]
fn t6_a_panic_of_user_code_leaves_the_tracker_whole() {
    be_quiet();
    let most = prop_oneof![Just(1_usize), Just(3), Just(100), Just(1000)];
    let retention = prop_oneof![Just(Duration::ZERO), Just(secs(200))];
    // An action calls as few as one of these, or as many as some thousand.
    let fuse = (0_u32..13).prop_flat_map(|bits| 0_u32..1 << bits);
    let step = (0_u64..100, action(), fuse);
    let steps = prop::collection::vec(step, 1..40);
    in_time(move || {
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 200,
            ..ProptestConfig::default()
        });
        let blown = Cell::new(0);
        let walk = (most, retention, steps);
        let result = runner.run(&walk, |(most, retention, steps)| {
            let world = World::new(most, retention);
            for (by, action, fuse) in steps {
                world.clock.advance(secs(by));
                FUSE.set(Some(fuse));
                let caught = catch_unwind(AssertUnwindSafe(|| world.act(&action)));
                FUSE.set(None);
                if let Err(thrown) = caught {
                    prop_assert!(thrown.is::<Blown>(), "a panic of its own");
                    blown.set(blown.get() + 1);
                }
                world.is_whole();
            }
            Ok(())
        });
        result.unwrap();
        assert!(blown.get() > 0, "nothing panicked");
    });
}
