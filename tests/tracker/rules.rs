//! T, G3 and J6, one by one.

use std::collections::HashSet;
use std::time::Duration;

use relent::{Backoff, Decision, GiveUpReason, Jitter, NotReady, Readiness, Streak};

use crate::{DOUBLING, Tracker, builder, next_due, secs, tracker};

const fn retry(after: u64) -> Decision {
    Decision::Retry { after: secs(after) }
}

#[track_caller]
fn assert_failures(tracker: &Tracker<String>, key: &str, failures: u32) {
    let counted = tracker.get(key).map_or(0, |streak| streak.state.failures);
    assert_eq!(counted, failures, "failures of {key}");
}

#[test]
fn t1_keys_are_independent() {
    let (clock, tracker) = tracker(DOUBLING);
    for after in [1, 2, 4] {
        assert_eq!(tracker.record_failure("a"), retry(after));
    }
    assert_eq!(tracker.record_failure("b"), retry(1));
    assert_eq!(tracker.check("a"), Readiness::Wait(secs(4)));
    assert_eq!(tracker.check("b"), Readiness::Wait(secs(1)));
    assert_eq!(tracker.check("c"), Readiness::Ready);
    clock.advance(secs(1));
    assert_eq!(tracker.check("a"), Readiness::Wait(secs(3)));
    // Due at the very instant, not after it.
    assert_eq!(tracker.check("b"), Readiness::Ready);
    tracker.record_success("b");
    assert_failures(&tracker, "a", 3);
    assert_eq!((tracker.len(), tracker.is_empty()), (1, false));
}

#[test]
fn t1_a_success_removes_the_key_and_the_next_failure_is_a_first_one() {
    let (clock, tracker) = tracker(DOUBLING);
    assert_eq!(tracker.record_success("a"), None);
    tracker.record_failure("a");
    clock.advance(secs(7));
    tracker.record_failure("a");
    clock.advance(secs(3));
    let recovery = tracker.record_success("a").unwrap();
    assert_eq!((recovery.failures, recovery.outage), (2, secs(10)));
    // Only on the edge.
    assert_eq!(tracker.record_success("a"), None);
    assert!(tracker.is_empty());
    assert_eq!(tracker.record_failure("a"), retry(1));
}

#[test]
fn t1_a_result_is_recorded_as_what_it_is() {
    let (_, tracker) = tracker(DOUBLING);
    assert_eq!(tracker.record("a", &Ok::<_, ()>(1)), None);
    assert_eq!(tracker.record("a", &Err::<(), _>("no")), Some(retry(1)));
    assert_failures(&tracker, "a", 1);
    assert_eq!(tracker.record("a", &Ok::<_, ()>(1)), None);
    assert!(tracker.is_empty());
}

#[test]
fn t1_the_outage_lasts_from_the_first_failure() {
    let (clock, tracker) = tracker(DOUBLING);
    for _ in 0..3 {
        tracker.record_failure("a");
        clock.advance(secs(100));
    }
    let Streak {
        state,
        elapsed,
        readiness,
        ..
    } = tracker.get("a").unwrap();
    assert_eq!((state.failures, state.interval), (3, secs(4)));
    assert_eq!((elapsed, readiness), (secs(300), Readiness::Ready));
    assert_eq!(tracker.get("b"), None);
}

#[test]
fn t2_every_recorded_failure_escalates_while_waiting_too() {
    let (_, tracker) = tracker(DOUBLING);
    let waits: Vec<_> = (0..8).map(|_| tracker.record_failure("a")).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60].map(retry));
}

#[test]
fn t2_of_the_attempts_of_one_window_one_failure_counts() {
    let (clock, tracker) = tracker(DOUBLING);
    for (round, interval) in [1, 2, 4, 8].into_iter().enumerate() {
        let attempts: Vec<_> = (0..5).map(|_| tracker.attempt("a").unwrap()).collect();
        assert!(
            attempts
                .iter()
                .all(|attempt| attempt.failures() as usize == round)
        );
        for (n, attempt) in attempts.into_iter().enumerate() {
            // The later ones learn what is left of the wait.
            let left = secs(interval) - Duration::from_millis(100) * n as u32;
            assert_eq!(attempt.fail(), Decision::Retry { after: left });
            clock.advance(Duration::from_millis(100));
        }
        assert_failures(&tracker, "a", round as u32 + 1);
        assert_eq!(
            tracker.attempt("a").unwrap_err(),
            NotReady::Wait(secs(interval) - Duration::from_millis(500))
        );
        clock.advance(secs(interval));
    }
}

#[test]
fn t2_a_stale_attempt_never_escalates() {
    let (clock, tracker) = tracker(DOUBLING);
    // Stale because of a failure that came from no attempt.
    let stale = tracker.attempt("a").unwrap();
    tracker.record_failure("a");
    clock.advance(secs(5));
    assert_eq!(stale.fail(), retry(0));
    // Stale because of another streak with as many failures.
    let stale = tracker.attempt("a").unwrap();
    assert_eq!(stale.failures(), 1);
    tracker.record_success("a");
    tracker.record_failure("a");
    assert_eq!(stale.fail(), retry(1));
    assert_failures(&tracker, "a", 1);
    // Stale because the key gave up.
    let stale = tracker.attempt("b").unwrap();
    tracker.record_failure_with("b", &Backoff::never_retry(), None);
    assert_eq!(stale.fail(), Decision::GiveUp(GiveUpReason::Failures));
    assert_failures(&tracker, "b", 1);
}

#[test]
fn t2_a_failure_after_a_success_begins_anew() {
    let (clock, tracker) = tracker(DOUBLING);
    tracker.record_failure("a");
    tracker.record_failure("a");
    clock.advance(secs(2));
    let attempt = tracker.attempt("a").unwrap();
    tracker.record_success("a");
    assert_eq!(attempt.fail(), retry(1));
    assert_failures(&tracker, "a", 1);
}

#[test]
fn t2_a_dropped_attempt_says_nothing_and_a_success_ends_all() {
    let (clock, tracker) = tracker(DOUBLING);
    tracker.record_failure("a");
    clock.advance(secs(1));
    let before = tracker.get("a");
    drop(tracker.attempt("a").unwrap());
    assert_eq!(tracker.get("a"), before);
    let (one, other) = (tracker.attempt("a").unwrap(), tracker.attempt("a").unwrap());
    assert_eq!(one.key(), "a");
    assert_eq!(one.fail(), retry(2));
    let recovery = other.succeed().unwrap();
    assert_eq!((recovery.failures, recovery.outage), (2, secs(1)));
    assert_eq!(tracker.check("a"), Readiness::Ready);
    assert_eq!(tracker.attempt("a").unwrap().succeed(), None);
}

#[test]
fn t2_an_attempt_may_fail_by_its_own_policy() {
    let (_, tracker) = tracker(DOUBLING);
    let attempt = tracker.attempt("a").unwrap();
    assert_eq!(
        attempt.fail_with(&Backoff::fixed(secs(9)), Some(secs(3))),
        retry(9)
    );
    let attempt = tracker.attempt("b").unwrap();
    assert_eq!(attempt.fail_with(&DOUBLING, Some(secs(30))), retry(30));
}

#[test]
fn t3_the_policy_passed_now_decides() {
    let (_, tracker) = tracker(DOUBLING);
    for _ in 0..4 {
        tracker.record_failure("a");
    }
    let with = |backoff: Backoff| tracker.record_failure_with("a", &backoff, None);
    assert_eq!(with(DOUBLING.max(secs(10))), retry(10));
    assert_eq!(with(DOUBLING.exponent(1.5)), retry(15));
    assert_eq!(with(DOUBLING.exponent(1.0)), retry(1));
    assert_eq!(with(DOUBLING), retry(2));
    assert_eq!(tracker.record_failure("a"), retry(4));
    assert_eq!(
        with(Backoff::never_retry()),
        Decision::GiveUp(GiveUpReason::Failures)
    );
    assert_eq!(*tracker.backoff(), DOUBLING, "the others' is as it was");
}

#[test]
fn t4_what_is_due_for_the_retention_is_forgotten_with_or_without_a_purge() {
    let (clock, builder) = builder(DOUBLING);
    let tracker = builder.retention(secs(100)).build();
    let forgets: [fn(&Tracker<String>) -> bool; 5] = [
        |tracker| tracker.get("a").is_none(),
        |tracker| tracker.record_success("a").is_none(),
        |tracker| !tracker.forget("a"),
        |tracker| tracker.attempt("a").unwrap().failures() == 0,
        |tracker| tracker.record_failure("a") == retry(1),
    ];
    for purges in [false, true] {
        for forgets in forgets {
            tracker.forget("a");
            tracker.record_failure("a");
            clock.advance(secs(101) - Duration::from_nanos(1));
            assert_eq!(tracker.purge(), 0);
            assert_eq!(tracker.get("a").unwrap().state.failures, 1);
            clock.advance(Duration::from_nanos(1));
            if purges {
                assert_eq!(tracker.purge(), 1);
            }
            assert!(forgets(&tracker));
        }
    }
}

#[test]
fn t4_a_key_that_waits_or_gave_up_outlives_every_purge_before_its_horizon() {
    let (clock, builder) = builder(DOUBLING);
    let tracker: Tracker<String> = builder.retention(secs(10)).build();
    let long = Backoff::fixed(secs(1000));
    tracker.record_failure_with("waits", &long, None);
    clock.advance(secs(990));
    tracker.record_failure_with("gave up", &Backoff::never_retry(), None);
    clock.advance(secs(9));
    assert_eq!((tracker.purge(), tracker.len()), (0, 2));
    assert_eq!(
        tracker.check("gave up"),
        Readiness::GaveUp(GiveUpReason::Failures)
    );
    clock.advance(secs(1));
    assert_eq!((tracker.purge(), tracker.len()), (1, 1));
    assert_eq!(tracker.check("gave up"), Readiness::Ready);
    clock.advance(secs(9));
    assert_eq!(tracker.purge(), 0);
    clock.advance(secs(1));
    assert_eq!((tracker.purge(), tracker.len()), (1, 0));
}

#[test]
fn t4_without_retention_a_key_is_forgotten_once_its_wait_has_passed() {
    let (clock, builder) = builder(DOUBLING);
    let tracker: Tracker<String> = builder.retention(Duration::ZERO).build();
    let gave_up = Readiness::GaveUp(GiveUpReason::Failures);
    tracker.record_failure("waits");
    tracker.record_failure_with("gave up", &Backoff::never_retry(), None);
    assert_eq!(tracker.check("gave up"), gave_up);
    clock.advance(secs(1));
    // At the very moment it can still be told from one that is well.
    assert_failures(&tracker, "waits", 1);
    assert_eq!((tracker.purge(), tracker.len()), (1, 1));
    assert_eq!(tracker.record_failure("waits"), retry(2));
    clock.advance(secs(2) + Duration::from_nanos(1));
    assert_failures(&tracker, "waits", 0);
    assert_eq!(tracker.record_failure("waits"), retry(1));
}

#[test]
fn t4_insertions_purge_what_is_forgotten() {
    let (clock, builder) = builder(DOUBLING);
    let tracker = builder.retention(secs(60)).build();
    for n in 0..200_000_u64 {
        // A thousand keys a second, each remembered for 61 s.
        if n % 1000 == 0 {
            clock.advance(secs(1));
        }
        tracker.record_failure(&n);
    }
    assert!(tracker.len() >= 60_000, "{}", tracker.len());
    assert!(tracker.len() < 100_000, "{}", tracker.len());
    assert_eq!(tracker.evicted(), 0);
}

#[test]
fn t4_the_bound_holds_and_what_it_costs_is_counted() {
    for most in [0, 1, 2, 10, 1000] {
        let (_, builder) = builder(DOUBLING);
        let tracker = builder.max_keys(most).build();
        for n in 0..3000_u64 {
            tracker.record_failure(&n);
            assert!(tracker.len() <= most.max(1));
            assert_ne!(tracker.check(&n), Readiness::Ready, "the newcomer itself");
        }
        assert_eq!(tracker.len(), most.max(1));
        assert_eq!(tracker.evicted(), 3000 - tracker.len() as u64);
    }
}

#[test]
fn t4_who_has_been_due_or_given_up_for_longest_makes_room_first() {
    for policy in [DOUBLING, Backoff::never_retry()] {
        let (clock, builder) = builder(policy);
        let tracker = builder.max_keys(8).build();
        for n in 0..24_u64 {
            tracker.record_failure(&n);
            clock.advance(secs(10));
            let oldest = n.saturating_sub(7);
            assert!((oldest..=n).all(|n| tracker.get(&n).is_some()), "{n}");
        }
    }
}

#[test]
fn t4_whose_retention_is_over_makes_room_without_being_counted() {
    let (clock, builder) = builder(DOUBLING);
    let tracker = builder.max_keys(1).retention(secs(10)).build();
    // In another shard each, where nothing is purged on the way.
    for n in 0..100_u64 {
        tracker.record_failure(&n);
        clock.advance(secs(60));
    }
    assert_eq!((tracker.len(), tracker.evicted()), (1, 0));
}

#[test]
fn t4_the_due_make_room_first_then_the_waiting_then_those_that_gave_up() {
    let (clock, builder) = builder(Backoff::fixed(secs(5)));
    let tracker = builder.max_keys(8).build();
    let long = Backoff::fixed(secs(50));
    let longer = Backoff::fixed(secs(500));
    for n in [0, 1_u64] {
        tracker.record_failure_with(&n, &Backoff::never_retry(), None);
    }
    for n in [2, 3] {
        tracker.record_failure_with(&n, &longer, None);
    }
    for n in [4, 5] {
        tracker.record_failure_with(&n, &long, None);
    }
    for n in [6, 7] {
        tracker.record_failure(&n);
        clock.advance(secs(1));
    }
    clock.advance(secs(10));
    // The newcomers wait for longest.
    let newcomer = Backoff::fixed(secs(5000));
    for (n, gone) in [[6].as_slice(), &[7], &[4, 5], &[4, 5], &[2, 3], &[2, 3]]
        .iter()
        .enumerate()
    {
        let before = tracker.len();
        tracker.record_failure_with(&(100 + n as u64), &newcomer, None);
        assert_eq!(tracker.len(), before);
        let left: Vec<_> = (0..8).filter(|key| tracker.get(key).is_some()).collect();
        assert_eq!(left.len(), 7 - n, "one has gone");
        assert!(gone.iter().any(|key| !left.contains(key)), "{left:?}");
        assert!(left.contains(&0) && left.contains(&1));
    }
}

#[test]
fn g3_what_gave_up_stays_so_until_a_success_or_forgotten() {
    let (clock, tracker) = tracker(DOUBLING.give_up_after_failures(3));
    let gave_up = Decision::GiveUp(GiveUpReason::Failures);
    let ends: [fn(&Tracker<String>); 3] = [
        |tracker| assert_eq!(tracker.record_success("a").unwrap().failures, 5),
        |tracker| assert!(tracker.forget("a")),
        |tracker| tracker.retain(|key, _| key != "a"),
    ];
    for end in ends {
        assert_eq!(tracker.record_failure("a"), retry(1));
        assert_eq!(tracker.record_failure("a"), retry(2));
        assert_eq!(tracker.record_failure("a"), gave_up);
        clock.advance(secs(1000));
        assert_eq!(
            tracker.check("a"),
            Readiness::GaveUp(GiveUpReason::Failures)
        );
        // The failure counts, but the key stays given up, even under a policy that would go on.
        assert_eq!(tracker.record_failure("a"), gave_up);
        assert_eq!(tracker.record_failure_with("a", &DOUBLING, None), gave_up);
        assert_failures(&tracker, "a", 5);
        tracker.attempt("a").unwrap_err();
        assert_eq!((tracker.waiting(), next_due(&tracker)), (0, None));
        end(&tracker);
        assert_eq!(tracker.check("a"), Readiness::Ready);
    }
}

#[test]
fn g3_elapsed_counts_from_the_first_failure_and_is_told() {
    let (clock, tracker) = tracker(DOUBLING.give_up_after(secs(10)));
    for after in [1, 2, 4] {
        assert_eq!(tracker.record_failure("a"), retry(after));
        clock.advance(secs(after));
    }
    assert_eq!(
        tracker.record_failure("a"),
        Decision::GiveUp(GiveUpReason::Elapsed)
    );
    assert_eq!(tracker.check("a"), Readiness::GaveUp(GiveUpReason::Elapsed));
}

/// The delays after a first failure: of many keys, of one key time and again, of one key in many
/// trackers.
fn first_delays(jitter: Jitter) -> [Vec<Duration>; 3] {
    let backoff = DOUBLING.jitter(jitter);
    let delay = |decision: Decision| decision.delay().unwrap();
    let (_, tracker) = tracker(backoff);
    let keys = (0..1000).map(|n| delay(tracker.record_failure(&n.to_string())));
    let keys = keys.collect();
    let streaks = (0..1000).map(|_| {
        tracker.forget("a");
        delay(tracker.record_failure("a"))
    });
    let streaks = streaks.collect();
    let trackers = (0..100).map(|_| delay(crate::tracker(backoff).1.record_failure("a")));
    [keys, streaks, trackers.collect()]
}

/// The share of different ones, and how far their mean is from the half second of a uniform spread.
fn spread(delays: &[Duration]) -> (f64, f64) {
    let all = delays.len() as f64;
    let distinct = delays.iter().collect::<HashSet<_>>().len() as f64;
    let mean = delays.iter().sum::<Duration>().as_secs_f64() / all;
    (distinct / all, (mean - 0.5).abs())
}

#[test]
fn j6_keys_trackers_and_streaks_spread_their_delays() {
    // The mean of 1000 draws from (0 s, 1 s] is off by 0.03 s in one of a thousand runs, that of
    // 100 by 0.1 s.
    for (delays, off) in first_delays(Jitter::Full).iter().zip([0.06, 0.06, 0.2]) {
        let (distinct, mean_off) = spread(delays);
        assert!(distinct > 0.95, "{distinct} are distinct");
        assert!(mean_off < off, "the mean is off by {mean_off}");
    }
    // The same measure notices when the spread is missing.
    for delays in first_delays(Jitter::None) {
        let (distinct, mean_off) = spread(&delays);
        assert!(distinct <= 0.01 && mean_off >= 0.5, "no jitter passes");
    }
}

#[test]
fn j6_the_same_seed_and_hasher_give_the_same_delays() {
    let delays = |jitter: Jitter, seed: u64| {
        let (_, builder) = builder(DOUBLING.jitter(jitter));
        let hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new();
        let tracker = builder.hasher(hasher).seed(seed).build();
        let delays = (0..100_u64).map(|n| tracker.record_failure(&(n % 10)));
        delays.collect::<Vec<_>>()
    };
    assert_eq!(delays(Jitter::Full, 1), delays(Jitter::Full, 1));
    assert_ne!(delays(Jitter::Full, 1), delays(Jitter::Full, 2));
    // The seeds differ by the jitter alone.
    assert_eq!(delays(Jitter::None, 1), delays(Jitter::None, 2));
}

#[test]
fn many_keys_come_and_go() {
    let (_, builder) = builder(DOUBLING);
    let tracker = builder.build();
    for n in 0..50_000_u64 {
        tracker.record_failure(&n);
    }
    assert_eq!(tracker.waiting(), 50_000);
    let mut seen = HashSet::new();
    tracker.retain(|key, _| {
        assert!(seen.insert(*key), "each is asked for once");
        key % 10 == 0
    });
    assert_eq!((seen.len(), tracker.len()), (50_000, 5000));
    for n in 0..50_000_u64 {
        assert_eq!(tracker.check(&n).is_ready(), n % 10 != 0, "{n}");
    }
    for n in 0..50_000_u64 {
        assert_eq!(tracker.record_success(&n).is_some(), n % 10 == 0, "{n}");
    }
    assert!(tracker.is_empty());
}

#[test]
fn t4_a_purge_takes_all_that_is_forgotten_and_nothing_else() {
    let (clock, builder) = builder(DOUBLING);
    let tracker = builder.retention(secs(100)).build();
    for n in 0..50_000_u64 {
        tracker.record_failure(&n);
    }
    clock.advance(secs(101));
    for n in (0..50_000).filter(|n| n % 50 == 0) {
        tracker.record_failure(&n);
    }
    assert_eq!(tracker.purge(), 49_000);
    assert_eq!((tracker.purge(), tracker.len()), (0, 1000));
    for n in 0..50_000 {
        assert_eq!(tracker.check(&n).is_ready(), n % 50 != 0, "{n}");
    }
}

#[test]
fn what_fails_while_retain_asks_is_kept() {
    let (_, tracker) = tracker(DOUBLING);
    tracker.record_failure("a");
    tracker.record_failure("b");
    tracker.retain(|key, _| {
        if key == "a" {
            tracker.record_failure("a");
        }
        false
    });
    assert_failures(&tracker, "a", 2);
    assert_failures(&tracker, "b", 0);
}

#[test]
fn only_a_first_failure_clones_its_key() {
    use std::borrow::Borrow;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    static CLONES: AtomicU32 = AtomicU32::new(0);

    #[derive(PartialEq, Eq, Hash)]
    struct Key(u32);

    impl Clone for Key {
        fn clone(&self) -> Key {
            CLONES.fetch_add(1, Relaxed);
            Key(self.0)
        }
    }

    let (clock, builder) = builder(DOUBLING);
    let tracker = builder.build();
    let key = Key(7);
    let _ = tracker.check(&key);
    tracker.record_success(&key);
    let attempt = tracker.attempt(&key).unwrap();
    assert_eq!(CLONES.load(Relaxed), 0);
    attempt.fail();
    assert_eq!(CLONES.load(Relaxed), 1);
    for _ in 0..10 {
        tracker.record_failure(&key);
        let _ = tracker.check(&key);
        clock.advance(secs(100));
        tracker.attempt(&key).unwrap().fail();
    }
    let _: &Key = key.borrow();
    assert_eq!(CLONES.load(Relaxed), 1);
}
