//! The reference.

use relent::store::MemoryStore;

use crate::faces;

#[tokio::test]
async fn keeps_the_contract() {
    faces::contract(MemoryStore::with_clock).await;
}
