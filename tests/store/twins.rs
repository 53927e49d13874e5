//! The two trackers do the same.

use std::fmt::Debug;
use std::time::Duration;

use relent::clock::ManualClock;
use relent::store::{DurableTracker, MemoryStore, Options, blocking};
use relent::{Backoff, random};

use crate::faces::ready;

const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60)).give_up_after_failures(9);

#[track_caller]
fn same<T: Debug>(one: T, two: T, context: &str) {
    assert_eq!(format!("{one:?}"), format!("{two:?}"), "{context}");
}

/// Draws the same verbs, and the same jitter, for both; and compares every answer.
#[test]
#[allow(clippy::too_many_lines)] // a table of verbs
fn the_blocking_and_the_async_tracker_give_the_same_answers() {
    let clock = ManualClock::new();
    let options = || {
        Options::new(POLICY)
            .holder("worker")
            .clock(clock.clone())
            .seed(5)
    };
    let mut one = blocking::DurableTracker::new(MemoryStore::with_clock(clock.clone()), options());
    let mut two = DurableTracker::new(MemoryStore::with_clock(clock.clone()), options());
    let (mut ones, mut twos) = (vec![], vec![]);
    let (mut taken, mut expired) = (0, 0);
    for n in 0..20_000 {
        let mut draws = (0..).map(|m| random::draw(n, m));
        let mut draw = |below: u64| draws.next().unwrap_or_default() % below;
        let key = format!("key {}", draw(6));
        let key = key.as_str();
        let verb = draw(19);
        let context = format!("step {n}, verb {verb}");
        let hint = Some(Duration::from_secs(draw(30)));
        match verb {
            0 => same(one.check(key), ready(two.check(key)), &context),
            1 => same(
                one.record_failure(key, "broken"),
                ready(two.record_failure(key, "broken")),
                &context,
            ),
            2 => same(
                one.record_failure_with(key, None, hint, "broken"),
                ready(two.record_failure_with(key, None, hint, "broken")),
                &context,
            ),
            3 => {
                let failures = [(key, "one"), ("key 0", "two")];
                same(
                    one.record_failures(&failures),
                    ready(two.record_failures(&failures)),
                    &context,
                );
            }
            4 => same(
                one.record_success(key),
                ready(two.record_success(key)),
                &context,
            ),
            5 => {
                let result = if draw(2) == 0 { Ok(()) } else { Err("broken") };
                same(
                    one.record(key, &result),
                    ready(two.record(key, &result)),
                    &context,
                );
            }
            6 => {
                let (a, b) = (one.attempt(key), ready(two.attempt(key)));
                if draw(2) == 0 {
                    clock.advance(Duration::from_millis(1));
                    same(
                        one.record_failure(key, "x"),
                        ready(two.record_failure(key, "x")),
                        &context,
                    );
                }
                match (a, b) {
                    (Ok(a), Ok(b)) if draw(2) == 0 => {
                        same(a.fail("broken"), ready(b.fail("broken")), &context);
                    }
                    (Ok(a), Ok(b)) => same(a.succeed(), ready(b.succeed()), &context),
                    (a, b) => same(a.err(), b.err(), &context),
                }
            }
            7 => same(one.forget(key), ready(two.forget(key)), &context),
            8 => same(one.due(3), ready(two.due(3)), &context),
            9 => {
                same(one.waiting(3), ready(two.waiting(3)), &context);
                same(one.gave_up(3), ready(two.gave_up(3)), &context);
            }
            10 | 11 | 16 => {
                let started = match verb {
                    16 => (one.start_now(key), ready(two.start_now(key))),
                    _ => (one.start(key), ready(two.start(key))),
                };
                match started {
                    (Ok(a), Ok(b)) => {
                        same(a.record(), b.record(), &context);
                        ones.push(a);
                        twos.push(b);
                    }
                    (a, b) => same(a.err(), b.err(), &context),
                }
            }
            12 => {
                let keys = [key, "key 1", "key 2"];
                let (a, b) = (one.start_any(keys), ready(two.start_any(keys)));
                if let (Ok(Some(a)), Ok(Some(b))) = (a, b) {
                    same(a.record(), b.record(), &context);
                    ones.push(a);
                    twos.push(b);
                }
            }
            13 => {
                if let (Ok(a), Ok(b)) = (one.claim_due(2), ready(two.claim_due(2))) {
                    assert_eq!(a.len(), b.len(), "{context}");
                    ones.extend(a);
                    twos.extend(b);
                }
            }
            14 => same(one.beat().is_ok(), ready(two.beat()).is_ok(), &context),
            15 => clock.advance(Duration::from_millis(draw(20_000))),
            _ if ones.is_empty() => {}
            _ => {
                let at = draw(ones.len() as u64) as usize;
                let (a, b) = (ones.swap_remove(at), twos.swap_remove(at));
                assert_eq!(a.expired(), b.expired(), "{context}");
                for _ in 0..=draw(2) {
                    match draw(4) {
                        0 => same(a.finish(), ready(b.finish()), &context),
                        1 => same(a.fail("broken"), ready(b.fail("broken")), &context),
                        2 => same(
                            a.fail_with(None, hint, "broken"),
                            ready(b.fail_with(None, hint, "broken")),
                            &context,
                        ),
                        _ => same(a.cancel(), ready(b.cancel()), &context),
                    }
                }
            }
        }
        same(one.get(key), ready(two.get(key)), &context);
        assert_eq!(
            one.session().expired(),
            two.session().expired(),
            "{context}"
        );
        if n % 500 == 499 {
            clock.advance(Duration::from_secs(15));
            same(one.beat().is_ok(), ready(two.beat()).is_ok(), &context);
        }
        if one.session().expired() {
            expired += 1;
            ones.clear();
            twos.clear();
            one = one.renewed();
            two = two.renewed();
        }
        taken = taken.max(ones.iter().map(blocking::Work::token).max().unwrap_or(0));
    }
    assert!(
        taken > 500 && expired > 50,
        "{taken} leases, {expired} sessions expired"
    );
}
