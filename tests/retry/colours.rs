//! One case, run by every loop there is: they must agree on every instant and every delay.

use std::cell::RefCell;
use std::future::{Future, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(feature = "tokio")]
use relent::clock::TokioClock;
use relent::clock::{Clock, ManualClock};
use relent::{Backoff, Failed, Outcome, RetryBudget, StopReason};

/// An operation that fails `fails` times, and its loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) policy: Backoff,
    pub(crate) seed: Option<u64>,
    pub(crate) hint: Option<Duration>,
    /// How long each attempt runs.
    pub(crate) takes: Duration,
    pub(crate) fails: u32,
    /// The capacity of a budget without deposits.
    pub(crate) budget: Option<u32>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace {
    /// When each attempt began.
    pub(crate) began: Vec<Duration>,
    /// What `notify` was told: failures, delay and elapsed.
    pub(crate) told: Vec<(u32, Duration, Duration)>,
    pub(crate) outcome: Outcome<u32, u32>,
}

impl Case {
    pub(crate) const fn of(policy: Backoff) -> Case {
        Case {
            policy,
            seed: None,
            hint: None,
            takes: Duration::ZERO,
            fails: u32::MAX,
            budget: None,
        }
    }

    pub(crate) const fn seed(mut self, seed: u64) -> Case {
        self.seed = Some(seed);
        self
    }

    pub(crate) const fn hint(mut self, hint: Duration) -> Case {
        self.hint = Some(hint);
        self
    }

    pub(crate) const fn takes(mut self, takes: Duration) -> Case {
        self.takes = takes;
        self
    }

    pub(crate) const fn fails(mut self, fails: u32) -> Case {
        self.fails = fails;
        self
    }

    pub(crate) const fn budget(mut self, retries: u32) -> Case {
        self.budget = Some(retries);
        self
    }

    /// Runs it in every colour, and returns what all agree on.
    #[track_caller]
    pub(crate) fn run(self) -> Trace {
        // Without a seed they could not agree.
        let case = self.seed(self.seed.unwrap_or(7));
        let trace = case.blocking();
        assert_eq!(
            case.future(),
            trace,
            "async differs from blocking: {case:?}"
        );
        assert_eq!(
            case.future_mut(),
            trace,
            "async mut differs from blocking: {case:?}"
        );
        assert_eq!(
            case.future_with(),
            trace,
            "async with a context differs from blocking: {case:?}"
        );
        #[cfg(feature = "tokio")]
        case.assert_tokio_agrees(&trace);
        trace
    }

    fn blocking(self) -> Trace {
        let world = World::new(self, ManualClock::new());
        let retry = self.policy.retry(|| {
            world.begin();
            world.clock.advance(self.takes);
            world.result()
        });
        let retry = retry
            .retry_after(|_| self.hint)
            .notify(|failed| world.tell(failed));
        let retry = retry
            .clock(&world.clock)
            .budget(&world.budget)
            .seed(self.seed.unwrap());
        let outcome = retry.sleep(|delay| world.clock.advance(delay)).outcome();
        world.trace(outcome)
    }

    fn future(self) -> Trace {
        let world = World::new(self, ManualClock::new());
        let retry = self.policy.retry_async(|| async {
            world.begin();
            pend_once().await;
            world.clock.advance(self.takes);
            world.result()
        });
        let retry = retry
            .retry_after(|_| self.hint)
            .notify(|failed| world.tell(failed));
        let retry = retry
            .clock(&world.clock)
            .budget(&world.budget)
            .seed(self.seed.unwrap());
        let retry = retry.sleep(|delay| {
            world.clock.advance(delay);
            pend_once()
        });
        let outcome = drive(retry.outcome());
        world.trace(outcome)
    }

    fn future_mut(self) -> Trace {
        let world = World::new(self, ManualClock::new());
        let retry = self.policy.retry_async_mut(async || {
            world.begin();
            pend_once().await;
            world.clock.advance(self.takes);
            world.result()
        });
        let retry = retry
            .retry_after(|_| self.hint)
            .notify(|failed| world.tell(failed));
        let retry = retry
            .clock(&world.clock)
            .budget(&world.budget)
            .seed(self.seed.unwrap());
        let retry = retry.sleep(|delay| {
            world.clock.advance(delay);
            pend_once()
        });
        let outcome = drive(retry.outcome());
        world.trace(outcome)
    }

    fn future_with(self) -> Trace {
        let world = World::new(self, ManualClock::new());
        let retry = self.policy.retry_async_with(0_u32, async |mut attempts| {
            *attempts += 1;
            assert_eq!(*attempts as usize, world.begun() + 1);
            world.begin();
            pend_once().await;
            world.clock.advance(self.takes);
            world.result()
        });
        let retry = retry
            .retry_after(|_| self.hint)
            .notify(|failed| world.tell(failed));
        let retry = retry
            .clock(&world.clock)
            .budget(&world.budget)
            .seed(self.seed.unwrap());
        let retry = retry.sleep(|delay| {
            world.clock.advance(delay);
            pend_once()
        });
        let outcome = drive(retry.outcome());
        world.trace(outcome)
    }

    /// Tokio's timer knows whole milliseconds, and some decades.
    #[cfg(feature = "tokio")]
    #[track_caller]
    fn assert_tokio_agrees(self, trace: &Trace) {
        let whole_ms = |time: &Duration| time.subsec_nanos() % 1_000_000 == 0;
        if trace.began.iter().all(whole_ms) && *trace.began.last().unwrap() < 300 * DAY {
            assert_eq!(
                self.tokio(),
                *trace,
                "tokio differs from blocking: {self:?}"
            );
        }
    }

    /// With nothing set that has a default: tokio's timer and tokio's clock.
    #[cfg(feature = "tokio")]
    fn tokio(self) -> Trace {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new(self, TokioClock);
            let retry = self.policy.retry_async(|| async {
                world.begin();
                tokio::time::sleep(self.takes).await;
                world.result()
            });
            let retry = retry
                .retry_after(|_| self.hint)
                .notify(|failed| world.tell(failed));
            let retry = retry.budget(&world.budget).seed(self.seed.unwrap());
            let outcome = retry.outcome().await;
            world.trace(outcome)
        })
    }
}

impl Trace {
    pub(crate) fn delays(&self) -> Vec<Duration> {
        self.told.iter().map(|&(_, delay, _)| delay).collect()
    }

    /// Asserts that it ended by `stop`, with attempts that began at these seconds.
    #[track_caller]
    pub(crate) fn assert(&self, seconds: &[u64], stop: StopReason) {
        let began: Vec<_> = seconds.iter().map(|&s| Duration::from_secs(s)).collect();
        assert_eq!((&self.began, self.outcome.stop), (&began, stop));
        self.assert_consistent();
    }

    /// The outcome tells what happened.
    #[track_caller]
    pub(crate) fn assert_consistent(&self) {
        let outcome = &self.outcome;
        assert_eq!(outcome.attempts as usize, self.began.len());
        let succeeded = outcome.stop == StopReason::Succeeded;
        // The operation's own last result: each attempt gives its number.
        let last = outcome.attempts;
        assert_eq!(outcome.result, if succeeded { Ok(last) } else { Err(last) });
        assert_eq!(outcome.recovered(), succeeded && last > 1);
        assert_eq!(
            self.told.len(),
            self.began.len() - 1,
            "told of each retry and of nothing else"
        );
        let waited = self
            .delays()
            .into_iter()
            .fold(Duration::ZERO, Duration::saturating_add);
        assert_eq!(outcome.waited, waited.min(Duration::from_nanos(u64::MAX)));
        for (n, &(failures, ..)) in (1..).zip(&self.told) {
            assert_eq!(failures, n);
        }
    }
}

struct World<C> {
    case: Case,
    clock: C,
    origin: Duration,
    budget: RetryBudget,
    began: RefCell<Vec<Duration>>,
    told: RefCell<Vec<(u32, Duration, Duration)>>,
}

impl<C: Clock> World<C> {
    fn new(case: Case, clock: C) -> World<C> {
        World {
            case,
            origin: clock.now(),
            clock,
            budget: RetryBudget::new(case.budget.unwrap_or(u32::MAX), 0.0),
            began: RefCell::default(),
            told: RefCell::default(),
        }
    }

    fn begin(&self) {
        self.began
            .borrow_mut()
            .push(self.clock.now().saturating_sub(self.origin));
    }

    fn begun(&self) -> usize {
        self.began.borrow().len()
    }

    fn result(&self) -> Result<u32, u32> {
        let attempt = self.begun() as u32;
        if attempt > self.case.fails {
            Ok(attempt)
        } else {
            Err(attempt)
        }
    }

    fn tell(&self, failed: &Failed<'_, u32>) {
        assert_eq!(*failed.error, failed.failures);
        assert_eq!(failed.retry_after, self.case.hint);
        self.told
            .borrow_mut()
            .push((failed.failures, failed.delay, failed.elapsed));
    }

    fn trace(self, outcome: Outcome<u32, u32>) -> Trace {
        Trace {
            began: self.began.into_inner(),
            told: self.told.into_inner(),
            outcome,
        }
    }
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Polls to the end, as a runtime would that has nothing else to do.
pub(crate) fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return output;
        }
    }
    panic!("still pending after a million polls");
}

pub(crate) fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A timer for loops that need one and never wait, or need not.
pub(crate) fn no_wait(_: Duration) -> std::future::Ready<()> {
    ready(())
}

/// Truly pending, once: what is always ready proves nothing.
pub(crate) async fn pend_once() {
    let mut polled = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            Poll::Ready(())
        } else {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
    ready(()).await;
}
