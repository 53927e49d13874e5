//! Steps, failures, checks, and what nobody knows; on a clock that is moved.

use std::time::Duration;

use relent::store::FileError;

use crate::backup_runner::plan::{CHECKS_EXPIRE, Why};
use crate::backup_runner::{Ended, RETRY};
use crate::case::{ALL, Case, killed};

#[test]
fn all_goes_well_and_a_finished_run_does_nothing() {
    let case = Case::new();
    assert!(matches!(case.run().unwrap(), Ended::Complete));
    assert_eq!(case.performed(), ALL);
    assert!(matches!(case.run().unwrap(), Ended::Complete));
    assert_eq!(case.performed(), ALL);
    assert_eq!(case.summary(), "{Completed: 15}; next: nothing");
}

#[test]
fn steps_are_counted_and_the_summary_says_where_it_stands() {
    let case = Case::new();
    let mut runner = case.open().unwrap();
    assert!(matches!(runner.run(Some(0)).unwrap(), Ended::MaxSteps));
    assert_eq!(case.performed(), ALL[..3]);
    assert!(matches!(runner.run(Some(2)).unwrap(), Ended::MaxSteps));
    assert_eq!(case.performed(), ALL[..5]);
    drop(runner);
    let expected = "{Ready: 10, Completed: 5}; next: shop: start; restart required: shop";
    assert_eq!(case.summary(), expected);
}

#[test]
fn a_second_runner_is_refused_and_another_run_too() {
    let case = Case::new();
    let first = case.open().unwrap();
    let second = case.open().map(drop);
    let second = second.unwrap_err().downcast::<FileError>();
    assert!(
        matches!(second.as_deref(), Ok(FileError::Locked { .. })),
        "{second:?}"
    );
    drop(first);
    let other = case.open_as("other").map(drop).unwrap_err();
    assert_eq!(other.to_string(), "the journal is about another run");
    assert_eq!(case.performed(), [""; 0]);
}

#[test]
fn failures_are_tried_again_later_and_later_then_given_up() {
    let case = Case::new();
    case.fail("shop: download", 3, false);
    case.run().unwrap();
    assert_eq!(case.performed(), ALL);
    let slept = case.fake.0.slept.borrow().clone();
    let intervals = [200, 400, 800].map(Duration::from_millis);
    assert_eq!(slept.len(), 3);
    for (slept, interval) in slept.iter().zip(intervals) {
        assert!(*slept <= interval, "{slept:?} of {interval:?}");
    }

    let case = Case::new();
    case.fail("shop: download", 1000, false);
    for _ in 0..2 {
        assert_eq!(case.halts().1, Why::GaveUp("broken".to_owned()));
    }
    let attempts = 1000 - case.fake.0.fails.borrow()["shop: download"].0;
    assert_eq!(Some(attempts), RETRY.give_up.after_failures);
    // Until somebody says so.
    case.fail("shop: download", 0, false);
    let mut runner = case.open().unwrap();
    runner.again().unwrap();
    assert!(matches!(runner.run(None).unwrap(), Ended::Complete));
    assert_eq!(case.performed(), ALL);
}

#[test]
fn a_wait_outlives_the_runner() {
    let case = Case::new();
    case.fail("shop: download", 1, false);
    *case.fake.0.panic_at.borrow_mut() = Some("after receipt, shop: download".to_owned());
    killed(&case);
    let slept = || case.fake.0.slept.borrow().len();
    assert_eq!(slept(), 0);
    case.run().unwrap();
    assert_eq!(slept(), 1);
}

#[test]
fn what_failed_and_happened_all_the_same_is_not_done_again() {
    let case = Case::new();
    case.fail("shop: download", 1, false);
    case.fake.0.happens_all_the_same.set(true);
    case.run().unwrap();
    assert_eq!(case.performed(), ALL);
}

#[test]
fn a_target_does_not_stay_stopped_after_a_failure() {
    let case = Case::new();
    case.fail("shop: snapshot", 1, true);
    let (operation, why, then) = case.halts();
    assert_eq!(operation, "shop: snapshot");
    assert_eq!(why, Why::GaveUp("broken".to_owned()));
    assert_eq!(then, "; shop was started again");
    let mut expected = ALL[..4].to_vec();
    expected.push("shop: start");
    assert_eq!(case.performed(), expected);
    // The target is not stopped for an operation that will not be tried.
    assert_eq!(case.halts().2, "");
    assert_eq!(case.performed(), expected);
    let summary = case.summary();
    assert_eq!(
        summary,
        "{Ready: 11, Failed: 1, Completed: 3}; next: shop: snapshot"
    );
    // For that to be tried, the target has to be stopped.
    let mut runner = case.open().unwrap();
    runner.again().unwrap();
    runner.run(None).unwrap();
    expected.extend(&ALL[3..]);
    assert_eq!(case.performed(), expected);
}

#[test]
fn a_target_that_cannot_be_started_again_is_told_of() {
    let case = Case::new();
    case.fail("shop: snapshot", 1, true);
    case.fail("shop: start", 1000, false);
    let (operation, _, then) = case.halts();
    assert_eq!(operation, "shop: snapshot");
    assert_eq!(then, "; shop cannot be started again: given up: broken");
    assert!(case.summary().ends_with("restart required: shop"));
}

#[test]
fn what_is_unknown_is_never_tried_again_but_contained_and_settled() {
    let case = Case::new();
    *case.fake.0.panic_at.borrow_mut() = Some("effect of shop: snapshot".to_owned());
    killed(&case);
    case.fake.0.unclear.set(Some("shop: snapshot"));
    let (_, why, then) = case.halts();
    assert_eq!(why, Why::OutcomeUnknown("fog".to_owned()));
    assert_eq!(then, "; shop was started again");
    for _ in 0..3 {
        assert_eq!(case.halts().1, Why::OutcomeUnknown("fog".to_owned()));
    }
    let mut runner = case.open().unwrap();
    let settled = runner.settle("shop: stop", true).unwrap_err();
    assert_eq!(settled.to_string(), "no such operation was begun");
    runner.settle("shop: snapshot", true).unwrap();
    runner.run(None).unwrap();
    // It was started early: there is no more need to stop and start it.
    assert_eq!(case.performed(), ALL);
    drop(runner);
    assert_eq!(case.summary(), "{Completed: 15}; next: nothing");
}

#[test]
fn what_somebody_says_did_not_happen_is_done_again() {
    let case = Case::new();
    *case.fake.0.panic_at.borrow_mut() = Some("after pending, shop: download".to_owned());
    killed(&case);
    case.fake.0.unclear.set(Some("shop: download"));
    assert_eq!(case.halts().0, "shop: download");
    assert_eq!(case.performed(), ALL[..6]);
    let mut runner = case.open().unwrap();
    runner.settle("shop: download", false).unwrap();
    runner.run(None).unwrap();
    assert_eq!(case.performed(), ALL);
}

#[test]
fn checks_expire() {
    for (pause, repeated) in [(CHECKS_EXPIRE.mul_f64(0.99), 0), (CHECKS_EXPIRE, 2)] {
        let case = Case::new();
        let mut runner = case.open().unwrap();
        runner.run(Some(6)).unwrap();
        case.fake.0.clock.advance(pause);
        runner.run(Some(1)).unwrap();
        let checks = case.performed().split_off(9);
        // The checks that concern the next operation, before it.
        let expected = ["vault: check", "mail: check"];
        assert_eq!(checks[..repeated], expected[..repeated], "{pause:?}");
        assert_eq!(checks[repeated..], ["mail: stop"]);
    }
    // A target that is down is started again first of all.
    let case = Case::new();
    let mut runner = case.open().unwrap();
    runner.run(Some(2)).unwrap();
    case.fake.0.clock.advance(CHECKS_EXPIRE);
    case.fail("shop: check", 1, true);
    let halted = runner.run(None).unwrap();
    assert!(matches!(halted, Ended::Halted(operation, ..) if operation == "shop: check"));
    let performed = case.performed();
    assert_eq!(performed[..6], ALL[..6]);
    assert_eq!(performed[6..], ["vault: check"]);
}

#[test]
fn a_crash_counts_as_a_failure() {
    let case = Case::new();
    for _ in 0..5 {
        *case.fake.0.panic_at.borrow_mut() = Some("after pending, shop: stop".to_owned());
        killed(&case);
    }
    let died = "the runner died before it was done".to_owned();
    assert_eq!(case.halts().1, Why::GaveUp(died));
    assert_eq!(case.performed(), ALL[..3]);
}
