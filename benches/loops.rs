//! The loops beside hand-written ones and those of peers, in one run.
//!
//! ```console
//! taskset -c 1 cargo bench --features tokio --bench loops
//! ```
//!
//! - `size`: a table of what each future adds to an operation's own 257 bytes; ours at most 120.
//! - `blocking_success`, `async_success`: the operation succeeds at once. Ours is to be within a
//!   nanosecond of the hand-written loop.
//! - `three_zero_delays`: three failures without a delay, on tokio; ours under a microsecond. A
//!   timer set to zero takes a millisecond.
//!
//! Compare medians, and only within one run: the machine's own speed changes between runs.

use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use divan::Bencher;
use relent::Backoff;

const MS: Duration = Duration::from_millis(1);
const POLICY: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30))
    .give_up_after_failures(5);

fn main() {
    size::print();
    divan::main();
}

/// What is attempted: a call that the compiler does not see through.
#[inline(never)]
fn operation() -> Result<u64, u64> {
    black_box(Ok(42))
}

async fn operation_async() -> Result<u64, u64> {
    operation()
}

/// 257 bytes.
async fn large() -> Result<u64, u64> {
    let kept = [0_u8; 256];
    std::future::poll_fn(|_| Poll::Ready(())).await;
    black_box(&kept);
    Ok(42)
}

// As `.await` does in an async function: the future is polled where it was made, not moved first.
#[expect(clippy::inline_always)]
#[inline(always)]
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The loop that everybody writes first.
mod hand {
    use super::{Context, Duration, Future, MS, Pin, Poll, operation};

    pub(crate) fn delay(failures: u32) -> Duration {
        100 * MS * 2_u32.pow(failures)
    }

    pub(crate) fn blocking() -> Result<u64, u64> {
        let mut failures = 0;
        loop {
            match operation() {
                Ok(value) => return Ok(value),
                Err(error) => {
                    failures += 1;
                    if failures == 5 {
                        return Err(error);
                    }
                    std::thread::sleep(delay(failures));
                }
            }
        }
    }

    pin_project_lite::pin_project! {
        pub(crate) struct Loop<O, A> {
            pub(crate) operation: O,
            pub(crate) failures: u32,
            #[pin]
            pub(crate) state: State<A>,
        }
    }

    pin_project_lite::pin_project! {
        #[project = Projection]
        pub(crate) enum State<A> {
            Idle,
            Attempt { #[pin] attempt: A },
            Wait { #[pin] wait: tokio::time::Sleep },
        }
    }

    pub(crate) fn future<O: FnMut() -> A, A>(operation: O) -> Loop<O, A> {
        Loop {
            operation,
            failures: 0,
            state: State::Idle,
        }
    }

    impl<O: FnMut() -> A, A: Future<Output = Result<u64, u64>>> Future for Loop<O, A> {
        type Output = Result<u64, u64>;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<u64, u64>> {
            let mut this = self.project();
            loop {
                match this.state.as_mut().project() {
                    Projection::Idle => {
                        let attempt = (this.operation)();
                        this.state.set(State::Attempt { attempt });
                    }
                    Projection::Attempt { attempt } => match std::task::ready!(attempt.poll(cx)) {
                        Ok(value) => return Poll::Ready(Ok(value)),
                        Err(error) => {
                            *this.failures += 1;
                            if *this.failures == 5 {
                                return Poll::Ready(Err(error));
                            }
                            let wait = tokio::time::sleep(delay(*this.failures));
                            this.state.set(State::Wait { wait });
                        }
                    },
                    Projection::Wait { wait } => {
                        std::task::ready!(wait.poll(cx));
                        this.state.set(State::Idle);
                    }
                }
            }
        }
    }
}

fn backon_policy() -> backon::ExponentialBuilder {
    backon::ExponentialBuilder::default()
        .with_jitter()
        .with_max_times(4)
}

fn tokio_retry_policy() -> impl Iterator<Item = Duration> {
    use tokio_retry::strategy::{ExponentialBackoff, jitter};
    ExponentialBackoff::from_millis(2)
        .factor(50)
        .map(jitter)
        .take(4)
}

fn retry_policy() -> impl Iterator<Item = Duration> {
    use retry::delay::{Exponential, jitter};
    Exponential::from_millis(100).map(jitter).take(4)
}

mod size {
    use super::{Backoff, POLICY, backon_policy, hand, large, tokio_retry_policy};

    /// What each loop adds to the operation's own size.
    pub(crate) fn print() {
        use backon::Retryable;
        let operation = size_of_val(&large());
        let transient = || async { large().await.map_err(backoff::Error::transient) };
        let wrapped = size_of_val(&transient());
        let backoff_policy = backoff::ExponentialBackoff::default();
        println!("size of a loop over an operation of {operation} bytes, and what it adds:");
        for (name, size, operation) in [
            ("hand-written", size_of_val(&hand::future(large)), operation),
            ("relent", size_of_val(&POLICY.retry_async(large)), operation),
            (
                "tokio-retry",
                size_of_val(&tokio_retry::Retry::start(tokio_retry_policy(), large)),
                operation,
            ),
            (
                "backon",
                size_of_val(&large.retry(backon_policy())),
                operation,
            ),
            (
                "backoff",
                size_of_val(&backoff::future::retry(backoff_policy, transient)),
                wrapped,
            ),
        ] {
            println!("  {name:<13} {size:>4}  +{}", size - operation);
        }
        println!("  (a policy is {} bytes)", size_of::<Backoff>());
    }
}

#[divan::bench_group]
mod blocking_success {
    use super::{Bencher, POLICY, backon_policy, black_box, hand, operation, retry_policy};

    #[divan::bench]
    fn hand_written(bencher: Bencher<'_, '_>) {
        bencher.bench(hand::blocking);
    }

    #[divan::bench]
    fn relent(bencher: Bencher<'_, '_>) {
        bencher.bench(|| POLICY.retry(operation).call());
    }

    #[divan::bench]
    fn relent_policy_unknown(bencher: Bencher<'_, '_>) {
        let policy = black_box(POLICY);
        bencher.bench(|| black_box(&policy).retry(operation).call());
    }

    #[divan::bench]
    fn relent_outcome(bencher: Bencher<'_, '_>) {
        bencher.bench(|| POLICY.retry(operation).outcome());
    }

    #[divan::bench]
    fn backon(bencher: Bencher<'_, '_>) {
        use backon::BlockingRetryable;
        bencher.bench(|| operation.retry(backon_policy()).call());
    }

    #[divan::bench]
    fn backoff(bencher: Bencher<'_, '_>) {
        bencher.bench(|| {
            let policy = backoff::ExponentialBackoff::default();
            backoff::retry(policy, || operation().map_err(backoff::Error::transient)).ok()
        });
    }

    #[divan::bench]
    fn retry(bencher: Bencher<'_, '_>) {
        bencher.bench(|| retry::retry(retry_policy(), operation).ok());
    }
}

#[divan::bench_group]
mod async_success {
    use super::{
        Bencher, POLICY, backon_policy, black_box, hand, operation_async, poll_once,
        tokio_retry_policy,
    };

    #[divan::bench]
    fn hand_written(bencher: Bencher<'_, '_>) {
        bencher.bench(|| poll_once(hand::future(operation_async)));
    }

    #[divan::bench]
    fn relent(bencher: Bencher<'_, '_>) {
        bencher.bench(|| poll_once(POLICY.retry_async(operation_async)));
    }

    #[divan::bench]
    fn relent_policy_unknown(bencher: Bencher<'_, '_>) {
        let policy = black_box(POLICY);
        bencher.bench(|| poll_once(black_box(&policy).retry_async(operation_async)));
    }

    #[divan::bench]
    fn backon(bencher: Bencher<'_, '_>) {
        use backon::Retryable;
        bencher.bench(|| poll_once(operation_async.retry(backon_policy())));
    }

    #[divan::bench]
    fn tokio_retry(bencher: Bencher<'_, '_>) {
        bencher.bench(|| {
            poll_once(tokio_retry::Retry::start(
                tokio_retry_policy(),
                operation_async,
            ))
        });
    }

    #[divan::bench]
    fn backoff(bencher: Bencher<'_, '_>) {
        bencher.bench(|| {
            let policy = backoff::ExponentialBackoff::default();
            let operation = || async { operation_async().await.map_err(backoff::Error::transient) };
            poll_once(backoff::future::retry(policy, operation))
        });
    }
}

#[divan::bench_group(max_time = 1)]
mod three_zero_delays {
    use std::time::Duration;

    use super::{Backoff, Bencher, Future, black_box};

    const AT_ONCE: Backoff = Backoff::fixed(Duration::ZERO);

    fn failing_thrice() -> impl FnMut() -> Result<u32, u32> {
        let mut attempts = 0;
        move || {
            attempts += 1;
            black_box(if attempts > 3 {
                Ok(attempts)
            } else {
                Err(attempts)
            })
        }
    }

    fn failing_thrice_async() -> impl FnMut() -> std::future::Ready<Result<u32, u32>> {
        let mut operation = failing_thrice();
        move || std::future::ready(operation())
    }

    fn on_tokio<F: Future>(bencher: Bencher<'_, '_>, make: impl Fn() -> F) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        bencher.bench_local(|| runtime.block_on(make()));
    }

    /// What entering the runtime costs: part of all below.
    #[divan::bench]
    fn nothing(bencher: Bencher<'_, '_>) {
        on_tokio(bencher, || std::future::ready(()));
    }

    #[divan::bench]
    fn relent(bencher: Bencher<'_, '_>) {
        on_tokio(bencher, || AT_ONCE.retry_async(failing_thrice_async()));
    }

    #[divan::bench]
    fn relent_blocking(bencher: Bencher<'_, '_>) {
        bencher.bench_local(|| AT_ONCE.retry(failing_thrice()).call());
    }

    #[divan::bench]
    fn backon(bencher: Bencher<'_, '_>) {
        use backon::Retryable;
        let at_once = backon::ConstantBuilder::default().with_delay(Duration::ZERO);
        on_tokio(bencher, || failing_thrice_async().retry(at_once));
    }

    #[divan::bench]
    fn tokio_retry(bencher: Bencher<'_, '_>) {
        on_tokio(bencher, || {
            tokio_retry::Retry::start([Duration::ZERO; 3], failing_thrice_async())
        });
    }

    #[divan::bench]
    fn backoff(bencher: Bencher<'_, '_>) {
        on_tokio(bencher, || {
            let mut operation = failing_thrice();
            backoff::future::retry(backoff::backoff::Zero {}, move || {
                std::future::ready(operation().map_err(backoff::Error::transient))
            })
        });
    }
}
