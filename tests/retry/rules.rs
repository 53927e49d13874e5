//! The rules of the loops, in every colour at once.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use relent::clock::{Clock, ManualClock};
use relent::{Backoff, GiveUp, GiveUpReason, Jitter, Rounding, StopReason};

use crate::colours::{Case, DAY, drive, no_wait};

const SECOND: Duration = Duration::from_secs(1);
const DOUBLING: Backoff =
    Backoff::exponential(SECOND, Duration::from_secs(60)).jitter(Jitter::None);

#[test]
fn r1_attempts_begin_at_the_exact_instants() {
    let trace = Case::of(DOUBLING).fails(8).run();
    trace.assert(&[0, 1, 3, 7, 15, 31, 63, 123, 183], StopReason::Succeeded);
    let slow = Case::of(DOUBLING).takes(10 * SECOND).fails(3).run();
    slow.assert(&[0, 11, 23, 37], StopReason::Succeeded);
    assert_eq!(slow.outcome.waited, 7 * SECOND);
    assert_eq!(slow.outcome.elapsed, 37 * SECOND);
}

#[test]
fn r1_success_at_once_is_one_attempt_and_no_time() {
    let trace = Case::of(DOUBLING).takes(SECOND).fails(0).run();
    trace.assert(&[0], StopReason::Succeeded);
    assert_eq!(
        (trace.outcome.waited, trace.outcome.elapsed),
        (Duration::ZERO, Duration::ZERO)
    );
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (0u64..5_000).prop_map(Duration::from_millis),
        any::<u64>().prop_map(Duration::from_nanos),
        (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n)),
    ]
}

fn exponents() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), 1.0..4.0]
}

fn policies() -> impl Strategy<Value = Backoff> {
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        any::<u64>().prop_map(|bits| Jitter::Proportional(f64::from_bits(bits))),
        (0.0..1.0).prop_map(Jitter::Proportional),
        Just(Jitter::Decorrelated),
    ];
    let rounding = prop_oneof![Just(Rounding::None), Just(Rounding::WholeSeconds)];
    let failures = prop::option::of(prop_oneof![0u32..30, any::<u32>()]);
    // A limit beyond what a clock of 64 bits can count is none.
    let elapsed = prop::option::of((0..u64::MAX).prop_map(Duration::from_nanos));
    (
        durations(),
        durations(),
        exponents(),
        jitter,
        rounding,
        failures,
        elapsed,
    )
        .prop_map(
            |(initial, max, exponent, jitter, rounding, after_failures, after_elapsed)| Backoff {
                initial,
                max,
                exponent,
                jitter,
                rounding,
                give_up: GiveUp {
                    after_failures,
                    after_elapsed,
                },
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever the policy, a loop waits as long as the schedule of its seed says, and ends where
    /// that ends.
    #[test]
    fn r1_loop_and_schedule_agree_to_the_nanosecond(policy in policies(), seed: u64, fails in 0u32..40) {
        let case = Case::of(policy).seed(seed).fails(fails);
        let trace = case.run();
        trace.assert_consistent();
        let waits: Vec<_> = policy.schedule_seeded(seed).take(fails as usize).collect();
        prop_assert_eq!(trace.delays(), waits);
    }

    /// Under a hint the loop takes the step itself, attempt by attempt.
    #[test]
    fn r1_loop_and_step_agree_under_hints(policy in policies(), seed: u64, hint in durations()) {
        let trace = Case::of(policy).seed(seed).hint(hint).fails(12).run();
        let mut state = relent::BackoffState::default();
        for (n, &(_, delay, elapsed)) in (0..).zip(&trace.told) {
            let failure = relent::Failure::new(relent::random::draw(seed, n));
            let decision = policy.next(&mut state, failure.retry_after(hint).elapsed(elapsed));
            prop_assert_eq!(decision.delay(), Some(delay));
        }
    }
}

#[test]
fn r1_nothing_runs_before_the_call_or_the_first_poll() {
    let calls = Cell::new(0);
    let attempt = || {
        calls.set(calls.get() + 1);
        Ok::<_, ()>(())
    };
    let blocking = DOUBLING.retry(attempt);
    let future = DOUBLING.retry_async(|| {
        let result = attempt();
        async move { result }
    });
    let outcome = DOUBLING
        .retry_async(|| std::future::ready(attempt()))
        .outcome();
    let future_mut = DOUBLING
        .retry_async_mut(async || attempt())
        .sleep(no_wait)
        .run();
    assert_eq!(calls.get(), 0);
    drop((blocking, future, outcome, future_mut));
    assert_eq!(calls.get(), 0);
    let future = DOUBLING.retry_async(|| std::future::ready(attempt()));
    drive(future.sleep(no_wait)).unwrap();
    assert_eq!(calls.get(), 1);
}

#[test]
fn r3_elapsed_counts_slow_attempts() {
    let policy = DOUBLING.give_up_after(30 * SECOND);
    // Failures at 10, 21 and 33; the next attempt would be 27 s after the first failure, the one
    // after that 45 s.
    let trace = Case::of(policy).takes(10 * SECOND).run();
    trace.assert(&[0, 11, 23, 37], StopReason::GaveUp(GiveUpReason::Elapsed));
    let elapsed: Vec<_> = trace.told.iter().map(|told| told.2.as_secs()).collect();
    assert_eq!(elapsed, [0, 11, 23]);
    assert_eq!(trace.outcome.elapsed, 37 * SECOND);
}

#[test]
fn r3_first_attempt_slower_than_the_whole_limit_is_retried_once() {
    let policy = DOUBLING.give_up_after(10 * SECOND);
    let trace = Case::of(policy).takes(100 * SECOND).run();
    trace.assert(&[0, 101], StopReason::GaveUp(GiveUpReason::Elapsed));
}

#[test]
fn g_limits_end_the_loop() {
    let failures = StopReason::GaveUp(GiveUpReason::Failures);
    let elapsed = StopReason::GaveUp(GiveUpReason::Elapsed);
    for (policy, began, stop) in [
        (DOUBLING.give_up_after_failures(0), &[0][..], failures),
        (DOUBLING.give_up_after_failures(1), &[0], failures),
        (DOUBLING.give_up_after_failures(4), &[0, 1, 3, 7], failures),
        (DOUBLING.give_up_after(Duration::ZERO), &[0], elapsed),
        (DOUBLING.give_up_after(7 * SECOND), &[0, 1, 3, 7], elapsed),
        (
            DOUBLING.give_up_after(Duration::from_nanos(6_999_999_999)),
            &[0, 1, 3],
            elapsed,
        ),
        (
            DOUBLING.give_up_after(7 * SECOND).give_up_after_failures(2),
            &[0, 1],
            failures,
        ),
        (Backoff::never_retry(), &[0], failures),
    ] {
        Case::of(policy).run().assert(began, stop);
    }
}

#[test]
fn h_hint_lifts_the_delay_up_to_max() {
    let ten_years = 3650 * DAY;
    let policy = DOUBLING.give_up_after_failures(3);
    let stop = StopReason::GaveUp(GiveUpReason::Failures);
    Case::of(policy)
        .hint(5 * SECOND)
        .run()
        .assert(&[0, 5, 10], stop);
    Case::of(policy)
        .hint(Duration::from_millis(1))
        .run()
        .assert(&[0, 1, 3], stop);
    Case::of(policy)
        .hint(ten_years)
        .run()
        .assert(&[0, 60, 120], stop);
    Case::of(policy)
        .hint(Duration::MAX)
        .run()
        .assert(&[0, 60, 120], stop);
}

#[test]
fn j6_loops_are_independent_unless_seeded() {
    fn first_delays(jitter: Jitter, seed: Option<u64>) -> Vec<Duration> {
        let policy = DOUBLING.jitter(jitter).give_up_after_failures(4);
        let mut delays = Vec::new();
        let retry = policy
            .retry(|| Err::<(), _>(()))
            .sleep(|delay| delays.push(delay));
        let _ = match seed {
            Some(seed) => retry.seed(seed).call(),
            None => retry.call(),
        };
        delays
    }
    let distinct = |jitter| {
        let delays: HashSet<_> = (0..1000).flat_map(|_| first_delays(jitter, None)).collect();
        delays.len()
    };
    // Of 3000 draws from 1, 2 and 4 thousand million nanoseconds, two may meet, hardly three.
    let spread = distinct(Jitter::Full);
    assert!(spread > 2990, "{spread}");
    let seeded = |jitter, seed| first_delays(jitter, Some(seed));
    assert_eq!(seeded(Jitter::Full, 1), seeded(Jitter::Full, 1));
    assert_ne!(seeded(Jitter::Full, 1), seeded(Jitter::Full, 2));
    // The same measures notice when the spread is missing.
    assert_eq!(distinct(Jitter::None), 3, "no jitter passes");
    assert_eq!(seeded(Jitter::None, 1), seeded(Jitter::None, 2));
}

#[test]
fn when_ends_the_loop_at_once() {
    let mut errors = ["busy", "busy", "gone", "busy"].into_iter();
    let outcome = DOUBLING
        .retry(|| Err::<(), _>(errors.next().unwrap()))
        .when(|&error| error == "busy")
        .sleep(|_| {})
        .outcome();
    assert_eq!((outcome.result, outcome.attempts), (Err("gone"), 3));
    assert_eq!(outcome.stop, StopReason::NotRetryable);
}

#[test]
fn success_reads_no_clock() {
    struct Unread;
    impl Clock for Unread {
        fn now(&self) -> Duration {
            unreachable!("read")
        }
    }
    assert_eq!(
        DOUBLING.retry(|| Ok::<_, ()>(1)).clock(Unread).call(),
        Ok(1)
    );
    let ready = || std::future::ready(Ok::<_, ()>(1));
    let future = DOUBLING.retry_async(ready).clock(Unread).sleep(no_wait);
    assert_eq!(drive(future), Ok(1));
    let future = DOUBLING.retry_async_mut(async || ready().await);
    assert_eq!(drive(future.clock(Unread).sleep(no_wait).run()), Ok(1));
}

#[test]
fn a_clock_that_runs_back_is_one_that_stands() {
    let clock = ManualClock::new();
    clock.set(100 * SECOND);
    let mut elapsed = Vec::new();
    let outcome = DOUBLING
        .give_up_after_failures(3)
        .retry(|| Err::<(), _>(()))
        .clock(&clock)
        .notify(|failed| elapsed.push(failed.elapsed))
        .sleep(|_| clock.set(Duration::ZERO))
        .outcome();
    assert_eq!(elapsed, [Duration::ZERO; 2]);
    assert_eq!(outcome.elapsed, Duration::ZERO);
}

/// The one test that waits: this sleep is nobody's to move.
#[test]
fn unless_told_otherwise_a_thread_sleeps() {
    let began = std::time::Instant::now();
    let wait = Duration::from_millis(2);
    let policy = Backoff::fixed(wait).give_up_after_failures(3);
    assert_eq!(policy.retry(|| Err::<(), _>("down")).call(), Err("down"));
    assert!(began.elapsed() >= 2 * wait);
}

#[test]
fn success_allocates_nothing_and_failure_neither() {
    let attempts = Cell::new(0);
    let fails = |times| {
        attempts.set(attempts.get() + 1);
        if attempts.get() > times {
            Ok(())
        } else {
            Err(())
        }
    };
    // The first seed of a process asks the system for entropy; so it is drawn beforehand.
    let _ = relent::random::seed();
    for times in [0, 5] {
        let allocated = allocation_counter::measure(|| {
            attempts.set(0);
            DOUBLING
                .retry(|| fails(times))
                .sleep(|_| {})
                .call()
                .unwrap();
            attempts.set(0);
            let ready = || std::future::ready(fails(times));
            drive(DOUBLING.retry_async(ready).sleep(no_wait)).unwrap();
            attempts.set(0);
            drive(
                DOUBLING
                    .retry_async_mut(async || fails(times))
                    .sleep(no_wait)
                    .run(),
            )
            .unwrap();
        });
        assert_eq!(allocated.count_total, 0, "{times} failures");
    }
}
