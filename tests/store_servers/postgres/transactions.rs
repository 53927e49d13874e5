//! Transactions of the caller's own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use relent::Backoff;
use relent::clock::ManualClock;
use relent::store::{
    AsyncStore, Change, DurableTracker, Error, LeaseLost, Options, PostgresError, PostgresStore,
    Record, WorkError,
};
use sqlx::postgres::PgPool;
use sqlx::{query, query_scalar, raw_sql};

use super::{INSTALLED, POLICY, SECOND, machines, server};
use crate::servers::proxy::{Fate, Proxy};

async fn states(pool: &PgPool) -> Vec<String> {
    let states = query_scalar("SELECT state FROM machine ORDER BY id");
    states.fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn p3_a_connection_without_a_transaction_is_refused() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let mut connection = pool.acquire().await.unwrap();
    let outside = tracker
        .record_failure_in(&mut connection, "m", "no transaction")
        .await;
    assert!(matches!(
        outside,
        Err(Error::Store(PostgresError::NoTransaction))
    ));
    assert_eq!(tracker.get("m").await.unwrap(), None);
}

/// If one key cannot be deleted, nothing is written of the others.
#[tokio::test]
async fn p3_a_batch_that_writes_and_deletes_is_one_commit() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    for key in ["a", "b"] {
        tracker.record_failure(key, "broken").await.unwrap();
    }
    let before = tracker.get("a").await.unwrap();
    let mut again = before.clone().unwrap();
    again.cause = "again".to_owned();
    let keys = ["a", "b", "new"];
    let turn = move |n: usize, _: Option<&Record>, _| match keys[n] {
        "b" => Change::delete(()),
        _ => Change::put(again.clone(), ()),
    };
    let forbid = "
        CREATE FUNCTION forbid() RETURNS TRIGGER LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'not to be deleted'; END $$;
        CREATE TRIGGER forbid BEFORE DELETE ON relent FOR EACH ROW EXECUTE FUNCTION forbid()";
    raw_sql(forbid).execute(&pool).await.unwrap();
    let store = tracker.store();
    let error = store.update_all(&keys, turn.clone()).await;
    assert!(
        matches!(error, Err(PostgresError::Postgres(_))),
        "{error:?}"
    );
    assert_eq!(tracker.get("a").await.unwrap(), before);
    assert_eq!(tracker.get("new").await.unwrap(), None);

    let allow = "DROP TRIGGER forbid ON relent";
    raw_sql(allow).execute(&pool).await.unwrap();
    store.update_all(&keys, turn).await.unwrap();
    let cause = async |key| Some(tracker.get(key).await.unwrap()?.cause);
    assert_eq!(cause("a").await.as_deref(), Some("again"));
    assert_eq!(cause("b").await, None);
    assert_eq!(cause("new").await.as_deref(), Some("again"));
}

/// While a transaction has a key, others wait for it, and then see what it did.
#[tokio::test]
async fn p2_a_key_in_an_open_transaction_is_waited_for_or_passed_over() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let brief = Backoff::fixed(SECOND / 100);
    for key in ["a", "b"] {
        let failed = tracker
            .record_failure_with(key, Some(&brief), None, "")
            .await;
        failed.unwrap();
    }
    tokio::time::sleep(SECOND / 20).await;
    let mut transaction = pool.begin().await.unwrap();
    let failed = tracker
        .record_failure_in(&mut transaction, "a", "first")
        .await;
    failed.unwrap();
    let claimed = tracker.claim_due(10).await.unwrap();
    let keys: Vec<_> = claimed.iter().map(|work| work.key().to_owned()).collect();
    assert_eq!(keys, ["b"], "what somebody changes is passed over");
    let waits = tokio::spawn({
        let tracker = tracker.clone();
        async move { tracker.record_failure("a", "second").await }
    });
    tokio::time::sleep(SECOND / 10).await;
    assert!(!waits.is_finished());
    transaction.commit().await.unwrap();
    waits.await.unwrap().unwrap();
    let record = tracker.get("a").await.unwrap().unwrap();
    assert_eq!((record.state.failures, &*record.cause), (3, "second"));
}

#[tokio::test]
async fn p3_a_finish_whose_connection_is_cut_can_still_be_failed() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let work = tracker.start("m1").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let process: i32 = query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    query(INSTALLED)
        .bind("m1")
        .execute(&mut *transaction)
        .await
        .unwrap();
    work.finish_in(&mut transaction).await.unwrap();
    let cut = query("SELECT pg_terminate_backend($1)").bind(process);
    cut.execute(&pool).await.unwrap();
    assert!(transaction.commit().await.is_err());
    assert_eq!(states(&pool).await, [""; 0]);
    work.fail("could not commit").await.unwrap();
    let record = tracker.get("m1").await.unwrap().unwrap();
    assert_eq!(
        (record.state.failures, &*record.cause),
        (1, "could not commit")
    );
}

/// In a transaction the time does not stand still: a lease can run out in it.
#[tokio::test]
async fn p1_a_lease_runs_out_in_the_middle_of_a_transaction() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    // The worker's clock stands still, so that it is the store that notices.
    let options = Options::new(POLICY)
        .time_to_live(SECOND / 5)
        .clock(ManualClock::new());
    let tracker = DurableTracker::new(tracker.store().clone(), options);
    let mut transaction = pool.begin().await.unwrap();
    query("SELECT now()")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let work = tracker.start("m1").await.unwrap();
    assert!(!work.expired());
    let is_over = "SELECT lease_until < clock_timestamp() FROM relent WHERE key = 'm1'";
    while !query_scalar::<_, bool>(is_over)
        .fetch_one(&pool)
        .await
        .unwrap()
    {
        tokio::time::sleep(SECOND / 50).await;
    }
    let late = work.finish_in(&mut transaction).await;
    let expired = matches!(late, Err(WorkError::Lost(LeaseLost::Expired { .. })));
    assert!(expired, "{late:?}");
}

/// Polls a future this often, and drops it.
async fn polled(times: usize, future: impl Future<Output = ()>) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Wherever a call is dropped, in the midst of beginning a transaction too, its connection goes on
/// to serve others, whose answers hold.
#[tokio::test]
async fn r2_p4_a_call_that_is_dropped_takes_no_other_with_it() {
    let Some(server) = server::shared() else {
        return;
    };
    let pool = server.database().await;
    let database: String = query_scalar("SELECT current_database()")
        .fetch_one(&pool)
        .await
        .unwrap();
    // It loses nothing, but makes every answer one to wait for.
    let slowly = Proxy::cutting(server.directory(), 0, Fate::Lost, || ());
    let store = PostgresStore::new(server::pool(slowly.directory(), &database, 1));
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, POLICY);
    let other = DurableTracker::new(PostgresStore::new(pool), POLICY);
    let twice = [("twice", "first"), ("twice", "second")];
    for times in 0.. {
        let call = async { drop(tracker.record_failures(&twice).await.unwrap()) };
        let is_done = polled(times, call).await;
        let key = times.to_string();
        tracker.record_failure(&key, "acknowledged").await.unwrap();
        let kept = other.get(&key).await.unwrap();
        assert!(kept.is_some(), "dropped after {times} polls");
        if is_done {
            break;
        }
    }
}
