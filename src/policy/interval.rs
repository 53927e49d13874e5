//! Every rounding rule, and how bounds are read: integers alone, total.

use core::time::Duration;

/// What delays are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Rounding {
    /// To the nanosecond.
    #[default]
    None,
    /// Up to whole seconds, at least one: for schedulers and columns that know nothing finer.
    ///
    /// Rounding *due times* to whole seconds puts every client in step, whatever the jitter;
    /// rounding delays is harmless as long as the failures themselves are spread. Prefer
    /// [`Rounding::None`] where you can.
    // Fields are written with underscores, and people write their values alike.
    #[cfg_attr(feature = "serde", serde(alias = "whole_seconds"))]
    WholeSeconds,
}

pub(crate) const SECOND: u64 = 1_000_000_000;
const MAX_WHOLE: u64 = u64::MAX / SECOND * SECOND;

/// The nanoseconds in `duration`, at most `u64::MAX`.
#[inline(always)]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    const FIT: u64 = u64::MAX / SECOND;
    let nanos = duration.subsec_nanos() as u64;
    match duration.as_secs() {
        secs @ ..FIT => secs * SECOND + nanos,
        secs => secs.saturating_mul(SECOND).saturating_add(nanos),
    }
}

#[inline(always)]
pub(crate) const fn from_nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

#[inline(always)]
pub(crate) const fn whole_seconds_up(nanos: u64) -> u64 {
    match nanos {
        0 => SECOND,
        MAX_WHOLE.. => MAX_WHOLE,
        _ => nanos.div_ceil(SECOND) * SECOND,
    }
}

#[inline(always)]
pub(crate) const fn whole_seconds_down(nanos: u64) -> u64 {
    nanos / SECOND * SECOND
}

#[inline(always)]
pub(crate) const fn larger(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

#[inline(always)]
pub(crate) const fn smaller(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

const ONE: u64 = 1.0_f64.to_bits();
const INFINITY: u64 = f64::INFINITY.to_bits();

/// Whether `exponent` is more than 1. By its bits, which order positive floats as integers: targets
/// without a float unit need none.
#[inline(always)]
pub(crate) const fn grows(exponent: f64) -> bool {
    const MORE: u64 = ONE + 1;
    matches!(exponent.to_bits(), MORE..=INFINITY)
}

/// `proportion`, limited to 0..=1; not a number gives 0.
#[inline(always)]
pub(crate) const fn proportion(proportion: f64) -> f64 {
    match proportion.to_bits() {
        0..ONE => proportion,
        ONE..=INFINITY => 1.0,
        _ => 0.0,
    }
}
