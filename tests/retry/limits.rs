//! The limit of each attempt, by tokio's timer.

use std::future::{pending, ready};
use std::pin::pin;
use std::time::Duration;

use relent::{GiveUpReason, StopReason};
use tokio::time::{Instant, advance, sleep};

use crate::colours::{drive, no_wait, poll_once};
use crate::future::{Census, EVERY_SECOND, SECOND};

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_limit() {
    let start = Instant::now();
    let mut began = vec![];
    let outcome = EVERY_SECOND
        .give_up_after_failures(3)
        .retry_async(|| {
            began.push(start.elapsed().as_secs());
            pending::<Result<(), &str>>()
        })
        .timeout(5 * SECOND, || "late")
        .outcome()
        .await;
    assert_eq!(began, [0, 6, 12]);
    assert_eq!(
        (outcome.result, outcome.elapsed),
        (Err("late"), 12 * SECOND)
    );
    assert_eq!(outcome.stop, StopReason::GaveUp(GiveUpReason::Failures));
    assert_eq!(start.elapsed(), 17 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_of_a_mutable_operation_has_its_own_limit() {
    let start = Instant::now();
    let mut began = vec![];
    let result = EVERY_SECOND
        .give_up_after_failures(3)
        .retry_async_mut(async || {
            began.push(start.elapsed().as_secs());
            pending::<Result<(), &str>>().await
        })
        .timeout(5 * SECOND, || "late")
        .run()
        .await;
    assert_eq!((began, result), (vec![0, 6, 12], Err("late")));
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_at_the_limit_is_in_time() {
    let attempt = || async {
        sleep(5 * SECOND).await;
        Ok::<_, &str>("just")
    };
    let retry = EVERY_SECOND.give_up_after_failures(1).retry_async(attempt);
    assert_eq!(retry.timeout(5 * SECOND, || "late").await, Ok("just"));
    let retry = EVERY_SECOND.give_up_after_failures(1).retry_async(attempt);
    let a_millisecond_less = Duration::from_millis(4_999);
    assert_eq!(
        retry.timeout(a_millisecond_less, || "late").await,
        Err("late")
    );
    let at_once = EVERY_SECOND.retry_async(|| ready(Ok::<_, &str>("at once")));
    assert_eq!(
        at_once.timeout(Duration::ZERO, || "late").await,
        Ok("at once")
    );
    let unlimited = EVERY_SECOND.retry_async(attempt);
    assert_eq!(
        unlimited.timeout(Duration::MAX, || "late").await,
        Ok("just")
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_polled_often_has_all_its_time() {
    let attempt = || async {
        for _ in 0..4 {
            sleep(SECOND).await;
        }
        Ok::<_, &str>("in time")
    };
    let retry = EVERY_SECOND.give_up_after_failures(1).retry_async(attempt);
    assert_eq!(retry.timeout(5 * SECOND, || "late").await, Ok("in time"));
    let retry = EVERY_SECOND.give_up_after_failures(1);
    let retry = retry.retry_async_mut(async || attempt().await);
    let retry = retry.timeout(5 * SECOND, || "late");
    assert_eq!(retry.run().await, Ok("in time"));
}

#[tokio::test(start_paused = true)]
async fn a_busy_attempt_does_not_starve_its_limit() {
    let task = tokio::spawn(
        EVERY_SECOND
            .give_up_after_failures(1)
            .retry_async(|| async {
                // Uses up its task's budget at each poll, and wakes itself.
                loop {
                    tokio::task::coop::consume_budget().await;
                }
                #[expect(unreachable_code)]
                Ok::<(), &str>(())
            })
            .timeout(5 * SECOND, || "late"),
    );
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    advance(6 * SECOND).await;
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert!(task.is_finished());
    assert_eq!(task.await.unwrap(), Err("late"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_dropped_at_its_limit() {
    let census = Census::default();
    let mut retry = Box::pin(
        EVERY_SECOND
            .retry_async(|| census.bear(99, Err::<(), _>(())))
            .timeout(5 * SECOND, || ()),
    );
    assert!(poll_once(retry.as_mut()).is_pending());
    assert_eq!(census.living.get(), 1);
    advance(5 * SECOND).await;
    assert!(poll_once(retry.as_mut()).is_pending());
    assert_eq!(
        census.living.get(),
        0,
        "dropped at its limit, before the wait"
    );
    drop(retry);
}

#[test]
#[should_panic(expected = "give the loop the timer of your own, by `.sleep(..)`")]
fn on_another_runtime_the_default_timer_says_what_to_do() {
    let retry = EVERY_SECOND.retry_async(|| ready(Err::<(), _>(())));
    let _ = poll_once(pin!(retry).as_mut());
}

#[test]
fn on_another_runtime_a_timer_of_its_own_is_enough() {
    let retry = EVERY_SECOND.give_up_after_failures(3);
    let retry = retry.retry_async(|| ready(Err::<(), _>(())));
    assert_eq!(drive(retry.sleep(no_wait)), Err(()));
}
