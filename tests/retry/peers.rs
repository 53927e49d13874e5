//! What breaks the peers must not break us: their defects, one row each, in every colour.

use std::time::Duration;

use relent::{Backoff, GiveUpReason, Jitter, StopReason};

use crate::colours::{Case, DAY, Trace};

struct Row {
    /// What a peer does instead.
    peer: &'static str,
    case: Case,
    attempts: u32,
    stop: StopReason,
    check: fn(&Trace) -> bool,
}

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const FAILURES: StopReason = StopReason::GaveUp(GiveUpReason::Failures);
const ELAPSED: StopReason = StopReason::GaveUp(GiveUpReason::Elapsed);

const fn fixed(interval: Duration) -> Backoff {
    Backoff::fixed(interval)
}

const fn doubling(initial: Duration, max: Duration) -> Backoff {
    Backoff::exponential(initial, max).jitter(Jitter::None)
}

fn waits(trace: &Trace, seconds: &[u64]) -> bool {
    trace.delays()
        == seconds
            .iter()
            .map(|&s| Duration::from_secs(s))
            .collect::<Vec<_>>()
}

const SATURATED: Duration = Duration::from_nanos(u64::MAX);

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_breaks_the_peers_does_not_break_us() {
    let rows = [
        Row {
            peer: "backon: 100 s, then 60 s, under a max of 60 s",
            case: Case::of(doubling(100 * SECOND, 60 * SECOND).give_up_after_failures(3)),
            attempts: 3,
            stop: FAILURES,
            // Our rule, not theirs: a max below initial counts as initial.
            check: |t| waits(t, &[100, 100]),
        },
        Row {
            peer: "backon, backoff, kube: jitter passes max 60 s",
            case: Case::of(
                Backoff::DEFAULT
                    .max(60 * SECOND)
                    .give_up_after_failures(1000),
            ),
            attempts: 1000,
            stop: FAILURES,
            check: |t| t.delays().iter().all(|&delay| delay <= 60 * SECOND),
        },
        Row {
            peer: "backon: panics adding up delays under exponent 1e10 without a cap",
            case: Case::of(
                doubling(SECOND, Duration::MAX)
                    .exponent(1e10)
                    .give_up_after(Duration::MAX),
            )
            .fails(50),
            attempts: 51,
            stop: StopReason::Succeeded,
            check: |t| t.delays()[10] == SATURATED && t.outcome.waited == SATURATED,
        },
        Row {
            peer: "backoff: a hint of 1 ms switches the elapsed limit off",
            case: Case::of(fixed(MS).give_up_after(50 * MS)).hint(MS),
            attempts: 51,
            stop: ELAPSED,
            check: |_| true,
        },
        Row {
            peer: "backoff async, tokio-retry2: the next attempt is made before the wait",
            case: Case::of(doubling(10 * SECOND, 15 * SECOND)).fails(2),
            attempts: 3,
            stop: StopReason::Succeeded,
            check: |t| t.began == [Duration::ZERO, 10 * SECOND, 25 * SECOND],
        },
        Row {
            peer: "tokio-retry: base to the power of n",
            case: Case::of(doubling(500 * MS, DAY)).fails(4),
            attempts: 5,
            stop: StopReason::Succeeded,
            check: |t| t.delays() == [500 * MS, SECOND, 2 * SECOND, 4 * SECOND],
        },
        Row {
            peer: "tokio-retry: panics at a delay of Duration::MAX",
            case: Case::of(fixed(Duration::MAX)).fails(3),
            attempts: 4,
            stop: StopReason::Succeeded,
            check: |t| t.delays() == [SATURATED; 3],
        },
        Row {
            peer: "tokio-retry2: a hint of 30 s is announced, not waited",
            case: Case::of(doubling(100 * MS, 60 * SECOND))
                .hint(30 * SECOND)
                .fails(3),
            attempts: 4,
            stop: StopReason::Succeeded,
            check: |t| t.began == [Duration::ZERO, 30 * SECOND, 60 * SECOND, 90 * SECOND],
        },
        Row {
            peer: "tokio-retry2: tells notify the sum of delays, one late",
            case: Case::of(fixed(100 * MS)).fails(4),
            attempts: 5,
            stop: StopReason::Succeeded,
            check: |t| t.delays() == [100 * MS; 4],
        },
        Row {
            peer: "tokio-retry2: one draw of jitter for all delays",
            case: Case::of(Backoff::fixed(SECOND).jitter(Jitter::Full)).fails(100),
            attempts: 101,
            stop: StopReason::Succeeded,
            check: |t| t.delays().windows(2).all(|pair| pair[0] != pair[1]),
        },
        Row {
            peer: "tryhard: the last notification comes after the loop has returned",
            case: Case::of(fixed(SECOND).give_up_after_failures(4)),
            attempts: 4,
            stop: FAILURES,
            check: |t| t.told.len() == 3,
        },
        Row {
            peer: "retry, again: sub-millisecond delays become a hot loop",
            case: Case::of(fixed(Duration::from_micros(500))).fails(3),
            attempts: 4,
            stop: StopReason::Succeeded,
            check: |t| t.outcome.waited == Duration::from_micros(1500),
        },
        Row {
            peer: "retry, gax: exponent NaN waits for nothing, or panics",
            case: Case::of(doubling(SECOND, DAY).exponent(f64::NAN)).fails(3),
            attempts: 4,
            stop: StopReason::Succeeded,
            check: |t| waits(t, &[1, 1, 1]),
        },
        Row {
            peer: "exponents 0 and -3 shrink or stick",
            case: Case::of(doubling(SECOND, DAY).exponent(-3.0)).fails(3),
            attempts: 4,
            stop: StopReason::Succeeded,
            check: |t| waits(t, &[1, 1, 1]),
        },
        Row {
            peer: "exponent 1e308 overflows",
            case: Case::of(doubling(SECOND, DAY).exponent(1e308)).fails(3),
            attempts: 4,
            stop: StopReason::Succeeded,
            check: |t| waits(t, &[1, 86_400, 86_400]),
        },
        Row {
            peer: "retry-policies: minimum zero never returns",
            case: Case::of(doubling(Duration::ZERO, SECOND).give_up_after_failures(20)),
            attempts: 20,
            stop: FAILURES,
            check: |_| true,
        },
        Row {
            peer: "retry-policies: 59 s into a limit of 60 s it waits for half an hour",
            case: Case::of(fixed(1800 * SECOND).give_up_after(60 * SECOND)),
            attempts: 1,
            stop: ELAPSED,
            check: |t| t.outcome.waited == Duration::ZERO,
        },
        Row {
            peer: "gax: panics at a time limit of Duration::MAX",
            case: Case::of(fixed(DAY).give_up_after(Duration::MAX)).fails(5),
            attempts: 6,
            stop: StopReason::Succeeded,
            check: |_| true,
        },
        Row {
            peer: "gax: refused by its breaker it sleeps on for ever",
            case: Case::of(fixed(SECOND)).budget(2),
            attempts: 3,
            stop: StopReason::Budget,
            check: |t| waits(t, &[1, 1]),
        },
        Row {
            peer: "gax: time left is taken before the sleep",
            case: Case::of(fixed(10 * SECOND).give_up_after(60 * SECOND)).takes(10 * SECOND),
            attempts: 4,
            stop: ELAPSED,
            check: |t| t.told.iter().map(|t| t.2.as_secs()).eq([0, 20, 40]),
        },
        Row {
            peer: "again: stops after three attempts where the arithmetic overflows",
            case: Case::of(
                doubling(Duration::from_millis(u64::MAX / 2), MS).give_up_after_failures(11),
            ),
            attempts: 11,
            stop: FAILURES,
            check: |_| true,
        },
        Row {
            peer: "64 failures: shifts by 64 wrap around to no delay",
            case: Case::of(doubling(SECOND, 60 * SECOND)).fails(64),
            attempts: 65,
            stop: StopReason::Succeeded,
            check: |t| t.delays()[6..].iter().all(|&delay| delay == 60 * SECOND),
        },
        Row {
            peer: "10 000 attempts, of no delay",
            case: Case::of(fixed(Duration::ZERO)).fails(9_999),
            attempts: 10_000,
            stop: StopReason::Succeeded,
            check: |t| t.outcome.waited == Duration::ZERO,
        },
        Row {
            peer: "Retry-After of ten years, full jitter",
            case: Case::of(Backoff::exponential(SECOND, 60 * SECOND))
                .hint(3650 * DAY)
                .fails(20),
            attempts: 21,
            stop: StopReason::Succeeded,
            // Spread downward from max, as wide as the policy's own draw.
            check: |t| {
                let delays = t.delays();
                delays.iter().all(|&delay| delay <= 60 * SECOND)
                    && delays[0] >= 59 * SECOND
                    && delays.windows(2).all(|pair| pair[0] != pair[1])
            },
        },
        Row {
            peer: "a first attempt slower than the whole elapsed limit is never retried",
            case: Case::of(fixed(SECOND).give_up_after(10 * SECOND))
                .takes(60 * SECOND)
                .fails(1),
            attempts: 2,
            stop: StopReason::Succeeded,
            check: |_| true,
        },
    ];
    for Row {
        peer,
        case,
        attempts,
        stop,
        check,
    } in rows
    {
        let trace = case.run();
        trace.assert_consistent();
        assert_eq!(
            (trace.outcome.attempts, trace.outcome.stop),
            (attempts, stop),
            "{peer}"
        );
        assert!(check(&trace), "{peer}: {trace:#?}");
    }
}
