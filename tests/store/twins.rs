//! The two trackers do the same.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use relent::clock::ManualClock;
use relent::store::{DurableTracker, MemoryStore, Options, StartError, blocking};
use relent::{Backoff, BackoffTracker, Jitter, Readiness, random};

use crate::faces::ready;

const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60)).give_up_after_failures(9);

#[track_caller]
fn same<T: Debug>(one: T, two: T, context: &str) {
    assert_eq!(format!("{one:?}"), format!("{two:?}"), "{context}");
}

/// Draws the same verbs, and the same jitter, for both; and compares every answer.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of verbs")]
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
                let (a, b) = if draw(2) == 0 {
                    let now = (one.attempt_now(key), ready(two.attempt_now(key)));
                    (
                        now.0.map_err(StartError::from),
                        now.1.map_err(StartError::from),
                    )
                } else {
                    (one.attempt(key), ready(two.attempt(key)))
                };
                if draw(2) == 0 {
                    clock.advance(Duration::from_millis(1));
                    same(
                        one.record_failure(key, "x"),
                        ready(two.record_failure(key, "x")),
                        &context,
                    );
                }
                match (a, b) {
                    (Ok(a), Ok(b)) => match draw(3) {
                        0 => same(a.fail("broken"), ready(b.fail("broken")), &context),
                        1 => same(
                            a.fail_with(None, hint, "broken"),
                            ready(b.fail_with(None, hint, "broken")),
                            &context,
                        ),
                        _ => same(a.succeed(), ready(b.succeed()), &context),
                    },
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

/// What moves from the memory to a store changes a type, and no answer.
#[test]
fn the_tracker_in_memory_and_the_durable_one_give_the_same_answers() {
    const CAUSE: &str = "broken";
    let policy = POLICY.jitter(Jitter::None).give_up_after_failures(3);
    let other = Backoff::fixed(Duration::from_secs(7))
        .jitter(Jitter::None)
        .give_up_after(Duration::from_secs(90));
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    let one = BackoffTracker::builder(policy).clock(clock.clone());
    let one = one.retention(Duration::MAX).build();
    let two = blocking::DurableTracker::new(store, policy);
    let keys: [String; 3] = ["a", "b", "c"].map(str::to_owned);
    let mut attempts = vec![];
    let mut gave_up = 0;
    for n in 0..50_000 {
        let mut draws = (0..).map(|m| random::draw(n, m));
        let mut draw = |below: u64| draws.next().unwrap_or_default() % below;
        let key = &keys[draw(3) as usize];
        let verb = draw(11);
        let context = format!("step {n}, verb {verb}, {key}");
        let hint = (draw(2) == 0).then(|| Duration::from_secs(draw(30)));
        match verb {
            0 => same(
                one.record_failure(key),
                two.record_failure(key, CAUSE).unwrap(),
                &context,
            ),
            1 => same(
                one.record_failure_with(key, &other, hint),
                two.record_failure_with(key, Some(&other), hint, CAUSE)
                    .unwrap(),
                &context,
            ),
            2 => same(
                one.record_success(key),
                two.record_success(key).unwrap(),
                &context,
            ),
            3 => same(one.forget(key), two.forget(key).unwrap(), &context),
            4 | 5 => {
                let (a, b) = (one.attempt(key).ok(), two.attempt(key).ok());
                assert_eq!(a.is_some(), b.is_some(), "{context}");
                attempts.extend(a.zip(b));
            }
            6 => attempts.push((one.attempt_now(key), two.attempt_now(key).unwrap())),
            7 => clock.advance(Duration::from_millis(draw(20_000))),
            _ if attempts.is_empty() => {}
            _ => {
                let (a, b) = attempts.swap_remove(draw(attempts.len() as u64) as usize);
                match draw(4) {
                    0 => same(a.succeed(), b.succeed().unwrap(), &context),
                    1 => same(
                        a.fail_with(&other, hint),
                        b.fail_with(Some(&other), hint, CAUSE).unwrap(),
                        &context,
                    ),
                    2 => same(a.fail(), b.fail(CAUSE).unwrap(), &context),
                    _ => drop((a, b)),
                }
            }
        }
        for key in &keys {
            let ready = one.check(key);
            gave_up += u32::from(matches!(ready, Readiness::GaveUp(_)));
            same(ready, two.check(key).unwrap(), &context);
            let state = two.get(key).unwrap().map(|record| record.state);
            assert_eq!(one.get(key).map(|streak| streak.state), state, "{context}");
        }
    }
    assert!(gave_up > 1000, "{gave_up}");
}

/// Within the caller's transactions too, whether these are committed or not; what is rolled back
/// never happened, for the trackers either.
#[cfg(feature = "file")]
#[test]
#[expect(clippy::too_many_lines, reason = "a table of verbs")]
fn they_do_so_within_the_callers_transactions() {
    use relent::store::{FileError, FileStore, Inline, Work};

    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let store = |name: &str| FileStore::with_clock(directory.path().join(name), clock.clone());
    let hour = Duration::from_secs(3600);
    let options = || {
        Options::new(POLICY)
            .holder("worker")
            .clock(clock.clone())
            .time_to_live(hour)
            .seed(5)
    };
    let one = blocking::DurableTracker::new(store("one").unwrap(), options());
    let two = DurableTracker::new(Inline(store("two").unwrap()), options());
    let mut works: Vec<(blocking::Work<_>, Work<_>)> = vec![];
    let mut verbs_seen = [[0; 2]; 9];
    for n in 0..1500 {
        let mut draws = (0..).map(|m| random::draw(n, m));
        let mut draw = |below: u64| draws.next().unwrap_or_default() % below;
        let key = format!("key {}", draw(4));
        let key = key.as_str();
        let (verb, is_committed) = (draw(9) as usize, draw(2) == 0);
        let hint = Some(Duration::from_secs(draw(30)));
        let context = format!("step {n}, verb {verb}, committed: {is_committed}");
        let held = match works.len() as u64 {
            0 => None,
            held => Some(draw(held) as usize),
        };
        let before = one.get(key).unwrap();
        let (mut granted, mut is_over) = (None, false);
        let ended = one.store().transaction(|a| {
            two.store().0.transaction(|b| {
                let work = held.and_then(|held| works.get(held));
                match (verb, work) {
                    (0, _) => same(
                        one.record_failure_in(a, key, "broken"),
                        ready(two.record_failure_in(b, key, "broken")),
                        &context,
                    ),
                    (1, _) => same(
                        one.record_failure_with_in(a, key, None, hint, "broken"),
                        ready(two.record_failure_with_in(b, key, None, hint, "broken")),
                        &context,
                    ),
                    (2, _) => same(
                        one.record_success_in(a, key),
                        ready(two.record_success_in(b, key)),
                        &context,
                    ),
                    (3, _) => match (one.start_in(a, key), ready(two.start_in(b, key))) {
                        (Ok(a), Ok(b)) => {
                            same(&a, &b, &context);
                            granted = Some((a, b));
                        }
                        (a, b) => same(a.err(), b.err(), &context),
                    },
                    (4, Some((one, two))) => {
                        let (one, two) = (one.finish_in(a), ready(two.finish_in(b)));
                        is_over = one.is_ok();
                        same(one, two, &context);
                    }
                    (5, _) => same(
                        one.forget_in(a, key),
                        ready(two.forget_in(b, key)),
                        &context,
                    ),
                    (6, Some((one, two))) => {
                        let (one, two) = (one.cancel_in(a), ready(two.cancel_in(b)));
                        is_over = one.is_ok();
                        same(one, two, &context);
                    }
                    (_, Some((one, two))) => {
                        let (one, two) = if verb == 7 {
                            let two = two.fail_with_in(b, None, hint, "broken");
                            (one.fail_with_in(a, None, hint, "broken"), ready(two))
                        } else {
                            (one.fail_in(a, "broken"), ready(two.fail_in(b, "broken")))
                        };
                        is_over = one.is_ok();
                        same(one, two, &context);
                    }
                    (_, None) => {}
                }
                let rolled_back = || FileError::Data { why: String::new() };
                if is_committed {
                    Ok(())
                } else {
                    Err(rolled_back())
                }
            })
        });
        assert_eq!(ended.is_ok(), is_committed, "{context}");
        verbs_seen[verb][usize::from(is_committed)] += 1;
        if !is_committed {
            assert_eq!(one.get(key).unwrap(), before, "{context}");
        } else if let Some((a, b)) = granted {
            works.push((one.committed(a), two.committed(b)));
        } else if is_over {
            let (a, b) = works.swap_remove(held.unwrap_or_default());
            same(a.cancel(), ready(b.cancel()), &context);
        }
        assert!(works.iter().all(|(a, b)| !a.expired() && !b.expired()));
        assert_eq!(one.session().held(), works.len(), "{context}");
        assert_eq!(two.session().held(), works.len(), "{context}");
        same(one.get(key), ready(two.get(key)), &context);
        clock.advance(Duration::from_millis(draw(2000)));
    }
    let all_seen = verbs_seen.iter().flatten().all(|&seen| seen > 50);
    assert!(all_seen, "{verbs_seen:?}");
}

#[test]
fn j6_keys_streaks_batches_and_trackers_spread_their_delays() {
    const ROUNDS: usize = 300;
    let tracker = || blocking::DurableTracker::new(MemoryStore::new(), POLICY);
    let one = tracker();
    let keys: Vec<_> = (0..ROUNDS).map(|n| format!("key {n}")).collect();
    let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
    let streaks = || {
        let decision = one.record_failure("a", "broken");
        assert!(one.forget("a").unwrap());
        decision.unwrap()
    };
    let each = keys.iter().map(|key| one.record_failure(key, "broken"));
    let works = keys.iter().map(|key| tracker().start(key).unwrap());
    for (name, decisions) in [
        ("keys", each.map(Result::unwrap).collect::<Vec<_>>()),
        ("streaks", (0..ROUNDS).map(|_| streaks()).collect()),
        ("a batch", tracker().record_failures(&failures).unwrap()),
        (
            "works",
            works.map(|work| work.fail("broken").unwrap()).collect(),
        ),
    ] {
        let delays: HashSet<_> = decisions.iter().filter_map(|made| made.delay()).collect();
        assert!(delays.len() > ROUNDS * 9 / 10, "{name}: {}", delays.len());
    }
}
