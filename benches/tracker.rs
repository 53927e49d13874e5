//! The tracker beside `Mutex<HashMap<K, backoff::ExponentialBackoff>>`, the design it replaces.
use relent::clock::{Clock, ManualClock, MonotonicClock};
use relent::{Backoff, BackoffTracker};
use std::hint::black_box;
use std::time::{Duration, Instant};

const POLICY: Backoff = Backoff::exponential(Duration::from_secs(3600), Duration::from_secs(36000));

fn time(name: &str, n: u64, mut f: impl FnMut(u64)) {
    let mut best = f64::MAX;
    for _ in 0..7 {
        let t = Instant::now();
        for i in 0..n {
            f(i);
        }
        best = best.min(t.elapsed().as_nanos() as f64 / n as f64);
    }
    println!("{name:40} {best:8.2} ns");
}

fn main() {
    for keys in [0u64, 1, 1000, 100_000, 1_000_000] {
        let clock = ManualClock::new();
        let tracker: BackoffTracker<u64, _> =
            BackoffTracker::builder(POLICY).clock(clock.clone()).build();
        for k in 0..keys {
            let _ = tracker.record_failure(&k);
        }
        let n = 1_000_000;
        time(&format!("{keys} check healthy"), n, |i| {
            let _ = black_box(tracker.check(black_box(&(i + (1 << 40)))));
        });
        time(&format!("{keys} record_success healthy"), n, |i| {
            let _ = black_box(tracker.record_success(black_box(&(i + (1 << 40)))));
        });
        if keys > 0 {
            time(&format!("{keys} check failing"), n, |i| {
                let _ = black_box(tracker.check(black_box(&(i * 7919 % keys))));
            });
            time(&format!("{keys} record_failure present"), n, |i| {
                let _ = black_box(tracker.record_failure(black_box(&(i * 7919 % keys))));
            });
        }
    }
    let c = MonotonicClock;
    time("clock", 1_000_000, |_| {
        black_box(c.now());
    });
}
