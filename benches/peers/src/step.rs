//! The delay step: the next delay of a growing streak.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use backoff::backoff::Backoff as _;
use backon::BackoffBuilder as _;
use google_cloud_gax::backoff_policy::BackoffPolicy as _;
use google_cloud_gax::polling_backoff_policy::PollingBackoffPolicy as _;
use relent::{Backoff, BackoffState, Failure, Jitter, random};
use retry_policies::{RetryDecision, RetryPolicy as _};
use tower::retry::backoff::{Backoff as _, MakeBackoff as _};

use crate::measure::{Contestant, contest};
use crate::page;

const INITIAL: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(60);

/// A streak has 16 delays: ten that grow, six at the plateau.
const STREAK: u32 = 16;

const SEED: u64 = 7;

const FULL: Backoff = Backoff::exponential(INITIAL, MAX);
const NONE: Backoff = FULL.jitter(Jitter::None);

pub fn section() -> String {
    let full = [jittered(), peers(true)].into_iter().flatten().collect();
    let none = [steady(), peers(false)].into_iter().flatten().collect();
    format!(
        "{}\n{}",
        page::figures("a delay with jitter", &contest(STREAK, full)),
        page::figures("a delay without jitter", &contest(STREAK, none)),
    )
}

/// Whatever can be turned into a delay. That is only done to check it, and is not measured.
trait Delay {
    fn delay(self) -> Duration;
}

impl Delay for Duration {
    fn delay(self) -> Duration {
        self
    }
}

impl<D: Delay> Delay for Option<D> {
    fn delay(self) -> Duration {
        self.expect("none of these policies ends").delay()
    }
}

impl Delay for SystemTime {
    fn delay(self) -> Duration {
        self.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

impl Delay for tokio::time::Sleep {
    fn delay(self) -> Duration {
        self.deadline()
            .saturating_duration_since(tokio::time::Instant::now())
    }
}

/// One streak after the other: `begin` and 16 times `step`.
///
/// The state and the count pass through memory that the compiler cannot see through, or it would
/// work out some of the streaks while compiling.
fn streaks<S, D: Delay>(
    name: &str,
    jitter: bool,
    begin: impl Fn() -> S + 'static,
    step: impl Fn(&mut S, u32) -> D + 'static,
) -> Contestant<'static> {
    let mut state = begin();
    for n in 0..STREAK {
        let interval = (INITIAL * (1 << n)).min(MAX);
        let delay = step(&mut state, n).delay();
        // All peers' jitter may at most double the interval; without it, they may round, and what
        // is a point in time has come nearer.
        let right = if jitter {
            delay <= interval * 2
        } else {
            delay.abs_diff(interval) < Duration::from_millis(2)
        };
        assert!(right, "{name} does other work: {delay:?} after {n} delays");
    }
    Contestant::new(name, move |streaks| {
        for _ in 0..streaks {
            let mut state = begin();
            for n in 0..STREAK {
                black_box(step(black_box(&mut state), black_box(n)));
            }
        }
    })
}

fn jittered() -> Vec<Contestant<'static>> {
    // Given its seed, as whoever keeps a state of their own has one.
    let begin = || (SEED, BackoffState::default());
    let failure = |seed, n| Failure::new(random::draw(seed, u64::from(n)));
    let policy = black_box(FULL);
    let gax = gax();
    vec![
        streaks(
            "relent, `Backoff::next`, constant policy",
            true,
            begin,
            move |(seed, state), n| FULL.next(state, failure(*seed, n)).delay(),
        ),
        streaks(
            "relent, `Backoff::next`, policy from a file",
            true,
            begin,
            move |(seed, state), n| policy.next(state, failure(*seed, n)).delay(),
        ),
        streaks(
            "relent, `Schedule`",
            true,
            || FULL.schedule(),
            |waits, _| waits.next(),
        ),
        streaks(
            "by hand: doubling, SplitMix64",
            true,
            || SEED,
            |seed, n| {
                let share = u128::from(random::draw(*seed, u64::from(n))) * u128::from(doubled(n));
                Duration::from_nanos((share >> 64) as u64)
            },
        ),
        streaks(
            "tokio-retry",
            true,
            || tokio_retry().map(tokio_retry::strategy::jitter),
            |waits, _| waits.next(),
        ),
        streaks(
            "retry",
            true,
            || retry().map(retry::delay::jitter),
            |waits, _| waits.next(),
        ),
        streaks(
            "google-cloud-gax",
            true,
            google_cloud_gax::retry_state::RetryState::default,
            move |state, n| {
                state.attempt_count = n + 1;
                gax.on_failure(state)
            },
        ),
    ]
}

fn steady() -> Vec<Contestant<'static>> {
    let policy = black_box(NONE);
    let begin = BackoffState::default;
    let gax = gax();
    vec![
        streaks(
            "relent, `Backoff::next`, constant policy",
            false,
            begin,
            |state, _| NONE.next(state, Failure::new(0)).delay(),
        ),
        streaks(
            "relent, `Backoff::next`, policy from a file",
            false,
            begin,
            move |state, _| policy.next(state, Failure::new(0)).delay(),
        ),
        streaks(
            "relent, `Schedule`",
            false,
            || NONE.schedule(),
            |waits, _| waits.next(),
        ),
        streaks(
            "by hand: doubling",
            false,
            || (),
            |(), n| Duration::from_nanos(doubled(n)),
        ),
        streaks("tokio-retry", false, tokio_retry, |waits, _| waits.next()),
        streaks("retry", false, retry, |waits, _| waits.next()),
        streaks(
            "google-cloud-gax",
            false,
            google_cloud_gax::polling_state::PollingState::default,
            move |state, n| {
                state.attempt_count = n + 1;
                gax.wait_period(state)
            },
        ),
    ]
}

/// Those whose jitter is a setting.
fn peers(jitter: bool) -> Vec<Contestant<'static>> {
    let backon = match backon::ExponentialBuilder::new()
        .with_min_delay(INITIAL)
        .with_max_delay(MAX)
        .without_max_times()
    {
        builder if jitter => builder.with_jitter(),
        builder => builder,
    };

    let mut backoff = backoff::ExponentialBackoffBuilder::new();
    backoff
        .with_initial_interval(INITIAL)
        .with_max_interval(MAX)
        .with_multiplier(2.0)
        .with_randomization_factor(if jitter { 0.5 } else { 0.0 })
        .with_max_elapsed_time(None);

    let mut exponential = exponential_backoff::Backoff::new(u32::MAX, INITIAL, MAX);
    exponential.set_jitter(if jitter { 0.3 } else { 0.0 });

    let policies = retry_policies::policies::ExponentialBackoff::builder()
        .retry_bounds(INITIAL, MAX)
        .jitter(if jitter {
            retry_policies::Jitter::Full
        } else {
            retry_policies::Jitter::None
        })
        .build_with_max_retries(u32::MAX);

    let tower = tower::retry::backoff::ExponentialBackoffMaker::new(
        INITIAL,
        MAX,
        if jitter { 0.99 } else { 0.0 },
        tower::util::rng::HasherRng::default(),
    );
    let tower = RefCell::new(tower.expect("a valid policy"));

    vec![
        streaks(
            "backon",
            jitter,
            move || backon.build(),
            |waits, _| waits.next(),
        ),
        streaks(
            "backoff",
            jitter,
            move || backoff.build(),
            |waits, _| waits.next_backoff(),
        ),
        streaks(
            "exponential-backoff",
            jitter,
            move || exponential.iter(),
            |waits, _| waits.next().flatten(),
        ),
        streaks(
            "retry-policies",
            jitter,
            SystemTime::now,
            move |start, n| match policies.should_retry(*start, n) {
                RetryDecision::Retry { execute_after } => Some(execute_after),
                RetryDecision::DoNotRetry => None,
            },
        ),
        streaks(
            "tower",
            jitter,
            move || tower.borrow_mut().make_backoff(),
            |waits, _| waits.next_backoff(),
        ),
    ]
}

fn doubled(n: u32) -> u64 {
    (100_000_000 << n.min(32)).min(60_000_000_000)
}

fn tokio_retry() -> tokio_retry::strategy::ExponentialBackoff {
    tokio_retry::strategy::ExponentialBackoff::from_millis(2)
        .factor(50)
        .max_delay(MAX)
}

fn retry() -> impl Iterator<Item = Duration> {
    retry::delay::Exponential::from_millis(100).map(|delay| delay.min(MAX))
}

fn gax() -> google_cloud_gax::exponential_backoff::ExponentialBackoff {
    google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder::new()
        .with_initial_delay(INITIAL)
        .with_maximum_delay(MAX)
        .clamp()
}
