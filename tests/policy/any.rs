//! Policies, states and failures of every kind, nonsense included.

use std::time::Duration;

use proptest::prelude::*;
use relent::{Backoff, BackoffState, Failure, GiveUp, Jitter, Rounding};

pub(crate) fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
        1 => Just(Duration::from_nanos(u64::MAX)),
        2 => (0..10_u64).prop_map(Duration::from_nanos),
        4 => (0..10_000_000_000_u64).prop_map(Duration::from_nanos),
        4 => (0..100_000_u64).prop_map(Duration::from_secs),
        2 => any::<u64>().prop_map(Duration::from_nanos),
        2 => (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
    ]
}

pub(crate) fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => prop::sample::select(vec![
            0.0, -0.0, 1.0, -1.0, 1.0 + f64::EPSILON, 1.0 - f64::EPSILON, 0.5, 1.1, 2.0, -3.0, 1e308,
            f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN,
        ]),
        3 => 1.0..4.0_f64,
        1 => 1.0..1.001_f64,
        2 => 0.0..1.0_f64,
        3 => any::<u64>().prop_map(f64::from_bits),
    ]
}

pub(crate) fn jitter() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        float().prop_map(Jitter::Proportional),
        Just(Jitter::Decorrelated),
    ]
}

pub(crate) fn rounding() -> impl Strategy<Value = Rounding> {
    prop_oneof![2 => Just(Rounding::None), 1 => Just(Rounding::WholeSeconds)]
}

pub(crate) fn give_up() -> impl Strategy<Value = GiveUp> {
    let failures = prop_oneof![Just(0), Just(1), 0..50_u32, any::<u32>()];
    (prop::option::of(failures), prop::option::of(duration())).prop_map(
        |(after_failures, after_elapsed)| GiveUp {
            after_failures,
            after_elapsed,
        },
    )
}

pub(crate) fn backoff() -> impl Strategy<Value = Backoff> {
    (
        duration(),
        duration(),
        float(),
        jitter(),
        rounding(),
        give_up(),
    )
        .prop_map(
            |(initial, max, exponent, jitter, rounding, give_up)| Backoff {
                initial,
                max,
                exponent,
                jitter,
                rounding,
                give_up,
            },
        )
}

/// A policy that [`Backoff::validate`] has nothing against.
#[allow(dead_code, reason = "for the tests of configuration")]
pub(crate) fn valid() -> impl Strategy<Value = Backoff> {
    backoff().prop_map(|backoff| {
        if backoff.validate().is_ok() {
            return backoff;
        }
        let used = backoff.normalized();
        let least = Duration::from_nanos(1);
        used.initial(used.initial.max(least))
            .max(used.max.max(least))
    })
}

/// A policy that never gives up, so that there is always a delay to look at.
pub(crate) fn endless() -> impl Strategy<Value = Backoff> {
    backoff().prop_map(|backoff| backoff.give_up(GiveUp::NEVER))
}

pub(crate) fn entropy() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 1 => Just(u64::MAX), 6 => any::<u64>()]
}

pub(crate) fn failure() -> impl Strategy<Value = Failure> {
    (duration(), prop::option::of(duration()), entropy()).prop_map(
        |(elapsed, retry_after, entropy)| Failure {
            elapsed,
            retry_after,
            entropy,
        },
    )
}

pub(crate) fn state() -> impl Strategy<Value = BackoffState> {
    let failures = prop_oneof![Just(0), Just(u32::MAX), 0..100_u32];
    (failures, duration()).prop_map(|(failures, interval)| BackoffState { failures, interval })
}

/// As the crate counts it: whole nanoseconds, at most `u64::MAX`.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
