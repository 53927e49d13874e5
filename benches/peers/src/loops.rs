//! The loops: what one costs when nothing fails, and when three attempts do.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::time::Duration;

use backon::{BlockingRetryable as _, Retryable as _};
use relent::Backoff;
use tokio::runtime::Runtime;
use tower::Service as _;
use tower::retry::backoff::{Backoff as _, MakeBackoff as _};

use crate::measure::{Contestant, contest};
use crate::page;

/// Every policy is exponential, with jitter, of intervals of zero: none has time to wait.
const ZERO: Duration = Duration::ZERO;
const POLICY: Backoff = Backoff::exponential(ZERO, ZERO);

pub fn section(runtime: &Runtime) -> String {
    let tables = [
        ("blocking, success at once", blocking(0)),
        ("async, success at once", awaited(runtime, 0)),
        ("blocking, three failures, zero delay", blocking(3)),
        ("async, three failures, zero delay", awaited(runtime, 3)),
    ];
    let tables = tables.map(|(unit, contestants)| page::figures(unit, &contest(1, contestants)));
    tables.join("\n")
}

/// An operation that fails so many times, then succeeds, and so on for ever.
struct Flaky {
    failures: u32,
    calls: Cell<u32>,
}

impl Flaky {
    fn new(failures: u32) -> &'static Flaky {
        Box::leak(Box::new(Flaky {
            failures,
            calls: Cell::new(0),
        }))
    }

    #[inline]
    fn call(&self) -> Result<u64, u64> {
        let call = self.calls.get();
        if call < self.failures {
            self.calls.set(call + 1);
            black_box(Err(1))
        } else {
            self.calls.set(0);
            black_box(Ok(1))
        }
    }

    /// Whether a loop that has just succeeded did the work: all the failures, then one success.
    fn is_done(&self) -> bool {
        self.calls.get() == 0
    }
}

fn blocking(failures: u32) -> Vec<Contestant<'static>> {
    let flaky = Flaky::new(failures);
    let wait = black_box(ZERO);
    let backon = backon_policy();
    let backoff = backoff_policy();
    let exponential = exponential_backoff::Backoff::new(4, ZERO, ZERO);
    vec![
        called("relent", flaky, || {
            POLICY.retry(|| flaky.call()).call().is_ok()
        }),
        called("by hand", flaky, move || {
            let mut failures = 0;
            loop {
                match flaky.call() {
                    Ok(_) => return true,
                    Err(_) if failures == 3 => return false,
                    Err(_) => std::thread::sleep(wait),
                }
                failures += 1;
            }
        }),
        called("backon", flaky, move || {
            (|| flaky.call()).retry(backon).call().is_ok()
        }),
        called("backoff", flaky, move || {
            let operation = || flaky.call().map_err(backoff::Error::transient);
            backoff::retry(backoff.build(), operation).is_ok()
        }),
        called("retry", flaky, || {
            let waits = retry::delay::Exponential::from_millis(0).map(retry::delay::jitter);
            retry::retry(waits, || flaky.call()).is_ok()
        }),
        called("exponential-backoff, its loop by hand", flaky, move || {
            for wait in &exponential {
                match (flaky.call(), wait) {
                    (Ok(_), _) => return true,
                    (Err(_), Some(wait)) => std::thread::sleep(wait),
                    (Err(_), None) => return false,
                }
            }
            false
        }),
    ]
}

fn called(
    name: &str,
    flaky: &'static Flaky,
    once: impl Fn() -> bool + 'static,
) -> Contestant<'static> {
    assert!(once() && flaky.is_done(), "{name} does other work");
    Contestant::new(name, move |runs| {
        for _ in 0..runs {
            black_box(once());
        }
    })
}

fn awaited(runtime: &Runtime, failures: u32) -> Vec<Contestant<'_>> {
    let flaky = Flaky::new(failures);
    let wait = black_box(ZERO);
    let operation = move || async { flaky.call() };
    let backon = backon_policy();
    let backoff = backoff_policy();
    let service = tower::service_fn(move |()| operation());
    let service = RefCell::new(tower::retry::Retry::new(Again(tower_policy()), service));
    vec![
        polled("relent", flaky, runtime, async move || {
            POLICY.retry_async(operation).await.is_ok()
        }),
        polled(
            "by hand, no timer for zero",
            flaky,
            runtime,
            async move || {
                let mut failures = 0;
                loop {
                    match operation().await {
                        Ok(_) => return true,
                        Err(_) if failures == 3 => return false,
                        Err(_) if wait.is_zero() => {}
                        Err(_) => tokio::time::sleep(wait).await,
                    }
                    failures += 1;
                }
            },
        ),
        polled("backon", flaky, runtime, async move || {
            operation.retry(backon).await.is_ok()
        }),
        polled("backoff", flaky, runtime, async move || {
            let operation = || async { flaky.call().map_err(backoff::Error::transient) };
            backoff::future::retry(backoff.build(), operation)
                .await
                .is_ok()
        }),
        polled("tokio-retry", flaky, runtime, async move || {
            let waits = tokio_retry::strategy::ExponentialBackoff::from_millis(0)
                .map(tokio_retry::strategy::jitter);
            tokio_retry::Retry::start(waits, operation).await.is_ok()
        }),
        polled("tower", flaky, runtime, async move || {
            let response = service.borrow_mut().call(());
            response.await.is_ok()
        }),
    ]
}

fn polled<'a>(
    name: &str,
    flaky: &'static Flaky,
    runtime: &'a Runtime,
    once: impl AsyncFn() -> bool + 'a,
) -> Contestant<'a> {
    let right = runtime.block_on(once()) && flaky.is_done();
    assert!(right, "{name} does other work");
    Contestant::new(name, move |runs| {
        runtime.block_on(async {
            for _ in 0..runs {
                black_box(once().await);
            }
        });
    })
}

pub fn backon_policy() -> backon::ExponentialBuilder {
    backon::ExponentialBuilder::new()
        .with_min_delay(ZERO)
        .with_max_delay(ZERO)
        .with_jitter()
}

pub fn backoff_policy() -> backoff::ExponentialBackoffBuilder {
    let mut builder = backoff::ExponentialBackoffBuilder::new();
    builder
        .with_initial_interval(ZERO)
        .with_max_interval(ZERO)
        .with_max_elapsed_time(None);
    builder
}

type TowerBackoff = tower::retry::backoff::ExponentialBackoff;

pub fn tower_policy() -> TowerBackoff {
    let rng = tower::util::rng::HasherRng::default();
    tower::retry::backoff::ExponentialBackoffMaker::new(ZERO, Duration::from_millis(1), 0.99, rng)
        .expect("a valid policy")
        .make_backoff()
}

/// What a user of tower writes: retry whatever fails.
#[derive(Clone)]
pub struct Again(pub TowerBackoff);

impl<T, E> tower::retry::Policy<(), T, E> for Again {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, (): &mut (), result: &mut Result<T, E>) -> Option<tokio::time::Sleep> {
        result.is_err().then(|| self.0.next_backoff())
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}
