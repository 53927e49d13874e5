//! How a delay is spread around its interval.

use super::interval::{larger, proportion, smaller};
use super::plan::Plan;
use super::product::product_below;

/// How the delay is drawn from the interval *i*, so that clients that failed together do not return
/// together.
///
/// Every draw is uniform over whole nanoseconds. No delay exceeds the policy's `max`: where a range
/// would pass it, the range is cut there, so that no share of a herd piles up at exactly `max`. No
/// delay is zero unless the interval is.
///
/// Apart from [`Decorrelated`](Jitter::Decorrelated), luck does not compound: the next interval
/// grows from this one, not from the delay drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// *i*, exactly. A herd that fails together returns together.
    None,
    /// (0, *i*]: the widest spread, and the least load on a service that is trying to recover.
    #[default]
    Full,
    /// [*i*/2, *i*]: never less than half the interval.
    Equal,
    /// [*i*·(1−f), *i*·(1+f)], cut at `max`; f is limited to 0..=1.
    Proportional(f64),
    /// [`initial`, *i*], and the draw becomes the interval from which the next one grows.
    ///
    /// The first delay of a streak is therefore `initial` exactly. And a streak of such draws backs
    /// off only if the exponent is well above *e* (2.718): by less, the lucky draws undo what the
    /// others gain, and most delays stay near `initial` for ever. Use 3 or more.
    Decorrelated,
}

impl Jitter {
    pub(crate) const fn normalized(self) -> Jitter {
        match self {
            Jitter::Proportional(f) => Jitter::Proportional(proportion(f)),
            jitter => jitter,
        }
    }

    /// The delays that `interval` may give.
    #[inline(always)]
    pub(crate) const fn spread(self, interval: u64, plan: &Plan) -> Spread {
        // At least 1 ns, but not where the interval is less. One from storage may be below initial.
        let (shortest, longest) = match self {
            Jitter::None => (interval, interval),
            Jitter::Full => (smaller(1, interval), interval),
            Jitter::Equal => (interval - interval / 2, interval),
            Jitter::Proportional(f) => {
                let width = product_below(interval, proportion(f));
                let shortest = larger(interval - width, smaller(1, interval));
                (shortest, smaller(interval.saturating_add(width), plan.max))
            }
            Jitter::Decorrelated => (smaller(larger(plan.initial, 1), interval), interval),
        };
        Spread { shortest, longest }
    }
}

/// An inclusive range of delays in nanoseconds, before rounding.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) shortest: u64,
    pub(crate) longest: u64,
}

impl Spread {
    #[inline(always)]
    const fn width(self) -> u64 {
        self.longest - self.shortest
    }

    /// The delay that `entropy` picks: all are equally likely, to within 2⁻⁶⁴ of one another's
    /// share.
    #[inline(always)]
    pub(crate) const fn draw(self, entropy: u64) -> u64 {
        // The fixed-point product of a fraction in [0, 1) and the number of choices.
        // They fit in 64 bits: a range that begins at zero is empty.
        let choices = self.width().wrapping_add(1);
        let choice = (entropy as u128 * choices as u128) >> u64::BITS;
        self.shortest + choice as u64
    }

    /// The range as wide, but from `hint` on, and cut at `max`. A hint that `max` does not exceed
    /// gives the range that ends at `max`: those who were told to wait for ever must not return
    /// together either. Nor at once: it begins no sooner than half of `max`.
    ///
    /// Never earlier than the range itself, for any one draw.
    #[inline(always)]
    pub(crate) const fn not_before(self, hint: u64, max: u64) -> Spread {
        if hint >= max {
            Spread {
                shortest: max - smaller(self.width(), max / 2),
                longest: max,
            }
        } else if hint > self.shortest {
            Spread {
                shortest: hint,
                longest: smaller(hint.saturating_add(self.width()), max),
            }
        } else {
            self
        }
    }
}
