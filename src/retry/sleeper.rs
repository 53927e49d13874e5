//! What an async loop waits by.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

/// A timer: any `FnMut(Duration) -> impl Future<Output = ()>`.
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # {
/// use relent::Backoff;
///
/// # async fn fetch() -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example() -> Result<(), std::io::Error> {
/// Backoff::DEFAULT.retry_async(fetch).sleep(tokio::time::sleep).await
/// # }
/// # }
/// ```
///
/// It is asked for delays above zero, and for the limits that `.timeout(..)` sets. Each sleep is
/// dropped before the next attempt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no timer for a loop to wait by",
    note = "enable the feature `tokio` of `relent` to wait by tokio's timer",
    note = "or give the loop another one: `.sleep(|delay| ..)` takes a closure that returns a future"
)]
pub trait Sleeper {
    /// One wait.
    type Sleep: Future<Output = ()>;

    /// A future that is ready when `delay` has passed.
    fn sleep(&mut self, delay: Duration) -> Self::Sleep;
}

#[diagnostic::do_not_recommend]
impl<F, S> Sleeper for F
where
    F: FnMut(Duration) -> S,
    S: Future<Output = ()>,
{
    type Sleep = S;

    #[inline]
    fn sleep(&mut self, delay: Duration) -> S {
        self(delay)
    }
}

/// The timer by which async loops wait unless told otherwise: tokio's under the feature `tokio`,
/// and otherwise none.
///
/// It is the same type either way, so that code which names the type of a loop compiles whether or
/// not some other crate enables the feature.
///
/// # Panics
///
/// Under the feature `tokio`, [`sleep`](Sleeper::sleep) panics outside a tokio runtime, or in one
/// without
/// [`enable_time`](https://docs.rs/tokio/latest/tokio/runtime/struct.Builder.html#method.enable_time).
/// On another runtime give the loop its timer, by `.sleep(..)`.
///
/// Without the feature, an async loop that was given no timer does not compile:
///
#[cfg_attr(not(feature = "tokio"), doc = "```compile_fail,E0277")]
#[cfg_attr(feature = "tokio", doc = "```")]
/// # async fn fetch() -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example() -> Result<(), std::io::Error> {
/// relent::Backoff::DEFAULT.retry_async(fetch).await
/// # }
/// ```
///
/// Nor does one that borrows mutably:
///
#[cfg_attr(not(feature = "tokio"), doc = "```compile_fail,E0277")]
#[cfg_attr(feature = "tokio", doc = "```")]
/// # async fn fetch() -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example() -> Result<(), std::io::Error> {
/// relent::Backoff::DEFAULT.retry_async_mut(async || fetch().await).run().await
/// # }
/// ```
///
/// Given a timer, they do:
///
/// ```
/// # async fn fetch() -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example() -> Result<(), std::io::Error> {
/// # let timer = |_| std::future::ready(());
/// relent::Backoff::DEFAULT.retry_async(fetch).sleep(timer).await?;
/// relent::Backoff::DEFAULT.retry_async_mut(async || fetch().await).sleep(timer).run().await
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuntimeSleeper;

#[cfg(feature = "tokio")]
impl Sleeper for RuntimeSleeper {
    type Sleep = RuntimeSleep;

    fn sleep(&mut self, delay: Duration) -> RuntimeSleep {
        assert!(
            tokio::runtime::Handle::try_current().is_ok(),
            "a loop waits by tokio's timer, and here is no tokio runtime: \
             give the loop the timer of your own, by `.sleep(..)`"
        );
        RuntimeSleep {
            sleep: tokio::time::sleep(delay),
            auto: PhantomData,
        }
    }
}

pin_project! {
    /// One wait by a [`RuntimeSleeper`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RuntimeSleep {
        #[pin]
        sleep: runtime::Sleep,
        // So that this has the auto traits that tokio's has, and no others, with it or without.
        auto: PhantomData<dyn Send + Sync>,
    }
}

impl Future for RuntimeSleep {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().sleep.poll(cx)
    }
}

mod runtime {
    #[cfg(feature = "tokio")]
    pub(super) use tokio::time::Sleep;

    /// There is none.
    #[cfg(not(feature = "tokio"))]
    #[derive(Debug)]
    pub(super) struct Sleep(std::convert::Infallible, std::marker::PhantomPinned);

    #[cfg(not(feature = "tokio"))]
    impl std::future::Future for Sleep {
        type Output = ();

        fn poll(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<()> {
            match self.0 {}
        }
    }
}
