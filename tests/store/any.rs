//! Stores of any type, beyond the contract.

use relent::Backoff;
use relent::store::blocking::{self, Store};
use relent::store::{
    AnyError, AnyStore, AsyncStore, DurableTracker, Error, Fault, MemoryStore, SqliteError,
    SqliteStore, Unblock,
};

const POLICY: Backoff = Backoff::DEFAULT;

/// Which store it is may be known only when the program runs.
#[tokio::test]
async fn stores_of_all_types_are_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(directory.path().join("store.db")).unwrap();
    let stores = [
        AnyStore::new(MemoryStore::new()),
        AnyStore::new(Unblock::new(sqlite)),
    ];
    for store in stores {
        let tracker = DurableTracker::new(store.clone(), POLICY);
        let work = tracker.start("key").await.unwrap();
        work.fail("broken").await.unwrap();
        let other = DurableTracker::new(store, POLICY);
        let record = other.get("key").await.unwrap();
        assert_eq!(record.unwrap().cause, "broken", "clones are one store");
    }
}

#[tokio::test]
async fn errors_are_the_stores_own_and_tell_what_they_are_about() {
    #[track_caller]
    fn check(error: Error<AnyError>, fault: impl FnOnce(&AnyError) -> Fault) {
        let Error::Store(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(fault(&error), Fault::Key);
        let own = error.get_ref().downcast_ref::<SqliteError>();
        assert!(matches!(own, Some(SqliteError::Unreadable(_))), "{error:?}");
        assert_eq!(error.to_string(), own.unwrap().to_string());
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let open = || SqliteStore::open(&path).unwrap();
    let blocking = blocking::AnyStore::new(open());
    let tracker = blocking::DurableTracker::new(blocking.clone(), POLICY);
    tracker.record_failure("key", "broken").unwrap();
    let damage = "UPDATE relent SET failures = -1";
    let own = rusqlite::Connection::open(&path).unwrap();
    own.execute_batch(damage).unwrap();
    let error = tracker.record_failure("key", "again").unwrap_err();
    check(error, |error| blocking.fault(error));

    let store = AnyStore::new(Unblock::new(open()));
    let tracker = DurableTracker::new(store.clone(), POLICY);
    let error = tracker.record_failure("key", "again").await.unwrap_err();
    check(error, |error| store.fault(error));
}
