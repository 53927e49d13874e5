//! Any sequence of actions, beside a tracker so naive that it is plainly right.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use relent::clock::ManualClock;
use relent::{
    Attempt, Backoff, BackoffState, BackoffTracker, Decision, Failure, GiveUpReason, Readiness,
    Recovery, Snapshot, Streak,
};

use crate::{DOUBLING, Tracker, builder, secs};

const KEYS: u8 = 6;
const RETENTION: Duration = secs(200);
const POLICIES: [Backoff; 5] = [
    DOUBLING,
    Backoff::fixed(secs(5)),
    DOUBLING.give_up_after_failures(3),
    DOUBLING.give_up_after(secs(30)),
    Backoff::never_retry(),
];

#[derive(Clone, Debug)]
enum Action {
    Advance(Duration),
    Fail(u8),
    FailWith(u8, usize, Option<Duration>),
    Succeed(u8),
    Forget(u8),
    Begin(u8),
    End(usize, Ending),
    Retain(u8),
    Purge,
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Succeed,
    Fail,
    FailWith(usize),
    Drop,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let key = || 0..KEYS;
    let policy = || 0..POLICIES.len();
    let ending = prop_oneof![
        1 => Just(Ending::Succeed),
        4 => Just(Ending::Fail),
        2 => policy().prop_map(Ending::FailWith),
        1 => Just(Ending::Drop),
    ];
    let action = prop_oneof![
        6 => (0_u64..15_000).prop_map(|ms| Action::Advance(Duration::from_millis(ms))),
        1 => (0_u64..300).prop_map(|s| Action::Advance(secs(s))),
        6 => key().prop_map(Action::Fail),
        4 => (key(), policy(), prop::option::of((0_u64..100).prop_map(secs)))
            .prop_map(|(key, policy, hint)| Action::FailWith(key, policy, hint)),
        2 => key().prop_map(Action::Succeed),
        1 => key().prop_map(Action::Forget),
        5 => key().prop_map(Action::Begin),
        5 => (0_usize..8, ending).prop_map(|(n, ending)| Action::End(n, ending)),
        1 => key().prop_map(Action::Retain),
        1 => Just(Action::Purge),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..120)
}

/// How far a key's streak had come when an attempt began: which streak, and how many failures.
type Window = Option<(u32, u32)>;

/// What the naive tracker knows of a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    streak: u32,
    state: BackoffState,
    first: Duration,
    until: Duration,
    gave_up: Option<GiveUpReason>,
}

#[derive(Default)]
struct Naive {
    now: Duration,
    keys: BTreeMap<u8, Known>,
    streaks: u32,
}

impl Naive {
    fn advance(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        self.keys.retain(|_, known| known.until + RETENTION > now);
    }

    fn readiness(&self, key: u8) -> Readiness {
        match self.keys.get(&key) {
            Some(Known {
                gave_up: Some(reason),
                ..
            }) => Readiness::GaveUp(*reason),
            Some(known) if known.until > self.now => Readiness::Wait(known.until - self.now),
            _ => Readiness::Ready,
        }
    }

    fn streak(&self, key: u8) -> Option<Streak> {
        let known = self.keys.get(&key)?;
        Some(Streak {
            state: known.state,
            elapsed: self.now - known.first,
            readiness: self.readiness(key),
        })
    }

    fn fail(&mut self, key: u8, backoff: &Backoff, hint: Option<Duration>) -> Decision {
        let now = self.now;
        self.streaks += 1;
        let known = self.keys.entry(key).or_insert(Known {
            streak: self.streaks,
            state: BackoffState::default(),
            first: now,
            until: now,
            gave_up: None,
        });
        let mut failure = Failure::new(0).elapsed(now - known.first);
        failure.retry_after = hint;
        let decision = backoff.next(&mut known.state, failure);
        let decision = known.gave_up.map_or(decision, Decision::GiveUp);
        known.until = now;
        match decision {
            Decision::Retry { after } => known.until += after,
            Decision::GiveUp(reason) => known.gave_up = Some(reason),
        }
        decision
    }

    fn succeed(&mut self, key: u8) -> Option<Recovery> {
        let known = self.keys.remove(&key)?;
        Some(Recovery {
            failures: known.state.failures,
            outage: self.now - known.first,
        })
    }

    /// What an attempt that begins now must find again.
    fn window(&self, key: u8) -> Window {
        let known = self.keys.get(&key)?;
        Some((known.streak, known.state.failures))
    }

    /// The end of an attempt that began in such a window.
    fn fail_in(&mut self, key: u8, window: Window, backoff: &Backoff) -> Decision {
        if self.keys.contains_key(&key) && self.window(key) != window {
            return match self.readiness(key) {
                Readiness::Ready => Decision::Retry {
                    after: Duration::ZERO,
                },
                Readiness::Wait(after) => Decision::Retry { after },
                Readiness::GaveUp(reason) => Decision::GiveUp(reason),
            };
        }
        self.fail(key, backoff, None)
    }
}

/// Another tracker that went on where this one is, in another process.
fn restarted(tracker: &Tracker<u8>, now: Duration) -> Tracker<u8> {
    let (clock, builder) = builder(DOUBLING);
    clock.advance(secs(3));
    clock.set_wall(std::time::UNIX_EPOCH + now);
    let again = builder.retention(RETENTION).build();
    #[cfg(not(feature = "serde"))]
    let snapshot: Snapshot<u8> = tracker.snapshot();
    #[cfg(feature = "serde")]
    let snapshot: Snapshot<u8> =
        serde_json::from_str(&serde_json::to_string(&tracker.snapshot()).unwrap()).unwrap();
    again.restore(snapshot);
    again
}

fn agree(tracker: &Tracker<u8>, naive: &Naive) {
    for key in 0..KEYS {
        assert_eq!(tracker.get(&key), naive.streak(key), "key {key}");
        assert_eq!(tracker.check(&key), naive.readiness(key), "key {key}");
    }
    let waits = (0..KEYS).filter_map(|key| match naive.readiness(key) {
        Readiness::Wait(left) => Some(left),
        _ => None,
    });
    assert_eq!(tracker.waiting(), waits.clone().count());
    assert_eq!(tracker.next_due(), waits.min());
    assert!(tracker.len() >= naive.keys.len());
}

fn run(actions: Vec<Action>, clock: &ManualClock, tracker: &BackoffTracker<u8, ManualClock>) {
    static NAMES: [u8; KEYS as usize] = [0, 1, 2, 3, 4, 5];
    let mut naive = Naive::default();
    let mut attempts: Vec<(Attempt<'_, u8, u8, ManualClock>, Window)> = vec![];
    for action in actions {
        match action {
            Action::Advance(by) => {
                clock.advance(by);
                naive.advance(by);
            }
            Action::Fail(key) => {
                assert_eq!(
                    tracker.record_failure(&key),
                    naive.fail(key, &DOUBLING, None)
                );
            }
            Action::FailWith(key, policy, hint) => {
                let policy = &POLICIES[policy];
                let decision = tracker.record_failure_with(&key, policy, hint);
                assert_eq!(decision, naive.fail(key, policy, hint));
            }
            Action::Succeed(key) => assert_eq!(tracker.record_success(&key), naive.succeed(key)),
            Action::Forget(key) => assert_eq!(tracker.forget(&key), naive.succeed(key).is_some()),
            Action::Begin(key) => match tracker.attempt(&NAMES[usize::from(key)]) {
                Ok(attempt) => {
                    assert_eq!(naive.readiness(key), Readiness::Ready);
                    let failures = naive.window(key).map_or(0, |(_, failures)| failures);
                    assert_eq!(attempt.failures(), failures);
                    attempts.push((attempt, naive.window(key)));
                }
                Err(not_now) => {
                    assert_eq!(not_now, naive.readiness(key));
                    assert!(!not_now.is_ready());
                }
            },
            Action::End(n, ending) if !attempts.is_empty() => {
                let (attempt, window) = attempts.swap_remove(n % attempts.len());
                let key = *attempt.key();
                match ending {
                    Ending::Succeed => assert_eq!(attempt.succeed(), naive.succeed(key)),
                    Ending::Fail => {
                        assert_eq!(attempt.fail(), naive.fail_in(key, window, &DOUBLING));
                    }
                    Ending::FailWith(policy) => {
                        let policy = &POLICIES[policy];
                        let decision = attempt.fail_with(policy, None);
                        assert_eq!(decision, naive.fail_in(key, window, policy));
                    }
                    Ending::Drop => drop(attempt),
                }
            }
            Action::End(..) => {}
            Action::Retain(key) => {
                tracker.retain(|tracked, streak| {
                    assert_eq!(Some(*streak), naive.streak(*tracked));
                    *tracked != key
                });
                naive.keys.remove(&key);
            }
            Action::Purge => {
                let before = tracker.len();
                let purged = tracker.purge();
                assert_eq!(before - purged, naive.keys.len());
                assert_eq!(tracker.len(), naive.keys.len());
            }
            Action::Restart => agree(&restarted(tracker, naive.now), &naive),
        }
        agree(tracker, &naive);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn t_any_actions_agree_with_the_naive_tracker(actions in actions()) {
        let (clock, builder) = builder(DOUBLING);
        let tracker = builder.retention(RETENTION).build();
        run(actions, &clock, &tracker);
    }
}
