//! The transitions themselves, where a store is not needed to see what they come to.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::store::step::{self, Failed, Start, Window};
use relent::store::{Change, Event, LeaseLost, Record, Write};
use relent::{Backoff, Jitter};

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::exponential(SECOND, Duration::from_secs(600)).jitter(Jitter::None);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn failed() -> Failed {
    Failed {
        backoff: Some(POLICY),
        retry_after: None,
        cause: "broken".to_owned(),
        entropy: 0,
    }
}

/// What a change leaves, and what it has noted.
#[track_caller]
fn made<R>(change: Change<R>) -> (Option<Record>, Vec<Event>) {
    let settled = change.settle(|| Ok::<_, ()>(1)).unwrap();
    let record = match settled.write {
        Write::Put(record) => Some(record),
        Write::Delete => None,
        Write::Keep => panic!("nothing was written"),
    };
    (record, settled.events.into_iter().flatten().collect())
}

/// A key that failed once, and was then taken for a minute by a worker that died.
fn died_on() -> Record {
    let (record, _) = made(step::failure(failed())(None, at(1000)));
    taken(record.as_ref())
}

/// A key that somebody takes for a minute.
fn taken(record: Option<&Record>) -> Record {
    let mut start = step::start(Start {
        holder: "worker".to_owned(),
        time_to_live: 60 * SECOND,
        backoff: Some(POLICY),
        entropy: 0,
    });
    made(start(record, at(1010))).0.unwrap()
}

#[test]
fn p2_whoever_changes_a_key_that_somebody_died_on_notes_that_first() {
    let record = died_on();
    let live = Some(&record);
    let (before, after) = (at(1069), at(1070));

    let (failing, events) = made(step::failure(failed())(live, before));
    assert_eq!(events, [Event::Failed]);
    assert!(failing.is_some_and(|record| record.lease.is_some()));
    let (failing, events) = made(step::failure(failed())(live, after));
    assert_eq!(events, [Event::Expired, Event::Failed]);
    let failing = failing.unwrap();
    assert_eq!((failing.state.failures, failing.lease), (2, None));

    let (kept, events) = made(step::success()(live, before));
    assert_eq!((kept.is_some(), events), (true, vec![Event::Finished]));
    let (gone, events) = made(step::success()(live, after));
    assert_eq!(
        (gone, events),
        (None, vec![Event::Expired, Event::Finished])
    );

    let (kept, events) = made(step::forget()(live, before));
    assert_eq!((kept.is_some(), events), (true, vec![Event::Forgotten]));
    let (gone, events) = made(step::forget()(live, after));
    assert_eq!(
        (gone, events),
        (None, vec![Event::Expired, Event::Forgotten])
    );
}

#[test]
fn p2_only_the_token_of_the_lease_that_lives_is_good() {
    let mut record = taken(None);
    record.lease.as_mut().unwrap().token = 5;
    let failing = made(step::failure(failed())(None, at(1000))).0;
    let (live, over) = (at(1069), at(1070));
    let by = "worker".to_owned();
    for (record, token, now, lost) in [
        (Some(&record), 5, live, None),
        (
            Some(&record),
            5,
            over,
            Some(LeaseLost::Expired { at: over }),
        ),
        (Some(&record), 4, live, Some(LeaseLost::Taken { by })),
        // Of a store that was put back to what it had been.
        (Some(&record), 6, live, Some(LeaseLost::Ended)),
        (failing.as_ref(), 5, live, Some(LeaseLost::Ended)),
        (None, 5, live, Some(LeaseLost::Ended)),
    ] {
        let finish = step::finish(token)(record, now);
        let is_kept = finish.write() == Write::Keep;
        let answer = finish.settle(|| Ok::<_, ()>(9)).unwrap().answer;
        assert_eq!((answer.err(), is_kept), (lost.clone(), lost.is_some()));
        let extend = step::extend(token, SECOND)(record, now);
        let extended = extend.settle(|| Ok::<_, ()>(9)).unwrap().answer;
        assert_eq!(extended.err(), lost, "{token}");
    }
}

#[test]
fn who_is_refused_writes_nothing() {
    let start = || Start {
        holder: "another".to_owned(),
        time_to_live: SECOND,
        backoff: Some(POLICY),
        entropy: 0,
    };
    let failing = made(step::failure(failed())(None, at(1000))).0;
    for (record, now) in [(failing, at(1000)), (Some(taken(None)), at(1010))] {
        let refused = step::start(start())(record.as_ref(), now);
        assert_eq!(refused.write(), Write::Keep);
        refused
            .settle(|| Ok::<_, ()>(9))
            .unwrap()
            .answer
            .unwrap_err();
    }
    let held = step::start_now(start())(Some(&taken(None)), at(1010));
    assert_eq!(held.write(), Write::Keep);
}

#[test]
fn t1_a_key_that_did_not_fail_recovers_from_nothing() {
    let recoveries = |record: &Record, now| {
        let token = record.lease.as_ref().map(|lease| lease.token);
        let finished = step::finish(token.unwrap())(Some(record), now);
        let ended = step::success()(Some(record), at(9999));
        let finished = finished.settle(|| Ok::<_, ()>(2)).unwrap().answer.unwrap();
        let ended = ended.settle(|| Ok::<_, ()>(2)).unwrap().answer;
        [finished, ended].map(|made| made.map(|made| (made.failures, made.outage)))
    };
    let failed = died_on();
    let expected = [(1, 20 * SECOND), (1, 8999 * SECOND)].map(Some);
    assert_eq!(recoveries(&failed, at(1020)), expected);
    assert_eq!(recoveries(&taken(None), at(1020)), [None, None]);
}

/// As they do where a worker died that had many.
#[test]
fn j6_keys_that_are_taken_together_spread_their_delays() {
    let start = Start {
        holder: "worker".to_owned(),
        time_to_live: 60 * SECOND,
        backoff: Some(POLICY.jitter(Jitter::Full)),
        entropy: 7,
    };
    let untils = (0..100).map(|nth| {
        let change = start.nth(nth).apply(Some(&died_on()), at(1070));
        made(change).0.unwrap().until
    });
    let different: HashSet<_> = untils.collect();
    assert!(different.len() > 95, "{}", different.len());
}

/// Whoever ends the streak has asked for the key: from then on the lease lives as long as it was to.
#[test]
fn p1_a_lease_from_the_future_outlives_no_time_to_live() {
    let (failed, _) = made(step::failure(failed())(None, at(1000)));
    let taken = taken(failed.as_ref());
    let (left, _) = made(step::success()(Some(&taken), at(500)));
    let lease = left.and_then(|left| left.lease).unwrap();
    assert_eq!((lease.since, lease.until), (at(500), at(560)));
}

#[test]
fn p1_p2_a_window_stays_the_same_when_the_clock_is_set_back() {
    let broken = |record: Option<&Record>, now| made(step::failure(failed())(record, now)).0;
    let first = broken(None, at(9000));
    let record = broken(first.as_ref(), at(9002));
    let window = Window::of(record.as_ref());

    // The clock is set back by an hour, and somebody asks for the key before the attempt fails.
    let now = at(5402) + Duration::from_nanos(7);
    let moved = made(step::check()(record.as_ref(), now)).0;
    assert_ne!(Window::of(moved.as_ref()), window);
    let later = now + SECOND;
    let change = step::failure_in(window, failed())(moved.as_ref(), later);
    let third = made(change).0.unwrap();
    assert_eq!(third.state.failures, 3);

    // The window of the moved record counts as the same, and no other does.
    let counts = |record: Option<&Record>| {
        let change = step::failure_in(window, failed())(record, at(99_999));
        change.write() != Write::Keep
    };
    assert!(counts(record.as_ref()) && counts(moved.as_ref()));
    assert!(!counts(Some(&third)), "another failure came before");
    assert!(
        counts(None),
        "a success came before: there is nothing that it could escalate"
    );
    let other = broken(broken(None, at(9010)).as_ref(), at(9012));
    assert!(!counts(other.as_ref()), "another streak, later");
    let other = broken(broken(None, at(5000)).as_ref(), at(5003));
    assert!(
        !counts(other.as_ref()),
        "another streak, after the clock was set back"
    );
}

/// In a history, the death has a cause of its own, not that of the failure recorded with it.
#[cfg(feature = "sqlite")]
#[test]
fn a_history_tells_who_died_apart_from_what_was_recorded_then() {
    use relent::clock::ManualClock;
    use relent::store::blocking::DurableTracker;
    use relent::store::{Options, SqliteStore};

    let clock = ManualClock::new();
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("history.db")).unwrap();
    let store = store.with_clock(clock.clone()).with_history();
    let tracker = DurableTracker::new(store, Options::new(POLICY).time_to_live(SECOND));
    for key in ["failed", "finished"] {
        drop(tracker.start(key).unwrap());
    }
    clock.advance(SECOND);
    tracker.record_failure("failed", "broken").unwrap();
    tracker.record_success("finished").unwrap();
    let told = |key| {
        let entries = tracker.store().history(key, 9).unwrap().into_iter().rev();
        let entries = entries.map(|entry| (entry.event, entry.cause.unwrap_or_default()));
        entries.skip(1).collect::<Vec<_>>()
    };
    let died = || (Event::Expired, step::LEASE_EXPIRED.to_owned());
    let failed = (Event::Failed, "broken".to_owned());
    assert_eq!(told("failed"), [died(), failed]);
    assert_eq!(told("finished"), [died(), (Event::Finished, String::new())]);
}
