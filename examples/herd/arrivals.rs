//! When the attempts reached the service, and whether they came in step.

use std::f64::consts::TAU;
use std::ops::Range;

use super::queue::{MILLISECOND, Nanos, SECOND};

const TICK: Nanos = 10 * MILLISECOND;
const TICKS_A_SECOND: usize = (SECOND / TICK) as usize;

/// How many attempts arrived in each 10 ms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Vec<u32>);

/// How evenly attempts arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    /// Arrivals a second.
    pub(crate) mean: f64,
    /// Arrivals in the busiest second over those in the mean one.
    pub(crate) peak_second: f64,
    /// The same for 10 ms.
    pub(crate) peak_tick: f64,
    /// |mean exp(2πi·t)|, t in seconds: 1 when all arrive at one moment of the second, about
    /// 1 ÷ √arrivals when at any.
    pub(crate) phase: f64,
    /// The share of all waits that were no shorter than `max`.
    pub(crate) at_max: f64,
}

impl Arrivals {
    pub(crate) fn record(&mut self, at: Nanos) {
        let tick = (at / TICK) as usize;
        if tick >= self.0.len() {
            self.0.resize(tick + 1, 0);
        }
        self.0[tick] += 1;
    }

    /// For each second, how many arrived in it.
    pub(crate) fn per_second(&self) -> impl Iterator<Item = u64> {
        self.0.chunks(TICKS_A_SECOND).map(sum)
    }

    /// For each second, the rate a second in its busiest 10 ms.
    pub(crate) fn peak_rate(&self) -> impl Iterator<Item = u64> {
        let busiest = |ticks: &[u32]| u64::from(ticks.iter().copied().max().unwrap_or(0));
        self.0
            .chunks(TICKS_A_SECOND)
            .map(move |ticks| busiest(ticks) * TICKS_A_SECOND as u64)
    }

    /// The rhythm over these seconds of the run; of its waits nothing is known here.
    pub(crate) fn rhythm(&self, seconds: Range<usize>) -> Rhythm {
        let ticks: Vec<u32> = (seconds.start * TICKS_A_SECOND..seconds.end * TICKS_A_SECOND)
            .map(|tick| self.0.get(tick).copied().unwrap_or(0))
            .collect();
        let per_second: Vec<u64> = ticks.chunks(TICKS_A_SECOND).map(sum).collect();
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (tick, &arrived) in ticks.iter().enumerate() {
            let angle = TAU * (tick % TICKS_A_SECOND) as f64 / TICKS_A_SECOND as f64;
            cosine += f64::from(arrived) * angle.cos();
            sine += f64::from(arrived) * angle.sin();
        }
        let total = sum(&ticks) as f64;
        Rhythm {
            mean: total / seconds.len() as f64,
            peak_second: peak_to_mean(per_second.iter().copied()),
            peak_tick: peak_to_mean(ticks.iter().map(|&arrived| u64::from(arrived))),
            phase: sine.hypot(cosine) / total,
            at_max: 0.0,
        }
    }
}

fn sum(ticks: &[u32]) -> u64 {
    ticks.iter().map(|&arrived| u64::from(arrived)).sum()
}

fn peak_to_mean(counts: impl ExactSizeIterator<Item = u64> + Clone) -> f64 {
    let mean = counts.clone().sum::<u64>() as f64 / counts.len() as f64;
    counts.max().unwrap_or(0) as f64 / mean
}
