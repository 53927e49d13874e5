//! The schedule, alone and inside the crates that people already use.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use proptest::prelude::*;
use relent::{Backoff, BackoffState, Failure, Jitter, Schedule, random};

use super::any;

const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(5))
    .jitter(Jitter::None)
    .give_up_after_failures(6);

const WAITS: [u64; 5] = [1, 2, 4, 5, 5];

proptest! {
    #[test]
    fn r1_agrees_with_the_step(backoff in any::backoff(), seed in any::<u64>()) {
        let mut state = BackoffState::default();
        let mut elapsed = Duration::ZERO;
        for (n, wait) in backoff.schedule_seeded(seed).take(20).enumerate() {
            let failure = Failure::new(random::draw(seed, n as u64)).elapsed(elapsed);
            prop_assert_eq!(backoff.next(&mut state, failure).delay(), Some(wait));
            elapsed = elapsed.saturating_add(wait);
        }
    }

    #[test]
    fn fused(backoff in any::backoff(), failures in 0..5_u32, seed in any::<u64>()) {
        let mut schedule = backoff.give_up_after_failures(failures).schedule_seeded(seed);
        while schedule.next().is_some() {}
        for _ in 0..100 {
            prop_assert_eq!(schedule.next(), None);
        }
    }

    #[test]
    fn size_hint_holds(backoff in any::backoff(), failures in prop::option::of(0..30_u32), taken in 0..5_usize) {
        let mut backoff = backoff;
        backoff.give_up.after_failures = failures;
        let mut schedule = backoff.schedule_seeded(1);
        schedule.by_ref().take(taken).count();
        let (least, most) = schedule.size_hint();
        let left = schedule.take(200).count();
        prop_assert!(least.min(200) <= left && most.is_none_or(|most| left <= most));
    }
}

#[test]
fn reset_begins_a_new_streak_with_new_jitter() {
    let mut schedule = POLICY.jitter(Jitter::Full).schedule_seeded(3);
    let first: Vec<_> = schedule.by_ref().collect();
    assert_eq!(schedule.next(), None);
    schedule.reset();
    assert_eq!(schedule.state(), BackoffState::default());
    let second: Vec<_> = schedule.by_ref().collect();
    assert_eq!(second.len(), first.len());
    assert_ne!(second, first);
}

#[test]
fn its_state_is_what_the_streak_has_come_to() {
    let mut schedule = POLICY.schedule_seeded(0);
    assert!(schedule.state().is_healthy());
    for (failures, interval) in [(1, 1), (2, 2), (3, 4), (4, 5), (5, 5)] {
        schedule.next();
        let interval = Duration::from_secs(interval);
        assert_eq!(schedule.state(), BackoffState { failures, interval });
        assert!(!schedule.state().is_healthy());
    }
    // The failure that gives up counts too.
    assert_eq!(schedule.next(), None);
    assert_eq!(schedule.state().failures, 6);
}

#[test]
fn the_size_is_known_unless_time_decides() {
    let endless = Backoff::fixed(Duration::from_secs(1));
    let limited = endless.give_up_after_failures(4);
    let minute = Duration::from_secs(60);
    let sizes = |policy: Backoff| {
        let mut schedule = policy.schedule_seeded(0);
        [(); 5].map(|()| {
            let size = schedule.size_hint();
            schedule.next();
            size
        })
    };
    assert_eq!(sizes(endless), [(usize::MAX, None); 5]);
    assert_eq!(sizes(endless.give_up_after(minute)), [(0, None); 5]);
    let exact = [3, 2, 1, 0, 0].map(|left| (left, Some(left)));
    assert_eq!(sizes(limited), exact);
    let at_most = exact.map(|(_, left)| (0, left));
    assert_eq!(sizes(limited.give_up_after(minute)), at_most);
}

#[test]
fn a_clone_goes_on_with_the_same_waits() {
    let mut schedule = Backoff::DEFAULT.schedule();
    schedule.next();
    assert!(schedule.clone().take(10).eq(schedule.take(10)));
}

#[test]
fn can_be_sent_shared_and_moved() {
    fn check<T: Send + Sync + Unpin + 'static>() {}
    check::<Schedule>();
    check::<Backoff>();
}

#[test]
fn backon_runs_on_it() {
    use backon::BlockingRetryable;

    let waits = RefCell::new(Vec::new());
    let attempts = Cell::new(0);
    let fail = || {
        attempts.set(attempts.get() + 1);
        Err::<(), _>("down")
    };
    let result = fail
        .retry(POLICY.schedule())
        .sleep(|_: Duration| ())
        .notify(|_, wait| waits.borrow_mut().push(wait.as_secs()))
        .call();
    assert_eq!((result, attempts.get()), (Err("down"), 6));
    assert_eq!(waits.into_inner(), WAITS);
}

#[test]
fn retry_runs_on_it() {
    let in_nanoseconds = POLICY
        .initial(Duration::from_nanos(1))
        .max(Duration::from_nanos(5));
    let failed = retry::retry(in_nanoseconds.schedule(), || Err::<(), _>("down")).unwrap_err();
    assert_eq!((failed.tries, failed.total_delay.as_nanos()), (6, 17));
}

#[tokio::test(start_paused = true)]
async fn tokio_retry_runs_on_it() {
    let start = tokio::time::Instant::now();
    let instants = RefCell::new(Vec::new());
    let attempt = || {
        instants.borrow_mut().push(start.elapsed().as_secs());
        std::future::ready(Err::<(), _>("down"))
    };
    let result = tokio_retry::Retry::start(POLICY.schedule(), attempt).await;
    assert_eq!(result, Err("down"));
    assert_eq!(instants.into_inner(), [0, 1, 3, 7, 12, 17]);
}
