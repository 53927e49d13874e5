//! What breaks other crates, one row each.

use std::time::Duration;

use relent::{Backoff, BackoffState, Failure, Jitter, random};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const MAX: Duration = Duration::from_nanos(u64::MAX);
const NANOS: Duration = Duration::from_nanos(1);

/// A policy, the delays that each of 10 000 failures may bring, and the last interval.
struct Row(&'static str, Backoff, [Duration; 2], Duration);

const DOUBLING: Backoff = Backoff::exponential(secs(1), secs(60));

const ROWS: &[Row] = &[
    Row(
        "jitter at max",
        DOUBLING.jitter(Jitter::Proportional(0.5)),
        [Duration::from_millis(500), secs(60)],
        secs(60),
    ),
    Row(
        "max < initial",
        Backoff::exponential(secs(100), secs(60)),
        [NANOS, secs(100)],
        secs(100),
    ),
    Row(
        "max < initial, steady",
        Backoff::fixed(secs(10)).max(secs(5)),
        [secs(10), secs(10)],
        secs(10),
    ),
    Row(
        "endless max",
        DOUBLING.max(Duration::MAX),
        [NANOS, MAX],
        MAX,
    ),
    Row(
        "endless initial",
        Backoff::fixed(Duration::MAX),
        [MAX, MAX],
        MAX,
    ),
    Row(
        "exponent 1e308",
        DOUBLING.exponent(1e308),
        [NANOS, secs(60)],
        secs(60),
    ),
    Row(
        "exponent ∞",
        DOUBLING.exponent(f64::INFINITY),
        [NANOS, secs(60)],
        secs(60),
    ),
    Row(
        "exponent NaN",
        DOUBLING.exponent(f64::NAN),
        [NANOS, secs(1)],
        secs(1),
    ),
    Row(
        "exponent 0",
        DOUBLING.exponent(0.0),
        [NANOS, secs(1)],
        secs(1),
    ),
    Row(
        "exponent −3",
        DOUBLING.exponent(-3.0),
        [NANOS, secs(1)],
        secs(1),
    ),
    Row(
        "exponent 1 + ε",
        DOUBLING.exponent(1.0 + f64::EPSILON),
        [NANOS, secs(2)],
        Duration::from_nanos(1_000_009_999),
    ),
    Row(
        "1 ms × 1.5",
        DOUBLING.initial(Duration::from_millis(1)).exponent(1.5),
        [NANOS, secs(60)],
        secs(60),
    ),
    Row(
        "500 µs",
        DOUBLING.initial(Duration::from_micros(500)),
        [NANOS, secs(60)],
        secs(60),
    ),
    Row(
        "1.5 s in whole seconds",
        DOUBLING
            .initial(Duration::from_millis(1_500))
            .whole_seconds(),
        [secs(1), secs(60)],
        secs(60),
    ),
    Row(
        "0.5 s in whole seconds",
        DOUBLING.initial(Duration::from_millis(500)).whole_seconds(),
        [secs(1), secs(60)],
        secs(60),
    ),
    Row(
        "max 2.5 s in whole seconds",
        DOUBLING.max(Duration::from_millis(2_500)).whole_seconds(),
        [secs(1), secs(2)],
        secs(2),
    ),
    Row(
        "2³⁵ s",
        Backoff::exponential(secs(1 << 35), Duration::MAX),
        [NANOS, MAX],
        MAX,
    ),
    Row(
        "proportion NaN",
        DOUBLING.jitter(Jitter::Proportional(f64::NAN)),
        [secs(1), secs(60)],
        secs(60),
    ),
    Row(
        "proportion 2",
        DOUBLING.jitter(Jitter::Proportional(2.0)),
        [NANOS, secs(60)],
        secs(60),
    ),
    Row(
        "decorrelated, max < initial",
        DOUBLING.initial(secs(100)).jitter(Jitter::Decorrelated),
        [secs(100), secs(100)],
        secs(100),
    ),
];

#[test]
fn ten_thousand_failures_of_each() {
    for &Row(name, policy, [shortest, longest], last) in ROWS {
        let mut state = BackoffState::default();
        for n in 0..10_000 {
            let failure = Failure::new(random::draw(5, n));
            let delay = policy.next(&mut state, failure).delay().expect(name);
            assert!(
                (shortest..=longest).contains(&delay),
                "{name}: {delay:?} at failure {}",
                state.failures
            );
        }
        assert_eq!((state.failures, state.interval), (10_000, last), "{name}");
    }
}

#[test]
fn thirty_two_and_sixty_four_failures() {
    for failures in [31, 32, 33, 63, 64, 65, u32::MAX - 1, u32::MAX] {
        let mut state = BackoffState {
            failures,
            interval: secs(60),
        };
        let policy = DOUBLING.jitter(Jitter::None);
        assert_eq!(
            policy.next(&mut state, Failure::new(0)).delay(),
            Some(secs(60))
        );
        assert_eq!(state.failures, failures.saturating_add(1));
    }
}

#[test]
fn a_hint_of_ten_years() {
    let failure = Failure::new(u64::MAX).retry_after(secs(10 * 365 * 86_400));
    let mut state = BackoffState::default();
    assert_eq!(DOUBLING.next(&mut state, failure).delay(), Some(secs(60)));
}

#[test]
fn powers_of_two_are_exact() {
    let waits =
        Backoff::exponential(Duration::from_millis(100), Duration::MAX).jitter(Jitter::None);
    for (n, wait) in waits.schedule_seeded(0).take(30).enumerate() {
        assert_eq!(wait, Duration::from_millis(100 << n));
    }
}

#[test]
fn synapse_recoverer() {
    let policy = Backoff::exponential(secs(2), secs(512)).jitter(Jitter::None);
    let waits: Vec<_> = policy
        .schedule_seeded(0)
        .take(10)
        .map(|wait| wait.as_secs())
        .collect();
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 512]);
}

#[test]
fn roperator_handler() {
    let policy = Backoff::DEFAULT.jitter(Jitter::None);
    let waits: Vec<_> = policy
        .schedule_seeded(0)
        .take(30)
        .map(|wait| wait.as_millis())
        .collect();
    assert_eq!(waits[..3], [500, 750, 1_125]);
    assert_eq!(waits[29], 600_000);
}
