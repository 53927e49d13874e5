//! Waits, and the store's clock.

use std::time::Duration;

use super::{Bench, another, done, good, keys, lost, refused, tracker};
use crate::policy::Backoff;
use crate::state::{Decision, Readiness};
use crate::store::{AsyncStore, LeaseLost, Refusal};

/// A wait is over when the store's clock says so, not a moment sooner.
pub async fn p1_waits_by_the_stores_clock<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let told = good(tracker.record_failure("key", "broken").await);
    assert_eq!(told, Decision::Retry { after: unit });
    let Readiness::Wait(wait) = good(tracker.check("key").await) else {
        panic!("a key that failed must wait");
    };
    assert!(wait <= unit && wait > unit / 2, "{wait:?} of {unit:?}");
    assert!(matches!(
        refused(tracker.start("key").await),
        Refusal::BackingOff { .. }
    ));
    bench.pass(unit).await;
    assert_eq!(good(tracker.check("key").await), Readiness::Ready);
    done(tracker.start("key").await);
}

/// Whatever the clock does, no wait is longer than it was told.
pub async fn p1_a_clock_set_back_lengthens_no_wait<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let (_, now) = good(tracker.store().load("key").await);
    if !bench.set_clock(now + unit * 1000) {
        return;
    }
    for key in ["checked", "started", "listed"] {
        done(tracker.record_failure(key, "broken").await);
    }
    bench.set_clock(now);
    assert_eq!(good(tracker.check("checked").await), Readiness::Wait(unit));
    let until = now + unit;
    assert_eq!(
        refused(tracker.start("started").await),
        Refusal::BackingOff { until }
    );
    assert_eq!(
        keys(&good(tracker.due(10).await)),
        ["listed"],
        "the others have been set right"
    );
    assert_eq!(good(tracker.claim_due(10).await).len(), 0);
    assert_eq!(good(tracker.due(10).await), []);
    bench.pass(unit).await;
    let due = good(tracker.claim_due(10).await);
    assert_eq!(due.len(), 3, "told to wait {unit:?}, that is over");
}

/// Whatever the clock does, a dead worker blocks a key no longer than its time to live.
pub async fn p1_a_clock_set_back_lengthens_no_lease<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let (_, now) = good(one.store().load("key").await);
    if !bench.set_clock(now + unit * 1000) {
        return;
    }
    let dead = good(one.start("key").await);
    bench.set_clock(now);
    assert!(matches!(
        refused(two.start("key").await),
        Refusal::Held { .. }
    ));
    bench.pass(unit * 3).await;
    assert!(matches!(
        refused(two.start("key").await),
        Refusal::BackingOff { .. }
    ));
    assert_eq!(lost(dead.finish().await), LeaseLost::Ended);
}

/// Times are kept to the microsecond at least.
pub async fn p7_times_keep_their_fractions<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    let wait = Duration::from_micros(1_234_567);
    let odd = Backoff::fixed(wait);
    done(
        tracker
            .record_failure_with("key", Some(&odd), None, "broken")
            .await,
    );
    let record = good(tracker.get("key").await).expect("a record of the failure");
    assert_eq!(record.state.interval, wait);
    assert_eq!(record.until.duration_since(record.since).ok(), Some(wait));
}
