//! What must compile with nothing annotated, on any thread.

// What is tested is that the closure's argument needs no type.
#![expect(clippy::redundant_closure_for_method_calls)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use relent::{Backoff, RetryBudget};

use crate::colours::no_wait;

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
    // An error that is neither does not matter until it is returned.
    struct Neither(#[expect(dead_code)] *const ());
    drop(send(sync(
        POLICY.retry(|| Err::<(), _>(Neither(std::ptr::null()))),
    )));
    let ready = || std::future::ready(Ok::<_, Busy>(()));
    drop(send(sync(POLICY.retry_async(ready).outcome())));
    drop(unpin(POLICY.retry_async(ready).sleep(no_wait)));
    let future_mut = POLICY.retry_async_mut(async || Ok::<_, Busy>(()));
    drop(send(send(sync(future_mut)).sleep(no_wait).run()));
}
