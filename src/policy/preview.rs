//! What a policy does, before it does it.

use core::fmt;
use core::time::Duration;

use super::interval::Scale;
use super::jitter::Spread;
use super::{Backoff, GiveUp, GiveUpReason, Jitter, Rounding, from_nanos, nanos};

/// A policy as a table: for each failure, how long the waits are. From [`Backoff::preview`].
///
/// `Display` prints the rows, where they end, and a [`Warning`] for each thing that is allowed but
/// often regretted.
///
/// ```
/// # use relent::Backoff;
/// # use std::time::Duration;
/// let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(10)).give_up_after_failures(4);
/// let longest: Vec<_> = policy.preview().rows().map(|row| row.longest.as_secs()).collect();
/// assert_eq!(longest, [1, 2, 4]);
///
/// let table = policy.preview().to_string();
/// assert!(table.contains("gives up at failure 4"), "{table}");
/// assert!(table.contains("warning: max (10s) is never reached"), "{table}");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preview {
    backoff: Backoff,
    limit: u32,
}

/// One failure in a [`Preview`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviewRow {
    /// Which failure of the streak, counted from 1.
    pub failures: u32,
    /// The interval: under [`Jitter::Decorrelated`], the longest there can be.
    pub interval: Duration,
    /// The shortest delay that jitter can give.
    pub shortest: Duration,
    /// The mean delay, to the nanosecond below. Under [`Jitter::Decorrelated`], of a streak of mean
    /// delays.
    pub mean: Duration,
    /// The longest delay that jitter can give.
    pub longest: Duration,
    /// The mean delays up to and including this one: when the next attempt begins.
    pub elapsed: Duration,
}

/// What a policy is allowed to say, and a person may regret.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// No interval ever reaches `max`: the policy gives up before, or grows too slowly.
    MaxNeverReached {
        /// [`Backoff::max`].
        max: Duration,
        /// The longest interval there is.
        longest: Duration,
    },
    /// The limit on elapsed time can pass before the first retry.
    DeadlineBeforeFirstRetry {
        /// [`GiveUp::after_elapsed`](super::GiveUp::after_elapsed).
        deadline: Duration,
        /// The longest first delay.
        first: Duration,
    },
    /// Clients that fail together return together, or nearly.
    Herd(Jitter),
    /// In whole seconds, the first delay takes only this many values: whole herds share each.
    CoarseSeconds {
        /// How many different first delays there are.
        choices: u64,
    },
}

/// Where a policy ends, if delays are neither lucky nor unlucky.
#[derive(Clone, Copy)]
enum End {
    Never {
        steady_from: u32,
    },
    GivesUp {
        at: u32,
        elapsed: Duration,
        reason: GiveUpReason,
    },
    Later,
}

impl Preview {
    const ROWS: u32 = 100;

    pub(super) const fn new(backoff: Backoff) -> Preview {
        Preview {
            backoff,
            limit: Self::ROWS,
        }
    }

    /// The same preview with at most `rows` rows instead of 100.
    #[must_use]
    pub const fn limit(mut self, rows: u32) -> Preview {
        self.limit = rows;
        self
    }

    /// One row a failure, up to the one that gives up; if none does, to where nothing changes any
    /// more.
    pub fn rows(&self) -> impl Iterator<Item = PreviewRow> + use<> {
        Walk::new(self.backoff).take(self.limit as usize)
    }

    /// What a person may regret, most serious first.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> + use<> {
        let first = Walk::new(self.backoff).next();
        let checks = [
            self.deadline_warning(),
            self.herd_warning(),
            self.coarse_warning(),
            self.max_warning(),
        ];
        // Whatever never waits has nothing to warn of, but a deadline may be why.
        checks
            .into_iter()
            .enumerate()
            .filter(move |(n, _)| *n == 0 || first.is_some())
            .filter_map(|(_, check)| check)
    }

    fn deadline_warning(&self) -> Option<Warning> {
        let deadline = self.backoff.give_up.after_elapsed?;
        let (_, first) = self.backoff.spread_after(None);
        let first = from_nanos(Scale::of(&self.backoff).round_up(first.longest));
        let retries = self
            .backoff
            .give_up
            .after_failures
            .is_none_or(|failures| failures > 1);
        (retries && first > deadline)
            .then_some(Warning::DeadlineBeforeFirstRetry { deadline, first })
    }

    fn herd_warning(&self) -> Option<Warning> {
        // A quarter either way leaves half of each interval to a whole herd.
        const NARROW: f64 = 0.25;
        match self.backoff.jitter {
            jitter @ (Jitter::None | Jitter::Decorrelated) => Some(Warning::Herd(jitter)),
            jitter @ Jitter::Proportional(f) if f.is_nan() || f < NARROW => {
                Some(Warning::Herd(jitter))
            }
            _ => None,
        }
    }

    fn coarse_warning(&self) -> Option<Warning> {
        const FEW: u64 = 10;
        let scale = Scale::of(&self.backoff);
        let (_, first) = self.backoff.spread_after(None);
        let choices =
            (scale.round_up(first.longest) - scale.round_up(first.shortest)) / scale.resolution + 1;
        let coarse = self.backoff.rounding == Rounding::WholeSeconds
            && !matches!(self.backoff.jitter, Jitter::None | Jitter::Decorrelated);
        (coarse && choices < FEW).then_some(Warning::CoarseSeconds { choices })
    }

    fn max_warning(&self) -> Option<Warning> {
        // Whoever has failed so often wonders about other things.
        const OFTEN: usize = 10_000;
        let Backoff { max, exponent, .. } = self.backoff.normalized();
        let longest = Walk::new(self.backoff).take(OFTEN).last()?.interval;
        (exponent > 1.0 && longest < max).then_some(Warning::MaxNeverReached { max, longest })
    }

    fn end(&self) -> End {
        let mut walk = Walk::new(self.backoff);
        let rows = walk.by_ref().take(self.limit as usize).count();
        if rows == self.limit as usize && !walk.steady {
            return End::Later;
        }
        walk.end()
    }
}

/// The rows, one after the other.
struct Walk {
    backoff: Backoff,
    failures: u32,
    /// The interval of the longest streak of delays, and of the mean one: the same but for
    /// [`Jitter::Decorrelated`].
    longest: Option<u64>,
    typical: Option<u64>,
    elapsed: Duration,
    delay: Duration,
    /// No later row differs.
    steady: bool,
    gave_up: Option<GiveUpReason>,
}

impl Walk {
    fn new(backoff: Backoff) -> Walk {
        Walk {
            backoff,
            failures: 0,
            longest: None,
            typical: None,
            elapsed: Duration::ZERO,
            delay: Duration::ZERO,
            steady: false,
            gave_up: None,
        }
    }

    /// Where this ends, once its rows have.
    fn end(&self) -> End {
        if let Some(reason) = self.gave_up {
            return End::GivesUp {
                at: self.failures,
                elapsed: self.elapsed,
                reason,
            };
        }
        // Steady: the rest is a division.
        let give_up = self.backoff.give_up;
        let by_time = give_up
            .after_elapsed
            .filter(|_| !self.delay.is_zero())
            .map(|limit| {
                let waits = limit.saturating_sub(self.elapsed).as_nanos() / self.delay.as_nanos();
                u32::try_from(waits)
                    .unwrap_or(u32::MAX)
                    .saturating_add(self.failures)
                    .saturating_add(1)
            });
        let (at, reason) = match (give_up.after_failures, by_time) {
            (Some(failures), Some(at)) if at < failures => (at, GiveUpReason::Elapsed),
            (Some(failures), _) => (failures, GiveUpReason::Failures),
            (None, Some(at)) => (at, GiveUpReason::Elapsed),
            (None, None) => {
                return End::Never {
                    steady_from: self.failures,
                };
            }
        };
        let more = self.delay.saturating_mul(at - 1 - self.failures);
        End::GivesUp {
            at,
            elapsed: self.elapsed.saturating_add(more),
            reason,
        }
    }
}

impl Iterator for Walk {
    type Item = PreviewRow;

    fn next(&mut self) -> Option<PreviewRow> {
        let give_up = self.backoff.give_up;
        if self.gave_up.is_some() || self.steady && give_up == GiveUp::NEVER {
            return None;
        }
        let scale = Scale::of(&self.backoff);
        let (longest, extremes) = self.backoff.spread_after(self.longest);
        let (typical, typically) = self.backoff.spread_after(self.typical);
        let mean = mean(typically, scale.resolution);

        self.failures = self.failures.saturating_add(1);
        self.delay = from_nanos(mean);
        self.gave_up = self
            .backoff
            .give_up
            .reason(self.failures, self.elapsed, self.delay);
        if self.gave_up.is_some() {
            return None;
        }
        let decorrelated = self.backoff.jitter == Jitter::Decorrelated;
        let then = if decorrelated { mean } else { typical };
        self.steady = scale.interval_after(Some(longest)) == longest
            && (!decorrelated || Some(then) == self.typical);
        (self.longest, self.typical) = (Some(longest), Some(then));
        self.elapsed = self.elapsed.saturating_add(self.delay);
        Some(PreviewRow {
            failures: self.failures,
            interval: from_nanos(longest),
            shortest: from_nanos(scale.round_up(extremes.shortest)),
            mean: self.delay,
            longest: from_nanos(scale.round_up(extremes.longest)),
            elapsed: self.elapsed,
        })
    }
}

/// The mean of a uniform draw from `spread`, rounded up to `resolution`: exact, to the nanosecond
/// below.
fn mean(spread: Spread, resolution: u64) -> u64 {
    // The sum of 1..=n, each rounded up to the resolution: q full steps of it, and r of the next.
    let sum_to = |n: u64| {
        let (q, r, resolution) = (
            u128::from(n / resolution),
            u128::from(n % resolution),
            u128::from(resolution),
        );
        (q * (q + 1) / 2 * resolution + r * (q + 1)) * resolution
    };
    match spread.shortest.checked_sub(1) {
        None => 0,
        Some(before) => {
            let choices = u128::from(spread.longest - before);
            ((sum_to(spread.longest) - sum_to(before)) / choices) as u64
        }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "failure   interval    shortest    mean        longest     elapsed"
        )?;
        for row in self.rows() {
            let [interval, shortest, mean, longest, elapsed] = [
                row.interval,
                row.shortest,
                row.mean,
                row.longest,
                row.elapsed,
            ]
            .map(Brief);
            writeln!(
                f,
                "{:>7} {interval:7} {shortest:7} {mean:7} {longest:7} {elapsed:7}",
                row.failures
            )?;
        }
        match self.end() {
            End::Never { steady_from } => {
                writeln!(f, "the same from failure {steady_from} on; never gives up")?;
            }
            End::Later => writeln!(f, "and so on")?,
            End::GivesUp {
                at,
                elapsed,
                reason,
            } => {
                writeln!(
                    f,
                    "gives up at failure {at}, after about {}: {reason}",
                    Brief(elapsed)
                )?;
            }
        }
        for warning in self.warnings() {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::MaxNeverReached { max, longest } => {
                write!(f, "max ({max:?}) is never reached; the longest interval is {longest:?}")
            }
            Warning::DeadlineBeforeFirstRetry { deadline, first } => {
                write!(f, "the time to give up ({deadline:?}) can pass before the first retry (up to {first:?})")
            }
            Warning::Herd(Jitter::Decorrelated) => {
                f.write_str("decorrelated jitter leaves the first delay as it is: a herd returns together once")
            }
            Warning::Herd(_) => {
                f.write_str("with so little jitter, clients that fail together return together; full spreads them best")
            }
            Warning::CoarseSeconds { choices } => {
                write!(f, "in whole seconds, herds share the {choices} first delay(s) there are; do not round, or start later")
            }
        }
    }
}

/// A duration in its largest unit: `1.5 s`. A width pads the number, and the unit to a column.
struct Brief(Duration);

impl Brief {
    fn parts(&self) -> (f64, &'static str) {
        const UNITS: [(f64, &str); 6] = [
            (86_400e9, "d"),
            (3_600e9, "h"),
            (60e9, "min"),
            (1e9, "s"),
            (1e6, "ms"),
            (1e3, "µs"),
        ];
        let nanos = nanos(self.0) as f64;
        let (unit, name) = UNITS
            .into_iter()
            .find(|(unit, _)| nanos >= *unit)
            .unwrap_or((1.0, "ns"));
        (nanos / unit, name)
    }
}

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = self.parts();
        match f.width() {
            Some(width) => write!(f, "{value:>width$.1} {unit:<3}"),
            None => write!(f, "{value:.1} {unit}"),
        }
    }
}
