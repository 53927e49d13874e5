//! G: giving up.

use std::time::Duration;

use proptest::prelude::*;
use relent::{Backoff, BackoffState, Decision, Failure, GiveUp, GiveUpReason, Jitter};

use super::any;

const SECOND: Duration = Duration::from_secs(1);

proptest! {
    #[test]
    fn g_gives_up_exactly_at_a_limit(
        backoff in any::backoff(), state in any::state(), failure in any::failure(),
    ) {
        let limits = backoff.give_up;
        let mut endless = state;
        let delay = backoff.give_up(GiveUp::NEVER).next(&mut endless, failure).delay().unwrap();

        let mut limited = state;
        let decision = backoff.next(&mut limited, failure);
        prop_assert_eq!(limited, endless, "the failure counts either way");

        let failures = limits.after_failures.is_some_and(|n| limited.failures >= n);
        let elapsed = limits.after_elapsed.is_some_and(|limit| {
            let end = failure.elapsed.as_nanos() + delay.as_nanos();
            limit.is_zero() || limit.as_nanos() < u64::MAX.into() && end > limit.as_nanos()
        });
        prop_assert_eq!(decision, match (failures, elapsed) {
            (true, _) => Decision::GiveUp(GiveUpReason::Failures),
            (_, true) => Decision::GiveUp(GiveUpReason::Elapsed),
            _ => Decision::Retry { after: delay },
        });
    }
}

/// How many attempts an operation that always fails gets, if attempts take no time.
fn attempts(policy: Backoff) -> usize {
    policy.schedule_seeded(1).take(1_000).count() + 1
}

#[test]
fn g1_at_most_n_attempts() {
    let policy = Backoff::fixed(SECOND);
    let counts = [0, 1, 2, 3, 10].map(|n| attempts(policy.give_up_after_failures(n)));
    assert_eq!(counts, [1, 1, 2, 3, 10]);
    assert_eq!(attempts(Backoff::never_retry()), 1);
}

#[test]
fn g2_stops_before_a_wait_that_would_end_too_late() {
    let policy = Backoff::exponential(SECOND, 60 * SECOND)
        .jitter(Jitter::None)
        .give_up_after(10 * SECOND);
    let waits: Vec<_> = policy
        .schedule_seeded(0)
        .map(|wait| wait.as_secs())
        .collect();
    assert_eq!(waits, [1, 2, 4], "8 more would be 15 of 10");

    let to_the_second = Backoff::fixed(SECOND).give_up_after(5 * SECOND);
    assert_eq!(
        to_the_second.schedule_seeded(0).count(),
        5,
        "the limit itself is not too late"
    );
}

#[test]
fn g2_elapsed_near_the_end_of_time() {
    let policy = Backoff::fixed(SECOND).give_up_after(Duration::MAX);
    let mut state = BackoffState::default();
    let decision = policy.next(&mut state, Failure::new(0).elapsed(Duration::MAX));
    assert_eq!(decision, Decision::Retry { after: SECOND });
}

#[test]
fn g3_zero_is_never_retried() {
    for policy in [Backoff::fixed(SECOND), Backoff::fixed(Duration::ZERO)] {
        assert_eq!(attempts(policy.give_up_after(Duration::ZERO)), 1);
        assert_eq!(attempts(policy.give_up_after_failures(0)), 1);
    }
}

#[test]
fn g3_whichever_comes_first_and_why() {
    let policy = Backoff::fixed(SECOND);
    let reason = |policy: Backoff| {
        let mut state = BackoffState::default();
        (0..100)
            .find_map(
                |n| match policy.next(&mut state, Failure::new(0).elapsed(n * SECOND)) {
                    Decision::GiveUp(reason) => Some(reason),
                    Decision::Retry { .. } => None,
                },
            )
            .expect("gives up")
    };
    let early = policy.give_up_after_failures(3).give_up_after(50 * SECOND);
    let late = policy.give_up_after_failures(50).give_up_after(3 * SECOND);
    assert_eq!(
        [early, late].map(reason),
        [GiveUpReason::Failures, GiveUpReason::Elapsed]
    );
}
