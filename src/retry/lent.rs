//! An operation that needs something mutable, lent to one attempt after the other.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Async, AsyncHooks, Operation, Retry};
use crate::policy::Backoff;

impl Backoff {
    /// The same as [`retry_async`](Self::retry_async) for an operation that needs something
    /// mutable: a connection, a buffer, a client that takes `&mut self`.
    ///
    /// `context` is a mutable borrow of it, or the thing itself, which is then dropped with the
    /// loop. It is [`Lent`] to each attempt in turn, and comes back when the attempt is over,
    /// however that ended: by `?`, or because its time ran out. All else is as in `retry_async`; it
    /// can be spawned, too.
    ///
    /// Allocates once, when it is made: the place of the context between attempts.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # {
    /// use relent::Backoff;
    ///
    /// # struct Connection;
    /// # impl Connection { async fn query(&mut self, _: &str) -> Result<u32, std::io::Error> { Ok(1) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let worker = tokio::spawn(async {
    ///     let mut connection = Connection;
    ///     let question = String::from("select 1");
    ///     Backoff::DEFAULT
    ///         .retry_async_with(&mut connection, async |mut connection| connection.query(&question).await)
    ///         .await
    /// });
    /// assert_eq!(worker.await.unwrap().unwrap(), 1);
    /// # }
    /// # main();
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When an attempt begins while the [`Lent`] of the last one is not dropped yet, because that
    /// attempt moved it out of its future.
    #[inline]
    pub fn retry_async_with<C, F, A, T, E>(
        &self,
        context: C,
        operation: F,
    ) -> Retry<Async<Lending<F, C>, A>, E, AsyncHooks>
    where
        F: FnMut(Lent<C>) -> A,
        A: Future<Output = Result<T, E>>,
    {
        let home = Arc::new(Mutex::new(Some(context)));
        Retry::future(self, Lending { operation, home })
    }
}

/// An operation, and what is lent to it. From [`Backoff::retry_async_with`].
pub struct Lending<F, C> {
    operation: F,
    home: Arc<Mutex<Option<C>>>,
}

impl<S, C, F, A, T, E> Operation<S> for Lending<F, C>
where
    F: FnMut(Lent<C>) -> A,
    A: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Error = E;
    type Attempt = A;

    fn start(&mut self, _: &mut S) -> A {
        let context = self.home.lock().take();
        assert!(
            context.is_some(),
            "an attempt begins, and the one before still has what it was lent"
        );
        let home = Arc::clone(&self.home);
        (self.operation)(Lent { context, home })
    }

    fn finish(&mut self, output: Result<T, E>) -> Result<T, E> {
        output
    }
}

/// What an attempt of [`Backoff::retry_async_with`] was lent. Dropping it gives it back.
pub struct Lent<C> {
    /// There until it is dropped.
    context: Option<C>,
    home: Arc<Mutex<Option<C>>>,
}

impl<C> Deref for Lent<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.context.as_ref().expect("there until it is dropped")
    }
}

impl<C> DerefMut for Lent<C> {
    fn deref_mut(&mut self) -> &mut C {
        self.context.as_mut().expect("there until it is dropped")
    }
}

impl<C> Drop for Lent<C> {
    fn drop(&mut self) {
        *self.home.lock() = self.context.take();
    }
}

impl<C: fmt::Debug> fmt::Debug for Lent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Closures have nothing to show.
impl<F, C> fmt::Debug for Lending<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lending").finish_non_exhaustive()
    }
}
