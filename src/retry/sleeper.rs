//! What an async loop waits by.

use std::future::Future;
use std::time::Duration;

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

/// Tokio's timer, which loops use unless told otherwise: [`tokio::time::sleep`].
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokioSleeper;

#[cfg(feature = "tokio")]
impl Sleeper for TokioSleeper {
    type Sleep = tokio::time::Sleep;

    #[inline]
    fn sleep(&mut self, delay: Duration) -> tokio::time::Sleep {
        tokio::time::sleep(delay)
    }
}

/// No timer: what loops have without the feature `tokio`, until they are given one by `.sleep(..)`.
///
/// An async loop that has no other does not compile:
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
///
/// No `T` makes a timer of it. With two ways to be a [`Sleeper`], neither of which holds, the
/// compiler names that trait, and its remedy, instead of `FnMut`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoSleeper<T = ()>(std::marker::PhantomData<T>);

impl<T: missing::Timer> Sleeper for NoSleeper<T> {
    type Sleep = std::future::Pending<()>;

    fn sleep(&mut self, _: Duration) -> Self::Sleep {
        std::future::pending()
    }
}

mod missing {
    pub trait Timer {}
}

/// What an async loop waits by, and tells the time by, unless told otherwise.
#[cfg(feature = "tokio")]
pub(super) mod default {
    pub(in crate::retry) type Timer = super::TokioSleeper;
    pub(in crate::retry) type Sleep = tokio::time::Sleep;
    pub(in crate::retry) type Watch = crate::clock::TokioClock;
}

#[cfg(not(feature = "tokio"))]
pub(super) mod default {
    pub(in crate::retry) type Timer = super::NoSleeper;
    pub(in crate::retry) type Sleep = std::future::Pending<()>;
    pub(in crate::retry) type Watch = crate::clock::MonotonicClock;
}
