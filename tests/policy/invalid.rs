//! What is nonsense in a policy, and what is not.

use std::time::Duration;

use relent::{Backoff, Jitter, Problem};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const GOOD: Backoff = Backoff::exponential(ms(1000), ms(60_000));

#[track_caller]
fn assert_problems(policy: Backoff, expected: &[Problem]) {
    let found: Vec<_> = match policy.validate() {
        Ok(()) => vec![],
        Err(invalid) => invalid.problems().collect(),
    };
    assert_eq!(found, expected, "{policy:?}");
}

#[test]
fn what_makes_sense_to_its_very_edges_is_valid() {
    for policy in [
        GOOD,
        GOOD.exponent(1.0),
        GOOD.exponent(0.0),
        GOOD.exponent(-0.0),
        GOOD.exponent(f64::INFINITY),
        GOOD.jitter(Jitter::Proportional(0.0)),
        GOOD.jitter(Jitter::Proportional(1.0)),
        GOOD.max(ms(1000)),
        GOOD.max(Duration::MAX),
        GOOD.initial(Duration::MAX)
            .max(Duration::from_nanos(u64::MAX)),
        // Zeros: where nothing grows, nothing waits, or all is rounded to a second.
        GOOD.initial(ms(0)).exponent(1.0),
        GOOD.initial(ms(0)).max(ms(0)),
        GOOD.initial(ms(0)).whole_seconds(),
        GOOD.initial(ms(0)).max(ms(0)).whole_seconds(),
        // There is one whole second from here to there.
        GOOD.initial(ms(1500)).max(ms(2000)).whole_seconds(),
        GOOD.initial(ms(2000)).max(ms(2900)).whole_seconds(),
        Backoff::DEFAULT,
        Backoff::never_retry(),
    ] {
        assert_problems(policy, &[]);
    }
}

#[test]
fn each_mistake_is_told() {
    let [initial, max] = [ms(1000), ms(999)];
    let below = Problem::MaxBelowInitial { initial, max };
    assert_problems(GOOD.max(max), &[below]);
    assert_problems(GOOD.max(max).whole_seconds(), &[below]);
    let max = ms(0);
    let below = Problem::MaxBelowInitial { initial, max };
    assert_problems(GOOD.max(max), &[below]);

    for (initial, max) in [(1100, 1900), (1, 999), (0, 500)].map(|(a, b)| (ms(a), ms(b))) {
        let between = Backoff::fixed(initial).max(max);
        assert_problems(between, &[]);
        let none = Problem::NoWholeSecond { initial, max };
        assert_problems(between.whole_seconds(), &[none]);
        // Zero is a whole number of seconds, but no such delay.
        let said = none.to_string();
        assert!(
            said.starts_with("max: no delay of whole seconds is"),
            "{said}"
        );
    }
    assert_problems(GOOD.initial(ms(0)), &[Problem::GrowthFromZero]);
    assert_problems(GOOD.exponent(f64::NAN), &[Problem::ExponentNotANumber]);
    for shrinks in [0.999, f64::MIN_POSITIVE, -1.0, f64::NEG_INFINITY] {
        let problem = Problem::ExponentBelowOne(shrinks);
        assert_problems(GOOD.exponent(shrinks), &[problem]);
    }
    for outside in [-0.1, 1.0 + f64::EPSILON, f64::INFINITY] {
        let problem = Problem::ProportionOutOfRange(outside);
        assert_problems(GOOD.jitter(Jitter::Proportional(outside)), &[problem]);
    }
    let policy = GOOD.jitter(Jitter::Proportional(f64::NAN));
    assert!(policy.validate().is_err());
}

#[test]
fn all_mistakes_are_told_at_once() {
    let invalid = |policy: Backoff| policy.validate().unwrap_err().to_string();
    let one = GOOD.exponent(0.5);
    assert_eq!(
        invalid(one),
        "invalid backoff policy: exponent: 0.5 is below 1; use 1 for a steady interval, 2 to double it"
    );
    let three = one.max(ms(1)).jitter(Jitter::Proportional(7.0));
    let each = three.validate().unwrap_err().problems();
    let each: Vec<_> = each.map(|problem| problem.to_string()).collect();
    for (said, field) in each
        .iter()
        .zip(["exponent: 0.5", "max: 1ms", "jitter: proportional 7"])
    {
        assert!(said.starts_with(field), "{said}");
    }
    assert_eq!(each.len(), 3);
    let all = format!("invalid backoff policy: {}", each.join("; "));
    assert_eq!(invalid(three), all);
}
