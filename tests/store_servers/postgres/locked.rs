//! Rows that somebody's transaction has locked for a long time.

use std::sync::Arc;
use std::time::Duration;

use relent::BackoffTracker;
use relent::store::{
    DurableTracker, Options, PostgresError, PostgresStore, WorkError, WriteBehind,
};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{query, query_scalar, raw_sql};

use super::{POLICY, SECOND, machines};

const TIME_TO_LIVE: Duration = Duration::from_millis(600);

async fn short() -> Option<(PgPool, DurableTracker<PostgresStore>)> {
    let (pool, tracker) = machines().await?;
    let options = Options::new(POLICY).time_to_live(TIME_TO_LIVE);
    Some((pool, DurableTracker::new(tracker.store().clone(), options)))
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_heartbeat_waits_for_no_row_that_somebody_has_locked() {
    let Some((pool, tracker)) = short().await else {
        return;
    };
    let heartbeat = tokio::spawn(tracker.heartbeat());
    let a = tracker.start("a").await.unwrap();
    let b = tracker.start("b").await.unwrap();
    let mut theirs = pool.begin().await.unwrap();
    let beside = tracker.record_failure_in(&mut theirs, "a", "beside");
    beside.await.unwrap();
    let locked = tracker.beat().await;
    assert!(
        matches!(&locked, Err(PostgresError::Locked(key)) if key == "a"),
        "{locked:?}"
    );
    tokio::time::sleep(3 * TIME_TO_LIVE).await;
    assert!(a.expired(), "nobody could extend it");
    assert!(!b.expired() && !tracker.session().expired());
    tracker.another(POLICY).start("b").await.unwrap_err();
    theirs.commit().await.unwrap();
    b.finish().await.unwrap();
    let late = a.finish().await;
    assert!(matches!(late, Err(WorkError::Lost(_))), "{late:?}");
    heartbeat.abort();
}

/// A lock that ends within the time to live costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn p2_a_lease_is_extended_as_soon_as_its_row_is_free() {
    let Some((pool, tracker)) = short().await else {
        return;
    };
    let heartbeat = tokio::spawn(tracker.heartbeat());
    let a = tracker.start("a").await.unwrap();
    for _ in 0..4 {
        let mut theirs = pool.begin().await.unwrap();
        let lock = query("SELECT 1 FROM relent WHERE key = 'a' FOR UPDATE");
        lock.execute(&mut *theirs).await.unwrap();
        tokio::time::sleep(TIME_TO_LIVE / 2).await;
        theirs.rollback().await.unwrap();
        tokio::time::sleep(TIME_TO_LIVE / 4).await;
    }
    assert!(!a.expired());
    a.finish().await.unwrap();
    heartbeat.abort();
}

/// What stays an error is not tried again as if others had been in the way.
#[tokio::test]
async fn a_heartbeat_that_fails_tells_why() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let work = tracker.start("a").await.unwrap();
    let forbid = "
        CREATE FUNCTION forbid() RETURNS TRIGGER LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'no longer'; END $$;
        CREATE TRIGGER forbid BEFORE UPDATE ON relent FOR EACH ROW EXECUTE FUNCTION forbid()";
    raw_sql(forbid).execute(&pool).await.unwrap();
    let refused = tracker.beat().await.unwrap_err();
    assert!(refused.to_string().contains("no longer"), "{refused}");
    raw_sql("DROP TRIGGER forbid ON relent; ALTER TABLE relent RENAME TO away")
        .execute(&pool)
        .await
        .unwrap();
    let refused = tracker.beat().await;
    assert!(
        matches!(refused, Err(PostgresError::NotMigrated)),
        "{refused:?}"
    );
    assert!(!work.expired());
}

/// Work that is finished within a transaction is finished once that is committed, however late:
/// nobody could take the key meanwhile. The session goes on.
#[tokio::test(flavor = "multi_thread")]
async fn p3_a_long_transaction_of_ones_own_keeps_its_key_and_the_session() {
    let Some((pool, tracker)) = short().await else {
        return;
    };
    let heartbeat = tokio::spawn(tracker.heartbeat());
    let a = tracker.start("a").await.unwrap();
    let b = tracker.start("b").await.unwrap();
    let mut own = pool.begin().await.unwrap();
    a.finish_in(&mut own).await.unwrap();
    tokio::time::sleep(2 * TIME_TO_LIVE).await;
    let another = tracker.another(POLICY);
    let takes = tokio::spawn(async move { another.start("a").await.map(|work| work.token()) });
    tokio::time::sleep(TIME_TO_LIVE).await;
    assert!(!b.expired() && !tracker.session().expired());
    assert!(!takes.is_finished(), "nobody else gets it");
    own.commit().await.unwrap();
    let token = takes.await.unwrap().unwrap();
    assert!(token > b.token(), "begun anew, without a failure");
    b.finish().await.unwrap();
    heartbeat.abort();
}

/// The answer to a batch says what was committed of it: an error means that nothing was. Here the
/// error comes from the second try, after somebody was quicker with one of the keys.
#[tokio::test(flavor = "multi_thread")]
async fn p3_a_batch_that_fails_has_written_nothing() {
    for keys in [["a", "b", "c"], ["a", "b", "a"], ["a", "b", "b"]] {
        let Some((pool, tracker)) = machines().await else {
            return;
        };
        let both = [("a", "1"), ("b", "1")];
        tracker.record_failures(&both).await.unwrap();
        let forbid = "
            CREATE FUNCTION forbid() RETURNS TRIGGER LANGUAGE plpgsql
                AS $$ BEGIN RAISE 'no third'; END $$;
            CREATE TRIGGER forbid BEFORE UPDATE ON relent FOR EACH ROW
                WHEN (NEW.failures = 3) EXECUTE FUNCTION forbid()";
        raw_sql(forbid).execute(&pool).await.unwrap();
        let mut theirs = pool.begin().await.unwrap();
        let failed = tracker.record_failure_in(&mut theirs, "b", "other");
        failed.await.unwrap();
        let batch = tokio::spawn({
            let tracker = tracker.clone();
            async move { tracker.record_failures(&keys.map(|key| (key, "2"))).await }
        });
        tokio::time::sleep(SECOND / 5).await;
        assert!(!batch.is_finished());
        theirs.commit().await.unwrap();
        batch.await.unwrap().unwrap_err();
        let failures = async |key| {
            let record = tracker.get(key).await.unwrap();
            record.map(|record| record.state.failures)
        };
        assert_eq!(failures("a").await, Some(1), "{keys:?}");
        assert_eq!(failures("b").await, Some(2), "{keys:?}");
        assert_eq!(failures("c").await, None, "{keys:?}");
    }
}

/// A key that is in a batch twice is changed twice, in one commit.
#[tokio::test]
async fn p3_a_key_twice_in_a_batch_is_one_commit() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    tracker.record_failure("a", "1").await.unwrap();
    let forbid = "
        CREATE FUNCTION forbid() RETURNS TRIGGER LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'no third'; END $$;
        CREATE TRIGGER forbid BEFORE UPDATE ON relent FOR EACH ROW
            WHEN (NEW.failures = 3) EXECUTE FUNCTION forbid()";
    raw_sql(forbid).execute(&pool).await.unwrap();
    let batch = [("a", "2"), ("b", "2"), ("a", "3")];
    tracker.record_failures(&batch).await.unwrap_err();
    let record = tracker.get("a").await.unwrap().unwrap();
    assert_eq!((record.state.failures, &*record.cause), (1, "1"));
    assert_eq!(tracker.get("b").await.unwrap(), None);
    let allow = "DROP TRIGGER forbid ON relent";
    query(allow).execute(&pool).await.unwrap();
    assert_eq!(tracker.record_failures(&batch).await.unwrap().len(), 3);
    let record = tracker.get("a").await.unwrap().unwrap();
    assert_eq!((record.state.failures, &*record.cause), (3, "3"));
}

/// The server goes on with what it was asked, and must not come last.
#[tokio::test]
async fn a_flush_that_is_dropped_while_it_waits_cannot_undo_the_next() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let waiting = async || {
        let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'relent'::REGCLASS
            AND NOT granted";
        let waiting = query_scalar::<_, bool>(waiting);
        waiting.fetch_one(&pool).await.unwrap()
    };
    let own = PgPoolOptions::new().test_before_acquire(false);
    let own = own.connect_lazy_with((*pool.connect_options()).clone());
    let store = PostgresStore::new(own);
    let behind = WriteBehind::open(store, BackoffTracker::new(POLICY)).await;
    let behind = Arc::new(behind.unwrap());
    // So that all statements are prepared.
    behind.tracker().record_failure("key");
    behind.flush().await.unwrap();
    assert!(behind.tracker().forget("key"));
    behind.flush().await.unwrap();

    behind.tracker().record_failure("key");
    let mut theirs = pool.begin().await.unwrap();
    // As a new index does.
    let lock = raw_sql("LOCK TABLE relent IN SHARE MODE");
    lock.execute(&mut *theirs).await.unwrap();
    let dropped = Arc::clone(&behind);
    let dropped = tokio::spawn(async move { dropped.flush().await });
    while !waiting().await {}
    dropped.abort();
    assert!(dropped.await.is_err_and(|ended| ended.is_cancelled()));
    assert!(behind.tracker().record_success("key").is_some());
    let ends = async {
        // Time enough for a flush that does not wait.
        for _ in 0..100 {
            waiting().await;
        }
        theirs.commit().await.unwrap();
    };
    let (flushed, ()) = tokio::join!(behind.flush(), ends);
    assert_eq!(flushed.unwrap(), 1);
    let at_work = async || {
        let at_work = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active'
            AND datname = current_database() AND pid <> pg_backend_pid()";
        let at_work = query_scalar::<_, bool>(at_work);
        at_work.fetch_one(&pool).await.unwrap()
    };
    while at_work().await {}
    assert_eq!(
        tracker.get("key").await.unwrap(),
        None,
        "the streak has ended"
    );
}
