//! The clocks. A binary of its own: where the origin is taken is part of what is tested.
#![cfg(feature = "tokio")]

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::clock::{Clock, ManualClock, MonotonicClock, TokioClock};
use relent::{Backoff, BackoffTracker};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The runtime is paused before any clock is read, so its time is before the origin.
#[tokio::test(start_paused = true)]
async fn a_paused_runtime_loses_no_time() {
    let began = TokioClock.now();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(TokioClock.now().checked_sub(began), Some(secs(1)));
}

#[test]
fn the_machines_clock_never_runs_back() {
    let mut last = MonotonicClock.now();
    for _ in 0..1000 {
        let now = MonotonicClock.now();
        assert!(now >= last);
        last = now;
    }
}

#[test]
fn a_manual_clock_has_a_time_of_day() {
    let clock = ManualClock::new();
    let time = |clock: &ManualClock| {
        let wall = clock.wall().duration_since(UNIX_EPOCH).unwrap();
        (clock.now().as_secs(), wall.as_secs())
    };
    clock.advance(secs(10));
    assert_eq!(time(&clock), (10, 10));
    clock.set_wall(UNIX_EPOCH + secs(1_000));
    assert_eq!(time(&clock), (10, 1_000));
    clock.advance(secs(5));
    assert_eq!(time(&clock), (15, 1_005));
    clock.set_wall(UNIX_EPOCH + secs(3));
    clock.set(Duration::ZERO);
    assert_eq!(time(&clock), (0, 0), "no time of day is before 1970");
    clock.set_wall(SystemTime::UNIX_EPOCH - secs(1));
    clock.set(Duration::MAX);
    assert_eq!(clock.now(), Duration::from_nanos(u64::MAX));
}

#[test]
fn no_advance_of_a_manual_clock_is_lost() {
    let clock = ManualClock::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| clock.advance(secs(1))));
        }
    });
    assert_eq!(clock.now(), secs(40_000));
}

/// Above all the time of day: a wrapper that forgets it would take it from the machine.
#[test]
fn a_clock_may_be_behind_any_pointer() {
    fn shown(clock: impl Clock) -> (Duration, SystemTime) {
        (clock.now(), clock.wall())
    }

    let clock = ManualClock::new();
    clock.advance(secs(10));
    let expected = (secs(10), UNIX_EPOCH + secs(10));
    assert_eq!(shown(&clock), expected);
    assert_eq!(shown(Rc::new(clock.clone())), expected);
    assert_eq!(shown(Arc::new(clock.clone()) as Arc<dyn Clock>), expected);

    let boxed: Box<dyn Clock + Send + Sync> = Box::new(clock);
    assert_eq!(shown(&boxed), expected);
    let tracker = BackoffTracker::builder(Backoff::DEFAULT).clock(boxed);
    let tracker: BackoffTracker<u8, _> = tracker.build();
    assert!(tracker.check(&7).is_ready());
}
