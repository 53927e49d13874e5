//! Every rounding rule of the interval, and the only multiplication: integers alone, exact, total.

use core::time::Duration;

use super::Backoff;

/// To what delays are rounded.
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

const SECOND: u64 = 1_000_000_000;
const MAX_WHOLE: u64 = u64::MAX / SECOND * SECOND;

/// The nanoseconds in `duration`, at most `u64::MAX`.
#[inline(always)]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(SECOND)
        .saturating_add(duration.subsec_nanos() as u64)
}

#[inline(always)]
pub(crate) const fn from_nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// A policy's bounds in nanoseconds, normalised: `initial <= max`, both multiples of `resolution`,
/// `exponent >= 1`.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) initial: u64,
    pub(crate) max: u64,
    pub(crate) exponent: f64,
    pub(crate) resolution: u64,
}

impl Scale {
    #[inline(always)]
    pub(crate) const fn of(backoff: &Backoff) -> Scale {
        let (initial, max) = (nanos(backoff.initial), nanos(backoff.max));
        let exponent = at_least_one(backoff.exponent);
        let (initial, max, resolution) = match backoff.rounding {
            Rounding::None => (initial, max, 1),
            Rounding::WholeSeconds => (whole_seconds_up(initial), max / SECOND * SECOND, SECOND),
        };
        Scale {
            initial,
            max: larger(initial, max),
            exponent,
            resolution,
        }
    }

    #[inline(always)]
    pub(crate) const fn interval_after(&self, previous: Option<u64>) -> u64 {
        match previous {
            Some(previous) if self.exponent.to_bits() != ONE => self.grow(previous),
            _ => self.initial,
        }
    }

    #[inline(always)]
    const fn grow(&self, previous: u64) -> u64 {
        let previous = larger(previous, self.resolution);
        if previous >= self.max {
            return self.max;
        }
        // Growth too small for a nanosecond would stick for ever: take one.
        let longer = larger(product(previous, self.exponent, HALF_UP), previous + 1);
        if longer >= self.max {
            self.max
        } else {
            self.round_up(longer)
        }
    }

    /// `nanos` rounded up to the resolution. For anything up to `max` the result is too: `max` is a
    /// multiple.
    #[inline(always)]
    pub(crate) const fn round_up(&self, nanos: u64) -> u64 {
        if self.resolution == 1 {
            nanos
        } else {
            whole_seconds_up(nanos)
        }
    }
}

#[inline(always)]
const fn whole_seconds_up(nanos: u64) -> u64 {
    match nanos {
        0 => SECOND,
        MAX_WHOLE.. => MAX_WHOLE,
        _ => nanos.div_ceil(SECOND) * SECOND,
    }
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
const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
const FRACTION: u64 = (1 << FRACTION_BITS) - 1;

/// `exponent`, or 1 if it is less or not a number. By its bits, which order positive floats as
/// integers: targets without a float unit need none.
#[inline(always)]
const fn at_least_one(exponent: f64) -> f64 {
    match exponent.to_bits() {
        ONE..=INFINITY => exponent,
        _ => 1.0,
    }
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

/// How [`product`] rounds: by what share of the last place it adds before it cuts.
pub(crate) const HALF_UP: bool = true;
pub(crate) const DOWN: bool = false;

/// `nanos × factor`, exact to the nanosecond and at most `u64::MAX`, for a factor that is not
/// negative.
///
/// A float is an integer times a power of two, so the product is one integer multiplication
/// (64 × 53 bits, which 128 hold) and one shift: no drift, and the same on every platform.
#[inline(always)]
pub(crate) const fn product(nanos: u64, factor: f64, half_up: bool) -> u64 {
    // factor = significand × 2^(exponent − POINT)
    const POINT: u32 = 1023 + FRACTION_BITS;
    let bits = factor.to_bits();
    let (significand, exponent) = match (bits >> FRACTION_BITS) as u32 {
        0 => (bits & FRACTION, 1),
        exponent => (bits & FRACTION | 1 << FRACTION_BITS, exponent),
    };
    let product = nanos as u128 * significand as u128;
    let whole = match POINT.checked_sub(exponent) {
        // The last bit cut off is the half.
        Some(down @ 1..u128::BITS) => ((product >> (down - 1)) + half_up as u128) >> 1,
        Some(0) => product,
        Some(_) => 0,
        // Infinity is such a factor too, the largest.
        None => match (product, exponent - POINT) {
            (0, _) => 0,
            (_, up) if up < product.leading_zeros() => product << up,
            _ => u128::MAX,
        },
    };
    if whole > u64::MAX as u128 {
        u64::MAX
    } else {
        whole as u64
    }
}
