//! The future itself: dropping, panicking, yielding, fitting.

use std::cell::Cell;
use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use relent::{Backoff, StopReason};
use tokio::time::{Instant, sleep};

use crate::colours::{no_wait, pend_once, poll_once};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const EVERY_SECOND: Backoff = Backoff::fixed(SECOND);
const AT_ONCE: Backoff = Backoff::fixed(Duration::ZERO);

/// How many of the futures made are still alive.
#[derive(Default)]
pub(crate) struct Census {
    pub(crate) living: Cell<u32>,
    born: Cell<u32>,
}

impl Census {
    /// A future that is pending `polls` times, then ready.
    pub(crate) fn bear<T: Unpin>(&self, polls: u32, output: T) -> Citizen<'_, T> {
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

pub(crate) struct Citizen<'a, T> {
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

/// Polls `polls` times, or until it is ready. Returns whether it is.
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
            .retry_async_with((), |_lent| census.bear(2, Err::<(), _>(())))
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
    let mut future = pin!(
        EVERY_SECOND
            .retry_async(|| census.bear(0, Ok::<_, ()>(1)))
            .sleep(no_wait)
    );
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
        EVERY_SECOND
            .retry_async(|| async {
                census.bear(1, ()).await;
                boom::<Result<(), ()>>()
            })
            .sleep(no_wait),
    );
    let failing = || EVERY_SECOND.retry_async(fail).sleep(no_wait);
    survives_a_panic(&census, failing().when(|()| boom()));
    survives_a_panic(&census, failing().retry_after(|()| boom()));
    survives_a_panic(&census, failing().notify(|_| boom()));
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
            .sleep(no_wait)
            .when(|()| {
                calls += 1;
                boom()
            })
    );
    catch_unwind(AssertUnwindSafe(|| poll_once(future.as_mut()))).unwrap_err();
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
    panicked.unwrap_err();
    assert_eq!(attempts, 3);
}

#[test]
fn zero_delays_set_no_timer_and_yield_now_and_then() {
    let no_timer = |_| -> std::future::Ready<()> { unreachable!("a timer for nothing") };
    let policy = AT_ONCE.give_up_after_failures(1000);
    let attempts = Cell::new(0);
    let attempt = || {
        attempts.set(attempts.get() + 1);
        Err::<(), _>(())
    };
    let retry = policy.retry_async(|| ready(attempt())).sleep(no_timer);
    assert_eq!(
        (times_pending(retry.into_future()), attempts.take()),
        (31, 1000)
    );
    let retry = policy.retry_async_mut(async || attempt()).sleep(no_timer);
    assert_eq!((times_pending(retry.run()), attempts.take()), (31, 1000));
}

/// How often a future is pending that wakes itself each time, or its task would hang.
#[track_caller]
fn times_pending<F: Future>(future: F) -> u32 {
    let mut future = pin!(future);
    let mut pending = 0;
    let woken = std::sync::Arc::new(Woken::default());
    let waker = woken.clone().into();
    while future
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        pending += 1;
        assert_eq!(woken.0.swap(0, std::sync::atomic::Ordering::Relaxed), 1);
    }
    pending
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
        .sleep(no_wait)
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
