//! Where every transaction is serializable, so that the database refuses what it cannot serialize
//! with what others do, and the store has to ask again.

use relent::Backoff;
use relent::store::{DurableTracker, PostgresError, PostgresStore, Refusal, StartError};
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions, query_scalar};

use crate::servers::postgres as server;

/// Every verb, by many at once, on few keys: none fails, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn p2_what_the_database_refuses_is_asked_for_again() {
    const WORKERS: u32 = 6;
    const ROUNDS: u32 = 40;
    let Some(server) = server::shared() else {
        return;
    };
    let options = server.database().await.connect_options();
    let options = options.as_ref().clone();
    let options = options.options([("default_transaction_isolation", "serializable")]);
    let connections = PgPoolOptions::new().max_connections(WORKERS);
    let pool = connections.connect_with(options.clone()).await.unwrap();
    let store = PostgresStore::new(pool.clone()).with_history();
    store.migrate().await.unwrap();
    let at_once = Backoff::fixed(std::time::Duration::from_nanos(1));
    let tracker = DurableTracker::new(store, at_once);
    let workers = (0..WORKERS).map(|worker| {
        let tracker = tracker.another(at_once);
        tokio::spawn(async move {
            let store = tracker.store().clone();
            let (mut failures, mut works) = (0, 0);
            for round in 0..ROUNDS {
                let key = ((round + worker) % 3).to_string();
                tracker.record_failure(&key, "broken").await.unwrap();
                let batch = [("0", "x"), ("1", "x"), ("2", "x"), ("3", "x")];
                assert_eq!(tracker.record_failures(&batch).await.unwrap().len(), 4);
                failures += 5;
                let (mine, theirs) = (
                    format!("{worker} {round}"),
                    format!("{} {round}", worker ^ 1),
                );
                // Somebody else may have claimed it, once another had recorded a failure.
                let work = match tracker.start(&mine).await {
                    Ok(work) => Some(work),
                    Err(StartError::Refused(Refusal::Held { .. })) => None,
                    Err(error) => panic!("{error}"),
                };
                tracker.record_failure(&theirs, "beside it").await.unwrap();
                assert!(tracker.get(&key).await.unwrap().is_some());
                for work in tracker.claim_due(2).await.unwrap() {
                    work.cancel().await.unwrap();
                    works += 1;
                }
                // A heartbeat waits for no lock; the next one extends what this leaves out.
                let beat = tracker.beat().await;
                assert!(
                    matches!(beat, Ok(()) | Err(PostgresError::Locked(_))),
                    "{beat:?}"
                );
                assert!(tracker.due(3).await.unwrap().len() <= 3);
                assert!(tracker.waiting(3).await.unwrap().len() <= 3);
                assert!(tracker.gave_up(3).await.unwrap().is_empty());
                assert_eq!(store.history(&key, 2).await.unwrap().len(), 2);
                let long_ago = std::time::UNIX_EPOCH;
                assert_eq!(store.prune_history(long_ago).await.unwrap(), 0);
                if let Some(work) = work {
                    assert!(work.finish().await.is_ok(), "lost");
                    works += 1;
                }
            }
            (failures, works)
        })
    });
    let (mut failures, mut works) = (0, 0);
    for worker in workers.collect::<Vec<_>>() {
        let told = worker.await.unwrap();
        (failures, works) = (failures + told.0, works + told.1);
    }
    let mut counted = 0;
    for key in ["0", "1", "2", "3"] {
        let record = tracker.get(key).await.unwrap().unwrap();
        counted += record.state.failures;
    }
    assert_eq!(counted, failures);
    let leases = "SELECT count(*) FROM relent WHERE holder IS NOT NULL";
    let leases: i64 = query_scalar(leases).fetch_one(&pool).await.unwrap();
    assert_eq!(leases, 0, "leases of nobody's");
    let started = "SELECT count(*) FROM relent_history WHERE event = 'started'";
    let started: i64 = query_scalar(started).fetch_one(&pool).await.unwrap();
    assert_eq!(started, i64::from(works));

    // Connections tell what was refused when they end, by and by.
    pool.close().await;
    let mut connection = options.connect().await.unwrap();
    let refused = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    for _ in 0..200 {
        let refused = query_scalar(refused).fetch_one(&mut connection);
        let refused: i64 = refused.await.unwrap();
        if refused > 0 {
            eprintln!("{failures} failures and {works} works, {refused} times refused");
            return;
        }
        tokio::time::sleep(super::SECOND / 20).await;
    }
    panic!("nobody came in anybody's way");
}
