//! Exponential policies of all kinds, and what delays each crate makes of them.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use backoff::backoff::Backoff as _;
use backon::BackoffBuilder as _;
use google_cloud_gax::backoff_policy::BackoffPolicy as _;
use google_cloud_gax::polling_backoff_policy::PollingBackoffPolicy as _;
use retry_policies::{RetryDecision, RetryPolicy as _};
use tower::retry::backoff::{Backoff as _, ExponentialBackoffMaker, MakeBackoff as _};
use tower::util::rng::HasherRng;

use tokio::runtime::Runtime;

use super::{CRATES, Finding, Row, Trial, guarded, judged, shown};

/// A policy as a person thinks of it.
#[derive(Clone, Copy)]
struct Policy {
    initial: Duration,
    max: Duration,
    factor: f64,
    jitter: bool,
}

const DOUBLING: Policy = Policy {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(60),
    factor: 2.0,
    jitter: false,
};

const JITTERED: Policy = Policy {
    jitter: true,
    ..DOUBLING
};

/// The first so many delays of a streak, or why there are none.
type Made = Result<Vec<Duration>, Finding>;

/// In the order of [`CRATES`].
const MAKERS: [fn(Policy, u32) -> Made; CRATES.len()] = [
    relent,
    backon,
    backoff,
    tokio_retry,
    retry,
    exponential_backoff,
    retry_policies,
    tower,
    gax,
];

/// Where a delay can only be read off a point in time, it is read to so much.
const READING: Duration = Duration::from_micros(20);

type Check = fn(&Policy, &[Duration]) -> Option<String>;

pub fn rows() -> Vec<Row> {
    let factor = |factor| Policy { factor, ..DOUBLING };
    let endless = Policy {
        max: Duration::MAX,
        ..DOUBLING
    };
    [
        (
            "`max` 60 s, with jitter",
            "no delay above it",
            JITTERED,
            10_000,
            at_most_max as Check,
        ),
        (
            "jitter once `max` is reached",
            "delays that differ",
            JITTERED,
            10_000,
            plateau_differs,
        ),
        (
            "`max` 60 s, 10 000 attempts",
            "60 s at last",
            DOUBLING,
            10_000,
            ends_at_max,
        ),
        (
            "`max` 60 s below `initial` 100 s",
            "an error, or delays that never shrink",
            Policy {
                initial: Duration::from_secs(100),
                ..DOUBLING
            },
            10,
            never_shrinks,
        ),
        (
            "`max` `Duration::MAX`, 10 000 attempts",
            "delays that never shrink",
            endless,
            10_000,
            never_shrinks,
        ),
        (
            "the same with jitter",
            "delays of years at last",
            Policy {
                jitter: true,
                ..endless
            },
            10_000,
            years_at_last,
        ),
        (
            "`initial` and `max` `Duration::MAX`",
            "delays of years",
            Policy {
                initial: Duration::MAX,
                ..endless
            },
            10,
            years_at_last,
        ),
        (
            "factor NaN",
            "an error, or delays that never shrink",
            factor(f64::NAN),
            10,
            never_shrinks,
        ),
        (
            "factor 0",
            "an error, or delays that never shrink",
            factor(0.0),
            10,
            never_shrinks,
        ),
        (
            "factor −3",
            "an error, or delays that never shrink",
            factor(-3.0),
            10,
            never_shrinks,
        ),
        (
            "factor ∞",
            "an error, or `max` from the second delay on",
            factor(f64::INFINITY),
            10,
            ends_at_max,
        ),
        (
            "`initial` 500 µs",
            "500 µs first",
            Policy {
                initial: Duration::from_micros(500),
                ..DOUBLING
            },
            10,
            begins_at_initial,
        ),
        (
            "1 ms × 1.5",
            "delays that grow",
            Policy {
                initial: Duration::from_millis(1),
                factor: 1.5,
                ..DOUBLING
            },
            10,
            grows,
        ),
        (
            "100 ms × 2",
            "200, 400, 800 ms exactly",
            DOUBLING,
            8,
            doubles,
        ),
    ]
    .into_iter()
    .map(|(input, right, policy, delays, check)| Row {
        input: input.to_string(),
        right: right.to_string(),
        trials: all(move |make| match make(policy, delays) {
            Ok(delays) => judged(check(&policy, &delays)),
            Err(finding) => finding,
        }),
    })
    .chain([first_delays(), two_streaks()])
    .collect()
}

fn first_delays() -> Row {
    Row {
        input: "first delay of 2 000 streaks, 1 s with jitter".to_string(),
        right: "delays that differ".to_string(),
        trials: all(|make| {
            let policy = Policy {
                initial: Duration::from_secs(1),
                ..JITTERED
            };
            let firsts = (0..2_000).map(|_| make(policy, 1).map(|delays| delays[0]));
            match firsts.collect::<Made>() {
                Ok(firsts) => judged(differ(&firsts)),
                Err(finding) => finding,
            }
        }),
    }
}

/// Every streak of a crate has a generator of its own, or shares one with the whole thread. Tower's
/// are made by one maker, as they are in its services.
fn two_streaks() -> Row {
    let same = |one: &[Duration], two: &[Duration]| {
        judged((one == two).then(|| format!("both {}", listed(one))))
    };
    let mut trials = all(move |make| match (make(JITTERED, 5), make(JITTERED, 5)) {
        (Ok(one), Ok(two)) => same(&one, &two),
        (Err(finding), _) | (_, Err(finding)) => finding,
    });
    trials.retain(|(name, _)| *name != "tower");
    let tower: Trial = Box::new(move |_| match tower_maker(JITTERED) {
        Ok(mut maker) => same(
            &tower_delays(maker.make_backoff(), 5),
            &tower_delays(maker.make_backoff(), 5),
        ),
        Err(finding) => finding,
    });
    trials.push(("tower", tower));
    Row {
        input: "two streaks of one policy, with jitter".to_string(),
        right: "different delays".to_string(),
        trials,
    }
}

/// The same trial of each crate.
fn all(
    trial: impl Fn(&dyn Fn(Policy, u32) -> Made) -> Finding + Copy + Send + 'static,
) -> Vec<(&'static str, Trial)> {
    let trial = |(name, make): (_, fn(Policy, u32) -> Made)| {
        let guarded = move |policy, delays| guarded(|| make(policy, delays))?;
        (name, Box::new(move |_: &Runtime| trial(&guarded)) as Trial)
    };
    CRATES.into_iter().zip(MAKERS).map(trial).collect()
}

fn at_most_max(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let longest = *delays.iter().max()?;
    (longest > policy.max).then(|| format!("{:.1} s", longest.as_secs_f64()))
}

fn plateau_differs(_: &Policy, delays: &[Duration]) -> Option<String> {
    differ(&delays[20..])
}

/// Hardly two are the same.
fn differ(delays: &[Duration]) -> Option<String> {
    let mut counts: HashMap<Duration, usize> = HashMap::new();
    for delay in delays {
        *counts.entry(*delay).or_default() += 1;
    }
    let (commonest, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let share = 100.0 * count as f64 / delays.len() as f64;
    (share > 1.0).then(|| format!("{share:.0} % are {}", shown(commonest)))
}

fn ends_at_max(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let ends = delays.last() == Some(&policy.max) && delays[0] <= policy.max;
    (!ends).then(|| listed(delays))
}

fn never_shrinks(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let shrinks = delays.windows(2).any(|two| two[1] < two[0]);
    let above = delays
        .iter()
        .any(|delay| *delay > policy.max.max(policy.initial));
    (shrinks || above || delays[0].is_zero()).then(|| listed(delays))
}

fn years_at_last(_: &Policy, delays: &[Duration]) -> Option<String> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let last = &delays[delays.len().saturating_sub(100)..];
    last.iter()
        .all(|delay| *delay < YEAR)
        .then(|| listed(delays))
}

fn begins_at_initial(policy: &Policy, delays: &[Duration]) -> Option<String> {
    (delays[0] != policy.initial).then(|| listed(delays))
}

fn grows(_: &Policy, delays: &[Duration]) -> Option<String> {
    let stands = delays.windows(2).any(|two| two[1] <= two[0]);
    stands.then(|| listed(delays))
}

fn doubles(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let exact = (0..).map(|n| policy.initial * (1 << n));
    let off = delays
        .iter()
        .zip(exact)
        .find(|(delay, exact)| *delay != exact);
    off.map(|(delay, _)| shown(*delay))
}

/// The first three, for a person to read.
fn listed(delays: &[Duration]) -> String {
    let first: Vec<_> = delays.iter().take(3).copied().map(shown).collect();
    format!("{}, …", first.join(", "))
}

/// Any integer from 1 on.
fn integer(factor: f64) -> Result<u32, Finding> {
    let integer = factor as u32;
    let same = f64::from(integer).to_bits() == factor.abs().to_bits() && factor >= 0.0;
    if same {
        Ok(integer)
    } else {
        Err(Finding::Unwritable)
    }
}

fn millis(duration: Duration) -> Result<u64, Finding> {
    let millis = u64::try_from(duration.as_millis()).map_err(|_| Finding::Unwritable)?;
    let whole = Duration::from_millis(millis) == duration;
    if whole {
        Ok(millis)
    } else {
        Err(Finding::Unwritable)
    }
}

fn relent(policy: Policy, delays: u32) -> Made {
    let policy = relent::Backoff::exponential(policy.initial, policy.max)
        .exponent(policy.factor)
        .jitter(match policy.jitter {
            true => relent::Jitter::Proportional(0.5),
            false => relent::Jitter::None,
        });
    Ok(policy.schedule().take(delays as usize).collect())
}

fn backon(policy: Policy, delays: u32) -> Made {
    let builder = backon::ExponentialBuilder::new()
        .with_min_delay(policy.initial)
        .with_max_delay(policy.max)
        .with_factor(policy.factor as f32)
        .without_max_times();
    let builder = if policy.jitter {
        builder.with_jitter()
    } else {
        builder
    };
    Ok(builder.build().take(delays as usize).collect())
}

fn backoff(policy: Policy, delays: u32) -> Made {
    let mut waits = backoff::ExponentialBackoffBuilder::new()
        .with_initial_interval(policy.initial)
        .with_max_interval(policy.max)
        .with_multiplier(policy.factor)
        .with_randomization_factor(if policy.jitter { 0.5 } else { 0.0 })
        .with_max_elapsed_time(None)
        .build();
    Ok((0..delays).map_while(|_| waits.next_backoff()).collect())
}

/// The n-th delay is `baseⁿ × factor`, so the base is what others call the factor.
fn tokio_retry(policy: Policy, delays: u32) -> Made {
    let base = u64::from(integer(policy.factor)?);
    let initial = millis(policy.initial)?;
    if base == 0 || initial % base != 0 {
        return Err(Finding::Unwritable);
    }
    let waits = tokio_retry::strategy::ExponentialBackoff::from_millis(base)
        .factor(initial / base)
        .max_delay(policy.max)
        .take(delays as usize);
    Ok(if policy.jitter {
        waits.map(tokio_retry::strategy::jitter).collect()
    } else {
        waits.collect()
    })
}

/// The caller limits: it has no maximum.
fn retry(policy: Policy, delays: u32) -> Made {
    let waits = if policy.factor.to_bits() == 2.0_f64.to_bits() {
        retry::delay::Exponential::from(policy.initial)
    } else {
        retry::delay::Exponential::from_millis_with_factor(millis(policy.initial)?, policy.factor)
    };
    let waits = waits
        .map(|delay| delay.min(policy.max))
        .take(delays as usize);
    Ok(if policy.jitter {
        waits.map(retry::delay::jitter).collect()
    } else {
        waits.collect()
    })
}

fn exponential_backoff(policy: Policy, delays: u32) -> Made {
    let mut backoff = exponential_backoff::Backoff::new(u32::MAX, policy.initial, policy.max);
    backoff.set_factor(integer(policy.factor)?);
    backoff.set_jitter(if policy.jitter { 0.3 } else { 0.0 });
    Ok(backoff.iter().flatten().take(delays as usize).collect())
}

fn retry_policies(policy: Policy, delays: u32) -> Made {
    let policy = retry_policies::policies::ExponentialBackoff::builder()
        .retry_bounds(policy.initial, policy.max)
        .base(integer(policy.factor)?)
        .jitter(match policy.jitter {
            true => retry_policies::Jitter::Full,
            false => retry_policies::Jitter::None,
        })
        .build_with_max_retries(u32::MAX);
    let delay = |n| {
        let until = || match policy.should_retry(SystemTime::now(), n) {
            RetryDecision::Retry { execute_after } => execute_after,
            RetryDecision::DoNotRetry => unreachable!("it has no limit"),
        };
        let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
        reading(|| (left(until()), ())).0
    };
    Ok((0..delays).map(delay).collect())
}

fn tower(policy: Policy, delays: u32) -> Made {
    let mut maker = tower_maker(policy)?;
    Ok(tower_delays(maker.make_backoff(), delays))
}

fn tower_maker(policy: Policy) -> Result<ExponentialBackoffMaker, Finding> {
    if policy.factor.to_bits() != 2.0_f64.to_bits() {
        return Err(Finding::Unwritable);
    }
    let jitter = if policy.jitter { 0.99 } else { 0.0 };
    ExponentialBackoffMaker::new(policy.initial, policy.max, jitter, HasherRng::default())
        .map_err(|error| Finding::Refused(error.to_string()))
}

fn tower_delays(
    mut waits: tower::retry::backoff::ExponentialBackoff,
    delays: u32,
) -> Vec<Duration> {
    let delay = |_| {
        let (delay, next) = reading(|| {
            let mut next = waits.clone();
            let deadline = next.next_backoff().deadline();
            let now = tokio::time::Instant::now();
            (deadline.saturating_duration_since(now), next)
        });
        waits = next;
        delay
    };
    (0..delays).map(delay).collect()
}

/// Reads a delay off a point in time, without an interruption in between.
fn reading<S>(mut read: impl FnMut() -> (Duration, S)) -> (Duration, S) {
    loop {
        let start = Instant::now();
        let (delay, state) = read();
        if start.elapsed() < READING / 2 {
            let steps = (delay.as_nanos() + READING.as_nanos() / 2) / READING.as_nanos();
            let nanos = steps * READING.as_nanos();
            let rounded = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            return (rounded, state);
        }
    }
}

fn gax(policy: Policy, delays: u32) -> Made {
    let built = google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder::new()
        .with_initial_delay(policy.initial)
        .with_maximum_delay(policy.max)
        .with_scaling(policy.factor)
        .build()
        .map_err(|error| Finding::Refused(error.to_string()))?;
    let mut failed = google_cloud_gax::retry_state::RetryState::default();
    let mut polled = google_cloud_gax::polling_state::PollingState::default();
    let delay = |n| {
        (failed.attempt_count, polled.attempt_count) = (n, n);
        if policy.jitter {
            built.on_failure(&failed)
        } else {
            built.wait_period(&polled)
        }
    };
    Ok((1..=delays).map(delay).collect())
}
