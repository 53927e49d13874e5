//! J: the delay drawn from the interval.

use std::time::Duration;

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use relent::{Backoff, BackoffState, Failure, Jitter, Rounding};

use super::any::{self, nanos};

/// The step's delay and interval, of a policy that does not give up.
fn step(backoff: &Backoff, state: BackoffState, entropy: u64) -> (Duration, Duration) {
    let mut state = state;
    let decision = backoff.next(&mut state, Failure::new(entropy));
    (decision.delay().expect("never gives up"), state.interval)
}

fn interval(backoff: &Backoff, state: BackoffState) -> Duration {
    let first = backoff.interval_after(None);
    let known = state.interval > Duration::ZERO || first == Duration::ZERO;
    backoff.interval_after((state.failures > 0 && known).then_some(state.interval))
}

proptest! {
    #[test]
    fn j1_none_is_exact(backoff in any::endless(), state in any::state(), entropy in any::entropy()) {
        let backoff = backoff.jitter(Jitter::None);
        let i = interval(&backoff, state);
        prop_assert_eq!(step(&backoff, state, entropy), (i, i));
    }

    #[test]
    fn j1_within_its_range(backoff in any::endless(), state in any::state(), entropy in any::entropy()) {
        let int = |n: u64| BigRational::from(BigInt::from(n));
        let i = nanos(interval(&backoff, state));
        let used = backoff.normalized();
        let (shortest, longest) = match used.jitter {
            Jitter::None => (int(i), int(i)),
            Jitter::Full => (int(0), int(i)),
            Jitter::Equal => (int(i) / int(2), int(i)),
            Jitter::Proportional(f) => {
                let part = int(i) * BigRational::from_float(f).expect("normalised");
                (int(i) - &part, int(i) + part)
            }
            Jitter::Decorrelated => (int(nanos(used.initial).min(i)), int(i)),
            other => panic!("no rule for {other:?}"),
        };
        let (delay, kept) = step(&backoff, state, entropy);
        let delay = nanos(delay);
        prop_assert!(int(delay) >= shortest, "{} < {}", delay, shortest);
        match used.rounding {
            Rounding::WholeSeconds => {
                prop_assert_eq!(delay % 1_000_000_000, 0);
                prop_assert!(int(delay) < longest + int(1_000_000_000));
            }
            _ => prop_assert!(int(delay) <= longest),
        }
        if used.jitter == Jitter::Decorrelated {
            prop_assert_eq!(nanos(kept), delay);
        }
    }

    #[test]
    fn j1_reaches_both_ends(interval in 2_u64..1 << 50, f in 0.0..=1.0_f64) {
        let ends = |jitter| {
            let backoff = Backoff::fixed(Duration::from_nanos(interval)).max(Duration::MAX).jitter(jitter);
            let end = |entropy| nanos(step(&backoff, BackoffState::default(), entropy).0);
            (end(0), end(u64::MAX))
        };
        let within = (interval as f64 * f) as u64;
        prop_assert_eq!(ends(Jitter::Full), (1, interval));
        prop_assert_eq!(ends(Jitter::Equal), (interval.div_ceil(2), interval));
        let (shortest, longest) = ends(Jitter::Proportional(f));
        prop_assert!(shortest.abs_diff(interval - within) <= 1 && longest.abs_diff(interval + within) <= 1);
    }

    #[test]
    fn j2_never_above_max_never_zero(
        backoff in any::endless(), state in any::state(), failure in any::failure(),
    ) {
        let mut after = state;
        let delay = backoff.next(&mut after, failure).delay().expect("never gives up");
        prop_assert!(delay <= backoff.normalized().max);
        let i = interval(&backoff, state);
        prop_assert!(!delay.is_zero() || i.is_zero());
    }

    #[test]
    fn j4_whole_seconds(backoff in any::endless(), state in any::state(), failure in any::failure()) {
        let backoff = backoff.whole_seconds();
        let mut after = state;
        let delay = backoff.next(&mut after, failure).delay().expect("never gives up");
        prop_assert!(delay.subsec_nanos() == 0 && delay.as_secs() >= 1);
        prop_assert!(delay <= backoff.normalized().max);
    }

    #[test]
    fn j5_growth_is_independent_of_luck(
        backoff in any::endless(), state in any::state(), a in any::failure(), b in any::failure(),
    ) {
        prop_assume!(backoff.jitter != Jitter::Decorrelated);
        let (mut lucky, mut unlucky) = (state, state);
        let _ = backoff.next(&mut lucky, a);
        let _ = backoff.next(&mut unlucky, b);
        prop_assert_eq!(lucky, unlucky);
        prop_assert_eq!(lucky.interval, interval(&backoff, state));
    }
}

#[test]
fn j4_the_draw_is_rounded_last() {
    let policy =
        Backoff::exponential(Duration::from_secs(3), Duration::from_secs(3)).whole_seconds();
    let seconds = |thirds: u64| {
        let entropy = (u64::MAX / 3).wrapping_mul(thirds).wrapping_add(1 << 40);
        step(&policy, BackoffState::default(), entropy).0.as_secs()
    };
    assert_eq!([0, 1, 2].map(seconds), [1, 2, 3]);
}

#[test]
fn j5_decorrelated_grows_from_its_draw() {
    let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60))
        .exponent(3.0)
        .jitter(Jitter::Decorrelated);
    let mut state = BackoffState::default();
    let mut longest = Duration::ZERO;
    for n in 0..100 {
        let before = policy.interval_after((n > 0).then_some(state.interval));
        let entropy = relent::random::draw(7, n);
        let delay = policy
            .next(&mut state, Failure::new(entropy))
            .delay()
            .unwrap();
        assert!((Duration::from_secs(1)..=before).contains(&delay));
        assert_eq!(state.interval, delay);
        longest = longest.max(delay);
    }
    assert!(longest > Duration::from_secs(30), "{longest:?}");
}
