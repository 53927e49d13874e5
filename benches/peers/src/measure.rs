//! How long things take, beside one another.

use std::time::{Duration, Instant};

/// One way of doing a contest's work.
pub struct Contestant<'a> {
    name: String,
    /// Does the work so many times.
    run: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Contestant<'a> {
    pub fn new(name: impl Into<String>, run: impl FnMut(u64) + 'a) -> Contestant<'a> {
        Contestant {
            name: name.into(),
            run: Box::new(run),
        }
    }
}

/// What a contestant took for one unit of work, in nanoseconds.
pub struct Figure {
    pub name: String,
    pub best: f64,
    pub median: f64,
    /// Half of all batches lay this close around the median: the distance of the quartiles as a
    /// share of the median.
    pub spread: f64,
    /// How many times as long as the first contestant, of the same round: the median of all rounds.
    pub ratio: f64,
}

/// Rounds, in each of which every contestant runs one batch.
const ROUNDS: usize = 401;
const WARM_UP: usize = 20;

/// How long a batch is at least: so long that reading the clock, some 40 ns, does not matter; but
/// not longer, so that most batches run to their end before the machine turns to something else.
const BATCH: Duration = Duration::from_micros(200);

/// Runs all contestants in turn, in another order in each round, so that whatever slows the machine
/// down meets each alike, and each follows each.
///
/// `units` is how many units of work one run of a contestant is.
pub fn contest(units: u32, mut contestants: Vec<Contestant<'_>>) -> Vec<Figure> {
    let runs: Vec<u64> = contestants.iter_mut().map(runs_of_a_batch).collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); contestants.len()];
    for round in 0..WARM_UP + ROUNDS {
        for turn in order(round, contestants.len()) {
            let start = Instant::now();
            (contestants[turn].run)(runs[turn]);
            let nanos = start.elapsed().as_nanos() as f64;
            if round >= WARM_UP {
                times[turn].push(nanos / (runs[turn] as f64 * f64::from(units)));
            }
        }
    }
    let figure = |(contestant, own): (&Contestant<'_>, &Vec<f64>)| {
        let ratios = own.iter().zip(&times[0]).map(|(own, first)| own / first);
        let sorted = sorted(own.iter().copied());
        let median = at(&sorted, 0.5);
        Figure {
            name: contestant.name.clone(),
            best: sorted[0],
            median,
            spread: (at(&sorted, 0.75) - at(&sorted, 0.25)) / median,
            ratio: at(&self::sorted(ratios), 0.5),
        }
    };
    contestants.iter().zip(&times).map(figure).collect()
}

/// Rotated by one each round, and every other round backwards.
fn order(round: usize, contestants: usize) -> impl Iterator<Item = usize> {
    (0..contestants).map(move |n| {
        let n = if round % 2 == 0 {
            n
        } else {
            contestants - 1 - n
        };
        (n + round / 2) % contestants
    })
}

fn runs_of_a_batch(contestant: &mut Contestant<'_>) -> u64 {
    let mut runs = 1;
    loop {
        let start = Instant::now();
        (contestant.run)(runs);
        if start.elapsed() >= BATCH {
            return runs;
        }
        runs *= 2;
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which `share` of the sorted ones lie.
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
