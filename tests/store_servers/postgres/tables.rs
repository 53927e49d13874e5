//! Tables, how they come to be, and what is wrong with them.

use relent::store::{DurableTracker, Error, PostgresError, PostgresStore, Problem};
use relent::{Decision, Readiness};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Row, query, query_scalar, raw_sql};

use super::{POLICY, SECOND, machines};
use crate::servers::postgres as server;

#[tokio::test(flavor = "multi_thread")]
async fn migrating_at_once_and_again_is_harmless() {
    let Some(server) = server::shared() else {
        return;
    };
    let pool = server.database().await;
    let unready = DurableTracker::new(PostgresStore::new(pool.clone()), POLICY);
    let error = unready.record_failure("key", "broken").await;
    assert!(
        matches!(error, Err(Error::Store(PostgresError::NotMigrated))),
        "{error:?}"
    );
    let migrations = (0..8).map(|_| {
        let store = PostgresStore::new(pool.clone());
        tokio::spawn(async move { store.migrate().await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    unready.record_failure("key", "broken").await.unwrap();
    unready.store().migrate().await.unwrap();
    assert!(unready.get("key").await.unwrap().is_some());
}

/// The tables as version 1 made them, word for word, and what was in them.
const VERSION_1: &str = "
CREATE TABLE IF NOT EXISTS relent_meta (
    only_row INT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    version BIGINT NOT NULL
);
INSERT INTO relent_meta VALUES (1, 0) ON CONFLICT (only_row) DO NOTHING;
CREATE SEQUENCE IF NOT EXISTS relent_tokens;
CREATE SEQUENCE IF NOT EXISTS relent_latest;
CREATE TABLE IF NOT EXISTS relent (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    version SMALLINT NOT NULL DEFAULT 1,
    revision BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    interval_ns BIGINT,
    first_failure TIMESTAMPTZ NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    due TIMESTAMPTZ NOT NULL,
    gave_up TEXT,
    cause TEXT NOT NULL,
    token BIGINT,
    holder TEXT,
    lease_since TIMESTAMPTZ,
    lease_until TIMESTAMPTZ,
    PRIMARY KEY (key, namespace)
);
CREATE INDEX IF NOT EXISTS relent_due ON relent (namespace, due, key);
UPDATE relent_meta SET version = 1;
SELECT setval('relent_tokens', 41);
INSERT INTO relent VALUES
    ('', 'key', 1, 1, 9, NULL, 'epoch', 'epoch', 'epoch', 'epoch', NULL, 'old'),
    ('', 'kept', 1, 2, 2, 2000000000, 'epoch', 'epoch', 'epoch', 'epoch', NULL, 'old');
";

#[tokio::test]
async fn p5_a_table_of_the_first_migration_without_intervals_goes_on() {
    let Some(server) = server::shared() else {
        return;
    };
    let pool = server.database().await;
    raw_sql(VERSION_1).execute(&pool).await.unwrap();
    let store = PostgresStore::new(pool.clone()).with_history();
    store.migrate().await.unwrap();
    let checks = "SELECT count(*) FROM pg_constraint
                  WHERE conrelid = 'relent'::REGCLASS AND contype = 'c'";
    let checks: i64 = query_scalar(checks).fetch_one(&pool).await.unwrap();
    assert_eq!(checks, 0, "each takes time of every statement");
    let tracker = DurableTracker::new(store, POLICY);
    assert_eq!(tracker.due(10).await.unwrap().len(), 2);
    assert_eq!(tracker.check("key").await.unwrap(), Readiness::Ready);
    assert_eq!(tracker.start("another").await.unwrap().token(), 42);
    let told = tracker.record_failure("key", "again").await.unwrap();
    assert_eq!(told, Decision::Retry { after: SECOND }, "a clean slate");
    let told = tracker.record_failure("kept", "again").await.unwrap();
    assert_eq!(told, Decision::Retry { after: 4 * SECOND });
    assert_eq!(tracker.store().history("key", 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn p5_tables_that_are_not_ours_are_refused_and_left() {
    let Some(server) = server::shared() else {
        return;
    };
    let refused = async |sql: &'static str| {
        let pool = server.database().await;
        raw_sql(sql).execute(&pool).await.unwrap();
        let tables =
            "SELECT string_agg(table_name || column_name, ',') FROM information_schema.columns
                      WHERE table_schema = 'public'";
        let before: String = query_scalar(tables).fetch_one(&pool).await.unwrap();
        let refused = PostgresStore::new(pool.clone()).migrate().await;
        let Err(PostgresError::Unreadable(unreadable)) = refused else {
            panic!("{sql}: {refused:?}");
        };
        assert!(
            unreadable.to_string().contains("relent_meta"),
            "{unreadable}"
        );
        let after: String = query_scalar(tables).fetch_one(&pool).await.unwrap();
        assert_eq!(after, before);
        unreadable.problem
    };
    let foreign = refused("CREATE TABLE relent (a INT)").await;
    assert!(matches!(foreign, Problem::Foreign(_)));
    let foreign = refused("CREATE TABLE relent_meta (a INT)").await;
    assert!(matches!(foreign, Problem::Foreign(_)));
    let foreign = refused("CREATE TABLE relent_meta AS SELECT 1 AS only_row, 'x' AS version").await;
    assert!(matches!(foreign, Problem::Foreign(_)));
    let foreign = refused("CREATE TABLE relent_meta AS SELECT 'x' AS only_row, 1 AS version").await;
    assert!(matches!(foreign, Problem::Foreign(_)));
    let newer = "CREATE TABLE relent_meta AS SELECT 1 AS only_row, 3::BIGINT AS version";
    assert_eq!(refused(newer).await, Problem::Newer { found: 3, known: 2 });
    let damaged = "CREATE TABLE relent_meta AS SELECT 1 AS only_row, -3::BIGINT AS version";
    assert!(matches!(refused(damaged).await, Problem::Damaged(_)));
}

/// A failure whose cause it could not keep would not be counted.
#[tokio::test]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    let Some(server) = server::shared() else {
        return;
    };
    let pool = server.database().await;
    for (encoding, is_fit) in [("LATIN1", false), ("SQL_ASCII", true)] {
        let name = encoding.to_lowercase();
        let create =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        query(server::made(create)).execute(&pool).await.unwrap();
        let options = pool.connect_options().as_ref().clone().database(&name);
        let other = PgPool::connect_with(options).await.unwrap();
        let store = PostgresStore::new(other);
        match store.migrate().await {
            Ok(()) => assert!(is_fit, "{encoding}"),
            Err(PostgresError::Encoding(told)) => {
                assert_eq!((told.as_str(), is_fit), (encoding, false));
            }
            Err(error) => panic!("{error}"),
        }
        if is_fit {
            let tracker = DurableTracker::new(store, POLICY);
            let failed = tracker.record_failure("key", "→ \u{FFFD} …").await;
            assert!(failed.is_ok(), "{failed:?}");
        }
    }
}

#[tokio::test]
async fn p5_a_column_of_another_type_is_named() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    for key in ["a", "b"] {
        tracker.record_failure(key, "broken").await.unwrap();
    }
    let change = "ALTER TABLE relent ALTER failures TYPE TEXT USING 'eightish'";
    raw_sql(change).execute(&pool).await.unwrap();
    // A fresh pool: an old connection would complain that its prepared statement now has another
    // result.
    let fresh = PgPool::connect_with(pool.connect_options().as_ref().clone());
    let store = PostgresStore::new(fresh.await.unwrap());
    let tracker = DurableTracker::new(store, POLICY);
    let error = tracker.get("a").await.unwrap_err().to_string();
    assert!(
        error.contains("relent") && error.contains("failures"),
        "{error}"
    );
    tracker.waiting(10).await.unwrap_err();
}

#[tokio::test]
async fn p5_a_row_that_cannot_be_read_is_named_and_left() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let cases = [
        "failures = -1",
        "failures = 4294967296",
        "interval_ns = -1",
        "first_failure = TIMESTAMPTZ '1969-12-31Z'",
        "until = '-infinity'",
        "until = 'infinity'",
        "gave_up = 'bored'",
        "version = 2",
        "token = 1",
        "token = -1, holder = '', lease_since = now(), lease_until = now()",
    ];
    for damage in cases {
        tracker.record_failure("the key", "broken").await.unwrap();
        let update = server::made(format!("UPDATE relent SET {damage}"));
        query(update).execute(&pool).await.unwrap();
        is_refused(&pool, &tracker, damage).await;
        query("DELETE FROM relent").execute(&pool).await.unwrap();
    }
}

async fn is_refused(pool: &PgPool, tracker: &DurableTracker<PostgresStore>, damage: &str) {
    let row = async || {
        let row: PgRow = query("SELECT relent::TEXT AS row FROM relent")
            .fetch_one(pool)
            .await
            .unwrap();
        row.get::<String, _>("row")
    };
    let before = row().await;
    let Err(error) = tracker.record_failure("the key", "broken").await else {
        panic!("{damage} was overlooked");
    };
    let said = error.to_string();
    assert!(
        said.contains("\"the key\"") && said.contains("nothing was changed"),
        "{said}"
    );
    tracker.start("the key").await.unwrap_err();
    tracker.get("the key").await.unwrap_err();
    let batch = [("fine", ""), ("the key", "")];
    tracker.record_failures(&batch).await.unwrap_err();
    assert_eq!(tracker.get("fine").await.unwrap(), None, "half a batch");
    assert_eq!(row().await, before);
}
