//! The tracker beside the design it replaces, `Mutex<HashMap<K, backoff::ExponentialBackoff>>`, in
//! the same run.
//!
//! ```text
//! taskset -c 0,1 cargo bench --bench tracker
//! ```
//!
//! Keys are `u64`. Nanoseconds an operation, the least of several rounds; with two threads, of each
//! thread. `failing` is how many keys are tracked; *healthy* keys are not among them. The tracker's
//! failures run on a clock that stands still, so that they show what the tracker costs; the
//! machine's own clock is measured beside them. Only ratios mean anything on a shared machine: the
//! costs of a lock, and of a table that does no more than count, are shown for comparison.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};
use std::{array, thread};

use allocation_counter::measure;
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use hashbrown::HashTable;
use relent::clock::{Clock, ManualClock, MonotonicClock};
use relent::{Backoff, BackoffTracker, DefaultHashBuilder};

const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(3600), Duration::from_secs(36_000));
const HEALTHY: u64 = 1 << 40;

type Ours = BackoffTracker<u64, ManualClock>;
type Theirs = Mutex<HashMap<u64, ExponentialBackoff>>;

fn ours(failing: u64) -> Ours {
    let tracker = BackoffTracker::builder(POLICY)
        .clock(ManualClock::new())
        .max_keys(1 << 23)
        .build();
    for key in 0..failing {
        tracker.record_failure(&key);
    }
    tracker
}

fn fail(theirs: &Theirs, key: u64) -> Option<Duration> {
    theirs
        .lock()
        .unwrap()
        .entry(key)
        .or_default()
        .next_backoff()
}

fn theirs(failing: u64) -> Theirs {
    let theirs = Theirs::default();
    for key in 0..failing {
        fail(&theirs, key);
    }
    theirs
}

/// Numbers below 2³², in an order that no cache foresees.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

const EACH: u64 = 300_000;

/// Nanoseconds an operation of each thread, in the best of some rounds.
fn time<T>(threads: u64, operation: impl Fn(u64) -> T + Sync) -> f64 {
    const ROUNDS: usize = 9;
    let best = (0..ROUNDS).map(|_| {
        let together = Barrier::new(threads as usize);
        thread::scope(|scope| {
            let (operation, together) = (&operation, &together);
            let others: Vec<_> = (1..threads)
                .map(|thread| scope.spawn(move || round(operation, thread, together)))
                .collect();
            let first = round(operation, 0, together);
            let others = others.into_iter().map(|other| other.join().unwrap());
            others.fold(first, f64::max)
        })
    });
    best.fold(f64::MAX, f64::min)
}

/// A function of its own, into which the operation is inlined.
#[inline(never)]
fn round<T>(operation: &impl Fn(u64) -> T, thread: u64, together: &Barrier) -> f64 {
    together.wait();
    let begun = Instant::now();
    for n in thread * EACH..(thread + 1) * EACH {
        black_box(operation(n));
    }
    begun.elapsed().as_nanos() as f64 / EACH as f64
}

/// The longest of the times that `run` returns, each the shortest of several runs: what takes long
/// every time, and not because the machine did something else.
fn longest(run: impl Fn() -> Vec<u32>) -> Duration {
    let mut times = run();
    for _ in 0..4 {
        for (time, again) in times.iter_mut().zip(run()) {
            *time = again.min(*time);
        }
    }
    Duration::from_nanos(times.into_iter().max().unwrap_or_default().into())
}

fn row<T, U>(
    what: &str,
    failing: u64,
    ours: impl Fn(u64) -> T + Sync,
    theirs: impl Fn(u64) -> U + Sync,
) {
    let [one, two] = [1, 2].map(|threads| time(threads, &ours));
    let [their_one, their_two] = [1, 2].map(|threads| time(threads, &theirs));
    println!(
        "{what:16} {failing:>9} {one:>9.1} {two:>9.1} {their_one:>9.1} {their_two:>9.1} {:>8.1}x",
        their_one / one
    );
}

fn operations() {
    println!(
        "{:16} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "failing", "relent", "2 threads", "backoff", "2 threads"
    );
    for failing in [0, 1000, 100_000, 1_000_000] {
        let (ours, theirs) = (ours(failing), theirs(failing));
        row(
            "healthy check",
            failing,
            |n| ours.check(black_box(&(HEALTHY + n))),
            |n| {
                theirs
                    .lock()
                    .unwrap()
                    .contains_key(black_box(&(HEALTHY + n)))
            },
        );
        row(
            "healthy success",
            failing,
            |n| ours.record_success(black_box(&(HEALTHY + n))),
            |n| theirs.lock().unwrap().remove(black_box(&(HEALTHY + n))),
        );
        if failing > 0 {
            let key = |n: u64| (scattered(n) * failing) >> 32;
            row(
                "failing check",
                failing,
                |n| ours.check(black_box(&key(n))),
                |n| theirs.lock().unwrap().contains_key(black_box(&key(n))),
            );
            row(
                "failure",
                failing,
                |n| ours.record_failure(black_box(&key(n))),
                |n| fail(&theirs, black_box(key(n))),
            );
            // Always the same thousand: what the tracker takes, without what the memory takes.
            let hot = |n: u64| (scattered(n) * 1000) >> 32;
            row(
                "failure, hot",
                failing,
                |n| ours.record_failure(black_box(&hot(n))),
                |n| fail(&theirs, black_box(hot(n))),
            );
        }
        row(
            "fail and recover",
            failing,
            |n| {
                ours.record_failure(&(HEALTHY + n));
                ours.record_success(&(HEALTHY + n))
            },
            |n| {
                fail(&theirs, HEALTHY + n);
                theirs.lock().unwrap().remove(&(HEALTHY + n))
            },
        );
    }
}

/// A part of the least table: apart from its neighbours in the cache.
#[repr(align(128))]
struct Part(parking_lot::Mutex<HashTable<(u64, [u64; 4])>>);

/// What a table with so many keys takes that does nothing but what every such table must: it hashes
/// the key, takes the lock of one part, finds the entry, and counts. As many parts and bytes as the
/// tracker has, and the same keys.
fn least(keys: u64) -> f64 {
    let hasher = DefaultHashBuilder::default();
    let parts: [Part; 256] = array::from_fn(|_| Part(parking_lot::Mutex::default()));
    let part = |hash: u64| &parts[(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize].0;
    for key in 0..keys {
        let hash = hasher.hash_one(key);
        let rehash = |entry: &(u64, [u64; 4])| hasher.hash_one(entry.0);
        part(hash).lock().insert_unique(hash, (key, [0; 4]), rehash);
    }
    time(1, |n| {
        let key = black_box((scattered(n) * keys) >> 32);
        let hash = hasher.hash_one(key);
        let mut part = part(hash).lock();
        let (_, kept) = part.find_mut(hash, |entry| entry.0 == key)?;
        kept[0] += 1;
        Some(kept[0])
    })
}

fn floor() {
    let locks: [parking_lot::Mutex<u64>; 256] = array::from_fn(|_| parking_lot::Mutex::new(0));
    let lock = time(1, |n| {
        *locks[(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize].lock() += n;
    });
    let clock = time(1, |_| MonotonicClock.now());
    let [few, many] = [1000, 100_000].map(least);
    println!("\nto compare with: a lock {lock:.1} ns, the machine's clock {clock:.1} ns;");
    println!("a locked table that only counts, of 1000 keys {few:.1} ns, of 100000 {many:.1} ns");
}

fn memory() {
    const KEYS: u64 = 100_000;
    let each = |bytes: i64| bytes as f64 / KEYS as f64 - 8.0;
    let mut kept = (None, None);
    let our = measure(|| kept.0 = Some(ours(KEYS))).bytes_current;
    let their = measure(|| kept.1 = Some(theirs(KEYS))).bytes_current;
    println!(
        "bytes a key beside the key, of {KEYS}: {:.1}, backoff {:.1}",
        each(our),
        each(their)
    );
}

/// The same hashes in every run, so that the same insertions make a table grow.
type Fixed = BuildHasherDefault<DefaultHasher>;

fn growth() {
    const KEYS: u64 = 4_000_000;
    fn times(insert: impl Fn(u64) -> Option<Duration>) -> Vec<u32> {
        let timed = |key| {
            let begun = Instant::now();
            black_box(insert(key));
            begun.elapsed().as_nanos() as u32
        };
        (0..KEYS).map(timed).collect()
    }
    let our = longest(|| {
        let builder = BackoffTracker::builder(POLICY).max_keys(1 << 23);
        let tracker = builder.hasher(Fixed::new()).build();
        times(|key| tracker.record_failure(&key).delay())
    });
    let their = longest(|| {
        let theirs = theirs(0);
        times(|key| fail(&theirs, key))
    });
    println!("the longest insertion while growing to {KEYS} keys: {our:?}, backoff {their:?}");
}

/// Notes the times from one reading to the next. A purge reads the clock before each lock.
#[derive(Default)]
struct Watched {
    now: AtomicU64,
    readings: Mutex<Vec<Duration>>,
}

impl Clock for Watched {
    fn now(&self) -> Duration {
        if self.now.load(Relaxed) > 0 {
            self.readings.lock().unwrap().push(MonotonicClock.now());
        }
        Duration::from_nanos(self.now.load(Relaxed))
    }
}

fn purge() {
    const KEYS: u64 = 1_000_000;
    let held = longest(|| {
        let watched = Watched::default();
        let builder = BackoffTracker::builder(POLICY).clock(&watched);
        let tracker = builder.hasher(Fixed::new()).build();
        for key in 0..KEYS {
            tracker.record_failure(&key);
        }
        watched.readings.lock().unwrap().reserve(1 << 16);
        watched.now.store(u64::MAX / 8, Relaxed);
        assert_eq!(tracker.purge(), KEYS as usize);
        let readings = watched.readings.lock().unwrap();
        readings
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]).as_nanos() as u32)
            .collect()
    });
    println!("the longest lock while purging {KEYS} keys: at most {held:?}");
}

fn main() {
    operations();
    floor();
    memory();
    growth();
    purge();
}
