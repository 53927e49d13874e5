//! Blocking waits that another thread ends.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use relent::{Backoff, CancelToken, Outcome, StopReason};

/// Cancels, from another thread, a loop that waits for `delay`; it would not end in this lifetime.
#[track_caller]
fn cancelled_while_waiting(delay: Duration) {
    let (told, waits) = mpsc::channel();
    let token = CancelToken::new();
    let worker = thread::spawn({
        let token = token.clone();
        move || {
            let mut attempts = 0;
            Backoff::fixed(delay)
                .retry(|| {
                    attempts += 1;
                    Err::<(), _>(attempts)
                })
                .cancel_on(&token)
                .notify(|failed| told.send(failed.delay).unwrap())
                .outcome()
        }
    });
    assert!(waits.recv().unwrap() >= Duration::from_secs(3600));
    token.cancel();
    assert!(token.is_cancelled());
    let Outcome {
        result,
        attempts,
        waited,
        stop,
        ..
    } = worker.join().unwrap();
    assert_eq!((result, attempts, stop), (Err(1), 1, StopReason::Cancelled));
    assert_eq!(waited, Duration::ZERO, "the wait was not waited out");
}

#[test]
fn from_another_thread() {
    cancelled_while_waiting(Duration::from_secs(3600));
    cancelled_while_waiting(Duration::MAX);
}

#[test]
fn the_first_attempt_always_runs_and_its_success_counts() {
    let token = CancelToken::new();
    token.cancel();
    let policy = Backoff::fixed(Duration::MAX);
    let succeeded = policy.retry(|| Ok::<_, ()>(1)).cancel_on(&token).outcome();
    assert_eq!(
        (succeeded.result, succeeded.stop),
        (Ok(1), StopReason::Succeeded)
    );
    let failed = policy.retry(|| Err::<(), _>(1)).cancel_on(&token).outcome();
    assert_eq!(
        (failed.result, failed.stop),
        (Err(1), StopReason::Cancelled)
    );
}

#[test]
fn without_a_wait_too() {
    let token = CancelToken::new();
    let mut attempts = 0;
    let outcome = Backoff::fixed(Duration::ZERO)
        .retry(|| {
            attempts += 1;
            if attempts == 5 {
                token.cancel();
            }
            Err::<(), _>(())
        })
        .cancel_on(&token)
        .outcome();
    assert_eq!((outcome.attempts, outcome.stop), (5, StopReason::Cancelled));
}

#[test]
fn what_is_not_cancelled_waits_out_its_delay() {
    let outcome = Backoff::fixed(Duration::from_millis(2))
        .give_up_after_failures(3)
        .retry(|| Err::<(), _>(()))
        .cancel_on(&CancelToken::new())
        .outcome();
    assert_eq!(
        (outcome.attempts, outcome.waited),
        (3, Duration::from_millis(4))
    );
    assert!(outcome.elapsed >= outcome.waited);
}
