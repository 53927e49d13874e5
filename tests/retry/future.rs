//! The future itself: dropping, panicking, timing out, yielding, fitting.

use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use relent::{Backoff, GiveUpReason, StopReason};
use tokio::time::{Instant, advance, sleep};

use crate::colours::{pend_once, poll_once};

const SECOND: Duration = Duration::from_secs(1);
const EVERY_SECOND: Backoff = Backoff::fixed(SECOND);
const AT_ONCE: Backoff = Backoff::fixed(Duration::ZERO);

/// How many of the futures made are still alive.
#[derive(Default)]
struct Census {
    living: Cell<u32>,
    born: Cell<u32>,
}

impl Census {
    /// A future that is pending `polls` times, then ready.
    fn bear<T: Unpin>(&self, polls: u32, output: T) -> Citizen<'_, T> {
        self.living.set(self.living.get() + 1);
        self.born.set(self.born.get() + 1);
        assert_eq!(self.living.get(), 1, "an attempt or a wait, never both");
        Citizen {
            census: self,
            polls,
            output: Some(output),
        }
    }
}

struct Citizen<'a, T> {
    census: &'a Census,
    polls: u32,
    output: Option<T>,
}

impl<T: Unpin> Future for Citizen<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        if self.polls > 0 {
            self.polls -= 1;
            return Poll::Pending;
        }
        Poll::Ready(self.output.take().expect("polled after its end"))
    }
}

impl<T> Drop for Citizen<'_, T> {
    fn drop(&mut self) {
        self.census.living.set(self.census.living.get() - 1);
    }
}

/// Polls `polls` times, unless it is over before; whether it is.
fn poll_for<F: Future>(mut future: Pin<&mut F>, polls: u32) -> bool {
    (0..polls).any(|_| poll_once(future.as_mut()).is_ready())
}

/// Drops what `make` makes after each number of polls, up to the end.
#[track_caller]
fn dropped_everywhere<F: Future>(census: &Census, make: impl Fn() -> F) {
    let mut stages = vec![];
    for polls in 0.. {
        census.born.set(0);
        let over = {
            let mut future = pin!(make());
            let over = poll_for(future.as_mut(), polls);
            stages.push(census.born.get());
            over
        };
        assert_eq!(census.living.get(), 0, "leaked after {polls} polls");
        if over {
            break;
        }
    }
    // Four attempts and three waits, each pending twice.
    assert_eq!(stages, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7]);
}

#[test]
fn r2_dropping_anywhere_leaks_nothing() {
    let census = Census::default();
    let policy = EVERY_SECOND.give_up_after_failures(4);
    dropped_everywhere(&census, || {
        policy
            .retry_async(|| census.bear(2, Err::<(), _>(())))
            .sleep(|_| census.bear(2, ()))
            .notify(|_| assert_eq!(census.living.get(), 0, "the attempt is gone"))
    });
    dropped_everywhere(&census, || {
        policy
            .retry_async_mut(async || census.bear(2, Err::<(), _>(())).await)
            .sleep(|_| census.bear(2, ()))
            .notify(|_| assert_eq!(census.living.get(), 0, "the attempt is gone"))
            .run()
    });
}

#[test]
fn r2_polled_after_its_end_is_pending() {
    let census = Census::default();
    let mut future = pin!(EVERY_SECOND.retry_async(|| census.bear(0, Ok::<_, ()>(1))));
    assert_eq!(poll_once(future.as_mut()), Poll::Ready(Ok(1)));
    assert_eq!(census.living.get(), 0, "what is over holds nothing");
    for _ in 0..3 {
        assert_eq!(poll_once(future.as_mut()), Poll::Pending);
    }
    assert_eq!(census.born.get(), 1);
}

/// Panics at one place of the loop; after that nothing is left, and polling again is harmless.
#[track_caller]
fn survives_a_panic<F: Future>(census: &Census, future: F) {
    census.born.set(0);
    {
        let mut future = pin!(future);
        let poll = catch_unwind(AssertUnwindSafe(|| poll_for(future.as_mut(), 9)));
        assert_eq!(*poll.err().unwrap().downcast::<&str>().unwrap(), "boom");
    }
    assert_eq!(
        (census.living.get(), census.born.get()),
        (0, 1),
        "leaked, or ran again"
    );
}

#[test]
fn r2_a_panic_propagates_and_corrupts_nothing() {
    fn boom<T>() -> T {
        panic!("boom")
    }
    let census = Census::default();
    let fail = || census.bear(1, Err::<(), _>(()));
    survives_a_panic(
        &census,
        EVERY_SECOND.retry_async(|| async {
            census.bear(1, ()).await;
            boom::<Result<(), ()>>()
        }),
    );
    survives_a_panic(&census, EVERY_SECOND.retry_async(fail).when(|()| boom()));
    survives_a_panic(
        &census,
        EVERY_SECOND.retry_async(fail).retry_after(|()| boom()),
    );
    survives_a_panic(&census, EVERY_SECOND.retry_async(fail).notify(|_| boom()));
    survives_a_panic(
        &census,
        EVERY_SECOND
            .retry_async(fail)
            .sleep(|_| boom::<Pin<Box<dyn Future<Output = ()>>>>()),
    );

    let mut calls = 0;
    let mut future = pin!(
        EVERY_SECOND
            .retry_async(|| ready(Err::<(), _>(())))
            .when(|()| {
                calls += 1;
                boom()
            })
    );
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(future.as_mut()))).is_err());
    assert_eq!(
        poll_once(future.as_mut()),
        Poll::Pending,
        "what a hook left is not polled again"
    );
}

#[test]
fn r2_a_panic_in_a_blocking_operation_propagates() {
    let mut attempts = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        AT_ONCE
            .retry(|| {
                attempts += 1;
                assert!(attempts < 3, "boom");
                Err::<(), _>(())
            })
            .call()
    }));
    assert!(panicked.is_err());
    assert_eq!(attempts, 3);
}

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
fn zero_delays_set_no_timer_and_yield_now_and_then() {
    let mut attempts = 0;
    let mut polls = 0;
    let mut future = pin!(
        AT_ONCE
            .give_up_after_failures(1000)
            .retry_async(|| {
                attempts += 1;
                ready(Err::<(), _>(()))
            })
            .sleep(|_| -> std::future::Ready<()> { unreachable!("a timer for nothing") })
    );
    // Wakes itself, or the task would hang.
    let woken = std::sync::Arc::new(Woken::default());
    let waker = woken.clone().into();
    while future
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        polls += 1;
        assert_eq!(woken.0.swap(0, std::sync::atomic::Ordering::Relaxed), 1);
    }
    assert_eq!((attempts, polls), (1000, 31));
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicU32);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A future of 257 bytes.
async fn large() -> Result<(), ()> {
    let kept = [0_u8; 256];
    std::future::poll_fn(|_| Poll::Ready(())).await;
    let _ = std::hint::black_box(&kept);
    Ok(())
}

#[test]
fn adds_at_most_120_bytes_to_an_operation() {
    let operation = size_of_val(&large());
    assert_eq!(operation, 257);
    let retry = size_of_val(&EVERY_SECOND.retry_async(large));
    assert!(retry <= operation + 120, "{operation} bytes became {retry}");
    let outcome = size_of_val(&EVERY_SECOND.retry_async(large).outcome());
    assert_eq!(outcome, retry);
}

#[tokio::test(start_paused = true)]
async fn runs_on_any_timer() {
    let start = Instant::now();
    let mut attempts = 0;
    let result = EVERY_SECOND
        .retry_async(|| {
            attempts += 1;
            let result = if attempts < 4 { Err(()) } else { Ok(attempts) };
            async move {
                tokio::task::yield_now().await;
                result
            }
        })
        .sleep(|delay| sleep(10 * delay))
        .await;
    assert_eq!((result, start.elapsed()), (Ok(4), 30 * SECOND));
}

#[test]
fn options_may_come_in_any_order() {
    let retry = EVERY_SECOND
        .retry_async(|| async {
            pend_once().await;
            Err::<(), _>(())
        })
        .timeout(SECOND, || ())
        .sleep(|_| ready(()))
        .seed(1)
        .timeout(2 * SECOND, || ())
        .when(|()| false);
    let mut retry = pin!(retry.outcome());
    // The timer here is ready at once, and so is each limit.
    let Poll::Ready(outcome) = poll_once(retry.as_mut()) else {
        panic!("pending")
    };
    assert_eq!(outcome.stop, StopReason::NotRetryable);
}
