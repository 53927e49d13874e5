//! A table in SQLite.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use relent::clock::{Clock, ManualClock};
use relent::store::blocking::{DurableTracker, Store as _, Transactional as _, WriteBehind};
use relent::store::contract::{self, End, HistoryBench, TransactionBench};
use relent::store::{
    self, AsyncStore, Change, Entry, Error, Inline, InvalidKey, Listed, Page, Problem, Record,
    SqliteError, SqliteStore, StartError, Which, WorkError,
};
use relent::{Backoff, BackoffTracker, Decision, GiveUpReason, Jitter, Readiness};
use rusqlite::{Connection, TransactionBehavior};
use tempfile::tempdir;

use crate::faces::{self, Face};

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::exponential(SECOND, Duration::from_secs(60)).jitter(Jitter::None);
/// Waits for longer than a test takes.
const SLOWLY: Backoff = Backoff::exponential(Duration::from_secs(600), Duration::from_secs(36_000))
    .jitter(Jitter::None);

#[tokio::test]
async fn keeps_the_contract() {
    let directory = tempdir().unwrap();
    let made = Cell::new(0);
    faces::contract(|clock| {
        made.set(made.get() + 1);
        let path = directory.path().join(format!("{}.db", made.get()));
        SqliteStore::open(path).unwrap().with_clock(clock)
    })
    .await;
}

type Tables = SqliteStore<ManualClock>;

/// One set of keys after the other, in one database, with a history.
fn namespaces(path: &Path) -> impl Fn(ManualClock) -> Tables {
    let store = SqliteStore::open(path).unwrap().with_history();
    let made = Cell::new(0);
    move |clock| {
        made.set(made.get() + 1);
        let name = format!("'{}'", made.get());
        store.namespace(name).unwrap().with_clock(clock)
    }
}

impl<A: AsyncStore + 'static> HistoryBench for Face<'_, Tables, A> {
    async fn history(&self, store: &A, key: &str, limit: usize) -> Vec<Entry> {
        (self.behind)(store).history(key, limit).unwrap()
    }

    async fn prune_history(&self, store: &A, time: SystemTime) -> u64 {
        (self.behind)(store).prune_history(time).unwrap()
    }
}

impl<A: AsyncStore + 'static> TransactionBench for Face<'_, Tables, A> {
    type Transaction = Connection;

    async fn transaction(&self, _: &A, work: impl AsyncFnOnce(&mut Connection) -> End) {
        let mut connection = Connection::open(&self.path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let end = match work(&mut connection).await {
            End::Commit => "COMMIT",
            End::RollBack => "ROLLBACK",
        };
        connection.execute_batch(end).unwrap();
    }

    async fn update_in<R: Send + 'static>(
        &self,
        store: &A,
        connection: &mut Connection,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, A::Error> {
        Ok((self.behind)(store)
            .update_in(connection, key, change)
            .unwrap())
    }

    async fn put_data(&self, connection: &mut Connection, data: u32) {
        connection
            .pragma_update(None, "user_version", data)
            .unwrap();
    }

    async fn data(&self, _: &A) -> u32 {
        let connection = Connection::open(&self.path).unwrap();
        let data = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        data.unwrap()
    }
}

#[tokio::test]
async fn keeps_the_contract_in_a_namespace_of_a_database_with_history() {
    let directory = tempdir().unwrap();
    faces::contract(namespaces(&directory.path().join("store.db"))).await;
}

#[tokio::test]
async fn keeps_the_contract_of_history_and_of_transactions() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    let make = namespaces(&path);
    let native = faces::native(&make).at(&path);
    contract::all_of_history(&native).await;
    contract::all_in_transactions(&native).await;
    contract::p3_history_joins_the_callers_transaction(&native).await;
    let unblocked = faces::unblocked(&make).at(&path);
    contract::all_of_history(&unblocked).await;
    contract::all_in_transactions(&unblocked).await;
    contract::p3_history_joins_the_callers_transaction(&unblocked).await;
}

#[test]
fn namespaces_share_nothing() {
    let store = SqliteStore::new(Connection::open_in_memory().unwrap()).unwrap();
    let other = store.namespace("other").unwrap();
    let (one, two) = (
        DurableTracker::new(store, POLICY),
        DurableTracker::new(other, POLICY),
    );
    one.record_failure("key", "broken").unwrap();
    assert_eq!(two.check("key").unwrap(), Readiness::Ready);
    assert_eq!(two.waiting(10).unwrap(), []);
    let long = "n".repeat(256);
    assert_eq!(
        two.store().namespace(long).map(drop),
        Err(InvalidKey::TooLong {
            length: 256,
            max: 255
        })
    );
    assert_eq!(
        two.store().namespace("\0").map(drop),
        Err(InvalidKey::Nul { at: 0 })
    );
    let history = two.store().history("no\0key", 10);
    assert!(matches!(
        history,
        Err(Error::Key(InvalidKey::Nul { at: 2 }))
    ));
}

/// The caller's own data, and a tracker over the same file.
fn machines(path: &Path) -> (Connection, DurableTracker<SqliteStore>) {
    let tracker = DurableTracker::new(SqliteStore::open(path).unwrap(), SLOWLY);
    let machines = Connection::open(path).unwrap();
    machines
        .execute_batch("CREATE TABLE machine (id TEXT PRIMARY KEY, tag TEXT)")
        .unwrap();
    (machines, tracker)
}

#[test]
fn p3_a_connection_without_a_transaction_is_refused() {
    let directory = tempdir().unwrap();
    let (machines, tracker) = machines(&directory.path().join("store.db"));
    let work = tracker.start("m1").unwrap();
    let nothing_open = work.finish_in(&machines);
    assert!(matches!(
        nothing_open,
        Err(WorkError::Store(SqliteError::NoTransaction))
    ));
    work.finish().unwrap();
}

#[test]
fn an_error_on_the_callers_connection_names_the_database_that_it_is_to() {
    let directory = tempdir().unwrap();
    let (_, tracker) = machines(&directory.path().join("store.db"));
    let mut other = Connection::open(directory.path().join("other.db")).unwrap();
    let transaction = other.transaction().unwrap();
    let Err(error) = tracker.record_failure_in(&transaction, "m1", "broken") else {
        panic!("it has no such table");
    };
    let said = error.to_string();
    assert!(
        said.contains("other.db") && !said.contains("store.db"),
        "{said}"
    );
}

#[test]
fn the_anti_join_finds_what_can_be_taken() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (machines, _) = machines(&path);
    let clock = ManualClock::new();
    let store = SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let tracker = DurableTracker::new(store, POLICY);
    for id in [
        "fresh",
        "failed",
        "gone",
        "held",
        "ran out",
        "over",
        "ünïcode",
    ] {
        machines
            .execute("INSERT INTO machine VALUES (?1, '')", [id])
            .unwrap();
    }
    drop(tracker.start("ran out").unwrap());
    tracker.record_failure("over", "").unwrap();
    clock.advance(30 * SECOND);
    tracker.record_failure("failed", "").unwrap();
    tracker
        .record_failure_with("gone", Some(&Backoff::never_retry()), None, "")
        .unwrap();
    let _held = tracker.start("held").unwrap();
    let eligible = || {
        let mut eligible = machines
            .prepare(
                "SELECT machine.id FROM machine
                 LEFT JOIN relent ON relent.namespace = '' AND relent.key = machine.id
                                 AND relent.due > ?1
                 WHERE relent.key IS NULL ORDER BY machine.id",
            )
            .unwrap();
        let now = i64::try_from(clock.now().as_nanos()).unwrap();
        let found = eligible.query_map([now], |row| row.get(0)).unwrap();
        found.collect::<Result<Vec<String>, _>>().unwrap()
    };
    assert_eq!(eligible(), ["fresh", "over", "ran out", "ünïcode"]);
    clock.advance(SECOND);
    assert_eq!(
        eligible(),
        ["failed", "fresh", "over", "ran out", "ünïcode"]
    );
}

/// The tables as version 1 made them, word for word.
const VERSION_1: &str = "
CREATE TABLE relent_meta (
    only INTEGER PRIMARY KEY CHECK (only = 1), version INTEGER NOT NULL, last_token INTEGER NOT NULL
) STRICT;
INSERT INTO relent_meta VALUES (1, 1, 41);
CREATE TABLE relent (
    namespace TEXT NOT NULL, key TEXT NOT NULL, failures INTEGER NOT NULL, interval INTEGER,
    first_failure INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
    due INTEGER NOT NULL, gave_up TEXT, cause TEXT NOT NULL, token INTEGER, holder TEXT,
    lease_since INTEGER, lease_until INTEGER, PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX relent_due ON relent (namespace, due, key);
INSERT INTO relent VALUES ('', 'key', 9, NULL, 0, 0, 0, 0, NULL, 'old', NULL, NULL, NULL, NULL);
INSERT INTO relent VALUES
    ('', 'kept', 2, 2000000000, 0, 0, 0, 0, NULL, 'old', NULL, NULL, NULL, NULL);
";

#[test]
fn p5_a_table_of_the_first_migration_without_intervals_goes_on() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch(VERSION_1)
        .unwrap();
    for _ in 0..2 {
        let store = SqliteStore::open(&path).unwrap();
        store.migrate().unwrap();
        let tracker = DurableTracker::new(store.with_history(), POLICY);
        assert_eq!(tracker.due(10).unwrap().len(), 2);
        assert_eq!(tracker.check("key").unwrap(), Readiness::Ready);
    }
    let tracker = DurableTracker::new(SqliteStore::open(&path).unwrap().with_history(), POLICY);
    assert_eq!(tracker.start("another").unwrap().token(), 42);
    let told = tracker.record_failure("key", "again").unwrap();
    assert_eq!(told, Decision::Retry { after: SECOND }, "a clean slate");
    let told = tracker.record_failure("kept", "again").unwrap();
    assert_eq!(told, Decision::Retry { after: 4 * SECOND });
    assert_eq!(tracker.store().history("key", 10).unwrap().len(), 1);
}

#[track_caller]
fn problem(opened: Result<SqliteStore, SqliteError>, path: &Path) -> Problem {
    match opened {
        Err(SqliteError::Unreadable(unreadable)) => {
            let said = unreadable.to_string();
            assert!(said.contains(&path.display().to_string()), "{said}");
            unreadable.problem
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened what is not ours"),
    }
}

#[test]
fn p5_what_is_not_ours_is_refused_and_left() {
    let directory = tempdir().unwrap();
    let refused = |name: &str, sql: &str| {
        let path = directory.path().join(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&path).unwrap();
        let problem = problem(SqliteStore::open(&path), &path);
        assert_eq!(fs::read(&path).unwrap(), before, "changed");
        problem
    };
    let foreign = refused("foreign", "CREATE TABLE relent (a)");
    assert!(matches!(foreign, Problem::Foreign(_)));
    let foreign = refused("meta", "CREATE TABLE relent_meta (a)");
    assert!(matches!(foreign, Problem::Foreign(_)));
    let newer = refused(
        "newer",
        "CREATE TABLE relent_meta AS SELECT 1 AS only, 3 AS version",
    );
    assert_eq!(newer, Problem::Newer { found: 3, known: 2 });
    let damaged = refused(
        "damaged",
        "CREATE TABLE relent_meta AS SELECT 1 AS only, -3 AS version",
    );
    assert!(matches!(damaged, Problem::Damaged(_)));
    let view = refused(
        "view",
        "CREATE VIEW relent_meta AS SELECT 1 AS only, 2 AS version, 0 AS last_token",
    );
    assert!(matches!(view, Problem::Foreign(_)), "{view:?}");
    for version in [1, 2] {
        let gone = refused(
            &format!("version {version}"),
            &format!(
                "CREATE TABLE relent_meta AS
                 SELECT 1 AS only, {version} AS version, 0 AS last_token"
            ),
        );
        assert!(matches!(gone, Problem::Damaged(_)), "{gone:?}");
    }

    let path = directory.path().join("text");
    let text = "no database, by far\n".repeat(100);
    fs::write(&path, &text).unwrap();
    assert!(matches!(
        problem(SqliteStore::open(&path), &path),
        Problem::Foreign(_)
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn p5_a_damaged_row_is_named_and_left() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (connection, tracker) = machines(&path);
    for damage in [
        "failures = -1",
        "failures = 4294967296",
        "interval = -1",
        "first_failure = -1",
        "until = -1",
        "gave_up = 'bored'",
        "token = 1",
        "token = 1, holder = 'x', lease_since = 0",
        "cause = CAST(x'ff' AS TEXT)",
    ] {
        tracker.record_failure("the key", "broken").unwrap();
        connection
            .execute(&format!("UPDATE relent SET {damage}"), [])
            .unwrap();
        let row = || {
            let row =
                "SELECT failures || quote(interval) || quote(gave_up) || quote(token) FROM relent";
            connection
                .query_row(row, [], |row| row.get::<_, String>(0))
                .unwrap()
        };
        let before = row();
        let Err(error) = tracker.record_failure("the key", "broken") else {
            panic!("{damage} was overlooked");
        };
        let said = error.to_string();
        assert!(
            said.contains("\"the key\"") && said.contains("store.db"),
            "{said}"
        );
        tracker.start("the key").unwrap_err();
        tracker.get("the key").unwrap_err();
        assert_eq!(row(), before);
        connection.execute("DELETE FROM relent", []).unwrap();
    }
}

#[test]
fn b8_the_longest_interval_and_the_end_of_time_survive() {
    let store = SqliteStore::new(Connection::open_in_memory().unwrap()).unwrap();
    let tracker = DurableTracker::new(store, POLICY);
    let eternal = Backoff::fixed(Duration::MAX);
    for _ in 0..2 {
        tracker
            .record_failure_with("key", Some(&eternal), None, "")
            .unwrap();
        let record = tracker.get("key").unwrap().unwrap();
        assert_eq!(record.state.interval, Duration::from_nanos(u64::MAX));
        assert_eq!(
            record.until,
            UNIX_EPOCH + Duration::from_nanos(i64::MAX as u64)
        );
        assert_eq!(tracker.waiting(10).unwrap().len(), 1);
    }
}

#[test]
fn readers_do_not_wait_for_who_waits_to_write() {
    let directory = tempdir().unwrap();
    let (mut machines, tracker) = machines(&directory.path().join("store.db"));
    tracker.record_failure("key", "broken").unwrap();
    let begin = TransactionBehavior::Immediate;
    let transaction = machines.transaction_with_behavior(begin).unwrap();
    let have_begun = Barrier::new(3);
    thread::scope(|scope| {
        let write = || {
            have_begun.wait();
            tracker.record_failure("key", "again").map(drop)
        };
        let writers = [(); 2].map(|()| scope.spawn(write));
        have_begun.wait();
        let started = Instant::now();
        // By the end of so many rounds, both are at work.
        for _ in 0..200 {
            assert!(matches!(tracker.check("key").unwrap(), Readiness::Wait(_)));
            assert_eq!(tracker.waiting(10).unwrap().len(), 1);
            assert_eq!(tracker.due(10).unwrap(), []);
            thread::yield_now();
        }
        assert!(started.elapsed() < SqliteStore::BUSY, "one of them waited");
        assert!(writers.iter().all(|writer| !writer.is_finished()));
        transaction.commit().unwrap();
        for writer in writers {
            writer.join().unwrap().unwrap();
        }
    });
    assert_eq!(tracker.get("key").unwrap().unwrap().state.failures, 3);
}

thread_local! {
    /// How often this thread has waited for its turn.
    static WAITED: Cell<u32> = const { Cell::new(0) };
}

/// A store over a connection that does not wait at all.
fn impatient(path: &Path) -> SqliteStore {
    let connection = Connection::open(path).unwrap();
    let wait = |_| {
        WAITED.set(WAITED.get() + 1);
        false
    };
    connection.busy_handler(Some(wait)).unwrap();
    SqliteStore::new(connection).unwrap()
}

#[tokio::test]
async fn a_busy_database_is_waited_for_once_whatever_there_is_to_write() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (mut machines, _) = machines(&path);
    let tracker = DurableTracker::new(impatient(&path), POLICY);
    let works = ["a", "b", "c", "d", "e"].map(|key| tracker.start(key).unwrap());
    let one = impatient(&path).namespace("one").unwrap();
    let one = WriteBehind::open(one, BackoffTracker::new(POLICY)).unwrap();
    let two = Inline(impatient(&path).namespace("two").unwrap());
    let two = store::WriteBehind::open(two, BackoffTracker::new(POLICY)).await;
    let two = two.unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        let _ = one.tracker().record_failure(key);
        let _ = two.tracker().record_failure(key);
    }

    let begin = TransactionBehavior::Immediate;
    let transaction = machines.transaction_with_behavior(begin).unwrap();
    WAITED.set(0);
    assert!(tracker.beat().is_err());
    assert_eq!(WAITED.replace(0), 1);
    one.flush().unwrap_err();
    assert_eq!(WAITED.replace(0), 1);
    two.flush().await.unwrap_err();
    assert_eq!(WAITED.replace(0), 1);
    transaction.commit().unwrap();
    tracker.beat().unwrap();
    assert_eq!((one.flush().unwrap(), two.flush().await.unwrap()), (5, 5));
    assert!(works.iter().all(|work| work.finish().is_ok()));
}

#[test]
fn p2_a_heartbeat_extends_all_leases_but_those_of_damaged_rows_in_one_transaction() {
    let directory = tempdir().unwrap();
    let (machines, tracker) = machines(&directory.path().join("store.db"));
    let works = ["a", "b", "c", "d"].map(|key| tracker.start(key).unwrap());
    machines
        .execute_batch(
            "UPDATE relent SET failures = -1 WHERE key IN ('a', 'c');
             CREATE TRIGGER no BEFORE UPDATE ON relent WHEN old.key = 'b'
             BEGIN SELECT raise(ABORT, 'not that one'); END",
        )
        .unwrap();
    let times = "SELECT group_concat(lease_since, ' ') FROM relent WHERE key IN ('a', 'b', 'c')";
    let times = || machines.query_row(times, [], |row| row.get::<_, String>(0));
    let before = (times().unwrap(), tracker.get("d").unwrap());
    let mut told = vec![];
    let leases: Vec<_> = works
        .iter()
        .map(|work| (work.key(), work.token()))
        .collect();
    let extended = tracker.store().extend(&leases, SECOND, |n, answer| {
        answer.unwrap();
        told.push(n);
    });
    assert!(extended.is_err());
    assert_eq!(told, [3]);
    assert_eq!(times().unwrap(), before.0);
    assert_ne!(tracker.get("d").unwrap(), before.1);
}

/// A clock, and what happens right after it is read next.
#[derive(Clone, Default)]
struct Eventful {
    clock: ManualClock,
    next: Arc<Mutex<Option<Happening>>>,
}

type Happening = Box<dyn FnOnce() + Send>;

impl Clock for Eventful {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn wall(&self) -> SystemTime {
        let now = self.clock.wall();
        let next = self.next.lock().unwrap().take();
        if let Some(happens) = next {
            happens();
        }
        now
    }
}

#[test]
fn a_key_that_is_written_meanwhile_is_in_the_list_nevertheless() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    let open = || SqliteStore::open(&path).unwrap();
    let clock = Eventful::default();
    let tracker = DurableTracker::new(open().with_clock(clock.clone()), POLICY);
    let other = DurableTracker::new(open().with_clock(clock.clock.clone()), POLICY);
    tracker.record_failure("key", "broken").unwrap();
    let manual = clock.clock.clone();
    *clock.next.lock().unwrap() = Some(Box::new(move || {
        manual.advance(SECOND / 2);
        other.record_failure("key", "again").unwrap();
    }));
    // The list is as it was before: by the time that it read, what was written later would be from
    // the future.
    let listed = tracker.waiting(10).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].record.cause, "broken");
    assert_eq!(tracker.get("key").unwrap().unwrap().cause, "again");
}

#[test]
fn p5_every_damaged_page_is_named() {
    const PAGE: usize = 4096;

    let directory = tempdir().unwrap();
    let path = directory.path().join("good.db");
    let keys: Vec<_> = (0..300).map(|n| format!("key-{n:03}")).collect();
    let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
    let tracker = DurableTracker::new(SqliteStore::open(&path).unwrap().with_history(), POLICY);
    tracker.record_failures(&failures).unwrap();
    drop(tracker);
    let good = fs::read(&path).unwrap();
    assert!(good.len() > 16 * PAGE);
    for at in (0..good.len()).step_by(PAGE) {
        let path = directory.path().join(format!("{at}.db"));
        let mut bad = good.clone();
        // The header of the first page is that of the file.
        let from = at + if at == 0 { 100 } else { 0 };
        bad[from..from + 64].fill(0xff);
        fs::write(&path, &bad).unwrap();
        let named = |error: SqliteError| {
            assert!(matches!(error, SqliteError::Unreadable(_)), "{error:?}");
            let said = error.to_string();
            assert!(said.contains(&format!("{at}.db")), "{said}");
        };
        let store = match SqliteStore::open(&path) {
            Ok(store) => store.with_history(),
            Err(error) => {
                named(error);
                continue;
            }
        };
        // What is written here and there is what becomes of the failures; all the rest is read.
        let tracker = DurableTracker::new(store, POLICY);
        for key in &keys {
            if let Err(Error::Store(error)) = tracker.store().history(key, 10) {
                named(error);
            }
            if let Err(Error::Store(error)) = tracker.get(key) {
                named(error);
            }
        }
        for listed in [tracker.waiting(1000), tracker.due(1000)] {
            if let Err(Error::Store(error)) = listed {
                named(error);
            }
        }
        if let Err(StartError::Store(error)) = tracker.claim_due(1000) {
            named(error);
        }
        if let Err(Error::Store(error)) = tracker.record_failures(&failures) {
            named(error);
        }
        let pruned = tracker.store().prune_history(UNIX_EPOCH);
        pruned.map_or_else(named, drop);
    }
    let nowhere = SqliteStore::open(directory.path().join("no/store.db")).unwrap_err();
    assert!(nowhere.to_string().contains("no/store.db"), "{nowhere}");
}

#[track_caller]
fn names_the_row<T>(error: Result<T, impl std::fmt::Display>, key: &str) {
    let said = error.map(drop).map_err(|error| error.to_string());
    let said = said.expect_err("nothing said");
    assert!(said.contains(&format!("row {key:?} of relent")), "{said}");
}

#[test]
fn p5_a_damaged_row_stands_in_the_way_of_no_other() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (connection, _) = machines(&path);
    let clock = ManualClock::new();
    let store = SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let tracker = DurableTracker::new(store, POLICY);
    for n in 0..6 {
        tracker.record_failure(&format!("{n}"), "broken").unwrap();
    }
    let damage = "UPDATE relent SET failures = -1, cause = 'damaged' WHERE key IN ('0', '2', '5');
        UPDATE relent SET key = CAST(x'ff31' AS TEXT) WHERE key = '5'";
    connection.execute_batch(damage).unwrap();
    let damaged = || {
        let rows = "SELECT count(*) FROM relent
                    WHERE failures = -1 AND cause = 'damaged' AND token IS NULL";
        connection
            .query_row(rows, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let keys = |listed: Vec<Listed>| -> Vec<String> {
        listed.into_iter().map(|listed| listed.key).collect()
    };

    assert_eq!(keys(tracker.waiting(10).unwrap()), ["1", "3", "4"]);
    assert_eq!(keys(tracker.waiting(2).unwrap()), ["1", "3"], "whole pages");
    assert_eq!(keys(tracker.waiting(0).unwrap()), [""; 0]);
    clock.advance(SECOND);
    let due = tracker.due(2).unwrap();
    let last = Page::first(Which::Due, 2).after(&due[1]);
    assert_eq!(keys(due), ["1", "3"]);
    let due = tracker.list(&last).unwrap();
    let last = last.after(&due[0]);
    assert_eq!(keys(due), ["4"]);
    assert_eq!(tracker.list(&last).unwrap(), [], "the end");
    let claimed = tracker.claim_due(10).unwrap();
    let claimed: Vec<_> = claimed.iter().map(|work| work.key().to_owned()).collect();
    assert_eq!(claimed, ["1", "3", "4"]);

    // There is nothing else to answer.
    names_the_row(tracker.due(10), "0");
    names_the_row(tracker.claim_due(10), "0");
    assert_eq!(damaged(), 3);
    let all = tracker.store().unreadable(10).unwrap();
    let said: Vec<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3);
    assert!(
        said[0].contains("\"0\"") && said[1].contains("\"2\""),
        "{said:?}"
    );
    assert_eq!(tracker.store().unreadable(2).unwrap(), all[..2]);
    connection
        .execute("DELETE FROM relent WHERE failures = -1", [])
        .unwrap();
    assert_eq!(tracker.due(10).unwrap(), []);
    assert_eq!(tracker.store().unreadable(10).unwrap(), []);
}

#[test]
fn columns_and_rows_of_others_stay() {
    let directory = tempdir().unwrap();
    let (mut machines, tracker) = machines(&directory.path().join("store.db"));
    tracker.record_failure("key", "first").unwrap();
    machines
        .execute_batch(
            "PRAGMA foreign_keys = ON;
             CREATE TABLE note (
                 namespace TEXT, key TEXT,
                 FOREIGN KEY (namespace, key) REFERENCES relent ON DELETE CASCADE
             );
             INSERT INTO note VALUES ('', 'key');
             ALTER TABLE relent ADD COLUMN remark TEXT;
             UPDATE relent SET remark = 'mine'",
        )
        .unwrap();
    let transaction = machines
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let again = tracker.record_failure_in(&transaction, "key", "second");
    assert_eq!(
        again.unwrap(),
        Decision::Retry {
            after: 2 * SLOWLY.initial
        }
    );
    transaction.commit().unwrap();
    let again = tracker.record_failure("key", "third").unwrap();
    assert_eq!(
        again,
        Decision::Retry {
            after: 4 * SLOWLY.initial
        }
    );
    tracker.record_failure("another", "first").unwrap();
    let kept = "SELECT remark || count(*) FROM relent JOIN note USING (namespace, key)";
    let kept: String = machines.query_row(kept, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "mine1");
    assert!(tracker.record_success("key").unwrap().is_some());
    let notes = machines.query_row("SELECT count(*) FROM note", [], |row| row.get(0));
    assert_eq!(notes, Ok(0));
}

#[test]
fn history_is_pruned_a_part_at_a_time() {
    let directory = tempdir().unwrap();
    let (machines, tracker) = machines(&directory.path().join("store.db"));
    machines
        .execute_batch(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4500)
             INSERT INTO relent_history (namespace, key, at, event)
                 SELECT '', 'key', n, 'started' FROM n;
             CREATE TRIGGER stop BEFORE DELETE ON relent_history WHEN old.at = 2500
                 BEGIN SELECT RAISE(ABORT, 'stopped'); END",
        )
        .unwrap();
    let left = || tracker.store().history("key", 5000).unwrap().len();
    let time = UNIX_EPOCH + Duration::from_nanos(4001);
    let stopped = tracker.store().prune_history(time).unwrap_err();
    assert!(stopped.to_string().contains("stopped"), "{stopped}");
    assert_eq!(left(), 2500, "others had their turns before that");
    machines.execute("DROP TRIGGER stop", []).unwrap();
    assert_eq!(tracker.store().prune_history(time).unwrap(), 2000);
    assert_eq!(left(), 500);
}

#[test]
fn r2_a_batch_that_panics_leaves_nothing() {
    let directory = tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("store.db")).unwrap();
    faces::panics_at_the_second_of_two(&store);
    let tracker = DurableTracker::new(store, POLICY);
    assert_eq!(tracker.get("a").unwrap(), None);
    tracker.record_failure("a", "broken").unwrap();
}

#[test]
fn p1_a_process_that_starts_after_the_clock_was_set_back_knows() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store.db");
    let clock = ManualClock::new();
    clock.set(Duration::from_secs(1_000_000));
    let store = SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    DurableTracker::new(store, POLICY)
        .record_failure("key", "broken")
        .unwrap();
    clock.set(Duration::from_secs(1000));
    let store = SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let tracker = DurableTracker::new(store, POLICY);
    assert_eq!(tracker.claim_due(10).unwrap().len(), 0);
    clock.advance(SECOND);
    assert_eq!(tracker.claim_due(10).unwrap().len(), 1);
}

#[test]
fn g3_gave_up_is_kept() {
    let store = SqliteStore::new(Connection::open_in_memory().unwrap()).unwrap();
    let tracker = DurableTracker::new(store, POLICY);
    for (policy, reason) in [
        (POLICY.give_up_after_failures(1), GiveUpReason::Failures),
        (POLICY.give_up_after(Duration::ZERO), GiveUpReason::Elapsed),
    ] {
        let told = tracker
            .record_failure_with("key", Some(&policy), None, "")
            .unwrap();
        assert_eq!(told, Decision::GiveUp(reason));
        assert_eq!(tracker.check("key").unwrap(), Readiness::GaveUp(reason));
        assert!(tracker.forget("key").unwrap());
    }
}

#[test]
fn many_may_open_a_new_database_at_once() {
    let directory = tempdir().unwrap();
    for round in 0..20 {
        let path = directory.path().join(format!("{round}.db"));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let tracker = DurableTracker::new(SqliteStore::open(path).unwrap(), SLOWLY);
                    tracker.record_failure(&format!("{n}"), "").unwrap();
                });
            }
        });
        let tracker = DurableTracker::new(SqliteStore::open(&path).unwrap(), POLICY);
        assert_eq!(tracker.waiting(100).unwrap().len(), 8);
    }
}
