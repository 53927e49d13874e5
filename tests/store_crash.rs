//! P4: a process that is killed loses nothing acknowledged, doubles nothing and tears nothing.
//!
//! Real child processes work on a store and note in a log what they are about to do and what the
//! store acknowledged. They are killed with SIGKILL, at each of their writes to the disk or at any
//! instant. Then the store is opened anew, and has to agree with the log, except that the one
//! operation under way may be done or not, as far as it had come.

#![cfg(all(target_os = "linux", feature = "file", feature = "sqlite"))]

#[path = "store_crash/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use model::{Known, POLICY, Progress, found, time_of};
use relent::clock::ManualClock;
use relent::random;
use relent::store::blocking::Store;
use relent::store::{DurableTracker, FileStore, Inline, SqliteStore, blocking};
use tempfile::{TempDir, tempdir};

/// Enough for a few of each operation.
const OPERATIONS: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Sqlite,
}

/// Not a test: what the child processes do.
#[test]
fn child() {
    let Ok(place) = std::env::var("RELENT_CRASH_CHILD") else {
        return;
    };
    let (kind, directory) = place.split_once(':').unwrap();
    let first = std::env::var("RELENT_CRASH_FROM").unwrap().parse().unwrap();
    let count: u64 = std::env::var("RELENT_CRASH_COUNT")
        .unwrap()
        .parse()
        .unwrap();
    let directory = Path::new(directory);
    let clock = clock_at(first);
    if count == 0 {
        return match kind {
            "file" => fill(open_file(directory, clock), directory),
            _ => fill(open_sqlite(directory, clock), directory),
        };
    }
    let operations = first..first + count;
    match kind {
        "file" => work(
            open_file(directory, clock.clone()),
            &clock,
            directory,
            operations,
        ),
        _ => work(
            open_sqlite(directory, clock.clone()),
            &clock,
            directory,
            operations,
        ),
    }
}

/// Counts failures of ever more keys until the disk takes no more; then checks that the store goes
/// on, and knows what it acknowledged.
fn fill<S: Store>(store: S, directory: &Path) {
    let tracker = blocking::DurableTracker::new(store, POLICY);
    let long = "x".repeat(500);
    let full = (0..10_000).find(|n| tracker.record_failure(&format!("{n} {long}"), "").is_err());
    let full = full.expect("a disk that is full at some time");
    assert!(full > 0);
    assert!(
        tracker.get(&format!("{full} {long}")).unwrap().is_none(),
        "refused"
    );
    assert_eq!(tracker.waiting(usize::MAX).unwrap().len(), full);
    fs::write(directory.join("log"), full.to_string()).unwrap();
}

fn work<S: Store + Send + Sync>(
    store: S,
    clock: &ManualClock,
    directory: &Path,
    operations: std::ops::Range<u64>,
) {
    let tracker = DurableTracker::new(Inline(store), POLICY);
    let log = directory.join("log");
    let set_clock = async |time| clock.set(time);
    at_once(model::work(&tracker, set_clock, &log, operations));
}

/// The output of a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

fn clock_at(operation: u64) -> ManualClock {
    let clock = ManualClock::new();
    clock.set(time_of(operation));
    clock
}

fn open_file(directory: &Path, clock: ManualClock) -> FileStore<ManualClock> {
    FileStore::with_clock(directory.join("store.json"), clock).unwrap()
}

fn open_sqlite(directory: &Path, clock: ManualClock) -> SqliteStore<ManualClock> {
    let store = SqliteStore::open(directory.join("store.db")).unwrap();
    store.with_clock(clock).with_history()
}

/// A store that children work and die on.
struct Case {
    kind: Kind,
    directory: TempDir,
    progress: Progress,
}

impl Case {
    fn new(kind: Kind) -> Case {
        Case {
            kind,
            directory: tempdir().unwrap(),
            progress: Progress::default(),
        }
    }

    fn spawn(&self, count: u64, with: &BTreeMap<&str, String>) -> Child {
        let kind = match self.kind {
            Kind::File => "file",
            Kind::Sqlite => "sqlite",
        };
        let place = format!("{kind}:{}", self.directory.path().display());
        // The size of a file is unlimited unless the environment says otherwise; then to write more
        // is an error, not a reason to be killed.
        let limited = "trap '' XFSZ; ulimit -f ${LIMIT:-unlimited}; exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", limited])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("RELENT_CRASH_CHILD", place)
            .env("RELENT_CRASH_FROM", self.progress.next.to_string())
            .env("RELENT_CRASH_COUNT", count.to_string())
            .envs(with)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Compares the store with the log, and takes up from there.
    #[track_caller]
    fn verify(&mut self, context: &str) {
        let allowed = self.progress.read(&self.directory.path().join("log"));
        let context = format!("{:?}, {context}", self.kind);
        let found = self.found();
        self.progress.verify(found, &allowed, &context);
    }

    fn found(&self) -> Known {
        fn opened<S: Store + Send + Sync>(store: S) -> Known {
            at_once(found(&DurableTracker::new(Inline(store), POLICY)))
        }
        let (path, clock) = (self.directory.path(), clock_at(self.progress.next));
        match self.kind {
            Kind::File => opened(open_file(path, clock)),
            Kind::Sqlite => opened(open_sqlite(path, clock)),
        }
    }
}

/// Compiles the library that kills. `None` where no compiler can do that, except in CI.
fn killer(directory: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_crash/kill_at.c");
    assert!(source.exists(), "{} is missing", source.display());
    let library = directory.join("kill_at.so");
    let mut compiler = Command::new("cc");
    let command = compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    match command.arg(&library).arg(source).arg("-ldl").status() {
        Ok(status) if status.success() => Some(library),
        _ if std::env::var_os("CI").is_some() => panic!("no C compiler that works, and this is CI"),
        _ => {
            eprintln!(
                "\n*** SKIPPED: no C compiler makes the library that kills; no write was cut short ***\n"
            );
            None
        }
    }
}

fn killed_at_every_write(kind: Kind) {
    let directory = tempdir().unwrap();
    let Some(library) = killer(directory.path()) else {
        return;
    };
    let mut killed = 0;
    for when in ["before", "after"] {
        for nth in 1.. {
            let mut case = Case::new(kind);
            let mut with = BTreeMap::from([
                ("LD_PRELOAD", library.display().to_string()),
                ("KILL_AT", nth.to_string()),
            ]);
            if when == "after" {
                with.insert("KILL_AFTER", String::new());
            }
            let status = case.spawn(OPERATIONS, &with).wait().unwrap();
            case.verify(&format!("killed {when} write {nth}"));
            if status.success() {
                assert_eq!(case.progress.next, OPERATIONS);
                break;
            }
            killed += 1;
            // Another process goes on from there, but not after every point.
            if nth % 8 != 0 {
                continue;
            }
            assert!(case.spawn(3, &BTreeMap::new()).wait().unwrap().success());
            case.verify("afterwards");
        }
    }
    eprintln!("{kind:?}: killed at {killed} points");
    assert!(killed > 4 * OPERATIONS, "only {killed} points");
}

fn killed_at_any_instant(kind: Kind) {
    let times = std::env::var("RELENT_CRASHES").map_or(100, |times| times.parse().unwrap());
    let mut case = Case::new(kind);
    for n in 0..times {
        let mut child = case.spawn(1_000_000, &BTreeMap::new());
        let log = case.directory.path().join("log");
        while !log.exists() {
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_micros(random::draw(3, n) % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        case.verify(&format!("killed for the {n}-th time"));
    }
    eprintln!(
        "{kind:?}: killed {times} times within {} operations",
        case.progress.next
    );
}

fn disk_full(kind: Kind) {
    let case = Case::new(kind);
    let limit = BTreeMap::from([("LIMIT", "256".to_owned())]);
    let status = case.spawn(0, &limit).wait().unwrap();
    assert!(status.success(), "{kind:?}");
    let log = case.directory.path().join("log");
    let acknowledged: usize = fs::read_to_string(&log).unwrap().parse().unwrap();
    fs::remove_file(log).unwrap();
    let path = case.directory.path();
    let kept = match kind {
        Kind::File => waiting(open_file(path, clock_at(0))),
        Kind::Sqlite => waiting(open_sqlite(path, clock_at(0))),
    };
    assert_eq!(kept, acknowledged, "{kind:?}");
    // Now there is room again.
    assert!(case.spawn(5, &BTreeMap::new()).wait().unwrap().success());
}

fn waiting<S: Store>(store: S) -> usize {
    blocking::DurableTracker::new(store, POLICY)
        .waiting(usize::MAX)
        .unwrap()
        .len()
}

#[test]
fn p4_a_full_disk_is_an_error_and_loses_nothing() {
    disk_full(Kind::File);
    disk_full(Kind::Sqlite);
}

#[test]
fn p4_killed_at_every_write_of_a_file() {
    killed_at_every_write(Kind::File);
}

#[test]
fn p4_killed_at_every_write_of_sqlite() {
    killed_at_every_write(Kind::Sqlite);
}

#[test]
fn p4_killed_at_any_instant_with_a_file() {
    killed_at_any_instant(Kind::File);
}

#[test]
fn p4_killed_at_any_instant_with_sqlite() {
    killed_at_any_instant(Kind::Sqlite);
}
