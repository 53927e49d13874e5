//! What outlives the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::clock::Clock;
use relent::{Backoff, BackoffTracker, Decision, GiveUpReason, Readiness, Snapshot};

use crate::{DOUBLING, Tracker, builder, next_due, secs, tracker};

/// A tracker at this time of day.
fn at(time: SystemTime) -> Tracker<String> {
    let (clock, tracker) = tracker(DOUBLING);
    clock.set_wall(time);
    tracker
}

fn noon() -> SystemTime {
    UNIX_EPOCH + secs(1_700_000_000)
}

/// One key that waits 8 s after four failures, the first a minute ago; one due; one that gave up.
fn busy() -> Snapshot<String> {
    let (clock, tracker) = tracker(DOUBLING);
    clock.set_wall(noon() - secs(60));
    tracker.record_failure("waits");
    tracker.record_failure("due");
    clock.advance(secs(60));
    for _ in 0..3 {
        tracker.record_failure("waits");
    }
    tracker.record_failure_with("gave up", &Backoff::never_retry(), None);
    tracker.snapshot()
}

#[test]
fn a_restored_tracker_goes_on() {
    let tracker = at(noon() + secs(3));
    tracker.restore(busy());
    assert_eq!(tracker.len(), 3);
    assert_eq!(tracker.check("waits"), Readiness::Wait(secs(5)));
    assert_eq!(tracker.check("due"), Readiness::Ready);
    assert_eq!(
        tracker.check("gave up"),
        Readiness::GaveUp(GiveUpReason::Failures)
    );
    // Although the clock of this process began just now.
    assert_eq!(tracker.get("waits").unwrap().elapsed, secs(63));
    assert_eq!(
        tracker.record_failure("waits"),
        Decision::Retry { after: secs(16) }
    );
    assert_eq!(
        tracker.record_failure("due"),
        Decision::Retry { after: secs(2) }
    );
    let limited = DOUBLING.give_up_after(secs(50));
    let decision = tracker.record_failure_with("waits", &limited, None);
    assert_eq!(decision, Decision::GiveUp(GiveUpReason::Elapsed));
}

#[test]
fn t5_no_time_of_day_makes_a_wait_longer() {
    for (time, left) in [
        (noon() - secs(1_000_000), 8),
        (UNIX_EPOCH, 8),
        (noon(), 8),
        (noon() + secs(7), 1),
    ] {
        let tracker = at(time);
        tracker.restore(busy());
        assert_eq!(
            tracker.check("waits"),
            Readiness::Wait(secs(left)),
            "{time:?}"
        );
    }
    let tracker = at(noon() + secs(8));
    tracker.restore(busy());
    assert_eq!(tracker.check("waits"), Readiness::Ready);
}

#[test]
fn t4_what_is_past_its_retention_is_not_restored() {
    let tracker = at(noon() + secs(24 * 3600));
    tracker.restore(busy());
    assert_eq!(tracker.len(), 1, "the one that still waited 8 s");
    assert_eq!(tracker.get("waits").unwrap().state.failures, 4);
}

#[test]
fn tracked_keys_stay_as_they_are() {
    let tracker = at(noon());
    tracker.record_failure("waits");
    tracker.restore(busy());
    assert_eq!(tracker.get("waits").unwrap().state.failures, 1);
    assert_eq!(tracker.get("due").unwrap().state.failures, 1);
}

#[test]
fn t4_the_bound_holds() {
    let (_, all) = builder(DOUBLING);
    let all = all.build();
    for n in 0..1000_u64 {
        all.record_failure(&n);
    }
    let snapshot = all.snapshot();
    assert_eq!(snapshot.keys.len(), 1000);
    let (_, few) = builder(DOUBLING);
    let few = few.max_keys(100).build();
    few.restore(snapshot);
    assert_eq!((few.len(), few.evicted()), (100, 900));
}

#[test]
fn a_large_snapshot_has_each_key_once() {
    let (_, tracker) = builder(DOUBLING);
    let tracker = tracker.build();
    for n in 0..30_000_u64 {
        tracker.record_failure(&n);
    }
    let mut keys: Vec<_> = tracker
        .snapshot()
        .keys
        .iter()
        .map(|kept| kept.key)
        .collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..30_000));
}

#[test]
fn what_is_past_its_retention_does_not_stand_in_the_way_of_a_restored_key() {
    let (clock, builder) = builder(DOUBLING);
    let tracker: Tracker<String> = builder.retention(secs(10)).build();
    tracker.record_failure("waits");
    clock.advance(secs(60));
    clock.set_wall(noon());
    tracker.restore(busy());
    assert_eq!(tracker.check("waits"), Readiness::Wait(secs(8)));
}

#[test]
fn a_record_without_a_failure_is_none() {
    let mut snapshot = busy();
    for kept in &mut snapshot.keys {
        kept.failures = 0;
    }
    let tracker = at(noon());
    tracker.restore(snapshot);
    assert!(tracker.is_empty());
}

#[test]
fn an_outage_begins_no_later_than_it_is_restored() {
    let mut snapshot = busy();
    for kept in &mut snapshot.keys {
        kept.first_failure = noon() + secs(3600);
    }
    let (clock, tracker) = tracker(DOUBLING);
    clock.set_wall(noon());
    tracker.restore(snapshot);
    clock.advance(secs(10));
    let recovery = tracker.record_success("waits").unwrap();
    assert_eq!(recovery.outage, secs(10));
}

#[test]
fn absurd_times_do_no_harm() {
    let far = UNIX_EPOCH + Duration::from_secs(1 << 60);
    let past = UNIX_EPOCH - Duration::from_secs(1 << 40);
    let times = [past, UNIX_EPOCH, noon(), far];
    for taken_at in times {
        for first_failure in times {
            for until in times {
                let mut snapshot = busy();
                snapshot.taken_at = taken_at;
                for kept in &mut snapshot.keys {
                    kept.first_failure = first_failure;
                    kept.until = until;
                    kept.interval = Duration::MAX;
                    kept.failures = u32::MAX;
                }
                let tracker = at(noon());
                tracker.restore(snapshot);
                let _ = (
                    tracker.check("waits"),
                    tracker.get("due"),
                    next_due(&tracker),
                );
                let again = tracker.snapshot();
                assert_eq!(again.keys.len(), tracker.len());
                assert!(
                    tracker
                        .record_failure("waits")
                        .delay()
                        .is_some_and(|d| d <= secs(60))
                );
            }
        }
    }
}

/// The longest of the waits of some keys, restored under a policy whose longest is a minute.
fn longest(snapshot: Snapshot<u64>) -> Duration {
    let (clock, builder) = builder(DOUBLING);
    clock.set_wall(noon());
    let tracker = builder.build();
    tracker.restore(snapshot);
    (0..100)
        .filter_map(|key| match tracker.check(&key) {
            Readiness::Wait(left) => Some(left),
            _ => None,
        })
        .max()
        .unwrap_or_default()
}

/// Keys that wait a minute by a clock whose readings go wrong in some way.
fn taken_by<C: Clock + Clone>(clock: C) -> Snapshot<u64> {
    let tracker = BackoffTracker::builder(Backoff::fixed(secs(60))).clock(clock);
    let tracker = tracker.build();
    for key in 0..100 {
        tracker.record_failure(&key);
    }
    tracker.snapshot()
}

/// What a clock shows, at its readings one after the other.
#[derive(Clone)]
struct Scripted(Arc<AtomicU32>, fn(u32) -> (Duration, SystemTime));

impl Scripted {
    fn new(script: fn(u32) -> (Duration, SystemTime)) -> Scripted {
        Scripted(Arc::default(), script)
    }
}

impl Clock for Scripted {
    fn now(&self) -> Duration {
        (self.1)(self.0.fetch_add(1, Relaxed)).0
    }

    fn wall(&self) -> SystemTime {
        (self.1)(self.0.fetch_add(1, Relaxed)).1
    }
}

#[test]
fn t5_clocks_that_step_while_a_snapshot_is_taken_lengthen_no_wait() {
    let steps: [fn(u32) -> (Duration, SystemTime); 5] = [
        |_| (secs(9), noon()),
        // The time of day, an hour back; the failures take the first hundred readings.
        |nth| (secs(9), noon() - secs(3600) * u32::from(nth > 150)),
        // And forth.
        |nth| (secs(9), noon() - secs(3600) * u32::from(nth < 150)),
        // The other clock, back before the snapshot and amid it.
        |nth| (secs(9999) - secs(3600) * u32::from(nth >= 100), noon()),
        |nth| (secs(9999) - secs(3600) * u32::from(nth > 150), noon()),
    ];
    for (nth, step) in steps.into_iter().enumerate() {
        let snapshot = taken_by(Scripted::new(step));
        assert_eq!(snapshot.keys.len(), 100);
        let until = snapshot.keys.iter().map(|kept| kept.until).max();
        assert!(until.unwrap() <= snapshot.taken_at + secs(60), "step {nth}");
        assert!(longest(snapshot) <= secs(60), "step {nth}");
    }
    // And a tracker that restores it by such a clock.
    let steady = || taken_by(Scripted::new(|_| (secs(9), noon())));
    assert_eq!(longest(steady()), secs(60));
    let slow = Scripted::new(|nth| (secs(1) * nth, noon() + secs(1) * nth));
    let tracker = BackoffTracker::builder(DOUBLING).clock(slow).build();
    tracker.restore(steady());
    let (first, after) = (tracker.check(&0), tracker.waiting());
    assert!(
        (first.is_ready(), after) == (true, 0),
        "{first:?}, {after}: they waited for the restoring"
    );
    assert_eq!(tracker.len(), 100);
}

#[test]
fn t5_no_record_keeps_a_key_for_longer_than_a_policy_might() {
    let mut snapshot = taken_by(Scripted::new(|_| (secs(9), noon())));
    for kept in &mut snapshot.keys {
        kept.until = noon() + secs(2_000_000_000);
    }
    // The interval was a minute, and proportional jitter may have doubled it.
    assert_eq!(longest(snapshot.clone()), secs(120));
    for kept in &mut snapshot.keys {
        kept.interval = secs(1);
    }
    assert_eq!(longest(snapshot.clone()), secs(60));
    // From a policy with a greater max, passed with the failure.
    for kept in &mut snapshot.keys {
        kept.interval = secs(7200);
        kept.until = noon() + secs(10_000);
    }
    assert_eq!(longest(snapshot.clone()), secs(10_000));
    for kept in &mut snapshot.keys {
        kept.interval = Duration::MAX;
        kept.until = noon() + secs(1 << 40);
    }
    assert!(longest(snapshot) >= secs(1 << 32), "nothing overflows");
}

#[test]
fn t4_no_record_of_a_key_that_gave_up_outlasts_the_retention() {
    let mut snapshot = busy();
    for kept in &mut snapshot.keys {
        kept.until = noon() + secs(2_000_000_000);
        kept.gave_up = Some(GiveUpReason::Failures);
    }
    let (clock, builder) = builder(DOUBLING);
    clock.set_wall(noon());
    let tracker = builder.retention(secs(100)).build();
    tracker.restore(snapshot);
    clock.advance(secs(99));
    assert_eq!((tracker.purge(), tracker.len()), (0, 3));
    clock.advance(secs(1));
    assert_eq!((tracker.purge(), tracker.len()), (3, 0));
}

struct AbsurdWall(SystemTime);

impl Clock for AbsurdWall {
    fn now(&self) -> Duration {
        secs(5)
    }

    fn wall(&self) -> SystemTime {
        self.0
    }
}

#[test]
fn an_absurd_time_of_day_does_no_harm() {
    for wall in [UNIX_EPOCH - secs(1 << 62), UNIX_EPOCH + secs(1 << 62)] {
        let builder = BackoffTracker::builder(DOUBLING).clock(AbsurdWall(wall));
        let tracker: BackoffTracker<String, _> = builder.build();
        tracker.restore(busy());
        tracker.record_failure("a");
        let snapshot = tracker.snapshot();
        assert!(snapshot.keys.iter().any(|kept| kept.key == "a"));
        #[cfg(feature = "serde")]
        let _: Snapshot<String> = written::again(&snapshot);
    }
}

#[cfg(feature = "serde")]
mod written {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{Readiness, Snapshot, at, busy, noon};
    use crate::secs;

    pub(super) fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
        serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
    }

    #[test]
    fn a_person_can_read_it() {
        let mut snapshot = busy();
        snapshot.keys.retain(|kept| kept.key == "waits");
        let expected = serde_json::json!({
            "version": 1,
            "taken_at": "2023-11-14T22:13:20.000000000Z",
            "keys": [{
                "key": "waits",
                "failures": 4,
                "interval": "8s",
                "first_failure": "2023-11-14T22:12:20.000000000Z",
                "until": "2023-11-14T22:13:28.000000000Z",
                "gave_up": null,
            }],
        });
        assert_eq!(serde_json::to_value(&snapshot).unwrap(), expected);
        assert_eq!(again(&snapshot), snapshot);
    }

    #[test]
    fn it_survives_compact_formats() {
        let snapshot = busy();
        let bytes = postcard::to_allocvec(&snapshot).unwrap();
        let read: Snapshot<String> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read, snapshot);
        let tracker = at(noon());
        tracker.restore(read);
        assert_eq!(tracker.check("waits"), Readiness::Wait(secs(8)));
    }

    #[track_caller]
    fn assert_refused(snapshot: &str, because: &[&str]) {
        let error = serde_json::from_str::<Snapshot<String>>(snapshot)
            .unwrap_err()
            .to_string();
        for word in because {
            assert!(error.contains(word), "{error:?} should tell of {word:?}");
        }
    }

    #[test]
    fn p5_what_cannot_be_read_is_refused_by_name() {
        // Of a version to come, whatever else is in it.
        assert_refused(
            r#"{"version": 2, "shards": []}"#,
            &["version 2", "version 1"],
        );
        assert_refused(
            r#"{"taken_at": "2023-11-14T22:13:20Z", "keys": []}"#,
            &["version"],
        );
        let with = |key: &str| {
            format!(r#"{{"version": 1, "taken_at": "2023-11-14T22:13:20Z", "keys": [{key}]}}"#)
        };
        serde_json::from_str::<Snapshot<String>>(&with("")).unwrap();
        assert_refused(&with(r#"{"key": "a"}"#), &["failures"]);
        assert_refused(&with(r#"{"key": "a", "surprise": 1}"#), &["surprise"]);
        let time = |until: &str| {
            let kept = format!(
                r#"{{"key": "a", "failures": 1, "interval": "1s",
                     "first_failure": "2023-11-14T22:13:20Z", "until": "{until}"}}"#
            );
            with(&kept)
        };
        serde_json::from_str::<Snapshot<String>>(&time("2023-11-14T22:13:20Z")).unwrap();
        assert_refused(&time("tomorrow"), &["\"tomorrow\"", "2025-01-31T23:59:59Z"]);
    }
}
