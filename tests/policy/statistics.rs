//! J by statistics: fixed seeds, so that a test that passes once passes always. Each check is also
//! shown to notice when the spread is missing.

use std::time::Duration;

use relent::{Backoff, BackoffState, Failure, Jitter, random};

/// By the reference implementation, of which these are the first numbers from 0: `splitmix64.c` of
/// Sebastiano Vigna. A start of 0 is mixed into 0.
#[test]
fn what_is_drawn_is_splitmix64() {
    let first = [
        0xe220_a839_7b1d_cdaf,
        0x6e78_9e6a_a1b9_65f4,
        0x06c4_5d18_8009_454f,
        0xf88b_b8a8_724c_81ec,
        0x1b39_896a_51a8_749b,
    ];
    assert_eq!([0, 1, 2, 3, 4].map(|n| random::draw(0, n)), first);
}

const DRAWS: usize = 100_000;
const SPREADS: [Jitter; 4] = [
    Jitter::Full,
    Jitter::Equal,
    Jitter::Proportional(0.5),
    Jitter::Decorrelated,
];

/// A policy whose next interval is 10 s with room above, or that has reached `max`.
fn policy(jitter: Jitter, max: Duration) -> (Backoff, BackoffState) {
    let backoff = Backoff::exponential(Duration::from_secs(1), max).jitter(jitter);
    (
        backoff,
        BackoffState {
            failures: 5,
            interval: Duration::from_secs(5),
        },
    )
}

const ROOMY: Duration = Duration::from_secs(600);
const REACHED: Duration = Duration::from_secs(10);

fn delays((backoff, state): (Backoff, BackoffState), seed: u64) -> Vec<f64> {
    (0..DRAWS as u64)
        .map(|n| {
            let mut state = state;
            let failure = Failure::new(random::draw(seed, n));
            backoff
                .next(&mut state, failure)
                .delay()
                .unwrap()
                .as_secs_f64()
        })
        .collect()
}

/// The χ² statistic of `samples` over 100 equal parts of what they should span.
fn chi_square(samples: &[f64], (low, high): (f64, f64)) -> f64 {
    let mut counts = [0_f64; 100];
    for sample in samples {
        let part = ((sample - low) / (high - low) * 100.0).clamp(0.0, 99.0) as usize;
        counts[part] += 1.0;
    }
    let expected = samples.len() as f64 / 100.0;
    counts
        .iter()
        .map(|count| (count - expected).powi(2) / expected)
        .sum()
}

/// χ² with 99 degrees of freedom exceeds this once in a million.
const ONE_IN_A_MILLION: f64 = 178.0;

fn range(jitter: Jitter, max: Duration) -> (f64, f64) {
    let (low, high) = match jitter {
        Jitter::Full => (0.0, 10.0),
        Jitter::Equal => (5.0, 10.0),
        Jitter::Proportional(_) => (5.0, 15.0),
        _ => (1.0, 10.0),
    };
    (low, f64::min(high, max.as_secs_f64()))
}

#[test]
fn j1_draws_are_uniform() {
    for jitter in SPREADS {
        for max in [ROOMY, REACHED] {
            let statistic = chi_square(&delays(policy(jitter, max), 11), range(jitter, max));
            assert!(
                statistic < ONE_IN_A_MILLION,
                "{jitter:?} up to {max:?}: χ² = {statistic}"
            );
            let constant = chi_square(&delays(policy(Jitter::None, max), 11), range(jitter, max));
            assert!(
                constant > 1000.0 * ONE_IN_A_MILLION,
                "no jitter passes for {jitter:?}"
            );
        }
    }
}

#[test]
fn j3_no_pile_up_at_max() {
    let near_max = |jitter| {
        let floor = REACHED.as_secs_f64() * 0.9999;
        delays(policy(jitter, REACHED), 12)
            .into_iter()
            .filter(|delay| *delay >= floor)
            .count()
    };
    for jitter in SPREADS {
        // The ranges are 5 s wide or more, of which the last ten-thousandth of 10 s is one in 5 000
        // or less.
        let expected = if matches!(jitter, Jitter::Full | Jitter::Decorrelated) {
            10_000
        } else {
            5_000
        };
        let count = near_max(jitter);
        assert!(
            count < 2 * DRAWS / expected,
            "{jitter:?}: {count} of {DRAWS}"
        );
    }
    assert_eq!(near_max(Jitter::None), DRAWS);

    // The mistake that this rule is about: a draw of ±50 % that is clamped afterwards.
    let clamped = delays(policy(Jitter::Proportional(0.5), ROOMY), 12)
        .into_iter()
        .filter(|delay| delay.min(10.0) >= 9.999)
        .count();
    assert!(clamped > DRAWS * 4 / 10, "{clamped}");
}

/// The correlation of two sequences: 0 for independent ones, give or take 1/√n.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a).powi(2);
        bb += (b - mean_b).powi(2);
    }
    if aa * bb == 0.0 {
        1.0
    } else {
        ab / (aa * bb).sqrt()
    }
}

/// Five standard deviations.
const CHANCE: f64 = 5.0 / 316.0;

#[test]
fn j6_sequences_are_independent() {
    let sequence = |jitter, seed| delays(policy(jitter, ROOMY), seed);
    for jitter in SPREADS {
        let base = sequence(jitter, 1);
        assert_eq!(
            base,
            sequence(jitter, 1),
            "the same seed gives the same sequence"
        );
        for other in [
            0,
            2,
            3,
            1 << 32,
            u64::MAX,
            0x9e37_79b9_7f4a_7c15,
            1 + 0x9e37_79b9_7f4a_7c15,
        ] {
            let other_sequence = sequence(jitter, other);
            // Shifted by a few places, too: seeds that name the same sequence, shifted, are the
            // classic mistake.
            for shift in 0..4 {
                let r = correlation(&base[shift..], &other_sequence[..DRAWS - shift]);
                assert!(
                    r.abs() < CHANCE,
                    "{jitter:?}: seeds 1 and {other}, shifted {shift}: {r}"
                );
            }
        }
        let serial = correlation(&base[1..], &base[..DRAWS - 1]);
        assert!(
            serial.abs() < CHANCE,
            "{jitter:?}: one draw tells of the next: {serial}"
        );
    }
    let constant = sequence(Jitter::None, 1);
    assert!(
        correlation(&constant, &sequence(Jitter::None, 2)) > CHANCE,
        "no jitter passes"
    );
}

#[test]
fn j6_fresh_schedules_differ() {
    let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));
    let waits = |policy: &Backoff| policy.schedule().take(4).collect::<Vec<_>>();
    assert_ne!(waits(&policy), waits(&policy));
    let still = policy.jitter(Jitter::None);
    assert_eq!(waits(&still), waits(&still));
}
