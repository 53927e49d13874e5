//! Work that ends, or begins, within a transaction of one's own, beside heartbeats.

use std::time::Duration;

use relent::clock::ManualClock;
use relent::store::blocking::{DurableTracker, Store};
use relent::store::{LeaseLost, SqliteStore, WorkError, step};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tempfile::TempDir;

use crate::heartbeat::{TIME_TO_LIVE, is_ready, options};

const DATABASE: &str = "leases.db";

struct Rig {
    tracker: DurableTracker<SqliteStore<ManualClock>>,
    stores: ManualClock,
    workers: ManualClock,
    directory: TempDir,
}

impl Rig {
    fn new() -> Rig {
        let [stores, workers] = [(); 2].map(|()| ManualClock::new());
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join(DATABASE)).unwrap();
        let store = store.with_clock(stores.clone());
        Rig {
            tracker: DurableTracker::new(store, options(&workers)),
            stores,
            workers,
            directory,
        }
    }

    /// A connection of one's own to the same database.
    fn connect(&self) -> Connection {
        Connection::open(self.directory.path().join(DATABASE)).unwrap()
    }

    fn pass(&self, time: Duration) {
        self.stores.advance(time);
        self.workers.advance(time);
    }
}

fn begin(own: &mut Connection) -> Transaction<'_> {
    own.transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap()
}

#[test]
fn p2_work_that_is_committed_too_late_is_lost_alone() {
    let rig = Rig::new();
    let mut own = rig.connect();
    let fine = rig.tracker.start("fine").unwrap();
    let transaction = begin(&mut own);
    let granted = rig.tracker.start_in(&transaction, "late").unwrap();
    rig.pass(TIME_TO_LIVE / 2);
    transaction.commit().unwrap();
    rig.tracker.beat().unwrap();
    rig.pass(TIME_TO_LIVE / 2);
    let late = rig.tracker.committed(granted);
    assert!(late.expired() && is_ready(late.expiry()));
    assert!(!fine.expired() && !rig.tracker.session().expired());
    assert!(late.finish().is_err() && fine.finish().is_ok());
}

#[test]
fn p2_an_end_within_a_transaction_that_comes_too_late_expires_the_session() {
    for is_failure in [false, true] {
        let rig = Rig::new();
        let mut own = rig.connect();
        let [work, other] = ["key", "other"].map(|key| rig.tracker.start(key).unwrap());
        // The store's clock is set forward; the worker's is not.
        rig.stores.advance(TIME_TO_LIVE);
        let transaction = begin(&mut own);
        let lost = if is_failure {
            work.fail_in(&transaction, "broken").map(drop)
        } else {
            work.finish_in(&transaction).map(drop)
        };
        let Err(WorkError::Lost(LeaseLost::Expired { .. })) = lost else {
            panic!("{lost:?}");
        };
        assert!(work.expired() && is_ready(work.expiry()));
        assert!(rig.tracker.session().expired() && other.expired());
    }
}

/// It ended with the transaction, so that it is no news that its lease has run out.
#[test]
fn work_that_ended_within_a_transaction_does_not_expire_the_session() {
    let rig = Rig::new();
    let mut own = rig.connect();
    let work = rig.tracker.start("key").unwrap();
    let transaction = begin(&mut own);
    work.finish_in(&transaction).unwrap();
    transaction.commit().unwrap();
    // Nobody has dropped it, and there is no heartbeat.
    rig.pass(TIME_TO_LIVE);
    assert!(!rig.tracker.session().expired());
    let next = rig.tracker.start("next").unwrap();
    drop(work);
    rig.pass(TIME_TO_LIVE);
    assert!(rig.tracker.session().expired() && next.expired());
}

#[test]
fn p2_work_whose_end_was_rolled_back_is_told_of_its_loss() {
    let rig = Rig::new();
    let mut own = rig.connect();
    let [work, done] = ["key", "done"].map(|key| rig.tracker.start(key).unwrap());
    for work in [&work, &done] {
        let transaction = begin(&mut own);
        work.finish_in(&transaction).unwrap();
        // Twice is an error, and no loss while nobody knows how it ends.
        let twice = work.finish_in(&transaction);
        assert!(matches!(twice, Err(WorkError::Lost(LeaseLost::Ended))));
        if work.key() == "done" {
            transaction.commit().unwrap();
        } else {
            transaction.rollback().unwrap();
        }
    }
    rig.tracker.beat().unwrap();
    assert!(!work.expired() && !done.expired());

    // By another clock than the worker's, the lease runs out; another takes the key.
    let stolen = step::give_back(work.token());
    assert!(matches!(
        Store::update(rig.tracker.store(), "key", stolen),
        Ok(true)
    ));
    let other = rig.tracker.another(options(&rig.workers));
    let [taken, begun_anew] = ["key", "done"].map(|key| other.start(key).unwrap());
    rig.tracker.beat().unwrap();
    assert!(work.expired() && is_ready(work.expiry()));
    assert!(!done.expired() && !is_ready(done.expiry()), "it ended well");
    assert!(!rig.tracker.session().expired());
    assert!(taken.finish().is_ok() && begun_anew.finish().is_ok());
}
