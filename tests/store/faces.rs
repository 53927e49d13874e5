//! A blocking store on the bench: in its native face, on tokio's threads, from there back, and as
//! one of any type.

#![allow(dead_code, reason = "each store needs other parts")]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use relent::Backoff;
use relent::clock::ManualClock;
use relent::store::blocking::{self, Block, Store};
use relent::store::contract::{self, Bench};
use relent::store::step::{self, Failed};
use relent::store::{AnyStore, AsyncStore, Inline, Record, Unblock};
use tokio::runtime::Handle;

/// A clock, a way to make an empty store that goes by it, and the face by which the store is shown.
pub(crate) struct Face<'m, S, A> {
    clock: ManualClock,
    make: &'m dyn Fn(ManualClock) -> S,
    show: fn(S) -> A,
    /// The store behind the face.
    pub(crate) behind: fn(&A) -> &S,
    /// Where the stores are, if anywhere.
    pub(crate) path: PathBuf,
}

impl<S: Store, A: AsyncStore + 'static> Bench for Face<'_, S, A> {
    type Store = A;

    async fn empty(&self) -> A {
        (self.show)((self.make)(self.clock.clone()))
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn set_clock(&self, time: SystemTime) -> bool {
        self.clock.set_wall(time);
        true
    }
}

impl<'m, S, A> Face<'m, S, A> {
    pub(crate) fn new(
        make: &'m dyn Fn(ManualClock) -> S,
        show: fn(S) -> A,
        behind: fn(&A) -> &S,
    ) -> Face<'m, S, A> {
        // Far from 1970, so that there is somewhere to set the clock back to.
        let clock = ManualClock::new();
        clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_800_000_000_123_456_789));
        Face {
            clock,
            make,
            show,
            behind,
            path: PathBuf::new(),
        }
    }

    pub(crate) fn at(self, path: &Path) -> Face<'m, S, A> {
        let path = path.to_owned();
        Face { path, ..self }
    }
}

/// In its native face.
pub(crate) fn native<S>(make: &dyn Fn(ManualClock) -> S) -> Face<'_, S, Inline<S>> {
    Face::new(make, Inline, |shown| &shown.0)
}

/// On tokio's threads.
pub(crate) fn unblocked<S>(make: &dyn Fn(ManualClock) -> S) -> Face<'_, S, Unblock<S>> {
    Face::new(make, Unblock::new, Unblock::get_ref)
}

/// Holds a blocking store to the contract, in every face.
pub(crate) async fn contract<S>(make: impl Fn(ManualClock) -> S)
where
    S: Store + Send + Sync + 'static,
{
    contract::all(&native(&make)).await;
    contract::all(&unblocked(&make)).await;
    // There and back, on a thread of the runtime itself.
    let blocked = Face::new(
        &make,
        |store| Inline(Block::new(Unblock::new(store), Handle::current())),
        |shown| shown.0.get_ref().get_ref(),
    );
    contract::all(&blocked).await;
    // Where its type is erased.
    let any = Face::new(
        &make,
        |store| AnyStore::new(Unblock::new(blocking::AnyStore::new(store))),
        |_| unreachable!("it is not told"),
    );
    contract::all(&any).await;
}

/// The output of a future that waits for nothing.
#[track_caller]
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Fails `a`, and panics before `b` has failed too.
#[track_caller]
pub(crate) fn panics_at_the_second_of_two(store: &impl Store) {
    let failed = Failed {
        backoff: Some(Backoff::DEFAULT),
        retry_after: None,
        cause: String::new(),
        entropy: 0,
    };
    let change = move |n, record: Option<&Record>, now| {
        assert!(n == 0, "on purpose");
        step::failure(failed.clone())(record, now)
    };
    let batch = || store.update_all(&["a", "b"], change);
    catch_unwind(AssertUnwindSafe(batch)).expect_err("no panic");
}
