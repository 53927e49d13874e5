//! A blocking store on the bench: in its native face, on tokio's threads, and from there back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use relent::Backoff;
use relent::clock::ManualClock;
use relent::store::blocking::{Block, Store};
use relent::store::contract::{self, Bench};
use relent::store::step::{self, Failed};
use relent::store::{AsyncStore, Inline, Record, Unblock};
use tokio::runtime::Handle;

/// A clock, a way to make an empty store that goes by it, and a face to show of that.
struct Face<M, F> {
    clock: ManualClock,
    make: M,
    show: F,
}

impl<S, A, M, F> Bench for Face<M, F>
where
    S: Store,
    A: AsyncStore + 'static,
    M: Fn(ManualClock) -> S,
    F: Fn(S) -> A,
{
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

/// Begins far from 1970, so that there is somewhere to set the clock back to.
fn clock() -> ManualClock {
    let clock = ManualClock::new();
    clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_800_000_000_123_456_789));
    clock
}

/// Holds a blocking store to the contract, in every face.
pub(crate) async fn contract<S>(make: impl Fn(ManualClock) -> S)
where
    S: Store + Send + Sync + 'static,
{
    let native = Face {
        clock: clock(),
        make: &make,
        show: Inline,
    };
    contract::all(&native).await;
    let unblocked = Face {
        clock: clock(),
        make: &make,
        show: |store: S| Unblock::new(store),
    };
    contract::all(&unblocked).await;
    // There and back, on a thread of the runtime itself.
    let blocked = Face {
        clock: clock(),
        make: &make,
        show: |store: S| Inline(Block::new(Unblock::new(store), Handle::current())),
    };
    contract::all(&blocked).await;
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
