//! The budget: exact shares, within bounds, from any thread.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use relent::retry::{LendsBudget, Unset};
use relent::{Backoff, RetryBudget, StopReason};

const AT_ONCE: Backoff = Backoff::fixed(Duration::ZERO);

fn drain(budget: &RetryBudget) -> u32 {
    let mut tokens = 0;
    while budget.withdraw() {
        tokens += 1;
    }
    tokens
}

#[test]
fn shares_are_exact() {
    for (share, per_thousand) in [
        (0.001, 1),
        (0.1, 100),
        (0.2, 200),
        (0.3, 300),
        (0.6, 600),
        (0.7, 700),
        (0.9, 900),
        (1.0, 1000),
        (2.5, 2500),
    ] {
        let budget = RetryBudget::new(10_000, share);
        assert_eq!(drain(&budget), 10_000);
        for _ in 0..1000 {
            budget.deposit();
        }
        assert_eq!(budget.balance(), per_thousand, "share {share}");
        assert_eq!(drain(&budget), per_thousand, "share {share}");
    }
}

#[test]
fn every_tenth_success_earns_a_retry() {
    let budget = RetryBudget::new(1, 0.1);
    assert!(budget.withdraw());
    for _ in 0..100 {
        for _ in 0..9 {
            budget.deposit();
            assert!(!budget.withdraw());
        }
        budget.deposit();
        assert!(budget.withdraw());
    }
}

#[test]
fn strange_shares_are_harmless() {
    for share in [
        f64::NAN,
        -1.0,
        -0.0,
        0.0,
        f64::NEG_INFINITY,
        1e-12,
        f64::MIN_POSITIVE,
    ] {
        let budget = RetryBudget::new(3, share);
        assert_eq!(drain(&budget), 3);
        budget.deposit();
        assert_eq!(budget.balance(), 0, "share {share}");
    }
    for share in [f64::INFINITY, f64::MAX, 1e10] {
        for capacity in [1, u32::MAX] {
            let budget = RetryBudget::new(capacity, share);
            assert!(budget.withdraw());
            budget.deposit();
            assert_eq!(budget.balance(), capacity, "share {share}");
        }
    }
}

#[test]
fn never_above_capacity() {
    let budget = RetryBudget::new(5, 0.75);
    for _ in 0..1000 {
        budget.deposit();
        assert_eq!(budget.balance(), 5);
    }
    assert_eq!(drain(&budget), 5);
    assert!(!RetryBudget::new(0, 1e9).withdraw());
}

#[test]
fn threads_neither_lose_nor_invent_tokens() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 50_000;
    let budget = RetryBudget::new(1_000_000, 0.3);
    let _ = drain(&budget);
    let withdrawn = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    budget.deposit();
                    if budget.withdraw() {
                        withdrawn.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    let left = u64::from(drain(&budget));
    assert_eq!(withdrawn.into_inner() + left, THREADS * ROUNDS * 3 / 10);
}

#[test]
fn a_success_at_the_first_attempt_deposits() {
    let budget = Arc::new(RetryBudget::new(2, 0.5));
    assert_eq!(drain(&budget), 2);
    for _ in 0..2 {
        let _ = AT_ONCE
            .retry(|| Ok::<_, ()>(()))
            .budget(budget.clone())
            .call();
    }
    assert_eq!(budget.balance(), 1);
}

#[test]
fn loops_share_one() {
    let budget = RetryBudget::new(10, 0.1);
    let mut attempts = 0;
    for _ in 0..100 {
        let outcome = AT_ONCE
            .give_up_after_failures(3)
            .retry(|| Err::<(), _>("down"))
            .budget(&budget)
            .outcome();
        assert_eq!(outcome.result, Err("down"));
        attempts += outcome.attempts;
    }
    // An outage of a hundred operations is 110 attempts instead of 300.
    assert_eq!(attempts, 110);
}

/// One token, which the loop takes if it is lent the budget.
#[track_caller]
fn lent<L: LendsBudget>(
    lend: impl Fn(Arc<RetryBudget>) -> L,
    budget: &Arc<RetryBudget>,
    expected: u32,
) {
    let outcome = AT_ONCE
        .give_up_after_failures(3)
        .retry(|| Err::<(), _>("down"))
        .budget(lend(Arc::clone(budget)))
        .outcome();
    assert_eq!(outcome.attempts, expected);
}

#[test]
fn whatever_people_have_lends_one() {
    static BUDGET: RetryBudget = RetryBudget::new(0, 0.0);
    let spent = Arc::new(RetryBudget::new(0, 0.0));
    let none = None::<&RetryBudget>;
    lent(|budget| budget, &spent, 1);
    lent(Some, &spent, 1);
    lent(|_| &BUDGET, &spent, 1);
    lent(|_| Some(&BUDGET), &spent, 1);
    lent(|_| &spent, &spent, 1);
    lent(|_| Some(&spent), &spent, 1);
    lent(|_| &*spent, &spent, 1);
    lent(|_| Rc::new(RetryBudget::new(0, 0.0)), &spent, 1);
    let held = Some(Arc::clone(&spent));
    lent(|_| &held, &spent, 1);
    lent(|_| held.as_deref(), &spent, 1);
    lent(|_| none, &spent, 3);
    lent(|_| Unset, &spent, 3);
}

#[test]
fn only_a_retry_withdraws() {
    let budget = RetryBudget::new(1, 0.0);
    let refused = AT_ONCE
        .retry(|| Err::<(), _>(()))
        .when(|()| false)
        .budget(&budget)
        .outcome();
    assert_eq!(
        (refused.stop, budget.balance()),
        (StopReason::NotRetryable, 1)
    );
    let gave_up = Backoff::never_retry()
        .retry(|| Err::<(), _>(()))
        .budget(&budget)
        .outcome();
    assert_eq!((gave_up.attempts, budget.balance()), (1, 1));
}

#[test]
fn shows_what_it_holds() {
    static BUDGET: RetryBudget = RetryBudget::new(10, 0.1);
    assert!(BUDGET.withdraw());
    let shown = format!("{BUDGET:?}");
    assert_eq!(
        shown,
        "RetryBudget { balance: 9.0, capacity: 10, deposit_per_success: 0.1 }"
    );
}
