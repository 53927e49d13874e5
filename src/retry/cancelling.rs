//! What may end an async loop between two attempts, and the error that it then ends with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::attempts::Resting;
use super::{Unset, sealed};

/// What `.cancel_on(..)` has set, a [`Cancelling`], or [`Unset`]. Sealed: no other type is one.
pub trait Cancel<E>: sealed::Cancel {
    /// Keeps what the loop ends with if it is cancelled in the rest that begins now.
    #[doc(hidden)]
    fn keep(self: Pin<&mut Self>, resting: Resting<E>);

    /// Gives that back once it is cancelled.
    #[doc(hidden)]
    fn poll_cancelled(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Resting<E>>;

    /// Drops it: the rest is over.
    #[doc(hidden)]
    fn release(self: Pin<&mut Self>);
}

/// Nothing but dropping it ends the loop, so the error is dropped at once.
impl<E> Cancel<E> for Unset {
    #[inline]
    fn keep(self: Pin<&mut Self>, _: Resting<E>) {}

    #[inline]
    fn poll_cancelled(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Resting<E>> {
        Poll::Pending
    }

    #[inline]
    fn release(self: Pin<&mut Self>) {}
}

pin_project! {
    /// A signal that ends the waits of a loop, and the loop's last error. From `.cancel_on(..)`.
    pub struct Cancelling<G, E> {
        #[pin]
        signal: G,
        kept: Option<Resting<E>>,
    }
}

impl<G, E> Cancelling<G, E> {
    pub(super) const fn new(signal: G) -> Cancelling<G, E> {
        Cancelling { signal, kept: None }
    }
}

impl<G: Future<Output = ()>, E> Cancel<E> for Cancelling<G, E> {
    fn keep(self: Pin<&mut Self>, resting: Resting<E>) {
        *self.project().kept = Some(resting);
    }

    fn poll_cancelled(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Resting<E>> {
        let this = self.project();
        // Not polled again once it was ready: nothing is kept then.
        if this.kept.is_none() || this.signal.poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.kept.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn release(self: Pin<&mut Self>) {
        *self.project().kept = None;
    }
}

/// Signals have nothing to show.
impl<G, E> fmt::Debug for Cancelling<G, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelling").finish_non_exhaustive()
    }
}
