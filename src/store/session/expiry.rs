//! Waiting for a loss.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Session;
use super::ledger::LeaseId;

/// The future of [`Session::expiry`], and of [`Work::expiry`](crate::store::Work::expiry).
#[derive(Debug)]
#[must_use = "a future does nothing unless awaited"]
pub struct Expiry {
    session: Session,
    /// The lease; `None` for the whole session.
    lease: Option<LeaseId>,
    /// Its number among those who wait, once it does.
    waiter: Option<u64>,
}

impl Expiry {
    pub(super) fn new(session: &Session, lease: Option<LeaseId>) -> Expiry {
        Expiry {
            session: session.clone(),
            lease,
            waiter: None,
        }
    }
}

impl Clone for Expiry {
    fn clone(&self) -> Expiry {
        Expiry::new(&self.session, self.lease)
    }
}

impl Future for Expiry {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Expiry {
            session,
            lease,
            waiter,
        } = &mut *self;
        // A waker is somebody else's code, not to be run under the lock.
        let waker = context.waker().clone();
        let (is_over, _outdated) = session.look(|ledger, _| {
            let is_over = match lease {
                None => ledger.expired,
                Some(lease) => ledger.is_lost(*lease),
            };
            if is_over {
                return (true, Some(waker));
            }
            let waiter = *waiter.get_or_insert_with(|| {
                ledger.waiters += 1;
                ledger.waiters
            });
            (false, ledger.waiting.insert(waiter, waker))
        });
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        let forget = |waiter| self.session.0.ledger.lock().waiting.remove(&waiter);
        let _outdated = self.waiter.and_then(forget);
    }
}
