//! Rows that cannot be read, and stand in the way of no other key.

use std::time::Duration;

use relent::store::{
    DurableTracker, Error, Options, PostgresError, PostgresStore, Problem, StartError, WriteBehind,
};
use relent::{Backoff, BackoffTracker};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Row, query};

use super::{SECOND, machines};
use crate::servers::postgres as server;

/// What may be wrong with a row that is due.
const DAMAGES: [&str; 12] = [
    "failures = -1",
    "failures = 4294967296",
    "interval_ns = -1",
    "first_failure = 'infinity'",
    "first_failure = TIMESTAMPTZ '1969-12-31Z'",
    "since = '-infinity'",
    "until = '2262-04-11 23:47:16.854776Z'",
    "version = 2",
    "revision = 9223372036854775807",
    "token = 1",
    "token = -1, holder = '', lease_since = now(), lease_until = now()",
    "token = 1, holder = '', lease_since = now(), lease_until = 'infinity'",
];

const AT_ONCE: Backoff = Backoff::fixed(Duration::from_nanos(1));

/// Three rows that cannot be read, before three that can, all of them due.
async fn damaged(damage: &str) -> Option<(PgPool, DurableTracker<PostgresStore>)> {
    let (pool, tracker) = machines().await?;
    let tracker = DurableTracker::new(tracker.store().clone(), AT_ONCE);
    for key in ["bad 1", "bad 2", "bad 3", "fine 1", "fine 2", "fine 3"] {
        tracker.record_failure(key, "broken").await.unwrap();
    }
    spoil(&pool, damage, "bad %").await;
    Some((pool, tracker))
}

async fn spoil(pool: &PgPool, damage: &str, keys: &str) {
    let damage = format!("UPDATE relent SET {damage} WHERE key LIKE '{keys}'");
    query(server::made(damage)).execute(pool).await.unwrap();
}

async fn rows(pool: &PgPool) -> Vec<String> {
    let rows = "SELECT relent::TEXT AS row FROM relent WHERE key LIKE 'bad %' ORDER BY key";
    let rows: Vec<PgRow> = query(rows).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get("row")).collect()
}

#[tokio::test]
async fn p5_rows_that_cannot_be_read_stand_in_nobodys_way_and_are_left() {
    for damage in DAMAGES {
        let Some((pool, tracker)) = damaged(damage).await else {
            return;
        };
        let before = rows(&pool).await;
        assert_eq!(before.len(), 3);
        let unreadable = tracker.store().unreadable(10).await.unwrap();
        assert_eq!(unreadable.len(), 3, "{damage}: {unreadable:?}");
        assert!(unreadable[0].place.contains("\"bad 1\""), "{unreadable:?}");
        for limit in [1, 2, 3, 6, 10] {
            let due = tracker.due(limit).await.unwrap();
            let keys: Vec<_> = due.iter().map(|listed| &*listed.key).collect();
            let fine = ["fine 1", "fine 2", "fine 3"];
            assert_eq!(keys, fine[..limit.min(3)], "{damage}, {limit}");
        }
        for expected in [2, 1] {
            let works = tracker.claim_due(2).await.unwrap();
            assert_eq!(works.len(), expected, "{damage}");
            assert_eq!(rows(&pool).await, before, "{damage}");
            for work in works {
                assert!(work.key().starts_with("fine"));
                work.finish().await.unwrap();
            }
        }
        // If there is nothing else, that is the error.
        let due = tracker.due(10).await;
        let Err(Error::Store(error)) = due else {
            panic!("{damage}: {due:?}");
        };
        assert!(is_unreadable(&error), "{damage}");
        // A tracker in front passes it over, whatever else there is.
        let behind = WriteBehind::open(
            tracker.store().clone(),
            BackoffTracker::new(Backoff::DEFAULT),
        );
        assert!(behind.await.is_ok(), "{damage}");
        let claimed = tracker.claim_due(10).await;
        let Err(StartError::Store(error)) = claimed else {
            panic!("{damage}: {claimed:?}");
        };
        assert!(is_unreadable(&error), "{damage}");
        assert_eq!(rows(&pool).await, before, "{damage}");
        let sequence = query("SELECT last_value FROM relent_tokens");
        let last: i64 = sequence.fetch_one(&pool).await.unwrap().get(0);
        assert_eq!(last, 2, "a token for nothing");
    }
}

fn is_unreadable(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Unreadable(it) if it.place.contains("\"bad 1\""))
}

/// What is looked for behind such a row is only what is still missing.
#[tokio::test]
async fn p5_no_more_is_claimed_than_was_asked_for_beside_a_row_that_cannot_be_read() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let tracker = DurableTracker::new(tracker.store().clone(), AT_ONCE);
    for key in ["fine 1", "bad 1", "fine 2", "fine 3", "fine 4"] {
        tracker.record_failure(key, "broken").await.unwrap();
    }
    spoil(&pool, "version = 2", "bad %").await;
    let works = tracker.claim_due(2).await.unwrap();
    assert_eq!([works[0].key(), works[1].key()], ["fine 1", "fine 2"]);
    assert_eq!(works.len(), 2);
}

#[tokio::test]
async fn p5_what_waits_or_gave_up_is_listed_beside_rows_that_cannot_be_read() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let never = Backoff::never_retry();
    for key in ["bad waits", "waits", "waits too"] {
        tracker.record_failure(key, "broken").await.unwrap();
    }
    for key in ["bad gone", "gone"] {
        let failed = tracker.record_failure_with(key, Some(&never), None, "");
        failed.await.unwrap();
    }
    spoil(&pool, "first_failure = 'infinity'", "bad waits").await;
    spoil(&pool, "gave_up = 'bored'", "bad gone").await;
    for limit in [2, 10] {
        let waiting = tracker.waiting(limit).await.unwrap();
        let keys: Vec<_> = waiting.iter().map(|listed| &*listed.key).collect();
        assert_eq!(keys, ["waits", "waits too"]);
    }
    for limit in [1, 10] {
        let gave_up = tracker.gave_up(limit).await.unwrap();
        assert_eq!(gave_up.len(), 1);
        assert_eq!(gave_up[0].key, "gone");
    }
}

/// The leases of a worker that died are counted, except those in damaged rows.
#[tokio::test]
async fn p5_a_lease_that_ran_out_in_a_damaged_row_stands_in_nobodys_way() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let options = Options::new(AT_ONCE).time_to_live(SECOND / 10);
    let dying = DurableTracker::new(tracker.store().clone(), options);
    for key in ["bad 1", "fine 1", "fine 2"] {
        drop(dying.start(key).await.unwrap());
    }
    tokio::time::sleep(SECOND / 5).await;
    spoil(&pool, "version = 2", "bad %").await;
    let before = rows(&pool).await;
    let claimed = tracker.claim_due(2).await.unwrap();
    assert!(claimed.is_empty(), "they back off");
    for key in ["fine 1", "fine 2"] {
        let record = tracker.get(key).await.unwrap().unwrap();
        assert_eq!(record.state.failures, 1);
    }
    assert_eq!(rows(&pool).await, before);
    let asked = tracker.check("bad 1").await;
    let Err(Error::Store(PostgresError::Unreadable(unreadable))) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(unreadable.problem, Problem::Newer { found: 2, known: 1 });
}

/// The lease of such a row cannot be extended; the others are.
#[tokio::test]
async fn p5_a_heartbeat_goes_on_without_a_row_that_cannot_be_read() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let tracker = tracker.another(Options::new(AT_ONCE).time_to_live(SECOND));
    let bad = tracker.start("bad 1").await.unwrap();
    let fine = tracker.start("fine").await.unwrap();
    spoil(&pool, "first_failure = 'infinity'", "bad %").await;
    let before = rows(&pool).await;
    for _ in 0..5 {
        let beat = tracker.beat().await;
        assert!(bad.expired() || is_unreadable(&beat.unwrap_err()));
        tokio::time::sleep(SECOND / 4).await;
    }
    assert!(bad.expired() && !fine.expired() && !tracker.session().expired());
    assert_eq!(rows(&pool).await, before);
    fine.finish().await.unwrap();
}
