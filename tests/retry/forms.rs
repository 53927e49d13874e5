//! What must compile with nothing annotated, on any thread.

// What is tested is that the closure's argument needs no type.
#![expect(clippy::redundant_closure_for_method_calls)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use relent::clock::{ManualClock, RuntimeClock};
use relent::retry::{
    Async, AsyncHooks, AsyncMut, Hooks, Retry, RuntimeSleep, RuntimeSleeper, Unset,
};
use relent::{Backoff, RetryBudget};

use crate::colours::{drive, no_wait};

pub(crate) const POLICY: Backoff = Backoff::fixed(Duration::ZERO).give_up_after_failures(3);

#[derive(Debug, PartialEq)]
pub(crate) struct Busy {
    pub(crate) hint: Option<Duration>,
}

impl Busy {
    pub(crate) fn is_transient(&self) -> bool {
        self.hint.is_none()
    }
}

pub(crate) struct Client {
    calls: AtomicU32,
}

impl Client {
    pub(crate) fn new() -> Client {
        Client {
            calls: AtomicU32::new(0),
        }
    }

    pub(crate) fn ask(&self, question: &str) -> Result<usize, Busy> {
        match self.calls.fetch_add(1, Relaxed) {
            0 | 1 => Err(Busy { hint: None }),
            _ => Ok(question.len()),
        }
    }
}

#[test]
fn blocking_infers_the_error_in_every_hook() {
    let client = Client::new();
    let budget = Arc::new(RetryBudget::new(9, 0.1));
    let result = POLICY
        .retry(|| client.ask("why"))
        .when(|e| e.is_transient())
        .retry_after(|e| e.hint)
        .notify(|failed| assert!(failed.error.is_transient() && failed.failures > 0))
        .budget(budget.clone())
        .call();
    assert_eq!(result, Ok(3));
}

#[test]
fn send_and_sync_whenever_the_parts_are() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    fn sync<T: Sync>(value: T) -> T {
        value
    }
    fn unpin<T: Unpin>(value: T) -> T {
        value
    }
    // An error that is neither `Send` nor `Sync` does not matter until it is returned.
    struct Neither(#[expect(dead_code)] *const ());
    drop(send(sync(
        POLICY.retry(|| Err::<(), _>(Neither(std::ptr::null()))),
    )));
    let attempt = || std::future::poll_fn(|_| Poll::Ready(Err::<(), _>(Neither(std::ptr::null()))));
    drop(send(sync(POLICY.retry_async(attempt).outcome())));
    let ready = || std::future::ready(Ok::<_, Busy>(()));
    drop(send(sync(POLICY.retry_async(ready).outcome())));
    drop(unpin(POLICY.retry_async(ready).sleep(no_wait)));
    let future_mut = POLICY.retry_async_mut(async || Ok::<_, Busy>(()));
    drop(send(send(sync(future_mut)).sleep(no_wait).run()));
}

/// For code that cannot know whether somebody else enables the feature `tokio`: these types compile
/// with it and without.
#[test]
fn types_are_the_same_under_all_features() {
    type Answer = std::future::Ready<Result<u32, Busy>>;
    type Nap = std::future::Ready<()>;
    type Timer = fn(Duration) -> Nap;
    type Options = Hooks<Unset, Unset, Unset, Unset, RuntimeClock>;
    fn named<T>(_: &T) {}

    let answer: fn() -> Answer = || std::future::ready(Ok(42));
    let retry = POLICY.retry_async(answer);
    named::<Retry<Async<fn() -> Answer, Answer>, Busy, AsyncHooks>>(&retry);
    named::<Retry<Async<fn() -> Answer, Answer, RuntimeSleeper, RuntimeSleep>, Busy, Options>>(
        &retry,
    );
    let retry = retry.sleep(no_wait as Timer);
    named::<Retry<Async<fn() -> Answer, Answer, Timer, Nap>, Busy, Options>>(&retry);
    assert_eq!(drive(retry), Ok(42));
    let retry = POLICY.retry_async(answer).clock(ManualClock::new());
    named::<
        Retry<Async<fn() -> Answer, Answer>, Busy, Hooks<Unset, Unset, Unset, Unset, ManualClock>>,
    >(&retry);
    named::<Retry<AsyncMut<fn() -> Answer>, Busy, Options>>(&POLICY.retry_async_mut(answer));
}

/// Whatever the error is: it is only borrowed.
#[test]
fn what_notify_is_called_with_is_copied() {
    let mut seen = 0;
    let result = POLICY
        .retry(|| Err::<(), _>(std::io::Error::other("down")))
        .notify(|failed| {
            let copy = *failed;
            seen += copy.failures;
        })
        .call();
    assert_eq!(result.unwrap_err().to_string(), "down");
    assert_eq!(seen, 1 + 2);
}

/// Whether a type has a trait, as a value.
macro_rules! has {
    ($type:ty: $trait:path) => {{
        struct Of<T>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        trait Not {
            const HAS: bool = false;
        }
        impl<T> Not for Of<T> {}
        #[allow(dead_code)]
        impl<T: $trait> Of<T> {
            const HAS: bool = true;
        }
        Of::<$type>::HAS
    }};
}

#[test]
fn a_wait_has_the_same_auto_traits_under_all_features() {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    assert!(has!(RuntimeSleep: Send) && has!(RuntimeSleep: Sync));
    assert!(!has!(RuntimeSleep: Unpin));
    assert!(!has!(RuntimeSleep: UnwindSafe) && !has!(RuntimeSleep: RefUnwindSafe));
    assert!(
        has!(u8: Unpin),
        "what measures it sees a trait that is there"
    );
}
