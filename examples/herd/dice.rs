//! All the chance in a run, from one seed.

use relent::random;

use super::queue::{MILLISECOND, Nanos};

/// The random numbers of one run: the same for the same seed.
pub(crate) struct Dice {
    seed: u64,
    draws: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice { seed, draws: 0 }
    }

    /// 64 uniform bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let n = self.draws;
        self.draws += 1;
        random::draw(self.seed, n)
    }

    /// Uniform over (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        above_zero(self.bits() >> 11, 53)
    }

    /// Uniform over [0, `span`), or 0.
    pub(crate) fn within(&mut self, span: Nanos) -> Nanos {
        ((u128::from(self.bits()) * u128::from(span)) >> 64) as Nanos
    }

    /// |N(`mean`, `deviation`)|, both in milliseconds: how long a message takes.
    pub(crate) fn leg(&mut self, mean: f64, deviation: f64) -> Nanos {
        // Box and Muller: two uniform numbers, of 32 bits each, make a normal one.
        let bits = self.bits();
        let radius = (-2.0 * above_zero(bits >> 32, 32).ln()).sqrt();
        let angle = std::f64::consts::TAU * above_zero(bits & 0xffff_ffff, 32);
        let millis = (mean + deviation * radius * angle.cos()).abs();
        (millis * MILLISECOND as f64) as Nanos
    }

    /// The gap before the next of events that come at `rate` a second, each on its own (Poisson).
    pub(crate) fn gap(&mut self, rate: f64) -> Nanos {
        (-self.unit().ln() / rate * 1e9) as Nanos
    }
}

/// `bits` of `width` as a fraction in (0, 1].
fn above_zero(bits: u64, width: i32) -> f64 {
    (bits + 1) as f64 / 2f64.powi(width)
}
