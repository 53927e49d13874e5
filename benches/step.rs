//! One step, that is the next delay of a growing streak: relent beside other crates' iterators, in
//! the same run.
//!
//! Repeat it with `taskset -c 1 cargo bench --bench step`. Every policy doubles from 100 ms up to
//! 60 s, and begins anew after 16 delays, so that all are measured over the same growth and
//! plateau. Only ratios mean anything on a shared machine. `full_…` draws full jitter, or what the
//! crate has of the kind; `steady_…` none. More peers are in `benches/peers/`.

use std::time::Duration;

use divan::{Bencher, black_box};
use relent::{Backoff, BackoffState, Failure, Jitter, random};

const INITIAL: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(60);
const FULL: Backoff = Backoff::exponential(INITIAL, MAX);
const NONE: Backoff = FULL.jitter(Jitter::None);
const STREAK: u64 = 16;

fn main() {
    divan::main();
}

/// Runs `step` once an iteration, and `begin` every sixteenth.
fn streaks<S, T>(bencher: Bencher<'_, '_>, begin: impl Fn() -> S, step: impl Fn(&mut S, u64) -> T) {
    let mut n = 0;
    let mut state = begin();
    bencher.bench_local(|| {
        n += 1;
        if n % STREAK == 0 {
            state = begin();
        }
        step(&mut state, n)
    });
}

/// The policy is known while compiling, as it mostly is; the state is not.
#[divan::bench]
fn full_relent_const_policy(bencher: Bencher<'_, '_>) {
    streaks(bencher, BackoffState::default, |state, n| {
        FULL.next(
            black_box(state),
            Failure::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        )
    });
}

/// The policy was read from a file.
#[divan::bench]
fn full_relent_runtime_policy(bencher: Bencher<'_, '_>) {
    let policy = black_box(FULL);
    streaks(bencher, BackoffState::default, |state, n| {
        black_box(&policy).next(
            black_box(state),
            Failure::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        )
    });
}

#[divan::bench]
fn full_relent_schedule(bencher: Bencher<'_, '_>) {
    streaks(
        bencher,
        || FULL.schedule_seeded(random::draw(1, 1)),
        |waits, _| waits.next(),
    );
}

#[divan::bench]
fn full_backon(bencher: Bencher<'_, '_>) {
    use backon::BackoffBuilder;
    let builder = backon::ExponentialBuilder::new()
        .with_min_delay(INITIAL)
        .with_max_delay(MAX)
        .without_max_times()
        .with_jitter();
    streaks(bencher, || builder.build(), |waits, _| waits.next());
}

#[divan::bench]
fn full_backoff(bencher: Bencher<'_, '_>) {
    use backoff::{ExponentialBackoffBuilder, backoff::Backoff};
    let mut builder = ExponentialBackoffBuilder::new();
    builder
        .with_initial_interval(INITIAL)
        .with_max_interval(MAX)
        .with_multiplier(2.0)
        .with_max_elapsed_time(None);
    // It cannot begin anew without reading the clock, for which its users pay once a streak.
    let mut waits = builder.build();
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        if n % STREAK == 0 {
            waits.reset();
        }
        waits.next_backoff()
    });
}

#[divan::bench]
fn full_tokio_retry(bencher: Bencher<'_, '_>) {
    use tokio_retry::strategy::{ExponentialBackoff, jitter};
    let begin = || {
        ExponentialBackoff::from_millis(2)
            .factor(50)
            .max_delay(MAX)
            .map(jitter)
    };
    streaks(bencher, begin, |waits, _| waits.next());
}

#[divan::bench]
fn full_retry(bencher: Bencher<'_, '_>) {
    use retry::delay::{Exponential, jitter};
    let begin = || Exponential::from_millis(100).map(|delay| jitter(delay.min(MAX)));
    streaks(bencher, begin, |waits, _| waits.next());
}

#[divan::bench]
fn steady_relent_const_policy(bencher: Bencher<'_, '_>) {
    streaks(bencher, BackoffState::default, |state, _| {
        NONE.next(black_box(state), Failure::new(0))
    });
}

#[divan::bench]
fn steady_relent_runtime_policy(bencher: Bencher<'_, '_>) {
    let policy = black_box(NONE);
    streaks(bencher, BackoffState::default, |state, _| {
        black_box(&policy).next(black_box(state), Failure::new(0))
    });
}

#[divan::bench]
fn steady_backon(bencher: Bencher<'_, '_>) {
    use backon::BackoffBuilder;
    let builder = backon::ExponentialBuilder::new()
        .with_min_delay(INITIAL)
        .with_max_delay(MAX)
        .without_max_times();
    streaks(bencher, || builder.build(), |waits, _| waits.next());
}
