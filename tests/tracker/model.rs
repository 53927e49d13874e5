//! Any sequence of actions, beside a tracker so naive that it is plainly right.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::ops::Range;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use relent::clock::ManualClock;
use relent::{
    Attempt, Backoff, BackoffState, BackoffTracker, Decision, Failure, GiveUpReason, Readiness,
    Recovery, Snapshot, Streak,
};

use crate::{DOUBLING, Tracker, builder, next_due, secs};

/// Keys of each thread.
const KEYS: u8 = 6;
const THREADS: usize = 4;
static NAMES: [u8; THREADS * KEYS as usize] = {
    let mut names = [0; THREADS * KEYS as usize];
    let mut nth = 0;
    while nth < names.len() {
        names[nth] = nth as u8;
        nth += 1;
    }
    names
};
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
    At(Deed),
    Retain(u8),
    Purge,
    Restart,
}

/// What concerns one key alone.
#[derive(Clone, Debug)]
enum Deed {
    Fail(u8),
    FailWith(u8, usize, Option<Duration>),
    Succeed(u8),
    Forget(u8),
    Begin(u8),
    BeginNow(u8),
    End(usize, Ending),
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Succeed,
    Fail,
    FailWith(usize),
    Drop,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (0_u64..15_000).prop_map(|ms| Action::Advance(Duration::from_millis(ms))),
        1 => (0_u64..300).prop_map(|s| Action::Advance(secs(s))),
        25 => deed(0..KEYS).prop_map(Action::At),
        1 => (0..KEYS).prop_map(Action::Retain),
        1 => Just(Action::Purge),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..120)
}

fn deed(keys: Range<u8>) -> impl Strategy<Value = Deed> {
    let key = || keys.clone();
    let policy = || 0..POLICIES.len();
    let ending = prop_oneof![
        1 => Just(Ending::Succeed),
        4 => Just(Ending::Fail),
        2 => policy().prop_map(Ending::FailWith),
        1 => Just(Ending::Drop),
    ];
    prop_oneof![
        6 => key().prop_map(Deed::Fail),
        4 => (key(), policy(), prop::option::of((0_u64..100).prop_map(secs)))
            .prop_map(|(key, policy, hint)| Deed::FailWith(key, policy, hint)),
        2 => key().prop_map(Deed::Succeed),
        1 => key().prop_map(Deed::Forget),
        5 => key().prop_map(Deed::Begin),
        2 => key().prop_map(Deed::BeginNow),
        6 => (0_usize..8, ending).prop_map(|(n, ending)| Deed::End(n, ending)),
    ]
}

/// How far a key's streak had come when an attempt began: which streak, and how many failures.
type Window = Option<(u32, u32)>;

/// What a [`Streak`] tells.
type Told = (BackoffState, Duration, Readiness);

fn told(streak: &Streak) -> Told {
    (streak.state, streak.elapsed, streak.readiness)
}

fn ended(recovery: Recovery) -> (u32, Duration) {
    (recovery.failures, recovery.outage)
}

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

    fn streak(&self, key: u8) -> Option<Told> {
        let known = self.keys.get(&key)?;
        let elapsed = self.now - known.first;
        Some((known.state, elapsed, self.readiness(key)))
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

    /// Ends a streak, and returns how many failures it had, and how long it had lasted.
    fn succeed(&mut self, key: u8) -> Option<(u32, Duration)> {
        let known = self.keys.remove(&key)?;
        Some((known.state.failures, self.now - known.first))
    }

    /// What an attempt that begins now must still find when it fails, to count.
    fn window(&self, key: u8) -> Window {
        let known = self.keys.get(&key)?;
        Some((known.streak, known.state.failures))
    }

    /// The end of an attempt that began in such a window, when the key was ready or not.
    fn fail_in(&mut self, key: u8, window: Window, ready: bool, backoff: &Backoff) -> Decision {
        if self.keys.contains_key(&key) && !(ready && self.window(key) == window) {
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

/// One tracker and the other, and the attempts that are under way.
struct Beside<'a, S> {
    tracker: &'a BackoffTracker<u8, ManualClock, S>,
    naive: Naive,
    attempts: Vec<Begun<'a, S>>,
}

struct Begun<'a, S> {
    attempt: Attempt<'a, u8, u8, ManualClock, S>,
    window: Window,
    was_ready: bool,
}

impl<'a, S: BuildHasher> Beside<'a, S> {
    fn new(tracker: &'a BackoffTracker<u8, ManualClock, S>) -> Self {
        Beside {
            tracker,
            naive: Naive::default(),
            attempts: vec![],
        }
    }

    fn act(&mut self, deed: &Deed) {
        let Beside {
            tracker,
            naive,
            attempts,
        } = self;
        match *deed {
            Deed::Fail(key) => {
                assert_eq!(
                    tracker.record_failure(&key),
                    naive.fail(key, &DOUBLING, None)
                );
            }
            Deed::FailWith(key, policy, hint) => {
                let policy = &POLICIES[policy];
                let decision = tracker.record_failure_with(&key, policy, hint);
                assert_eq!(decision, naive.fail(key, policy, hint));
            }
            Deed::Succeed(key) => {
                assert_eq!(tracker.record_success(&key).map(ended), naive.succeed(key));
            }
            Deed::Forget(key) => assert_eq!(tracker.forget(&key), naive.succeed(key).is_some()),
            Deed::Begin(key) => match tracker.attempt(&NAMES[usize::from(key)]) {
                Ok(attempt) => {
                    assert_eq!(naive.readiness(key), Readiness::Ready);
                    self.begun(key, attempt);
                }
                Err(not_ready) => assert_eq!(Readiness::from(not_ready), naive.readiness(key)),
            },
            Deed::BeginNow(key) => {
                let attempt = tracker.attempt_now(&NAMES[usize::from(key)]);
                self.begun(key, attempt);
            }
            Deed::End(n, ending) if !attempts.is_empty() => {
                let begun = attempts.swap_remove(n % attempts.len());
                self.end(begun, ending);
            }
            Deed::End(..) => {}
        }
    }

    fn begun(&mut self, key: u8, attempt: Attempt<'a, u8, u8, ManualClock, S>) {
        let window = self.naive.window(key);
        let failures = window.map_or(0, |(_, failures)| failures);
        assert_eq!(attempt.failures(), failures);
        self.attempts.push(Begun {
            attempt,
            window,
            was_ready: self.naive.readiness(key).is_ready(),
        });
    }

    fn end(&mut self, begun: Begun<'a, S>, ending: Ending) {
        let naive = &mut self.naive;
        let key = *begun.attempt.key();
        let mut expected = |policy| naive.fail_in(key, begun.window, begun.was_ready, policy);
        match ending {
            Ending::Succeed => {
                assert_eq!(begun.attempt.succeed().map(ended), naive.succeed(key));
            }
            Ending::Fail => assert_eq!(begun.attempt.fail(), expected(&DOUBLING)),
            Ending::FailWith(policy) => {
                let policy = &POLICIES[policy];
                assert_eq!(begun.attempt.fail_with(policy, None), expected(policy));
            }
            Ending::Drop => {}
        }
    }

    fn agree(&self, keys: Range<u8>) {
        for key in keys {
            let streak = self.tracker.get(&key).as_ref().map(told);
            assert_eq!(streak, self.naive.streak(key), "key {key}");
            assert_eq!(
                self.tracker.check(&key),
                self.naive.readiness(key),
                "key {key}"
            );
        }
    }
}

/// What they know of all keys together is the same too.
fn agree<S: BuildHasher>(tracker: &BackoffTracker<u8, ManualClock, S>, naive: &[&Naive]) {
    let keys = naive.iter().flat_map(|naive| {
        let keys = naive.keys.keys();
        keys.map(|key| naive.readiness(*key))
    });
    let waits = keys.clone().filter_map(|readiness| match readiness {
        Readiness::Wait(left) => Some(left),
        _ => None,
    });
    assert_eq!(tracker.waiting(), waits.clone().count());
    assert_eq!(next_due(tracker), waits.min());
    let ready = keys
        .clone()
        .filter(|readiness| *readiness == Readiness::Ready);
    assert_eq!(tracker.due(usize::MAX).len(), ready.count());
    assert!(tracker.len() >= keys.count());
}

fn run(actions: Vec<Action>, clock: &ManualClock, tracker: &Tracker<u8>) {
    let mut beside = Beside::new(tracker);
    for action in actions {
        match action {
            Action::Advance(by) => {
                clock.advance(by);
                beside.naive.advance(by);
            }
            Action::At(deed) => beside.act(&deed),
            Action::Retain(key) => {
                tracker.retain(|tracked, streak| {
                    assert_eq!(Some(told(streak)), beside.naive.streak(*tracked));
                    *tracked != key
                });
                beside.naive.keys.remove(&key);
            }
            Action::Purge => {
                let before = tracker.len();
                let purged = tracker.purge();
                assert_eq!(before - purged, beside.naive.keys.len());
                assert_eq!(tracker.len(), beside.naive.keys.len());
            }
            Action::Restart => {
                let again = restarted(tracker, beside.naive.now);
                for key in 0..KEYS {
                    let streak = again.get(&key).as_ref().map(told);
                    assert_eq!(streak, beside.naive.streak(key), "key {key}");
                }
                agree(&again, &[&beside.naive]);
            }
        }
        beside.agree(0..KEYS);
        agree(tracker, &[&beside.naive]);
    }
}

/// What happens from one advance of the clock to the next: in each thread, with its own keys.
type Round = (Duration, [Vec<Deed>; THREADS]);

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let deeds = |nth: u8| prop::collection::vec(deed(nth * KEYS..(nth + 1) * KEYS), 0..60);
    let by = (0_u64..60_000).prop_map(Duration::from_millis);
    prop::collection::vec((by, std::array::from_fn(|nth| deeds(nth as u8))), 1..12)
}

/// Puts the keys of all threads into few places, so that they are in each other's way.
#[derive(Default)]
struct Crowded(u64);

impl Hasher for Crowded {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().map(|byte| u64::from(byte % 3)).sum();
    }

    fn finish(&self) -> u64 {
        self.0
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn t1_threads_agree_each_with_its_own_naive_tracker(rounds in rounds()) {
        let (clock, builder) = builder(DOUBLING);
        let hasher = BuildHasherDefault::<Crowded>::default();
        let tracker = builder.retention(RETENTION).hasher(hasher).build();
        let mut threads: [_; THREADS] = std::array::from_fn(|_| Beside::new(&tracker));
        for (by, deeds) in rounds {
            clock.advance(by);
            thread::scope(|scope| {
                for ((nth, beside), deeds) in (0..).zip(&mut threads).zip(deeds) {
                    beside.naive.advance(by);
                    scope.spawn(move || {
                        for deed in deeds {
                            beside.act(&deed);
                            beside.agree(nth * KEYS..(nth + 1) * KEYS);
                        }
                    });
                }
            });
            agree(&tracker, &threads.each_ref().map(|beside| &beside.naive));
        }
    }
}
