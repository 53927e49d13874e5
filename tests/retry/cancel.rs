//! Waits that end before their time: of threads, and of futures.

use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::panic::catch_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use relent::clock::ManualClock;
use relent::{Backoff, CancelToken, Outcome, StopReason};

use crate::colours::{drive, no_wait, poll_once};

const SECOND: Duration = Duration::from_secs(1);
const AT_ONCE: Backoff = Backoff::fixed(Duration::ZERO);

/// What came of a wait for `delay` that was cancelled when `passed` had passed of it.
#[track_caller]
fn assert_cut(outcome: &Outcome<(), u32>, passed: Duration) {
    let Outcome {
        result,
        attempts,
        waited,
        elapsed,
        stop,
        ..
    } = *outcome;
    assert_eq!((result, attempts, stop), (Err(1), 1, StopReason::Cancelled));
    assert_eq!((waited, elapsed), (passed, passed));
}

/// Cancels, from another thread, a loop that waits for `delay`; it would not end in this lifetime.
#[track_caller]
fn thread_cancelled_while_waiting(delay: Duration, passed: Duration) {
    let (told, waits) = mpsc::channel();
    let token = CancelToken::new();
    let clock = ManualClock::new();
    let worker = thread::spawn({
        let (token, clock) = (token.clone(), clock.clone());
        move || {
            let mut attempts = 0;
            Backoff::fixed(delay)
                .retry(|| {
                    attempts += 1;
                    Err::<(), _>(attempts)
                })
                .clock(clock)
                .cancel_on(&token)
                .notify(|failed| told.send(failed.delay).unwrap())
                .outcome()
        }
    });
    assert!(waits.recv().unwrap() >= Duration::from_secs(3600));
    clock.advance(passed);
    token.cancel();
    assert!(token.is_cancelled());
    assert_cut(&worker.join().unwrap(), passed);
}

#[test]
fn from_another_thread() {
    for passed in [Duration::ZERO, Duration::from_millis(300)] {
        thread_cancelled_while_waiting(Duration::from_secs(3600), passed);
        thread_cancelled_while_waiting(Duration::MAX, passed);
    }
}

#[test]
fn a_thread_waits_by_itself() {
    let token = CancelToken::new();
    assert!(!token.cancelled_within(Duration::ZERO));
    assert!(!token.cancelled_within(Duration::from_millis(1)));
    let (begun, waits) = mpsc::channel();
    let waiting = thread::spawn({
        let token = token.clone();
        move || {
            begun.send(()).unwrap();
            token.cancelled_within(Duration::MAX)
        }
    });
    waits.recv().unwrap();
    token.cancel();
    assert!(waiting.join().unwrap());
    assert!(token.cancelled_within(Duration::ZERO));
}

/// Counts how often it wakes its task.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A loop that waits at its first poll and is cancelled then: woken once, and over.
#[track_caller]
fn future_cancelled_while_waiting(
    retry: impl Future<Output = Outcome<(), u32>>,
    clock: &ManualClock,
    token: &CancelToken,
) {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut retry = pin!(retry);
    let mut poll = || retry.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending() && poll().is_pending());
    clock.advance(SECOND);
    assert_eq!(woken.0.load(Relaxed), 0);
    token.cancel();
    assert_eq!(woken.0.load(Relaxed), 1, "woken by the token alone");
    let Poll::Ready(outcome) = poll() else {
        panic!("still waits")
    };
    assert_cut(&outcome, SECOND);
    assert!(poll_once(retry.as_mut()).is_pending(), "over");
}

#[test]
fn a_future_is_woken() {
    for delay in [Duration::from_secs(3600), Duration::MAX] {
        let policy = Backoff::fixed(delay);
        let (clock, token) = (ManualClock::new(), CancelToken::new());
        let mut attempts = 0;
        let retry = policy.retry_async(|| {
            attempts += 1;
            ready(Err::<(), _>(attempts))
        });
        let retry = retry.clock(&clock).sleep(|_| pending()).cancel_on(&token);
        future_cancelled_while_waiting(retry.outcome(), &clock, &token);
    }
}

/// The same, except that an `async fn` must not be polled after its end.
#[test]
fn a_future_that_borrows_mutably_too() {
    let (clock, token) = (ManualClock::new(), CancelToken::new());
    let mut attempts = 0;
    let policy = Backoff::fixed(Duration::from_secs(3600));
    let retry = policy.retry_async_mut(async || {
        attempts += 1;
        Err::<(), _>(attempts)
    });
    let retry = retry.clock(&clock).sleep(|_| pending()).cancel_on(&token);
    let mut retry = pin!(retry.outcome());
    assert!(poll_once(retry.as_mut()).is_pending());
    clock.advance(SECOND);
    token.cancel();
    let Poll::Ready(outcome) = poll_once(retry.as_mut()) else {
        panic!("still waits")
    };
    assert_cut(&outcome, SECOND);
}

/// What a loop leaves behind in the token: a waker is kept only while its future waits.
#[test]
fn a_token_holds_no_waker_of_what_no_longer_waits() {
    let token = CancelToken::new();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let wakers = Arc::strong_count(&woken);
    let retry = || {
        let attempt = || ready(Err::<(), _>(1));
        let retry = Backoff::fixed(SECOND).retry_async(attempt);
        Box::pin(retry.sleep(|_| pending()).cancel_on(&token))
    };
    let mut retries: Vec<_> = (0..100).map(|_| retry()).collect();
    for retry in &mut retries {
        for _ in 0..3 {
            let poll = retry.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
        }
    }
    assert_eq!(Arc::strong_count(&woken), wakers + 100);
    retries.truncate(40);
    assert_eq!(Arc::strong_count(&woken), wakers + 40);
    token.cancel();
    assert_eq!(Arc::strong_count(&woken), wakers);
    assert_eq!(woken.0.load(Relaxed), 40);
    for retry in &mut retries {
        assert_eq!(poll_once(retry.as_mut()), Poll::Ready(Err(1)));
    }
}

#[test]
fn the_first_attempt_always_runs_and_its_success_counts() {
    let token = &CancelToken::new();
    token.cancel();
    let policy = Backoff::fixed(Duration::MAX);
    for (result, expected) in [
        (Ok(1), StopReason::Succeeded),
        (Err(1), StopReason::Cancelled),
    ] {
        let future = policy.retry_async(|| ready(result)).sleep(|_| pending());
        let future_mut = policy.retry_async_mut(async || result);
        let future_mut = future_mut.sleep(|_| pending()).cancel_on(token);
        for outcome in [
            policy.retry(|| result).cancel_on(token).outcome(),
            drive(future.cancel_on(token).outcome()),
            drive(future_mut.outcome()),
        ] {
            assert_eq!((outcome.result, outcome.stop), (result, expected));
        }
    }
}

#[test]
fn without_a_wait_too() {
    let attempts = Cell::new(0);
    let fails = |token: &CancelToken| {
        attempts.set(attempts.get() + 1);
        if attempts.get() % 5 == 0 {
            token.cancel();
        }
        Err::<(), _>(attempts.get())
    };
    let token = CancelToken::new();
    let blocking = AT_ONCE.retry(|| fails(&token)).cancel_on(&token).outcome();
    let token = CancelToken::new();
    let future = AT_ONCE.retry_async(|| ready(fails(&token))).sleep(no_wait);
    let future = drive(future.cancel_on(&token).outcome());
    let token = CancelToken::new();
    let future_mut = AT_ONCE.retry_async_mut(async || fails(&token));
    let future_mut = drive(future_mut.sleep(no_wait).cancel_on(&token).outcome());
    for (outcome, last) in [(blocking, 5), (future, 10), (future_mut, 15)] {
        assert_eq!((outcome.attempts, outcome.result), (5, Err(last)));
        assert_eq!(outcome.stop, StopReason::Cancelled);
    }
}

#[test]
fn what_is_not_cancelled_waits_out_its_delay() {
    let policy = Backoff::fixed(Duration::from_millis(2)).give_up_after_failures(3);
    let token = CancelToken::new();
    let outcome = policy
        .retry(|| Err::<(), _>(()))
        .cancel_on(&token)
        .outcome();
    assert_eq!(
        (outcome.attempts, outcome.waited),
        (3, Duration::from_millis(4))
    );
    assert!(outcome.elapsed >= outcome.waited);
    let future = policy.retry_async(|| ready(Err::<(), _>(())));
    let outcome = drive(future.sleep(no_wait).cancel_on(&token).outcome());
    assert_eq!(
        (outcome.attempts, outcome.waited),
        (3, Duration::from_millis(4))
    );
}

/// The error is kept while the loop waits, and no longer.
#[test]
fn an_error_is_dropped_before_the_next_attempt() {
    let held = Rc::new(());
    let attempt = || {
        assert_eq!(Rc::strong_count(&held), 1);
        Err::<(), _>(Rc::clone(&held))
    };
    for policy in [AT_ONCE, Backoff::fixed(SECOND)].map(|policy| policy.give_up_after_failures(4)) {
        let future = policy.retry_async(|| ready(attempt())).sleep(no_wait);
        drop(drive(future.cancel_on(pending())));
        let future = policy.retry_async_mut(async || attempt()).sleep(no_wait);
        drop(drive(future.cancel_on(pending()).run()));
    }
}

#[test]
fn any_future_cancels_and_is_polled_in_waits_alone() {
    let polls = Cell::new(0);
    let signal = std::future::poll_fn(|_| {
        polls.set(polls.get() + 1);
        if polls.get() < 3 {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    });
    let mut attempts = 0;
    let retry = AT_ONCE.retry_async(|| {
        attempts += 1;
        ready(Err::<(), _>(attempts))
    });
    let outcome = drive(retry.sleep(no_wait).cancel_on(signal).outcome());
    assert_eq!((outcome.attempts, outcome.stop), (3, StopReason::Cancelled));
    assert_eq!(polls.get(), 3);
}

#[test]
fn passes_through_a_panic_of_another_thread() {
    let token = CancelToken::new();
    assert!(catch_unwind(|| token.is_cancelled()).is_ok_and(|cancelled| !cancelled));
    let cancelled = token.cancelled();
    token.cancel();
    catch_unwind(|| drop(cancelled)).unwrap();
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn in_spawned_tasks() {
    let hour = Backoff::fixed(Duration::from_secs(3600));
    let token = CancelToken::new();
    let itself = tokio::spawn({
        let attempt = || async { Err::<(), _>(1) };
        hour.retry_async(attempt).cancel_on(&token).outcome()
    });
    let borrowing = tokio::spawn({
        let token = token.clone();
        async move {
            let error = 1;
            let retry = hour.retry_async(async || Err::<(), _>(error));
            retry.cancel_on(&token).outcome().await
        }
    });
    tokio::time::sleep(SECOND).await;
    token.cancel();
    for task in [itself, borrowing] {
        assert_cut(&task.await.unwrap(), SECOND);
    }
}
