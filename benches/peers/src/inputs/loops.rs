//! What limits, hints, futures and budgets do.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use backoff::backoff::Backoff as _;
use backon::{BackoffBuilder as _, Retryable as _};
use relent::{Backoff, Jitter, RetryBudget};
use retry_policies::{RetryDecision, RetryPolicy as _};
use tokio::runtime::Runtime;
use tower::Service as _;
use tower::retry::backoff::{ExponentialBackoffMaker, MakeBackoff as _};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::util::rng::HasherRng;

use super::{Row, Trial, guarded, judged};
use crate::loops::Again;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "limit of 60 s, waits of 40 s",
            "one retry: the second would be at 80 s",
            limit(),
        ),
        row(
            "limit of 1 s with jitter, asked again after the end",
            "it stays ended",
            ended(),
        ),
        row(
            "limit of 50 ms, a hint of 1 ms at each failure",
            "an end after some 50 ms",
            hint(),
        ),
        row("a future that is never polled", "no attempt", unpolled()),
        row(
            "when the async operation is called, waits of 20 ms",
            "after each wait",
            instants(),
        ),
        row("an async wait of `Duration::MAX`", "a wait", endless()),
        row(
            "retries that 1 000 successes pay for, 0.7 each",
            "700",
            budget(),
        ),
    ]
}

fn row(input: &'static str, right: &'static str, trials: Vec<(&'static str, Trial)>) -> Row {
    Row {
        input,
        right,
        trials,
    }
}

fn trial(
    name: &'static str,
    run: impl FnOnce(&Runtime) -> Option<String> + Send + 'static,
) -> (&'static str, Trial) {
    let run = |runtime: &Runtime| match guarded(|| run(runtime)) {
        Ok(complaint) => judged(complaint),
        Err(panic) => panic,
    };
    (name, Box::new(run))
}

fn limit() -> Vec<(&'static str, Trial)> {
    const WAIT: Duration = Duration::from_secs(40);
    const LIMIT: Duration = Duration::from_secs(60);
    let one = |retries: usize| (retries != 1).then(|| format!("{retries} retries"));
    vec![
        trial("relent", move |_| {
            one(Backoff::fixed(WAIT)
                .give_up_after(LIMIT)
                .schedule()
                .take(9)
                .count())
        }),
        trial("backon", move |_| {
            let waits = backon_steady(WAIT).with_total_delay(Some(LIMIT)).build();
            one(waits.take(9).count())
        }),
        trial("backoff", move |_| {
            let mut waits = backoff_steady(WAIT, 0.0, Some(LIMIT)).build();
            let wait = |_| {
                let wait = waits.next_backoff()?;
                waits.start_time -= wait;
                Some(wait)
            };
            one((0..9).map_while(wait).count())
        }),
        trial("retry-policies", move |_| {
            let policy = retry_policies::policies::ExponentialBackoff::builder()
                .retry_bounds(WAIT, WAIT)
                .jitter(retry_policies::Jitter::None)
                .build_with_total_retry_duration(LIMIT);
            let goes_on = |n: &u32| {
                let start = SystemTime::now() - WAIT * *n;
                matches!(policy.should_retry(start, *n), RetryDecision::Retry { .. })
            };
            one((0..9).take_while(goes_on).count())
        }),
    ]
}

fn ended() -> Vec<(&'static str, Trial)> {
    const WAIT: Duration = Duration::from_millis(900);
    /// Of 500 streaks, those that go on when asked again up to nine times.
    fn check<S>(
        begin: impl Fn() -> S,
        next: impl Fn(&mut S) -> Option<Duration>,
    ) -> Option<String> {
        let revives = |_: &u32| {
            let mut waits = begin();
            while next(&mut waits).is_some() {}
            (0..9).any(|_| next(&mut waits).is_some())
        };
        let count = (0..500).filter(revives).count();
        (count > 0).then(|| format!("{count} of 500 go on"))
    }
    vec![
        trial("relent", |_| {
            let policy = Backoff::fixed(WAIT)
                .max(60 * SECOND)
                .jitter(Jitter::Proportional(0.5));
            check(|| policy.give_up_after(SECOND).schedule(), Iterator::next)
        }),
        trial("backon", |_| {
            let policy = backon_steady(WAIT)
                .with_jitter()
                .with_total_delay(Some(SECOND));
            check(|| policy.build(), Iterator::next)
        }),
        trial("backoff", |_| {
            let policy = backoff_steady(WAIT, 0.5, Some(SECOND));
            let next = |waits: &mut backoff::ExponentialBackoff| {
                let wait = waits.next_backoff()?;
                waits.start_time -= wait;
                Some(wait)
            };
            check(|| policy.build(), next)
        }),
    ]
}

fn hint() -> Vec<(&'static str, Trial)> {
    const LIMIT: Duration = Duration::from_millis(50);
    /// Ends by itself after 500 ms, by succeeding.
    fn check(run: impl FnOnce(&dyn Fn() -> Result<(), ()>) -> bool) -> Option<String> {
        let start = Instant::now();
        let operation = || {
            if start.elapsed() < 500 * MS {
                Err(())
            } else {
                Ok(())
            }
        };
        run(&operation).then(|| "still retrying after 500 ms".to_string())
    }
    vec![
        trial("relent", |_| {
            check(|operation| {
                let policy = Backoff::fixed(MS).give_up_after(LIMIT);
                policy
                    .retry(operation)
                    .retry_after(|()| Some(MS))
                    .call()
                    .is_ok()
            })
        }),
        // As the documentation of its `adjust` does with a header `Retry-After`.
        trial("backon", |runtime| {
            check(|operation| {
                let policy = backon_steady(MS).with_total_delay(Some(LIMIT));
                let retry = (|| async { operation() }).retry(policy);
                runtime.block_on(retry.adjust(|(), _| Some(MS))).is_ok()
            })
        }),
        trial("backoff", |_| {
            check(|operation| {
                let policy = backoff_steady(MS, 0.0, Some(LIMIT)).build();
                let operation = || operation().map_err(|()| backoff::Error::retry_after((), MS));
                backoff::retry(policy, operation).is_ok()
            })
        }),
    ]
}

fn unpolled() -> Vec<(&'static str, Trial)> {
    fn check<F>(make: impl FnOnce(Counted) -> F) -> Option<String> {
        let counted = Counted::default();
        drop(make(counted.clone()));
        let calls = counted.0.get();
        (calls > 0).then(|| format!("{calls} call of the operation"))
    }
    vec![
        trial("relent", |_| {
            check(|op| Backoff::fixed(MS).retry_async(move || op.fail()))
        }),
        trial("backon", |_| {
            check(|op| (move || op.fail()).retry(backon_steady(MS)))
        }),
        trial("backoff", |_| {
            let waits = backoff::backoff::Constant::new(MS);
            check(|op| backoff::future::retry(waits, move || op.fail_marked()))
        }),
        trial("tokio-retry", |_| {
            let waits = tokio_retry::strategy::FixedInterval::from_millis(1);
            check(|op| tokio_retry::Retry::start(waits, move || op.fail()))
        }),
    ]
}

#[derive(Clone, Default)]
struct Counted(Rc<Cell<u32>>);

impl Counted {
    fn fail(&self) -> impl Future<Output = Result<(), ()>> + use<> {
        self.0.set(self.0.get() + 1);
        std::future::ready(Err(()))
    }

    fn fail_marked(&self) -> impl Future<Output = Result<(), backoff::Error<()>>> + use<> {
        self.0.set(self.0.get() + 1);
        std::future::ready(Err(backoff::Error::transient(())))
    }
}

fn instants() -> Vec<(&'static str, Trial)> {
    const WAIT: Duration = Duration::from_millis(20);
    let check = |log: &Log| {
        let log = log.0.borrow();
        let early = log.windows(2).any(|two| two[1] - two[0] < WAIT);
        let called = log
            .iter()
            .map(|at| format!("{} ms", (*at - log[0]).as_millis()));
        early.then(|| format!("called at {}", called.collect::<Vec<_>>().join(", ")))
    };
    vec![
        trial("relent", move |runtime| {
            let log = Log::default();
            let policy = Backoff::fixed(WAIT).give_up_after_failures(4);
            let _ = runtime.block_on(policy.retry_async(|| log.fail()));
            check(&log)
        }),
        trial("backon", move |runtime| {
            let log = Log::default();
            let _ = runtime.block_on((|| log.fail()).retry(backon_steady(WAIT).with_max_times(3)));
            check(&log)
        }),
        trial("backoff", move |runtime| {
            let log = Log::default();
            let attempts = Cell::new(0);
            let operation = || {
                attempts.set(attempts.get() + 1);
                let last = attempts.get() == 4;
                let failed = log.fail();
                async move {
                    let mark = if last {
                        backoff::Error::permanent
                    } else {
                        backoff::Error::transient
                    };
                    failed.await.map_err(mark)
                }
            };
            let waits = backoff::backoff::Constant::new(WAIT);
            let _ = runtime.block_on(backoff::future::retry(waits, operation));
            check(&log)
        }),
        trial("tokio-retry", move |runtime| {
            let log = Log::default();
            let waits = tokio_retry::strategy::FixedInterval::new(WAIT).take(3);
            let _ = runtime.block_on(tokio_retry::Retry::start(waits, || log.fail()));
            check(&log)
        }),
    ]
}

#[derive(Default)]
struct Log(RefCell<Vec<Instant>>);

impl Log {
    fn fail(&self) -> impl Future<Output = Result<(), ()>> + use<> {
        self.0.borrow_mut().push(Instant::now());
        std::future::ready(Err(()))
    }
}

fn endless() -> Vec<(&'static str, Trial)> {
    const WAIT: Duration = Duration::MAX;
    async fn fail() -> Result<(), ()> {
        Err(())
    }
    /// Whether the loop is waiting after 5 ms.
    fn check(runtime: &Runtime, run: impl Future) -> Option<String> {
        let ended = runtime.block_on(async { tokio::time::timeout(5 * MS, run).await.is_ok() });
        ended.then(|| "it ended".to_string())
    }
    vec![
        trial("relent", |runtime| {
            check(runtime, Backoff::fixed(WAIT).retry_async(fail))
        }),
        trial("backon", |runtime| {
            check(runtime, fail.retry(backon_steady(WAIT)))
        }),
        trial("backoff", |runtime| {
            let waits = backoff::backoff::Constant::new(WAIT);
            let operation = || async { fail().await.map_err(backoff::Error::transient) };
            check(runtime, backoff::future::retry(waits, operation))
        }),
        trial("tokio-retry", |runtime| {
            let waits = tokio_retry::strategy::FixedInterval::new(WAIT);
            check(runtime, tokio_retry::Retry::start(waits, fail))
        }),
        trial("tower", |runtime| {
            let policy = Again(tower_maker(WAIT, WAIT).make_backoff());
            let mut service = tower::retry::Retry::new(policy, tower::service_fn(|()| fail()));
            check(runtime, service.call(()))
        }),
    ]
}

fn budget() -> Vec<(&'static str, Trial)> {
    /// Empties it, deposits, and counts what can be withdrawn.
    fn check(withdraw: impl Fn() -> bool, deposit: impl Fn()) -> Option<String> {
        let empty = || (0..10_000).take_while(|_| withdraw()).count();
        empty();
        (0..1_000).for_each(|_| deposit());
        let retries = empty();
        (retries != 700).then(|| retries.to_string())
    }
    vec![
        trial("relent", |_| {
            let budget = RetryBudget::new(1_000, 0.7);
            check(|| budget.withdraw(), || budget.deposit())
        }),
        trial("tower", |_| {
            let budget = TpsBudget::new(60 * SECOND, 0, 0.7);
            check(|| budget.withdraw(), || budget.deposit())
        }),
    ]
}

fn backon_steady(wait: Duration) -> backon::ExponentialBuilder {
    backon::ExponentialBuilder::new()
        .with_factor(1.0)
        .with_min_delay(wait)
        .without_max_delay()
        .without_max_times()
}

fn backoff_steady(
    wait: Duration,
    randomization: f64,
    limit: Option<Duration>,
) -> backoff::ExponentialBackoffBuilder {
    let mut builder = backoff::ExponentialBackoffBuilder::new();
    builder
        .with_multiplier(1.0)
        .with_randomization_factor(randomization)
        .with_initial_interval(wait)
        .with_max_elapsed_time(limit);
    builder
}

fn tower_maker(min: Duration, max: Duration) -> ExponentialBackoffMaker {
    ExponentialBackoffMaker::new(min, max, 0.99, HasherRng::default()).expect("a valid policy")
}
