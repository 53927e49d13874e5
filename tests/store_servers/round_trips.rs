//! How often a store asks its server.

use relent::Backoff;
use relent::store::{DurableTracker, PostgresStore};
use sqlx::postgres::{PgPoolOptions, PgSslMode};

use crate::servers::postgres;
use crate::servers::proxy::Proxy;

const NOW: Backoff = Backoff::fixed(std::time::Duration::ZERO).jitter(relent::Jitter::None);

#[tokio::test]
async fn a_change_takes_two_round_trips_and_a_claim_one() {
    let Some(server) = postgres::shared() else {
        return;
    };
    let proxy = Proxy::new(server.directory());
    let options = server.database().await.connect_options();
    let options = options
        .as_ref()
        .clone()
        .socket(proxy.directory())
        .ssl_mode(PgSslMode::Disable);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false);
    let store = PostgresStore::new(pool.connect_with(options).await.unwrap());
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, NOW);
    let keys: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();

    let counted = |what: &str, at_most: u32| {
        let statements = proxy.statements();
        assert!(statements <= at_most, "{what}: {statements}");
    };
    counted("migration", u32::MAX);
    assert!(tracker.record_failure("0", "broken").await.is_ok());
    counted("a first failure", 2);
    assert!(tracker.record_failure("0", "broken").await.is_ok());
    counted("a failure", 2);
    assert_eq!(tracker.record_failures(&failures).await.unwrap().len(), 100);
    counted("a batch", 2);
    let works = tracker.claim_due(100).await.unwrap();
    assert_eq!(works.len(), 100);
    counted("a claim", 1);
    tracker.beat().await.unwrap();
    counted("a heartbeat", 2);
    assert!(works[0].finish().await.is_ok());
    counted("a finish", 2);
    let work = tracker.start("fresh").await.unwrap();
    counted("a start", 2);
    assert!(tracker.start("fresh").await.is_err());
    counted("a refusal", 1);
    assert!(work.fail("broken").await.is_ok());
    counted("a failed work", 2);
    assert_eq!(tracker.due(100).await.unwrap().len(), 1);
    counted("a list", 1);
}
