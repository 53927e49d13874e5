//! Streaks of failures, and what ends them.

use std::time::Duration;

use super::{Bench, done, good, keys, policy, refused, tracker};
use crate::policy::{Backoff, GiveUpReason};
use crate::state::{Decision, Readiness, Recovery};
use crate::store::{DurableTracker, Page, Refusal, StartError, Which};

/// Of many attempts that began before a failure was recorded, only the first to fail counts; and
/// one out of turn counts only as the first failure of a new streak.
pub async fn p2_attempts_of_one_window_escalate_once<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    for streak in 1..=3 {
        let mut attempts = Vec::new();
        for _ in 0..5 {
            attempts.push(good(tracker.attempt("key").await));
        }
        for attempt in attempts {
            done(attempt.fail("broken").await);
        }
        assert_eq!(
            good(tracker.get("key").await).map(|kept| kept.state.failures),
            Some(streak)
        );
        let waits = tracker.attempt("key").await.map(drop);
        assert!(matches!(
            waits,
            Err(StartError::Refused(Refusal::BackingOff { .. }))
        ));
        bench.pass(unit * 8).await;
    }
    drop(good(tracker.attempt("key").await));
    assert_eq!(
        good(tracker.get("key").await).map(|kept| kept.state.failures),
        Some(3)
    );
    let late = good(tracker.attempt("key").await);
    let recovery = good(good(tracker.attempt("key").await).succeed().await);
    assert_eq!(recovery.map(|recovery| recovery.failures), Some(3));
    // The streak has ended meanwhile: there is nothing left that it could escalate.
    let told = good(late.fail("broken anew").await);
    assert_eq!(told, Decision::Retry { after: unit });

    for _ in 0..3 {
        let attempt = good(tracker.attempt_now("key").await);
        let left = good(attempt.fail("pressed a button").await);
        assert!(left.delay().is_some_and(|left| left <= unit));
    }
    let record = good(tracker.get("key").await).expect("a record of the failure");
    assert_eq!((record.state.failures, &*record.cause), (1, "broken anew"));
    let (one, two) = (
        good(tracker.attempt_now("key").await),
        good(tracker.attempt_now("key").await),
    );
    assert!(good(tracker.forget("key").await));
    for attempt in [one, two] {
        done(attempt.fail("broken again").await);
    }
    let record = good(tracker.get("key").await).expect("a record of the failure");
    assert_eq!((record.state.failures, &*record.cause), (1, "broken again"));
    let recovery = good(good(tracker.attempt_now("key").await).succeed().await);
    assert_eq!(recovery.map(|recovery| recovery.failures), Some(1));
}

/// However long a wait has been over, the next failure goes on from its interval.
pub async fn p6_an_expired_record_seeds_the_next_interval<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    for wait in [1, 2, 4, 8, 8] {
        let told = good(tracker.record_failure("key", "broken").await);
        assert_eq!(told, Decision::Retry { after: unit * wait });
        bench.pass(unit * 10).await;
    }
}

/// Without a policy, a failure goes on with the last interval, at least a second.
pub async fn p8_without_a_policy_goes_on<B: Bench>(bench: &B) {
    let tracker = DurableTracker::new(bench.empty().await, None);
    let second = Duration::from_secs(1);
    for (before, then) in [(1, second), (700, second), (90_000, second * 90)] {
        let before = Backoff::fixed(Duration::from_millis(before));
        let key = format!("{before:?}");
        done(
            tracker
                .record_failure_with(&key, Some(&before), None, "broken")
                .await,
        );
        for _ in 0..3 {
            let told = good(tracker.record_failure(&key, "broken").await);
            assert_eq!(told, Decision::Retry { after: then });
        }
    }
    let told = good(tracker.record_failure("fresh", "broken").await);
    assert_eq!(told, Decision::Retry { after: second });
}

/// A key that gave up stays so, until it is forgotten or succeeds.
pub async fn g3_giving_up_sticks<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let limited = policy(bench).give_up_after_failures(2);
    let gave_up = GiveUpReason::Failures;
    let mut told = Vec::new();
    for _ in 0..2 {
        let failure = tracker.record_failure_with("key", Some(&limited), None, "broken");
        told.push(good(failure.await));
    }
    assert_eq!(
        told,
        [Decision::Retry { after: unit }, Decision::GiveUp(gave_up)]
    );
    bench.pass(unit * 10).await;
    assert_eq!(good(tracker.check("key").await), Readiness::GaveUp(gave_up));
    assert_eq!(
        refused(tracker.start("key").await),
        Refusal::GaveUp(gave_up)
    );
    assert_eq!(
        good(tracker.record_failure("key", "more").await),
        Decision::GiveUp(gave_up)
    );
    assert_eq!(good(tracker.due(10).await), []);
    assert_eq!(good(tracker.waiting(10).await), []);
    assert_eq!(keys(&good(tracker.gave_up(10).await)), ["key"]);
    assert!(good(tracker.forget("key").await));
    assert_eq!(good(tracker.gave_up(10).await), []);
    done(tracker.start("key").await);

    let mut all = Vec::new();
    for n in 0..7 {
        let key = format!("gone {n}");
        done(
            tracker
                .record_failure_with(&key, Some(&Backoff::never_retry()), None, "")
                .await,
        );
        all.push(key);
    }
    let mut page = Page::first(Which::GaveUp, 3);
    for some in all.chunks(3) {
        let listed = good(tracker.list(&page).await);
        assert_eq!(keys(&listed), some);
        page = page.after(&listed[listed.len() - 1]);
    }
    assert_eq!(good(tracker.list(&page).await), []);
}

/// A success and an operator both end a streak, and tell whether there was one; a lease stays.
pub async fn success_and_forget_end_streaks<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    assert_eq!(good(tracker.record_success("key").await), None);
    assert!(!good(tracker.forget("key").await));
    for _ in 0..3 {
        done(tracker.record_failure("key", "broken").await);
    }
    let recovery = good(tracker.record_success("key").await);
    assert_eq!(recovery.map(|Recovery { failures, .. }| failures), Some(3));
    assert_eq!(good(tracker.get("key").await), None);
    let told = good(tracker.record_failure("key", "broken").await);
    assert_eq!(told, Decision::Retry { after: unit });

    assert!(good(tracker.forget("key").await));
    let work = good(tracker.start("key").await);
    done(tracker.record_failure("key", "beside the work").await);
    assert!(matches!(
        refused(tracker.start("key").await),
        Refusal::Held { .. }
    ));
    done(tracker.record_success("key").await);
    done(tracker.record_failure("key", "beside the work").await);
    assert!(good(tracker.forget("key").await));
    assert!(matches!(
        refused(tracker.start("key").await),
        Refusal::Held { .. }
    ));
    done(work.finish().await);
    assert_eq!(good(tracker.get("key").await), None);
}
