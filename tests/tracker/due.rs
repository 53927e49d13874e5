//! Which keys are due, and when the next one is.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use relent::{Backoff, Decision};

use crate::{DOUBLING, Tracker, builder, next_due, secs, tracker};

#[test]
fn waiting_and_next_due_tell_of_those_that_wait() {
    let (clock, tracker) = tracker(DOUBLING);
    assert_eq!((tracker.waiting(), next_due(&tracker)), (0, None));
    for (key, failures) in [("a", 3), ("b", 5), ("c", 4)] {
        for _ in 0..failures {
            tracker.record_failure(key);
        }
    }
    assert_eq!((tracker.waiting(), next_due(&tracker)), (3, Some(secs(4))));
    clock.advance(secs(3));
    assert_eq!((tracker.waiting(), next_due(&tracker)), (3, Some(secs(1))));
    clock.advance(secs(2));
    assert_eq!((tracker.waiting(), next_due(&tracker)), (2, Some(secs(3))));
    clock.advance(secs(100));
    assert_eq!(
        (tracker.waiting(), next_due(&tracker), tracker.len()),
        (0, None, 3)
    );
}

fn due(tracker: &Tracker<String>, limit: usize) -> Vec<String> {
    let due = tracker.due(limit).into_iter();
    due.map(|(key, _)| key).collect()
}

#[test]
fn the_due_are_listed_those_due_first_coming_first() {
    let (clock, builder) = builder(DOUBLING);
    let tracker = builder.retention(secs(100)).build();
    for (key, wait) in [("d", 40), ("b", 20), ("a", 10), ("c", 30)] {
        tracker.record_failure_with(key, &Backoff::fixed(secs(wait)), None);
    }
    tracker.record_failure_with("gave up", &Backoff::never_retry(), None);
    assert!(tracker.due(10).is_empty());
    clock.advance(secs(30));
    assert_eq!(due(&tracker, 10), ["a", "b", "c"]);
    // Of five keys, three are due.
    for limit in 0..6 {
        assert_eq!(due(&tracker, limit), ["a", "b", "c"][..limit.min(3)]);
    }
    let (_, streak) = &tracker.due(1)[0];
    assert_eq!(Some(*streak), tracker.get("a"));
    // Until they fail again, succeed or are forgotten.
    tracker.record_failure("a");
    tracker.record_success("b");
    assert_eq!(due(&tracker, 10), ["c"]);
    clock.advance(secs(99));
    assert_eq!(due(&tracker, 10), ["c", "d", "a"]);
    clock.advance(secs(1));
    assert_eq!(due(&tracker, 10), ["d", "a"]);
}

#[test]
fn of_many_that_are_due_so_many_are_listed() {
    let (clock, builder) = builder(Backoff::fixed(secs(1)));
    let tracker = builder.build();
    for key in 0..10_000_u64 {
        tracker.record_failure(&key);
        // Some are due at the same time.
        clock.advance(Duration::from_nanos(key % 2));
    }
    clock.advance(secs(1));
    for limit in [0, 1, 2, 1000, 9_999, 10_000, usize::MAX] {
        let mut due: Vec<_> = tracker.due(limit).into_iter().map(|(key, _)| key).collect();
        assert_eq!(due.len(), limit.min(10_000));
        due.sort_unstable_by_key(|key| key / 2);
        assert!(due.iter().zip(0..).all(|(key, nth)| key / 2 == nth / 2));
    }
}

#[test]
fn a_key_that_falls_due_amid_a_round_is_due_at_once() {
    let (clock, tracker) = tracker(Backoff::fixed(secs(10)));
    tracker.record_failure("a");
    tracker.record_failure_with("b", &Backoff::fixed(secs(3600)), None);
    clock.advance(secs(10) - Duration::from_nanos(1));
    let round = tracker.now();
    assert!(!tracker.check("a").is_ready());
    clock.advance(Duration::from_nanos(2));
    assert_eq!(tracker.next_due(round), Some(Duration::ZERO));
    // A caller that does not try the key is not told of it again.
    let round = tracker.now();
    clock.advance(secs(1));
    let left = secs(3589) - Duration::from_nanos(1);
    assert_eq!(tracker.next_due(round), Some(left));
    tracker.forget("b");
    assert_eq!(tracker.next_due(round), None);
    // What was due at the very moment was ready then.
    tracker.record_failure("c");
    clock.advance(secs(10));
    assert_eq!(next_due(&tracker), None);
}

#[test]
fn t5_a_step_back_amid_a_round_loses_no_key() {
    let (clock, tracker) = tracker(Backoff::fixed(secs(10)));
    clock.set(secs(5000));
    tracker.record_failure("a");
    clock.advance(secs(20));
    let round = tracker.now();
    clock.set(secs(0));
    // Nobody has asked for it since it failed: time goes on from there.
    assert_eq!(tracker.next_due(round), Some(secs(10)));
    clock.advance(secs(10));
    assert!(tracker.check("a").is_ready());
}

proptest! {
    /// Every key is tried within a round of becoming due, however long the work takes.
    #[test]
    fn a_loop_that_sleeps_until_the_next_is_due_is_never_late(
        work in prop::collection::vec(0_u64..400, 300), by_listing: bool,
    ) {
        const KEYS: u64 = 6;
        let (clock, builder) = builder(DOUBLING);
        let tracker = builder.build();
        let mut work = work.into_iter().map(Duration::from_millis);
        let longest = Duration::from_millis(400);
        let mut due_at: BTreeMap<u64, Duration> = (0..KEYS).map(|key| (key, secs(0))).collect();
        let mut time = secs(0);
        for key in 0..KEYS {
            tracker.record_failure(&key);
            due_at.insert(key, secs(1));
        }
        'working: loop {
            let round = tracker.now();
            let keys: Vec<u64> = if by_listing {
                tracker.due(usize::MAX).into_iter().map(|(key, _)| key).collect()
            } else {
                (0..KEYS).collect()
            };
            for key in keys {
                let Some(pause) = work.next() else { break 'working };
                clock.advance(pause);
                time += pause;
                if let Ok(attempt) = tracker.attempt(&key) {
                    let late = time - due_at[&key];
                    prop_assert!(late <= longest * 2 * KEYS as u32, "{key} is {late:?} late");
                    // Now and then it succeeds.
                    if time.as_nanos() % 7 == 0 {
                        attempt.succeed();
                        let Decision::Retry { after } = tracker.record_failure(&key) else {
                            unreachable!()
                        };
                        due_at.insert(key, time + after);
                        continue;
                    }
                    let after = attempt.fail().delay().unwrap();
                    due_at.insert(key, time + after);
                }
            }
            let Some(pause) = work.next() else { break };
            clock.advance(pause);
            time += pause;
            let wait = tracker.next_due(round).expect("all of them fail");
            clock.advance(wait);
            time += wait;
        }
    }
}
