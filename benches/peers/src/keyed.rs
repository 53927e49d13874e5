//! State by key: which keys are failing, and when each may be tried again.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use relent::{Backoff, BackoffTracker, Jitter};

use crate::measure::{Contestant, contest};
use crate::page;

const HOUR: Duration = Duration::from_secs(3600);
/// Like that of `backoff` below: a streak of any length waits for hours, give or take a half.
const POLICY: Backoff = Backoff::fixed(HOUR).jitter(Jitter::Proportional(0.5));

pub fn section() -> String {
    let mut tables = Vec::new();
    for failing in [0, 1_000, 100_000] {
        let unit = format!(
            "check and success of a healthy key, {} failing",
            grouped(failing)
        );
        tables.push(page::figures(&unit, &contest(1, healthy(failing))));
    }
    for failing in [1_000, 100_000] {
        let unit = format!("check of a waiting key, {} failing", grouped(failing));
        tables.push(page::figures(&unit, &contest(1, waiting(failing))));
        let unit = format!("one more failure of a key, {} failing", grouped(failing));
        tables.push(page::figures(&unit, &contest(1, failure(failing))));
    }
    tables.join("\n")
}

/// What is commonly written instead: the state of a loop for each key, behind a lock.
struct Map<S>(Mutex<HashMap<u64, Waiting, S>>);

struct Waiting {
    backoff: ExponentialBackoff,
    until: Instant,
}

impl<S: BuildHasher + Default> Map<S> {
    fn with(failing: u64) -> Map<S> {
        let map = Map(Mutex::default());
        (0..failing).for_each(|key| map.record_failure(key));
        map
    }

    fn check(&self, key: u64) -> bool {
        let map = self.0.lock().expect("not poisoned");
        map.get(&key)
            .is_none_or(|waiting| waiting.until <= Instant::now())
    }

    fn record_success(&self, key: u64) {
        self.0.lock().expect("not poisoned").remove(&key);
    }

    fn record_failure(&self, key: u64) {
        let mut map = self.0.lock().expect("not poisoned");
        let waiting = map.entry(key).or_insert_with(|| Waiting {
            backoff: ExponentialBackoffBuilder::new()
                .with_initial_interval(HOUR)
                .with_max_interval(HOUR)
                .with_max_elapsed_time(None)
                .build(),
            until: Instant::now(),
        });
        let delay = waiting.backoff.next_backoff().expect("it never gives up");
        waiting.until = Instant::now() + delay;
    }
}

type SipMap = Map<std::hash::RandomState>;
type FoldMap = Map<hashbrown::DefaultHashBuilder>;

fn tracker(failing: u64) -> BackoffTracker<u64> {
    let tracker = BackoffTracker::new(POLICY);
    for key in 0..failing {
        tracker.record_failure(&key);
    }
    tracker
}

/// One permit an hour, and none left of those keys.
fn limiter(spent: u64) -> DefaultKeyedRateLimiter<u64> {
    let quota = Quota::with_period(HOUR).expect("above zero");
    let limiter = RateLimiter::keyed(quota);
    for key in 0..spent {
        let _ = limiter.check_key(&key);
    }
    limiter
}

const SIP: &str = "`Mutex<HashMap<K, ExponentialBackoff>>`, of std";
const FOLD: &str = "the same, hashed as relent's";
const GOVERNOR: &str = "governor, `check_key`";

fn healthy(failing: u64) -> Vec<Contestant<'static>> {
    let keys = scattered(100_000, failing);
    let (tracker, sip, fold) = (
        tracker(failing),
        SipMap::with(failing),
        FoldMap::with(failing),
    );
    // Ample: every check of these keys is within the quota, and uses it up a little.
    let ample = Quota::per_second(NonZeroU32::MAX).allow_burst(NonZeroU32::MAX);
    let limiter: DefaultKeyedRateLimiter<u64> = RateLimiter::keyed(ample);
    (0..failing).for_each(|key| drop(black_box(limiter.check_key(&key))));
    vec![
        each("relent, `BackoffTracker`", keys, move |key| {
            tracker.check(&key).is_ready() && tracker.record_success(&key).is_none()
        }),
        each(SIP, keys, move |key| {
            let ready = sip.check(key);
            sip.record_success(key);
            ready
        }),
        each(FOLD, keys, move |key| {
            let ready = fold.check(key);
            fold.record_success(key);
            ready
        }),
        each(GOVERNOR, keys, move |key| limiter.check_key(&key).is_ok()),
    ]
}

fn waiting(failing: u64) -> Vec<Contestant<'static>> {
    let keys = scattered(failing, 0);
    let (tracker, sip, fold) = (
        tracker(failing),
        SipMap::with(failing),
        FoldMap::with(failing),
    );
    let limiter = limiter(failing);
    vec![
        each("relent, `BackoffTracker`", keys, move |key| {
            !tracker.check(&key).is_ready()
        }),
        each(SIP, keys, move |key| !sip.check(key)),
        each(FOLD, keys, move |key| !fold.check(key)),
        each(GOVERNOR, keys, move |key| limiter.check_key(&key).is_err()),
    ]
}

fn failure(failing: u64) -> Vec<Contestant<'static>> {
    let keys = scattered(failing, 0);
    let (tracker, sip, fold) = (
        tracker(failing),
        SipMap::with(failing),
        FoldMap::with(failing),
    );
    vec![
        each("relent, `BackoffTracker`", keys, move |key| {
            tracker.record_failure(&key).delay().is_some()
        }),
        each(SIP, keys, move |key| {
            sip.record_failure(key);
            true
        }),
        each(FOLD, keys, move |key| {
            fold.record_failure(key);
            true
        }),
    ]
}

/// Goes through the keys, and through them again.
fn each(
    name: &str,
    keys: &'static [u64],
    operate: impl Fn(u64) -> bool + 'static,
) -> Contestant<'static> {
    assert!(
        keys.iter().all(|&key| operate(key)),
        "{name} does other work"
    );
    let mut at = 0;
    Contestant::new(name, move |runs| {
        for _ in 0..runs {
            black_box(operate(black_box(keys[at])));
            at += 1;
            if at == keys.len() {
                at = 0;
            }
        }
    })
}

/// So many keys in an order that no cache foresees, `from` being the first.
fn scattered(keys: u64, from: u64) -> &'static [u64] {
    const PRIME: u64 = 7_919;
    let order = (0..keys).map(|n| from + n * PRIME % keys);
    order.collect::<Vec<_>>().leak()
}

fn grouped(number: u64) -> String {
    match number {
        0 => "none".to_string(),
        1_000.. => format!("{} {:03}", number / 1_000, number % 1_000),
        _ => number.to_string(),
    }
}
