//! One contract, every store.

use std::time::{Duration, SystemTime};

use relent::clock::ManualClock;
use relent::store::MemoryStore;
use relent::store::contract::{self, Bench};

struct Memory(ManualClock);

impl Bench for Memory {
    type Store = MemoryStore<ManualClock>;

    async fn empty(&self) -> Self::Store {
        MemoryStore::with_clock(self.0.clone())
    }

    async fn pass(&self, time: Duration) {
        self.0.advance(time);
    }

    fn set_clock(&self, time: SystemTime) -> bool {
        self.0.set_wall(time);
        true
    }
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::all(&Memory(ManualClock::new())).await;
}
