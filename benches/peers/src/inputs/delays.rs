//! Exponential policies of all kinds, and whether the delays that each crate makes of them are
//! right.

use std::collections::HashMap;
use std::time::Duration;

use tokio::runtime::Runtime;
use tower::retry::backoff::MakeBackoff as _;

use super::policies::{DOUBLING, MAKERS, Made, Maker, Policy, tower_delays, tower_maker};
use super::{CRATES, Finding, Row, Trial, guarded, judged, shown};

const SECOND: Duration = Duration::from_secs(1);
const JITTERED: Policy = DOUBLING.jitter();

const UNSHRUNK: &str = "an error, or delays that never shrink";

pub fn rows() -> Vec<Row> {
    let late = DOUBLING.initial(100 * SECOND);
    let endless = DOUBLING.max(Duration::MAX);
    let longest = endless.initial(Duration::MAX);
    let short = DOUBLING.initial(Duration::from_micros(500));
    let slow = DOUBLING.initial(Duration::from_millis(1)).factor(1.5);
    let [nan, zero, negative, infinite] =
        [f64::NAN, 0.0, -3.0, f64::INFINITY].map(|factor| DOUBLING.factor(factor));
    vec![
        row(
            "`max` 60 s, with jitter",
            "no delay above it",
            10_000,
            JITTERED,
            at_most_max,
        ),
        row(
            "jitter once `max` is reached",
            "delays that differ",
            10_000,
            JITTERED,
            plateau_differs,
        ),
        row(
            "`max` 60 s, 10 000 attempts",
            "60 s at last",
            10_000,
            DOUBLING,
            ends_at_max,
        ),
        row(
            "`max` 60 s below `initial` 100 s",
            UNSHRUNK,
            10,
            late,
            never_shrinks,
        ),
        row(
            "`max` `Duration::MAX`, 10 000 attempts",
            UNSHRUNK,
            10_000,
            endless,
            never_shrinks,
        ),
        row(
            "the same with jitter",
            "years at last",
            10_000,
            endless.jitter(),
            years_at_last,
        ),
        row(
            "`initial` and `max` `Duration::MAX`",
            "years",
            10,
            longest,
            years_at_last,
        ),
        row("factor NaN", UNSHRUNK, 10, nan, never_shrinks),
        row("factor 0", UNSHRUNK, 10, zero, never_shrinks),
        row("factor −3", UNSHRUNK, 10, negative, never_shrinks),
        row(
            "factor ∞",
            "an error, or `max` at the second failure",
            10,
            infinite,
            ends_at_max,
        ),
        row(
            "`initial` 500 µs",
            "500 µs first",
            10,
            short,
            begins_at_initial,
        ),
        row("1 ms × 1.5", "delays that grow", 10, slow, grows),
        row(
            "100 ms × 2",
            "200, 400, 800 ms exactly",
            8,
            DOUBLING,
            doubles,
        ),
        first_delays(),
        two_streaks(),
    ]
}

type Check = fn(&Policy, &[Duration]) -> Option<String>;

fn row(input: &'static str, right: &'static str, delays: u32, policy: Policy, check: Check) -> Row {
    Row {
        input,
        right,
        trials: all(move |make| match make(policy, delays) {
            Ok(delays) => judged(check(&policy, &delays)),
            Err(finding) => finding,
        }),
    }
}

fn first_delays() -> Row {
    Row {
        input: "first delay of 2 000 streaks, 1 s with jitter",
        right: "delays that differ",
        trials: all(|make| {
            let policy = JITTERED.initial(SECOND);
            let firsts = (0..2_000).map(|_| make(policy, 1).map(|delays| delays[0]));
            match firsts.collect::<Made>() {
                Ok(firsts) => judged(differ(&firsts)),
                Err(finding) => finding,
            }
        }),
    }
}

/// Every streak of a crate has a generator of its own, or shares one with the whole thread. Tower's
/// are made by one maker, as they are in its services.
fn two_streaks() -> Row {
    let same = |one: &[Duration], two: &[Duration]| {
        judged((one == two).then(|| format!("both {}", listed(one))))
    };
    let mut trials = all(move |make| match (make(JITTERED, 5), make(JITTERED, 5)) {
        (Ok(one), Ok(two)) => same(&one, &two),
        (Err(finding), _) | (_, Err(finding)) => finding,
    });
    trials.retain(|(name, _)| *name != "tower");
    let tower: Trial = Box::new(move |_| match tower_maker(JITTERED) {
        Ok(mut maker) => same(
            &tower_delays(maker.make_backoff(), 5),
            &tower_delays(maker.make_backoff(), 5),
        ),
        Err(finding) => finding,
    });
    trials.push(("tower", tower));
    Row {
        input: "two streaks of one policy, with jitter",
        right: "different delays",
        trials,
    }
}

/// The same trial of each crate.
fn all(
    trial: impl Fn(&dyn Fn(Policy, u32) -> Made) -> Finding + Copy + Send + 'static,
) -> Vec<(&'static str, Trial)> {
    let trial = |(name, make): (_, Maker)| {
        let guarded = move |policy, delays| guarded(|| make(policy, delays))?;
        (name, Box::new(move |_: &Runtime| trial(&guarded)) as Trial)
    };
    CRATES.into_iter().zip(MAKERS).map(trial).collect()
}

fn at_most_max(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let longest = *delays.iter().max()?;
    (longest > policy.max).then(|| format!("{:.1} s", longest.as_secs_f64()))
}

fn plateau_differs(_: &Policy, delays: &[Duration]) -> Option<String> {
    differ(&delays[20..])
}

/// Hardly two are the same.
fn differ(delays: &[Duration]) -> Option<String> {
    let mut counts: HashMap<Duration, usize> = HashMap::new();
    for delay in delays {
        *counts.entry(*delay).or_default() += 1;
    }
    let (commonest, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let share = 100.0 * count as f64 / delays.len() as f64;
    (share > 1.0).then(|| format!("{share:.0} % are {}", shown(commonest)))
}

fn ends_at_max(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let ends = delays.last() == Some(&policy.max) && delays[0] <= policy.max;
    (!ends).then(|| listed(delays))
}

fn never_shrinks(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let shrinks = delays.windows(2).any(|two| two[1] < two[0]);
    let above = delays
        .iter()
        .any(|delay| *delay > policy.max.max(policy.initial));
    (shrinks || above || delays[0].is_zero()).then(|| listed(delays))
}

fn years_at_last(_: &Policy, delays: &[Duration]) -> Option<String> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let last = &delays[delays.len().saturating_sub(100)..];
    last.iter()
        .all(|delay| *delay < YEAR)
        .then(|| listed(delays))
}

fn begins_at_initial(policy: &Policy, delays: &[Duration]) -> Option<String> {
    (delays[0] != policy.initial).then(|| listed(delays))
}

fn grows(_: &Policy, delays: &[Duration]) -> Option<String> {
    let stands = delays.windows(2).any(|two| two[1] <= two[0]);
    stands.then(|| listed(delays))
}

fn doubles(policy: &Policy, delays: &[Duration]) -> Option<String> {
    let exact = (0..).map(|n| policy.initial * (1 << n));
    let off = delays
        .iter()
        .zip(exact)
        .find(|(delay, exact)| *delay != exact);
    off.map(|(delay, _)| shown(*delay))
}

/// The first three, for a person to read.
fn listed(delays: &[Duration]) -> String {
    let first: Vec<_> = delays.iter().take(3).copied().map(shown).collect();
    format!("{}, …", first.join(", "))
}
