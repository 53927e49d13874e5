//! What a policy does, before it does it.

mod brief;
mod walk;
mod warning;

use core::fmt;
use core::time::Duration;

use super::Backoff;
pub(crate) use brief::Brief;
use walk::{End, Walk};

pub use warning::Warning;

/// A policy as a table: for each failure, how long the waits are. From [`Backoff::preview`].
///
/// `Display` prints the rows, how they end, what is [invalid](super::InvalidBackoff), and a
/// [`Warning`] for each thing that is allowed but often regretted.
///
/// A limit on elapsed time is met as by a streak whose delays are all mean, and whose attempts take
/// no time: a lucky one fails more often before it gives up.
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
/// assert!(table.contains("warning: max (10s) is not reached"), "{table}");
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
    /// The interval: under [`Decorrelated`](super::Jitter::Decorrelated), the longest there can be.
    pub interval: Duration,
    /// The shortest delay that jitter can give.
    pub shortest: Duration,
    /// The mean delay, rounded down to the nanosecond. Under
    /// [`Decorrelated`](super::Jitter::Decorrelated), that of a streak whose delays are all mean,
    /// and so an upper bound of the true mean, unless intervals are rounded to whole seconds.
    pub mean: Duration,
    /// The longest delay that jitter can give.
    pub longest: Duration,
    /// The sum of the mean delays so far, this one included: when the next attempt begins.
    pub elapsed: Duration,
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

    /// One row per failure, up to the one that gives up; if none does, to where nothing changes any
    /// more.
    pub fn rows(&self) -> impl Iterator<Item = PreviewRow> + use<> {
        Walk::new(&self.backoff).take(self.limit as usize)
    }

    /// What a person may regret, most serious first.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> + use<> {
        Warning::all(&self.backoff)
    }

    fn end(&self) -> End {
        let mut walk = Walk::new(&self.backoff);
        let rows = walk.by_ref().take(self.limit as usize).count();
        if rows == self.limit as usize && !walk.is_steady() {
            return End::Later;
        }
        walk.end()
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
            End::GivesUpInTime { steady_from, limit } => {
                writeln!(
                    f,
                    "the same from failure {steady_from} on; gives up when {} have elapsed",
                    Brief(limit)
                )?;
            }
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
        if let Err(invalid) = self.backoff.validate() {
            writeln!(f, "{invalid}")?;
        }
        for warning in self.warnings() {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
