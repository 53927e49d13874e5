//! What the tracker answers, as programs pass it on.

use std::error::Error;

use relent::{Backoff, Decision, NotReady, Readiness};

use crate::{DOUBLING, Tracker, secs, tracker};

#[test]
fn why_a_key_is_not_ready_is_an_error_like_any_other() {
    fn begin(tracker: &Tracker<String>) -> Result<u32, Box<dyn Error + Send + Sync>> {
        Ok(tracker.attempt("a")?.failures())
    }
    let (clock, tracker) = tracker(DOUBLING);
    assert_eq!(begin(&tracker).unwrap(), 0);
    tracker.record_failure("a");
    let error = begin(&tracker).unwrap_err();
    assert_eq!(error.to_string(), "not ready for another 1.0 s");
    assert_eq!(error.downcast_ref(), Some(&NotReady::Wait(secs(1))));
    clock.advance(secs(1));
    assert_eq!(begin(&tracker).unwrap(), 1);
    tracker.record_failure_with("a", &Backoff::never_retry(), None);
    let error = begin(&tracker).unwrap_err();
    assert_eq!(error.to_string(), "gave up: too many failures");
}

#[test]
fn answers_can_be_shown() {
    let (_, tracker) = tracker(DOUBLING.give_up_after(secs(2)));
    assert_eq!(tracker.check("a").to_string(), "ready");
    assert_eq!(tracker.record_failure("a").to_string(), "retry after 1.0 s");
    let waits = tracker.check("a").to_string();
    assert_eq!(waits, "not ready for another 1.0 s");
    tracker.record_failure("a");
    let gave_up = tracker.record_failure("a");
    assert_eq!(gave_up.to_string(), "give up: too much time elapsed");
    let gave_up = tracker.check("a").to_string();
    assert_eq!(gave_up, "gave up: too much time elapsed");
}

#[test]
fn what_is_not_ready_is_a_readiness() {
    let (_, tracker) = tracker(DOUBLING);
    for _ in 0..3 {
        let decision = tracker.record_failure("a");
        let not_ready = tracker.attempt("a").unwrap_err();
        assert_eq!(Readiness::from(not_ready), tracker.check("a"));
        assert!(matches!(not_ready, NotReady::Wait(left) if Some(left) == decision.delay()));
    }
    tracker.record_failure_with("a", &Backoff::never_retry(), None);
    let not_ready = tracker.attempt("a").unwrap_err();
    assert_eq!(Readiness::from(not_ready), tracker.check("a"));
    let decision = tracker.attempt_now("a").fail();
    assert!(matches!((not_ready, decision),
        (NotReady::GaveUp(why), Decision::GiveUp(reason)) if why == reason));
}
