//! Each store beside the bare driver, which does the least work with the same durability, in one
//! run.
//!
//! `cargo bench --bench stores --features file,sqlite,contract,tokio`, with a directory on a real
//! disk in `RELENT_BENCH_DIR`.
//!
//! Both sides of a pair take turns in short rounds, so that whatever else the machine does hits
//! both alike; the median round is reported.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use relent::store::blocking::{DurableTracker, Store, WriteBehind};
use relent::store::{FileStore, MemoryStore, SqliteStore};
use relent::{Backoff, BackoffTracker};
use rusqlite::{Connection, TransactionBehavior, params};

const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(3600));

fn main() {
    // `cargo test` runs this too, only to see that it does.
    let quick = std::env::args().any(|argument| argument == "--test");
    let rounds = if quick { 1 } else { 21 };
    let directory = tempfile::Builder::new()
        .prefix("relent-bench")
        .tempdir_in(
            std::env::var_os("RELENT_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from),
        )
        .expect("a directory to work in");
    let directory = directory.path();
    memory(rounds);
    sqlite(directory, rounds);
    sqlite_batches(directory, rounds);
    sqlite_due(directory, if quick { 1000 } else { 1_000_000 });
    file(directory, rounds);
    behind(directory, rounds);
}

/// The median times of one call of each, by turns.
fn by_turns<const N: usize>(
    rounds: usize,
    calls: u32,
    mut each: [&mut dyn FnMut(); N],
) -> [Duration; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (times, call) in times.iter_mut().zip(&mut each) {
            let began = Instant::now();
            for _ in 0..calls {
                call();
            }
            times.push(began.elapsed() / calls);
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

fn ratio(ours: Duration, bare: Duration) -> f64 {
    bare.as_secs_f64() / ours.as_secs_f64()
}

fn fail<S: Store>(tracker: &DurableTracker<S>, key: &str) {
    black_box(tracker.record_failure(key, "broken").expect("recorded"));
}

fn memory(rounds: usize) {
    let tracker = DurableTracker::new(MemoryStore::new(), POLICY);
    let mut n = 0_u32;
    let [ours] = by_turns(
        rounds,
        1000,
        [&mut || {
            n += 1;
            let told = tracker.record_failure(["a", "b", "c", "d"][n as usize % 4], "broken");
            let _ = black_box(told);
        }],
    );
    println!("memory: record_failure {ours:?}");
}

/// A table with what a hand-made backoff has to keep, and no more.
fn bare(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    let wal: String = connection
        .query_row("PRAGMA journal_mode = wal", [], |row| row.get(0))
        .expect("a write-ahead log");
    assert_eq!(wal, "wal");
    let create = "PRAGMA synchronous = full;
        CREATE TABLE backoff (key TEXT PRIMARY KEY, failures INTEGER, until INTEGER, interval INTEGER, cause TEXT)
        WITHOUT ROWID; CREATE INDEX due ON backoff (until, key)";
    connection.execute_batch(create).expect("a table");
    connection
}

fn bare_failure(connection: &Connection, key: &str) {
    let mut read = connection
        .prepare_cached("SELECT failures, interval FROM backoff WHERE key = ?1")
        .expect("a statement");
    let found = read.query_row([key], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    let (failures, interval) = found.unwrap_or((0, 500_000_000));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970");
    let interval = (interval * 2).min(3_600_000_000_000);
    let until = i64::try_from(now.as_nanos()).expect("a time before 2262") + interval;
    let mut write = connection
        .prepare_cached("INSERT OR REPLACE INTO backoff VALUES (?1, ?2, ?3, ?4, ?5)")
        .expect("a statement");
    write
        .execute(params![key, failures + 1, until, interval, "broken"])
        .expect("written");
}

fn bare_failures(connection: &mut Connection, keys: &[String]) {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .expect("a transaction");
    for key in keys {
        bare_failure(&transaction, key);
    }
    transaction.commit().expect("a commit");
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("machine-{n}")).collect()
}

fn sqlite(directory: &Path, rounds: usize) {
    let store = SqliteStore::open(directory.join("single.db")).expect("a store");
    let tracker = DurableTracker::new(store, POLICY);
    let mut connection = bare(&directory.join("single-bare.db"));
    let keys = keys(100);
    let (mut n, mut m) = (0, 0);
    let [ours, bare] = by_turns(
        rounds,
        20,
        [
            &mut || {
                n += 1;
                fail(&tracker, &keys[n % 100]);
            },
            &mut || {
                m += 1;
                bare_failures(&mut connection, &keys[m % 100..=m % 100]);
            },
        ],
    );
    println!(
        "SQLite: record_failure {ours:?}, bare {bare:?}: {:.2}x as many a second",
        ratio(ours, bare)
    );
}

fn sqlite_batches(directory: &Path, rounds: usize) {
    for count in [1, 100, 1000] {
        let store = SqliteStore::open(directory.join(format!("{count}.db"))).expect("a store");
        let tracker = DurableTracker::new(store, POLICY);
        let mut connection = bare(&directory.join(format!("{count}-bare.db")));
        let keys = keys(count);
        let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
        let [ours, bare] = by_turns(
            rounds,
            3,
            [
                &mut || drop(tracker.record_failures(&failures).expect("recorded")),
                &mut || bare_failures(&mut connection, &keys),
            ],
        );
        let count = u32::try_from(count).expect("few");
        println!(
            "SQLite: record_failures of {count}: {:?} each, bare {:?}: {:.2}x as many a second",
            ours / count,
            bare / count,
            ratio(ours, bare)
        );
    }
}

fn sqlite_due(directory: &Path, count: usize) {
    let store = SqliteStore::open(directory.join("due.db")).expect("a store");
    let tracker = DurableTracker::new(store, POLICY);
    let keys = keys(count);
    for some in keys.chunks(10_000) {
        let failures: Vec<_> = some.iter().map(|key| (key.as_str(), "broken")).collect();
        drop(tracker.record_failures(&failures).expect("recorded"));
    }
    // By now some are due, and others wait.
    std::thread::sleep(Duration::from_secs(1));
    let [due, waiting] = by_turns(
        21,
        1,
        [
            &mut || assert_eq!(tracker.due(100).expect("a list").len(), 100),
            &mut || drop(tracker.waiting(100).expect("a list")),
        ],
    );
    println!("SQLite: of {count} keys, due(100) {due:?}, waiting(100) {waiting:?}");
    let [claimed] = by_turns(
        5,
        1,
        [&mut || drop(tracker.claim_due(100).expect("claimed"))],
    );
    println!("SQLite: of {count} keys, claim_due(100) {claimed:?}");
}

fn file(directory: &Path, rounds: usize) {
    for count in [1, 100, 1000, 10_000] {
        let path = directory.join(format!("{count}.json"));
        let tracker = DurableTracker::new(FileStore::open(&path).expect("a store"), POLICY);
        let keys = keys(count);
        let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
        drop(tracker.record_failures(&failures).expect("recorded"));
        let bytes = std::fs::read(&path).expect("a file");
        let other = directory.join("bare.json");
        let [ours, bare] = by_turns(
            rounds.min(11),
            5,
            [&mut || fail(&tracker, "machine-0"), &mut || {
                replace(&other, &bytes);
            }],
        );
        println!(
            "file of {count} keys, {} bytes: record_failure {ours:?}, bare replacement of as many bytes {bare:?}",
            bytes.len()
        );
    }
}

/// Replaces a file as durably as it has to be, and does nothing else.
fn replace(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).expect("written");
    std::fs::File::open(&temporary)
        .and_then(|file| file.sync_all())
        .expect("synced");
    std::fs::rename(&temporary, path).expect("replaced");
    let directory = path.parent().expect("a directory");
    std::fs::File::open(directory)
        .and_then(|file| file.sync_all())
        .expect("synced");
}

/// A tracker in memory, and another that is flushed every second meanwhile. Means are reported:
/// medians would hide the flushes.
fn behind(directory: &Path, rounds: usize) {
    for count in [1000, 10_000, 100_000] {
        let keys = keys(count);
        let alone = BackoffTracker::new(POLICY);
        let store = SqliteStore::open(directory.join(format!("behind-{count}.db")));
        let behind = WriteBehind::open(store.expect("a store"), BackoffTracker::new(POLICY));
        let behind = Arc::new(behind.expect("opened"));
        let flusher = behind.flush_every(Duration::from_secs(1), |error| panic!("{error}"));
        let trackers = [behind.tracker(), &alone];
        let mut times = [Duration::ZERO; 2];
        // Every key fails some times, a flush or two come in between.
        for _ in 0..rounds * 5 {
            for (tracker, time) in trackers.into_iter().zip(&mut times) {
                let began = Instant::now();
                for n in 0..BEHIND {
                    black_box(tracker.record_failure(keys[n as usize % count].as_str()));
                }
                *time += began.elapsed();
            }
        }
        drop(flusher.expect("a thread"));
        let [with, without] = times.map(|time| time.as_secs_f64() * 1e9 / f64::from(BEHIND));
        let calls = (rounds * 5) as f64;
        println!(
            "{count} keys: record_failure {:.1} ns written behind, {:.1} ns in memory only",
            with / calls,
            without / calls
        );
    }
}

const BEHIND: u32 = 200_000;
