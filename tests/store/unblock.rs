//! A blocking store behind the async face, beyond the contract.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use relent::store::blocking::{self, Block, WriteBehind};
use relent::store::{AsyncStore, Change, DurableTracker, MemoryStore, Record, Unblock};
use relent::{Backoff, BackoffTracker, Jitter};
use tokio::runtime::Builder;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::fixed(SECOND).jitter(Jitter::None);

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(20);

#[test]
fn a_call_after_the_end_of_the_runtime_is_made_all_the_same() {
    let runtime = Builder::new_multi_thread().build().unwrap();
    let store = Arc::new(MemoryStore::new());
    let blocked = Block::new(Unblock::new(Arc::clone(&store)), runtime.handle().clone());
    let behind = WriteBehind::open(blocked, BackoffTracker::new(POLICY)).unwrap();
    let behind = Arc::new(behind);
    let flusher = behind.flush_every(NEVER * 100, |_| ()).unwrap();
    behind.tracker().record_failure("key");
    runtime.shutdown_timeout(SECOND);

    let (ended, told) = mpsc::channel();
    std::thread::spawn(move || ended.send(flusher.close()));
    assert_eq!(told.recv_timeout(NEVER), Ok(Ok(1)));
    assert_eq!(store.len(), 1, "the last flush was made");
}

#[tokio::test]
async fn r2_a_panic_passes_through() {
    let store = Arc::new(Unblock::new(MemoryStore::new()));
    let panics = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let broken = |_: Option<&Record>, _| -> Change<()> { panic!("as a transition may") };
            store.update("key", broken).await
        }
    });
    let ended = tokio::time::timeout(NEVER, panics).await.expect("an end");
    assert!(ended.is_err_and(|failed| failed.is_panic()));
    assert_eq!(store.load("key").await.map(|(record, _)| record), Ok(None));
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn p3_async_work_is_finished_within_the_callers_transaction() {
    use relent::store::SqliteStore;
    use rusqlite::{Connection, TransactionBehavior};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines.db");
    let store = SqliteStore::open(&path).unwrap();
    let tracker = DurableTracker::new(Unblock::new(store), POLICY);
    let own = Connection::open(&path).unwrap();
    own.execute_batch("CREATE TABLE machine (id TEXT)").unwrap();

    let work = tracker.start("m1").await.unwrap();
    let other = tracker.blocking();
    let within =
        move |mut own: Connection| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let work = work.into_blocking();
            let immediate = TransactionBehavior::Immediate;
            let rolled_back = own.transaction_with_behavior(immediate)?;
            work.finish_in(&rolled_back)?;
            rolled_back.rollback()?;
            assert!(!work.expired());

            let transaction = own.transaction_with_behavior(immediate)?;
            transaction.execute("INSERT INTO machine VALUES ('m1')", [])?;
            work.finish_in(&transaction)?;
            other
                .record_failure_in(&transaction, "m2", "broken")
                .unwrap();
            transaction.commit()?;
            Ok(())
        };
    let done = tokio::task::spawn_blocking(move || within(own)).await;
    done.unwrap().unwrap();
    assert_eq!(tracker.get("m1").await.unwrap(), None);
    assert!(tracker.get("m2").await.unwrap().is_some());
    assert_eq!(tracker.session().held(), 0);
}

#[tokio::test]
async fn both_faces_of_an_unblocked_store_are_one_session() {
    let tracker = DurableTracker::new(Unblock::new(MemoryStore::new()), POLICY);
    let blocking: blocking::DurableTracker<MemoryStore> = tracker.blocking();
    let work = blocking.start("key").unwrap();
    assert_eq!(tracker.session().held(), 1);
    tracker.beat().await.unwrap();
    work.finish().unwrap();

    let work = tracker.start("key").await.unwrap();
    let token = work.token();
    let work = work.into_blocking();
    assert_eq!((work.token(), work.key()), (token, "key"));
    assert!(!work.expired() && blocking.session().held() == 1);
    work.cancel().unwrap();
    assert_eq!(tracker.session().held(), 0);
}
