//! A blocking store on the bench: in its native face, on tokio's threads, and from there back.

use std::time::{Duration, SystemTime};

use relent::clock::ManualClock;
use relent::store::blocking::{Block, Store};
use relent::store::contract::{self, Bench};
use relent::store::{AsyncStore, Inline, Unblock};
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
