//! What is particular to PostgreSQL.

#[path = "postgres/locked.rs"]
mod locked;
#[path = "postgres/many.rs"]
mod many;
#[path = "postgres/rights.rs"]
mod rights;
#[path = "postgres/serializable.rs"]
mod serializable;
#[path = "postgres/tables.rs"]
mod tables;
#[path = "postgres/transactions.rs"]
mod transactions;
#[path = "postgres/unreadable.rs"]
mod unreadable;

use std::time::{Duration, UNIX_EPOCH};

use relent::store::step::{self, Start};
use relent::store::{AsyncStore, DurableTracker, Options, PostgresStore};
use relent::{Backoff, Jitter};
use sqlx::postgres::PgPool;
use sqlx::{query, query_scalar, raw_sql};

use crate::servers::postgres as server;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::exponential(SECOND, Duration::from_secs(60)).jitter(Jitter::None);

/// A database with a table of the user's, and a tracker on it.
async fn machines() -> Option<(PgPool, DurableTracker<PostgresStore>)> {
    let pool = server::shared()?.database().await;
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let machine = "CREATE TABLE machine (id TEXT PRIMARY KEY, state TEXT NOT NULL)";
    raw_sql(machine).execute(&pool).await.unwrap();
    Some((pool, DurableTracker::new(store, POLICY)))
}

const INSTALLED: &str = "INSERT INTO machine VALUES ($1, 'installed')";

#[tokio::test]
async fn the_anti_join_finds_what_can_be_taken() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    for id in ["fresh", "failed", "gone", "held", "over", "ünïcode"] {
        query(INSTALLED).bind(id).execute(&pool).await.unwrap();
    }
    let brief = Backoff::fixed(Duration::from_micros(1));
    let never = Backoff::never_retry();
    for (key, policy) in [("over", &brief), ("failed", &POLICY), ("gone", &never)] {
        let failed = tracker
            .record_failure_with(key, Some(policy), None, "")
            .await;
        failed.unwrap();
    }
    let _held = tracker.start("held").await.unwrap();
    let eligible: Vec<String> = query_scalar(
        "SELECT machine.id FROM machine
         LEFT JOIN relent ON relent.namespace = '' AND relent.key = machine.id
            AND relent.due > now()
         WHERE relent.key IS NULL ORDER BY machine.id COLLATE \"C\"",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(eligible, ["fresh", "over", "ünïcode"]);
}

#[tokio::test]
async fn b8_the_longest_interval_and_the_end_of_time_survive() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let eternal = Backoff::fixed(Duration::MAX);
    for _ in 0..2 {
        let failed = tracker
            .record_failure_with("key", Some(&eternal), None, "")
            .await;
        failed.unwrap();
        let record = tracker.get("key").await.unwrap().unwrap();
        assert_eq!(record.state.interval, Duration::from_nanos(u64::MAX));
        assert_eq!(
            record.until,
            UNIX_EPOCH + Duration::from_nanos(i64::MAX as u64)
        );
        assert_eq!(tracker.waiting(10).await.unwrap().len(), 1);
    }
    let options = Options::new(POLICY).time_to_live(Duration::MAX);
    let tracker = DurableTracker::new(tracker.store().clone(), options);
    let brief = Backoff::fixed(Duration::from_micros(1));
    let failed = tracker
        .record_failure_with("held", Some(&brief), None, "")
        .await;
    failed.unwrap();
    let work = tracker.claim_due(1).await.unwrap().remove(0);
    let kept = tracker.get("held").await.unwrap();
    assert_eq!(
        kept.as_ref(),
        Some(work.record()),
        "the statement and the step agree"
    );
}

/// The documented statement: it brings the latest time down, but not below what is from the future.
#[tokio::test]
async fn p1_after_a_clock_was_far_ahead_the_latest_time_can_be_brought_down() {
    const LOWER: &str = "
        SELECT setval('relent_latest', (EXTRACT(EPOCH FROM
            GREATEST(clock_timestamp(), max(since), max(lease_since))) * 1000000)::BIGINT)
        FROM relent WHERE gave_up IS NULL";
    const AHEAD: i64 = 3_600_000_000;
    let Some(server) = server::shared() else {
        return;
    };
    let options = server.database().await.connect_options();
    let options = server::with_clock(options.as_ref().clone());
    let pool = PgPool::connect_with(options).await.unwrap();
    raw_sql(server::CLOCK).execute(&pool).await.unwrap();
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, POLICY);
    let pass = async |micros: i64| {
        let pass = "UPDATE clock SET micros = micros + $1 RETURNING micros";
        let now: i64 = query_scalar(pass)
            .bind(micros)
            .fetch_one(&pool)
            .await
            .unwrap();
        now
    };
    let lowered = async || {
        let lowered: i64 = query_scalar(LOWER).fetch_one(&pool).await.unwrap();
        let kept: i64 = query_scalar("SELECT last_value FROM relent_latest")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(kept, lowered);
        lowered
    };
    let ahead = pass(AHEAD).await;
    tracker.record_failure("ahead", "broken").await.unwrap();
    let never = Backoff::never_retry();
    let gave_up = tracker.record_failure_with("gave up", Some(&never), None, "");
    gave_up.await.unwrap();
    let now = pass(-AHEAD).await;
    assert_eq!(lowered().await, ahead);
    assert_eq!(tracker.due(10).await.unwrap().len(), 1);
    let claimed = tracker.claim_due(10).await.unwrap();
    assert!(claimed.is_empty(), "its wait begins now");
    assert_eq!(lowered().await, now);
    assert!(tracker.record_success("ahead").await.unwrap().is_some());
    assert_eq!(lowered().await, now, "where nothing waits");
}

/// A statement takes what is due; what it writes must be what the step says.
#[tokio::test]
async fn claims_leave_what_the_step_says() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let brief = Backoff::fixed(Duration::from_micros(1));
    for n in 0..20 {
        let key = n.to_string();
        let failed = tracker
            .record_failure_with(&key, Some(&brief), None, "broken")
            .await;
        failed.unwrap();
    }
    let works = tracker.claim_due(100).await.unwrap();
    assert_eq!(works.len(), 20);
    for work in works {
        let kept = tracker.get(work.key()).await.unwrap();
        assert_eq!(kept.as_ref(), Some(work.record()));
    }
}

/// A claim takes what it can by one statement, and then counts what workers died on. Where that
/// fails, what was taken is still the caller's; where nothing was, the caller is told.
#[tokio::test]
async fn p2_what_was_claimed_before_an_error_is_the_callers() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let start = step::start(Start {
        holder: "died".to_owned(),
        time_to_live: Duration::from_micros(1),
        backoff: None,
        entropy: 0,
    });
    let started = tracker.store().update("died", start).await.unwrap();
    started.unwrap();
    let at_once = Backoff::fixed(Duration::from_micros(1));
    let failed = tracker.record_failure_with("fine", Some(&at_once), None, "");
    failed.await.unwrap();
    let forbid = "
        CREATE FUNCTION forbid() RETURNS TRIGGER LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'not to be counted'; END $$;
        CREATE TRIGGER forbid BEFORE UPDATE ON relent FOR EACH ROW
            WHEN (NEW.cause = 'lease expired') EXECUTE FUNCTION forbid()";
    raw_sql(forbid).execute(&pool).await.unwrap();
    let works = tracker.claim_due(2).await.unwrap();
    assert_eq!(works.len(), 1);
    assert_eq!(works[0].key(), "fine");
    // The database tells of an error before it unlocks the row.
    for _ in 0..100 {
        match tracker.claim_due(2).await {
            Ok(works) => assert!(works.is_empty()),
            Err(refused) => {
                assert!(refused.to_string().contains("counted"), "{refused}");
                return;
            }
        }
        tokio::time::sleep(SECOND / 100).await;
    }
    panic!("the error is told nobody");
}
