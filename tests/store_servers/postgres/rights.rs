//! Roles that have no more rights than they need, and a history that they keep small.

use relent::Backoff;
use relent::store::{
    AsyncStore, DurableTracker, Error, Event, Fault, InvalidKey, PostgresError, PostgresStore,
};
use sqlx::postgres::PgPool;
use sqlx::{query, query_scalar, raw_sql};

use super::{SECOND, machines};
use crate::servers::postgres as server;

/// The rights, as the documentation says.
const GRANTS: &str = "
GRANT SELECT, INSERT, UPDATE, DELETE ON relent TO worker;
GRANT SELECT, UPDATE ON SEQUENCE relent_tokens, relent_latest TO worker;
GRANT SELECT, INSERT, DELETE ON relent_history TO worker;
GRANT SELECT ON relent_meta TO worker;
";

/// Every verb, by a role that has been granted what is documented.
#[tokio::test]
async fn a_role_needs_no_more_than_the_documented_rights() {
    let Some((owner, _)) = machines().await else {
        return;
    };
    for statement in ["CREATE ROLE worker LOGIN", GRANTS] {
        raw_sql(statement).execute(&owner).await.unwrap();
    }
    let options = owner.connect_options().as_ref().clone().username("worker");
    let pool = PgPool::connect_with(options).await.unwrap();
    let store = PostgresStore::new(pool.clone()).with_history();
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, Backoff::fixed(SECOND / 1_000_000));
    let batch = [("a", "x"), ("b", "x"), ("c", "x"), ("a", "x")];
    assert_eq!(tracker.record_failures(&batch).await.unwrap().len(), 4);
    tracker.record_failure("a", "x").await.unwrap();
    tokio::time::sleep(SECOND / 50).await;
    assert_eq!(tracker.due(10).await.unwrap().len(), 3);
    assert_eq!(tracker.waiting(10).await.unwrap().len(), 0);
    assert_eq!(tracker.gave_up(10).await.unwrap().len(), 0);
    let works = tracker.claim_due(2).await.unwrap();
    tracker.beat().await.unwrap();
    works[0].fail("x").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    works[1].finish_in(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let fresh = tracker.start("fresh").await.unwrap();
    fresh.cancel().await.unwrap();
    tracker.forget("c").await.unwrap();
    let store = tracker.store();
    assert_eq!(store.unreadable(10).await.unwrap(), []);
    let history = store.history("fresh", 10).await.unwrap();
    let events = history.iter().map(|entry| entry.event);
    assert_eq!(
        events.collect::<Vec<_>>(),
        [Event::Cancelled, Event::Started]
    );
    assert!(
        store
            .prune_history(std::time::SystemTime::now())
            .await
            .unwrap()
            > 0
    );
    let taken = query("DROP TABLE relent").execute(&pool).await;
    assert!(taken.is_err(), "it is the owner");
}

/// A missing right to read the tables does not say whose they are.
#[tokio::test]
async fn p5_who_may_not_read_the_tables_is_told_so() {
    let Some((owner, _)) = machines().await else {
        return;
    };
    let stranger = "CREATE ROLE stranger LOGIN";
    raw_sql(stranger).execute(&owner).await.unwrap();
    let options = owner.connect_options().as_ref().clone();
    let pool = PgPool::connect_with(options.username("stranger"));
    let refused = PostgresStore::new(pool.await.unwrap()).migrate().await;
    let Err(PostgresError::Postgres(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.to_string().contains("permission denied"), "{error}");
}

/// Nothing else is tried then, unlike where other keys could still be reached.
#[tokio::test]
async fn where_nothing_can_be_written_it_is_the_store_and_no_key() {
    let Some((owner, _)) = machines().await else {
        return;
    };
    let options = owner.connect_options().as_ref().clone();
    let options = options.options([("default_transaction_read_only", "on")]);
    let replica = PgPool::connect_with(options).await.unwrap();
    let tracker = DurableTracker::new(PostgresStore::new(replica), Backoff::DEFAULT);
    let refused = tracker.record_failures(&[("a", "x"), ("b", "x")]).await;
    let Err(Error::Store(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(tracker.store().fault(&error), Fault::Store, "{error}");
    assert!(tracker.due(1).await.is_ok(), "it can be read");
}

#[tokio::test]
async fn an_error_is_about_a_key_or_the_store_where_that_is_known() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let about = |error| tracker.store().fault(&error);
    for (state, expected) in [
        ("08006", Fault::Store),
        ("25006", Fault::Store),
        ("28000", Fault::Store),
        ("53100", Fault::Store),
        ("57P03", Fault::Store),
        ("23514", Fault::Unknown),
        ("55P03", Fault::Unknown),
        ("57014", Fault::Unknown),
        ("P0001", Fault::Unknown),
    ] {
        let raise = format!("DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$");
        let raised = raw_sql(server::made(raise)).execute(&pool).await;
        assert_eq!(about(raised.unwrap_err().into()), expected, "{state}");
    }
    assert_eq!(about(PostgresError::Locked("key".to_owned())), Fault::Key);
    assert_eq!(about(PostgresError::NotMigrated), Fault::Store);
    assert_eq!(about(PostgresError::Contended), Fault::Unknown);
}

/// As wherever else a key is given.
#[tokio::test]
async fn the_history_of_what_is_no_key_is_refused() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let refused = tracker.store().history("no\0key", 10).await;
    let is_refused = matches!(refused, Err(Error::Key(InvalidKey::Nul { at: 2 })));
    assert!(is_refused, "{refused:?}");
}

/// Many entries are deleted in parts, and none is left.
#[tokio::test]
async fn a_long_history_is_deleted_in_parts() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let fill = "
        INSERT INTO relent_history (namespace, key, at, event)
        SELECT space, 'key', now() - INTERVAL '1 day', 'finished'
        FROM generate_series(1, 2500), UNNEST(ARRAY['', 'other']) AS space";
    query(fill).execute(&pool).await.unwrap();
    // No more than one part at once.
    let limit = server::made(
        "CREATE FUNCTION at_most() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT count(*) FROM gone) > 1000 THEN RAISE 'too many'; END IF;
            RETURN NULL; END $$;
         CREATE TRIGGER at_most AFTER DELETE ON relent_history REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION at_most()"
            .to_owned(),
    );
    raw_sql(limit).execute(&pool).await.unwrap();
    let hour_ago = std::time::SystemTime::now() - 3600 * SECOND;
    let pruned = tracker.store().prune_history(hour_ago).await.unwrap();
    assert_eq!(pruned, 2500);
    let left: i64 = query_scalar("SELECT count(*) FROM relent_history")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(left, 2500, "of the other namespace");
}

/// Whoever deletes the same entries at the same time, in a transaction that ends late: what it left
/// is deleted.
#[tokio::test]
async fn a_history_is_deleted_to_the_end_whatever_others_delete_of_it() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let fill = "
        INSERT INTO relent_history (namespace, key, at, event)
        SELECT '', 'key', TIMESTAMPTZ '2000-01-01Z' + n * INTERVAL '1 second', 'finished'
        FROM generate_series(1, 1500) AS n";
    query(fill).execute(&pool).await.unwrap();
    let mut theirs = pool.begin().await.unwrap();
    let first = "DELETE FROM relent_history WHERE id IN (
        SELECT id FROM relent_history ORDER BY at LIMIT 1100)";
    query(first).execute(&mut *theirs).await.unwrap();
    let ours = tokio::spawn(async move {
        let now = std::time::SystemTime::now();
        tracker.store().prune_history(now).await
    });
    tokio::time::sleep(SECOND / 5).await;
    assert!(!ours.is_finished());
    theirs.commit().await.unwrap();
    assert_eq!(ours.await.unwrap().unwrap(), 400);
    let left: i64 = query_scalar("SELECT count(*) FROM relent_history")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
