//! An exponential policy as a person thinks of it, and what each crate makes of it.

#![allow(clippy::unnecessary_wraps, reason = "all makers are of one type")]

use std::time::{Duration, Instant, SystemTime};

use backoff::backoff::Backoff as _;
use backon::BackoffBuilder as _;
use google_cloud_gax::backoff_policy::BackoffPolicy as _;
use google_cloud_gax::polling_backoff_policy::PollingBackoffPolicy as _;
use retry_policies::{RetryDecision, RetryPolicy as _};
use tower::retry::backoff::{Backoff as _, ExponentialBackoffMaker, MakeBackoff as _};
use tower::util::rng::HasherRng;

use super::{CRATES, Finding};

#[derive(Clone, Copy)]
pub struct Policy {
    pub initial: Duration,
    pub max: Duration,
    factor: f64,
    jitter: bool,
}

pub const DOUBLING: Policy = Policy {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(60),
    factor: 2.0,
    jitter: false,
};

impl Policy {
    pub const fn initial(mut self, initial: Duration) -> Policy {
        self.initial = initial;
        self
    }

    pub const fn max(mut self, max: Duration) -> Policy {
        self.max = max;
        self
    }

    pub const fn factor(mut self, factor: f64) -> Policy {
        self.factor = factor;
        self
    }

    pub const fn jitter(mut self) -> Policy {
        self.jitter = true;
        self
    }
}

/// The first so many delays of a streak, or why there are none.
pub type Made = Result<Vec<Duration>, Finding>;
pub type Maker = fn(Policy, u32) -> Made;

/// In the order of [`CRATES`].
pub const MAKERS: [Maker; CRATES.len()] = [
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

/// Where a delay can only be read off a point in time, it is read to this precision.
const READING: Duration = Duration::from_micros(20);

fn relent(policy: Policy, delays: u32) -> Made {
    let policy = relent::Backoff::exponential(policy.initial, policy.max)
        .exponent(policy.factor)
        .jitter(if policy.jitter {
            relent::Jitter::Proportional(0.5)
        } else {
            relent::Jitter::None
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
        .jitter(if policy.jitter {
            retry_policies::Jitter::Full
        } else {
            retry_policies::Jitter::None
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

pub fn tower_maker(policy: Policy) -> Result<ExponentialBackoffMaker, Finding> {
    if policy.factor.to_bits() != 2.0_f64.to_bits() {
        return Err(Finding::Unwritable);
    }
    let jitter = if policy.jitter { 0.99 } else { 0.0 };
    ExponentialBackoffMaker::new(policy.initial, policy.max, jitter, HasherRng::default())
        .map_err(|error| Finding::Refused(error.to_string()))
}

pub fn tower_delays(
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
