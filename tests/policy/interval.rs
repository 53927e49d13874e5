//! B: the interval.

use std::time::Duration;

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use relent::{Backoff, BackoffState, Decision, Failure, Jitter, Rounding};

use super::any::{self, nanos};

const SECOND: u64 = 1_000_000_000;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The intervals of a streak, in whole seconds; fails on a fraction.
#[track_caller]
fn assert_seconds(backoff: Backoff, first: Option<u64>, expected: &[u64]) {
    let mut previous = first.map(secs);
    let intervals: Vec<_> = expected
        .iter()
        .map(|_| {
            let interval = backoff.interval_after(previous);
            previous = Some(interval);
            interval
        })
        .collect();
    let expected: Vec<_> = expected.iter().copied().map(secs).collect();
    assert_eq!(intervals, expected);
}

/// Rules B2 to B8 over rationals, without a limit on their size.
fn interval_by_rationals(backoff: &Backoff, previous: Option<Duration>) -> u64 {
    let int = |n: u64| BigRational::from(BigInt::from(n));
    let resolution = if backoff.rounding == Rounding::WholeSeconds {
        SECOND
    } else {
        1
    };
    let whole = int(resolution);
    let up = |n: BigRational| (n / &whole).ceil() * &whole;
    let down = |n: BigRational| (n / &whole).floor() * &whole;

    let ceiling = down(int(u64::MAX));
    let mut initial = up(int(nanos(backoff.initial))).min(ceiling.clone());
    if resolution == SECOND {
        initial = initial.max(whole.clone());
    }
    let max = down(int(nanos(backoff.max))).max(initial.clone());
    let grows = backoff.exponent > 1.0;

    let interval = match previous {
        None => initial,
        Some(_) if !grows => initial,
        Some(previous) => {
            let previous = int(nanos(previous)).max(whole.clone());
            match BigRational::from_float(backoff.exponent) {
                None => max,
                Some(exponent) => {
                    let nearest =
                        (&previous * exponent + BigRational::new(1.into(), 2.into())).floor();
                    up(nearest.max(previous + int(1))).min(max)
                }
            }
        }
    };
    u64::try_from(interval.to_integer()).expect("at most u64::MAX")
}

proptest! {
    #[test]
    fn b1_total(backoff in any::backoff(), mut state in any::state(), failure in any::failure()) {
        let _ = backoff.next(&mut state, failure);
        let _ = backoff.validate().map_err(|invalid| invalid.to_string());
        let _ = backoff.preview().limit(5).to_string();
        let _ = backoff.schedule_seeded(failure.entropy).take(5).count();
    }

    #[test]
    fn b2_normalized_changes_nothing(
        backoff in any::backoff(), state in any::state(), failure in any::failure(),
    ) {
        let normalized = backoff.normalized();
        prop_assert_eq!(normalized, normalized.normalized());
        prop_assert!(normalized.exponent >= 1.0 && normalized.initial <= normalized.max);
        let (mut given, mut used) = (state, state);
        prop_assert_eq!(backoff.next(&mut given, failure), normalized.next(&mut used, failure));
        prop_assert_eq!(given, used);
    }

    #[test]
    fn b3_first_is_initial(backoff in any::backoff()) {
        prop_assert_eq!(backoff.interval_after(None), backoff.normalized().initial);
    }

    #[test]
    fn b4_exponent_one_is_always_initial(
        backoff in any::backoff(),
        exponent in prop_oneof![Just(f64::NAN), Just(f64::NEG_INFINITY), -2.0..=1.0],
        previous in any::duration(),
    ) {
        let backoff = backoff.exponent(exponent);
        prop_assert_eq!(backoff.interval_after(Some(previous)), backoff.normalized().initial);
    }

    #[test]
    fn b5_exact(backoff in any::backoff(), previous in prop::option::of(any::duration())) {
        let expected = interval_by_rationals(&backoff, previous);
        prop_assert_eq!(nanos(backoff.interval_after(previous)), expected);
    }

    #[test]
    fn b6_progresses_while_below_max(
        backoff in any::backoff(),
        exponent in prop_oneof![
            Just(1.0 + f64::EPSILON), 1.0..1.01_f64, 1.0..4.0_f64, 1.0..=f64::MAX, Just(f64::INFINITY),
        ],
        previous in any::duration(),
    ) {
        let backoff = backoff.exponent(exponent.max(1.0 + f64::EPSILON));
        prop_assume!(previous < backoff.normalized().max);
        prop_assert!(backoff.interval_after(Some(previous)) > previous);
    }

    #[test]
    fn b6_monotone(backoff in any::backoff(), a in any::duration(), b in any::duration()) {
        let (shorter, longer) = (a.min(b), a.max(b));
        prop_assert!(backoff.interval_after(Some(shorter)) <= backoff.interval_after(Some(longer)));
    }

    #[test]
    fn b8_never_above_max(backoff in any::backoff(), previous in prop::option::of(any::duration())) {
        prop_assert!(backoff.interval_after(previous) <= backoff.normalized().max);
    }

    #[test]
    fn b8_saturated_stays_saturated(exponent in 1.0_f64..) {
        prop_assume!(exponent > 1.0);
        let backoff = Backoff::exponential(secs(1), Duration::MAX).exponent(exponent);
        let saturated = Duration::from_nanos(u64::MAX);
        prop_assert_eq!(backoff.interval_after(Some(saturated)), saturated);
        prop_assert_eq!(backoff.interval_after(Some(Duration::MAX)), saturated);
    }
}

#[test]
fn b2_whole_seconds_round_initial_up_and_max_down() {
    let policy = |initial, max| {
        let ms = Duration::from_millis;
        let used = Backoff::exponential(ms(initial), ms(max))
            .whole_seconds()
            .normalized();
        (used.initial.as_millis(), used.max.as_millis())
    };
    assert_eq!(policy(1_500, 10_000), (2_000, 10_000));
    assert_eq!(policy(1_999, 2_500), (2_000, 2_000));
    assert_eq!(policy(1, 2_999), (1_000, 2_000));
    assert_eq!(policy(0, 0), (1_000, 1_000));
    assert_eq!(policy(2_200, 2_500), (3_000, 3_000));
}

#[test]
fn b5_decimal_exponents_behave_as_people_mean_them() {
    let policy = Backoff::exponential(secs(60), secs(120))
        .exponent(1.1)
        .jitter(Jitter::None);
    assert_eq!(policy.interval_after(Some(secs(90))), secs(99));
    assert_seconds(
        policy.whole_seconds(),
        None,
        &[60, 66, 73, 81, 90, 99, 109, 120, 120],
    );
}

#[test]
fn b6_whole_seconds_never_stick() {
    let policy = Backoff::exponential(secs(1), secs(600))
        .exponent(1.1)
        .whole_seconds();
    let expected = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 21, 24, 27, 30, 33,
    ];
    assert_seconds(policy, None, &expected);
    assert_seconds(policy.exponent(1.0 + 1e-10), None, &[1, 2, 3, 4]);
}

#[test]
fn b7_initial_is_no_floor_for_what_was_stored() {
    let policy = Backoff::exponential(secs(60), secs(500));
    assert_seconds(policy, Some(2), &[4, 8, 16, 32, 64, 128, 256, 500, 500]);
    assert_seconds(policy.max(secs(10)).initial(secs(1)), Some(500), &[10]);
    assert_seconds(policy.whole_seconds(), Some(0), &[2]);
    assert_eq!(
        policy.interval_after(Some(Duration::ZERO)),
        Duration::from_nanos(2)
    );
}

/// Such a state comes from a column that was added with 0 as its default, or that is too coarse for
/// the interval.
#[test]
fn b7_a_state_that_knows_no_interval_waits_as_at_first() {
    let next = |policy: Backoff, failures| {
        let mut state = BackoffState {
            failures,
            interval: Duration::ZERO,
        };
        let _ = policy.next(&mut state, Failure::new(0));
        assert_eq!(state.failures, failures + 1);
        state.interval
    };
    for policy in [
        Backoff::exponential(secs(10), secs(3600)),
        Backoff::fixed(secs(10)),
        Backoff::exponential(secs(10), secs(3600)).whole_seconds(),
    ] {
        assert_eq!(
            [0, 1, 5].map(|failures| next(policy, failures)),
            [secs(10); 3]
        );
    }
    // If the policy itself begins at zero, the interval grows all the same.
    let from_zero = Backoff::exponential(Duration::ZERO, secs(60));
    assert_eq!(next(from_zero, 0), Duration::ZERO);
    assert_eq!(next(from_zero, 1), Duration::from_nanos(2));
    assert_eq!(next(Backoff::fixed(Duration::ZERO), 5), Duration::ZERO);
}

#[test]
fn b8_overflow_clamps_to_max() {
    let policy = Backoff::exponential(secs(1), Duration::MAX);
    for previous in [1 << 62, (1 << 63) + 1, u64::MAX / 3 * 2, u64::MAX - 1] {
        for exponent in [
            4.0,
            5.5,
            8.0,
            1e3,
            1e10,
            2_f64.powi(63),
            2_f64.powi(64),
            1e308,
        ] {
            let policy = policy.exponent(exponent);
            let next = policy.interval_after(Some(Duration::from_nanos(previous)));
            let longest = Duration::from_nanos(u64::MAX);
            assert_eq!(next, longest, "{previous} × {exponent}");
        }
    }
}

#[test]
fn b9_zeros_in_whole_seconds_mean_one_second() {
    let zeros = Backoff::fixed(Duration::ZERO).exponent(0.0).whole_seconds();
    assert_eq!(zeros.validate(), Ok(()));
    assert_seconds(zeros, None, &[1, 1, 1]);
    assert_seconds(zeros, Some(70), &[1]);
}

#[test]
fn b10_everything_is_const() {
    const POLICY: Backoff = Backoff::DEFAULT
        .initial(Duration::from_millis(90))
        .max(Duration::from_secs(5))
        .exponent(1.1)
        .jitter(Jitter::Proportional(0.1))
        .rounding(Rounding::None)
        .give_up_after_failures(3)
        .give_up_after(Duration::from_secs(60))
        .normalized();
    const VALID: bool = POLICY.validate().is_ok();
    const INTERVAL: Duration = POLICY.interval_after(Some(Duration::from_millis(90)));
    const STEP: (BackoffState, Decision) = {
        let mut state = BackoffState {
            failures: 1,
            interval: Duration::from_millis(90),
        };
        let decision = POLICY.next(
            &mut state,
            Failure::new(1 << 63).elapsed(Duration::from_millis(5)),
        );
        (state, decision)
    };
    const { assert!(VALID) }
    assert_eq!(INTERVAL, Duration::from_millis(99));
    assert_eq!(
        STEP.0,
        BackoffState {
            failures: 2,
            interval: INTERVAL
        }
    );
    assert_eq!(
        STEP.1,
        Decision::Retry {
            after: Duration::from_millis(99)
        }
    );
}

/// What is computed while compiling is what is computed while running: the same table, twice.
#[test]
fn b10_const_results_equal_run_time_results() {
    const EXPONENTS: [f64; 8] = [0.0, 1.0, 1.1, 1.5, 2.0, 1e10, f64::INFINITY, f64::NAN];
    const PREVIOUS: [u64; 6] = [0, 1, 999_999_999, SECOND, 1 << 62, u64::MAX];
    const fn table() -> [[u64; 6]; 8] {
        let mut table = [[0; 6]; 8];
        let mut e = 0;
        while e < EXPONENTS.len() {
            let mut p = 0;
            while p < PREVIOUS.len() {
                let policy = Backoff::exponential(Duration::from_millis(3), Duration::MAX)
                    .exponent(EXPONENTS[e]);
                let previous = Some(Duration::from_nanos(PREVIOUS[p]));
                table[e][p] = policy.interval_after(previous).as_nanos() as u64;
                p += 1;
            }
            e += 1;
        }
        table
    }
    const COMPILED: [[u64; 6]; 8] = table();
    assert_eq!(COMPILED, std::hint::black_box(table as fn() -> _)());
    assert_eq!(COMPILED[2][3], 1_100_000_000);
}
