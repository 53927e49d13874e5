//! The reference.

use relent::Backoff;
use relent::store::MemoryStore;
use relent::store::blocking::DurableTracker;

use crate::faces;

#[tokio::test]
async fn keeps_the_contract() {
    faces::contract(MemoryStore::with_clock).await;
}

#[test]
fn r2_a_batch_that_panics_leaves_nothing() {
    let store = MemoryStore::new();
    faces::panics_at_the_second_of_two(&store);
    assert!(store.is_empty());
    let tracker = DurableTracker::new(store, Backoff::DEFAULT);
    tracker.record_failure("a", "broken").unwrap();
    assert_eq!(
        (tracker.store().len(), tracker.store().is_empty()),
        (1, false)
    );
}
