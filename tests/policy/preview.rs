//! The preview against what really happens, and what it warns of.

use std::time::Duration;

use proptest::prelude::*;
use relent::{Backoff, BackoffState, Failure, GiveUp, Jitter, Preview, Rounding, Warning, random};

use super::any;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

proptest! {
    #[test]
    fn every_delay_is_in_its_row(backoff in any::endless(), seed in any::<u64>()) {
        let mut last = None;
        for (row, wait) in backoff.preview().rows().zip(backoff.schedule_seeded(seed)) {
            prop_assert!(row.shortest <= wait && wait <= row.longest, "{wait:?} in {row:?}");
            prop_assert!(row.shortest <= row.mean && row.mean <= row.longest);
            last = Some(row);
        }
        prop_assert!(last.is_some());
    }

    #[test]
    fn as_many_rows_as_waits_where_failures_are_counted(backoff in any::endless(), limit in 0..30_u32) {
        let backoff = backoff.exponent(2.0).max(Duration::MAX).initial(secs(1)).give_up_after_failures(limit);
        prop_assert_eq!(backoff.preview().rows().count(), backoff.schedule_seeded(0).count());
    }
}

#[test]
fn means_are_those_of_many_draws() {
    let policy = Backoff::exponential(secs(3), secs(60)).exponent(3.0);
    for jitter in [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Proportional(0.3),
        Jitter::Decorrelated,
    ] {
        for policy in [policy.jitter(jitter), policy.jitter(jitter).whole_seconds()] {
            let first = policy.preview().rows().next().unwrap();
            let draws = 20_000;
            let sum: Duration = (0..draws)
                .map(|n| {
                    let failure = Failure::new(random::draw(9, n));
                    policy
                        .next(&mut BackoffState::default(), failure)
                        .delay()
                        .unwrap()
                })
                .sum();
            let mean = sum.as_secs_f64() / draws as f64;
            assert!(
                (mean / first.mean.as_secs_f64() - 1.0).abs() < 0.02,
                "{policy:?}: {mean}, {first:?}"
            );
        }
    }
}

/// The line that tells where a policy ends.
#[track_caller]
fn line_of_the_end(preview: Preview) -> String {
    let text = preview.to_string();
    let line = text.lines().find(|line| line.contains("give"));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn ends() {
    let fixed = Backoff::fixed(secs(1));
    let end = |policy: Backoff| line_of_the_end(policy.preview());
    assert_eq!(end(fixed), "the same from failure 1 on; never gives up");
    assert_eq!(
        end(fixed.give_up_after_failures(7)),
        "gives up at failure 7, after about 6.0 s: too many failures"
    );
    assert_eq!(
        end(fixed.give_up_after(secs(60))),
        "gives up at failure 61, after about 1.0 min: too much time elapsed"
    );
    assert_eq!(
        end(Backoff::never_retry()),
        "gives up at failure 1, after about 0.0 ns: too many failures"
    );
    assert_eq!(
        end(Backoff::fixed(Duration::ZERO).give_up_after(secs(5))),
        "the same from failure 1 on; gives up when 5.0 s have elapsed"
    );
    assert_eq!(
        end(Backoff::fixed(Duration::from_millis(1)).give_up_after(secs(100 * 86_400))),
        "the same from failure 100 on; gives up when 100.0 d have elapsed"
    );
    let growing = fixed
        .exponent(1.01)
        .max(Duration::MAX)
        .preview()
        .limit(5)
        .to_string();
    assert!(growing.contains("and so on"), "{growing}");
}

/// Rows that are all alike are not played through: the end is the one that all of them lead to.
#[test]
fn g3_ends_beyond_the_last_row_as_what_really_happens() {
    for (failures, elapsed) in [
        (Some(601), None),
        (None, Some(300)),
        (Some(601), Some(3600)),
        (Some(601), Some(300)),
        (Some(300), Some(300)),
        (Some(301), Some(300)),
        (Some(302), Some(300)),
    ] {
        let policy = Backoff::fixed(Duration::from_millis(1)).give_up(GiveUp {
            after_failures: failures,
            after_elapsed: elapsed.map(Duration::from_millis),
        });
        let played_through = line_of_the_end(policy.preview().limit(1000));
        assert_eq!(line_of_the_end(policy.preview()), played_through);
        assert_eq!(line_of_the_end(policy.preview().limit(5)), played_through);
        let attempts = policy.schedule_seeded(0).count() + 1;
        let at = format!("gives up at failure {attempts}, ");
        assert!(played_through.starts_with(&at), "{played_through}");
    }
    // Waits so long come to the end of time within failures that can be counted.
    let never = line_of_the_end(Backoff::fixed(secs(600)).preview());
    assert_eq!(never, "the same from failure 1 on; never gives up");
}

#[test]
fn tells_what_is_invalid() {
    let text = Backoff::exponential(secs(9), secs(1))
        .exponent(f64::NAN)
        .preview()
        .to_string();
    for said in ["exponent: NaN", "max: 1s is below initial"] {
        assert!(text.contains(said), "{text}");
    }
}

/// By their median: what most clients see.
#[test]
fn decorrelated_backs_off_by_three_and_not_by_two() {
    let median = |exponent| {
        let policy = Backoff::exponential(secs(1), secs(3600))
            .jitter(Jitter::Decorrelated)
            .exponent(exponent);
        let mut fiftieth: Vec<_> = (0..999)
            .map(|seed| policy.schedule_seeded(seed).nth(49).unwrap())
            .collect();
        fiftieth.sort();
        let row = policy
            .preview()
            .rows()
            .nth(49)
            .unwrap_or_else(|| policy.preview().rows().last().unwrap());
        let mean = fiftieth.iter().sum::<Duration>() / 999;
        assert!(mean <= row.mean.mul_f64(1.1), "{mean:?} in {row:?}");
        fiftieth[499]
    };
    assert!(median(2.0) < secs(6), "{:?}", median(2.0));
    assert!(median(3.0) > secs(60), "{:?}", median(3.0));
}

/// Where time is limited, a streak of short delays has more of them.
#[test]
fn a_max_that_luck_may_reach_is_not_said_to_be_out_of_reach() {
    let policy = Backoff::exponential(secs(1), secs(60)).give_up_after(secs(60));
    let is_lucky = |seed| policy.schedule_seeded(seed).any(|wait| wait > secs(32));
    assert!((0..1000).any(is_lucky));
    let text = policy.preview().to_string();
    let said = "max (60s) is not reached by mean delays; the longest interval is 32s";
    assert!(text.contains(said), "{text}");
}

#[test]
fn warnings() {
    let good = Backoff::exponential(secs(1), secs(60));
    let warn = |policy: Backoff| policy.preview().warnings().collect::<Vec<_>>();

    assert_eq!(warn(good), []);
    assert_eq!(warn(Backoff::DEFAULT), []);
    assert_eq!(warn(Backoff::never_retry()), []);
    assert_eq!(
        warn(good.give_up_after_failures(4)),
        [Warning::MaxNeverReached {
            max: secs(60),
            longest: secs(4)
        }]
    );
    assert_eq!(warn(good.exponent(1.0)), [], "max bounds hints");
    let slow = good.exponent(1.001).max(secs(600));
    for slow in [slow.give_up_after_failures(150), slow.exponent(1.000_000_1)] {
        assert!(
            matches!(warn(slow)[..], [Warning::MaxNeverReached { .. }]),
            "{slow:?}"
        );
    }
    assert_eq!(
        warn(good.give_up_after(Duration::from_millis(900)))[0],
        Warning::DeadlineBeforeFirstRetry {
            deadline: Duration::from_millis(900),
            first: secs(1)
        }
    );
    // To the very moment is not too late; and who never retries misses nothing.
    assert_eq!(
        warn(good.give_up_after(secs(1))),
        [Warning::MaxNeverReached {
            max: secs(60),
            longest: secs(1)
        }]
    );
    let once = good.give_up_after_failures(1);
    assert_eq!(warn(once.give_up_after(Duration::from_millis(900))), []);
    for herd in [
        Jitter::None,
        Jitter::Proportional(0.1),
        Jitter::Proportional(f64::NAN),
        Jitter::Decorrelated,
    ] {
        assert!(
            matches!(warn(good.jitter(herd))[..], [.., Warning::Herd(_)]),
            "{herd:?}"
        );
    }
    assert_eq!(
        warn(good.rounding(Rounding::WholeSeconds)),
        [Warning::CoarseSeconds { choices: 1 }]
    );
    assert_eq!(warn(good.initial(secs(20)).whole_seconds()), []);
    let decorrelated = good.jitter(Jitter::Decorrelated);
    assert_eq!(warn(decorrelated)[0], Warning::Standstill { exponent: 2.0 });
    let fine = warn(decorrelated.exponent(3.0));
    assert!(matches!(fine[..], [Warning::Herd(_)]), "{fine:?}");
    for (choices, said) in [
        (1, "only one first delay,"),
        (3, "only 3 different first delays,"),
    ] {
        let warning = Warning::CoarseSeconds { choices }.to_string();
        assert!(warning.contains(said), "{warning}");
    }
}
