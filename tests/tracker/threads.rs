//! T, from several threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use relent::Readiness;

use crate::{DOUBLING, builder, next_due, secs};

const THREADS: u64 = 4;

#[test]
fn t2_failures_of_contended_keys_are_all_counted() {
    const KEYS: u64 = 5;
    const EACH: u64 = 4000;
    let (_, builder) = builder(DOUBLING);
    let tracker = builder.build();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for n in 0..EACH {
                    tracker.record_failure(&(n % KEYS));
                }
            });
        }
    });
    for key in 0..KEYS {
        let failures = tracker.get(&key).unwrap().state.failures;
        assert_eq!(u64::from(failures), THREADS * EACH / KEYS);
    }
    assert_eq!(tracker.len() as u64, KEYS);
}

#[test]
fn t2_attempts_at_a_contended_key_escalate_once_a_window() {
    const ROUNDS: u32 = 500;
    let (clock, builder) = builder(DOUBLING);
    let tracker = builder.build();
    let together = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    let attempt = tracker.attempt("host").expect("its wait is over");
                    together.wait();
                    attempt.fail();
                    together.wait();
                    assert_eq!(tracker.get("host").unwrap().state.failures, round);
                    if together.wait().is_leader() {
                        clock.advance(secs(60));
                    }
                    together.wait();
                }
            });
        }
    });
    let tracker: crate::Tracker<String> = tracker;
    assert_eq!(tracker.record_success("host").unwrap().failures, ROUNDS);
}

/// Each thread finds the failures that it recorded, while all others make the shards grow and
/// shrink.
#[test]
fn t1_every_thread_sees_what_it_recorded() {
    const BURST: u64 = 20_000;
    let (_, builder) = builder(DOUBLING);
    let tracker = builder.build();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let healthy = scope.spawn(|| {
            let mut checked = 0_u64;
            while !stop.load(Relaxed) {
                assert_eq!(
                    tracker.check(&(u64::MAX - checked % 1000)),
                    Readiness::Ready
                );
                assert_eq!(tracker.record_success(&(u64::MAX - checked % 1000)), None);
                checked += 1;
            }
            checked
        });
        let sweeper = scope.spawn(|| {
            while !stop.load(Relaxed) {
                assert_eq!(tracker.purge(), 0);
                let _ = (tracker.waiting(), next_due(&tracker));
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let tracker = &tracker;
                scope.spawn(move || {
                    let mine = thread * BURST..(thread + 1) * BURST;
                    for key in mine.clone() {
                        tracker.record_failure(&key);
                        assert_ne!(tracker.check(&key), Readiness::Ready);
                    }
                    for key in mine.clone() {
                        assert_ne!(tracker.check(&key), Readiness::Ready);
                    }
                    for key in mine {
                        assert!(tracker.record_success(&key).is_some());
                        assert_eq!(tracker.check(&key), Readiness::Ready);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Relaxed);
        sweeper.join().unwrap();
        assert!(healthy.join().unwrap() > 0);
    });
    assert_eq!((tracker.len(), tracker.evicted()), (0, 0));
}

#[test]
fn t4_the_bound_holds_among_threads() {
    const MOST: usize = 300;
    let (_, builder) = builder(DOUBLING);
    let tracker = builder.max_keys(MOST).build();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let tracker = &tracker;
            scope.spawn(move || {
                for n in 0..5000 {
                    tracker.record_failure(&(thread << 32 | n));
                    assert!(tracker.len() <= MOST);
                }
            });
        }
    });
    assert_eq!(tracker.len(), MOST);
    assert_eq!(tracker.evicted(), THREADS * 5000 - MOST as u64);
    assert_eq!(tracker.waiting(), MOST);
}
