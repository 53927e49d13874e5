//! Snapshots from any bytes: refused, or restored without a panic, and saved again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use relent::clock::ManualClock;
use relent::{Backoff, BackoffTracker, Readiness, Snapshot};

fuzz_target!(|bytes: &[u8]| {
    let Ok(snapshot) = serde_json::from_slice::<Snapshot<String>>(bytes) else { return };
    let clock = ManualClock::new();
    let tracker = BackoffTracker::builder(Backoff::DEFAULT).clock(clock.clone()).max_keys(64).build();
    tracker.restore(snapshot);
    assert!(tracker.len() <= 64);
    let saved = serde_json::to_string(&tracker.snapshot()).expect("can be written");
    let again: Snapshot<String> = serde_json::from_str(&saved).expect("reads what it wrote");
    clock.set(std::time::Duration::from_secs(100 * 365 * 86_400));
    tracker.restore(again);
    tracker.record_failure("some key");
    assert_ne!(tracker.check("some key"), Readiness::Ready);
    let _ = (tracker.waiting(), tracker.next_due(tracker.now()), tracker.due(3), tracker.purge());
});
