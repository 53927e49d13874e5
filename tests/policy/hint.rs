//! H: a server's hint.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use relent::{Backoff, BackoffState, Failure, GiveUpReason, Jitter, Rounding};

use super::any;

fn delay(backoff: &Backoff, state: BackoffState, failure: Failure) -> Duration {
    let mut state = state;
    backoff
        .next(&mut state, failure)
        .delay()
        .expect("never gives up")
}

proptest! {
    #[test]
    fn h_lifts_to_the_hint_but_not_above_max(
        backoff in any::endless(), state in any::state(), hint in any::duration(), entropy in any::entropy(),
    ) {
        let told = delay(&backoff, state, Failure::new(entropy).retry_after(hint));
        let max = backoff.normalized().max;
        prop_assert!(told <= max);
        prop_assert!(hint >= max || told >= hint, "{told:?} is before {hint:?}");
    }

    #[test]
    fn h_never_sooner_than_the_policys_own_draw(
        backoff in any::endless(), state in any::state(), hint in any::duration(), entropy in any::entropy(),
    ) {
        let told = delay(&backoff, state, Failure::new(entropy).retry_after(hint));
        prop_assert!(told >= delay(&backoff, state, Failure::new(entropy)));
    }

    #[test]
    fn h_keeps_the_spread(
        backoff in any::endless(), state in any::state(), hint in any::duration(),
    ) {
        let backoff = backoff.rounding(Rounding::None);
        let max = backoff.normalized().max;
        let width = |hint: Option<Duration>| {
            let end = |entropy| delay(&backoff, state, Failure { retry_after: hint, ..Failure::new(entropy) });
            end(u64::MAX).saturating_sub(end(0))
        };
        // To the nanosecond, but for ranges beyond 2⁶³ ns, whose last places the largest entropy
        // misses.
        let near = |a: Duration, b: Duration| a.abs_diff(b) <= Duration::from_nanos(1);
        if hint >= max {
            prop_assert!(near(width(Some(hint)), width(None).min(max / 2)));
        } else {
            prop_assert!(near(width(Some(hint)), width(None).min(max.saturating_sub(hint))) || width(Some(hint)) == width(None));
        }
    }

    #[test]
    fn h_advances_the_streak_like_any_failure(
        backoff in any::backoff(), state in any::state(), hint in any::duration(), failure in any::failure(),
    ) {
        let (mut told, mut untold) = (state, state);
        let _ = backoff.next(&mut told, failure.retry_after(hint));
        let _ = backoff.next(&mut untold, Failure { retry_after: None, ..failure });
        prop_assert_eq!(told, untold);
    }
}

#[test]
fn h_a_herd_told_the_same_does_not_return_together() {
    let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));
    let ten_years = Duration::from_secs(10 * 365 * 86_400);
    for hint in [Duration::from_secs(30), Duration::from_secs(60), ten_years] {
        let returns: HashSet<_> = (0..1000)
            .map(|n| {
                let failure = Failure::new(relent::random::draw(1, n)).retry_after(hint);
                delay(&policy, BackoffState::default(), failure)
            })
            .collect();
        assert!(
            returns.len() > 990,
            "{} different delays after {hint:?}",
            returns.len()
        );
        let earliest = *returns.iter().min().unwrap();
        assert!(
            earliest >= hint.min(Duration::from_secs(59)),
            "{earliest:?}"
        );
    }
}

/// Late in a streak the range is as wide as can be.
#[test]
fn h_whoever_is_told_more_than_max_waits_for_half_of_it_at_least() {
    let late = BackoffState {
        failures: 20,
        interval: Duration::from_secs(60),
    };
    let max = Duration::from_secs(60);
    for jitter in [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Proportional(1.0),
        Jitter::Decorrelated,
    ] {
        let policy = Backoff::exponential(Duration::from_secs(1), max).jitter(jitter);
        for hint in [max, Duration::from_secs(120), Duration::MAX] {
            let told = |entropy| delay(&policy, late, Failure::new(entropy).retry_after(hint));
            assert_eq!(
                (told(0), told(u64::MAX)),
                (max / 2, max),
                "{jitter:?}, {hint:?}"
            );
        }
    }
}

#[test]
fn h_in_whole_seconds_the_hint_is_rounded_up() {
    let policy = Backoff::fixed(Duration::from_secs(1))
        .max(Duration::from_secs(60))
        .whole_seconds();
    let told = |millis| {
        let failure = Failure::new(0).retry_after(Duration::from_millis(millis));
        delay(&policy, BackoffState::default(), failure).as_secs()
    };
    assert_eq!(
        [1, 1_200, 2_000, 59_001, 60_000, 99_000].map(told),
        [1, 2, 2, 60, 60, 60]
    );
}

#[test]
fn h_bypasses_no_limit() {
    let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(600))
        .jitter(Jitter::None)
        .give_up_after(Duration::from_secs(60));
    let mut state = BackoffState::default();
    let told = policy.next(
        &mut state,
        Failure::new(0).retry_after(Duration::from_secs(61)),
    );
    assert_eq!(told, relent::Decision::GiveUp(GiveUpReason::Elapsed));
    assert_eq!(state.failures, 1);
}
