//! P4: a process that is killed loses nothing acknowledged, doubles nothing and tears nothing.
//!
//! Real child processes work on a store and note in a log what they are about to do and what the
//! store acknowledged. They are killed with SIGKILL, at each of their writes to the disk or at any
//! instant. Then the store is opened anew, and has to say what the log says; except that the one
//! thing being done may be done or not, as far as it had come.

#![cfg(all(target_os = "linux", feature = "file", feature = "sqlite"))]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use relent::clock::ManualClock;
use relent::store::blocking::{DurableTracker, Store, Work};
use relent::store::{FileStore, SqliteStore, StartError};
use relent::{Backoff, random};
use tempfile::{TempDir, tempdir};

const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));

/// Enough for a few of each operation.
const OPERATIONS: u64 = 10;
const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Sqlite,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Fail(usize),
    Succeed(usize),
    FailAll,
    StartAndFail(usize),
    StartAndFinish(usize),
    StartAndCancel(usize),
}

impl Operation {
    fn nth(n: u64) -> Operation {
        let draw = random::draw(7, n);
        let key = (draw >> 32) as usize % KEYS.len();
        match draw % 8 {
            0..=2 => Operation::Fail(key),
            3 => Operation::Succeed(key),
            4 => Operation::FailAll,
            5 => Operation::StartAndFail(key),
            6 => Operation::StartAndFinish(key),
            _ => Operation::StartAndCancel(key),
        }
    }
}

/// What is known of the keys: their failures, and whether somebody has died on them.
type Known = [Option<(u32, bool)>; KEYS.len()];

/// What has to be on the disk after each durable step of an operation.
///
/// So much time passes between two operations that no key waits, and no lease lasts.
fn steps(before: Known, operation: Operation) -> Vec<Known> {
    let mut known = before;
    let mut steps = vec![];
    let failures = |known: &Known, key: usize| known[key].map_or(0, |(failures, _)| failures);
    match operation {
        Operation::Fail(key) => known[key] = Some((failures(&known, key) + 1, false)),
        Operation::Succeed(key) => known[key] = None,
        Operation::FailAll => {
            for key in 0..KEYS.len() {
                known[key] = Some((failures(&known, key) + 1, false));
            }
        }
        Operation::StartAndFail(key)
        | Operation::StartAndFinish(key)
        | Operation::StartAndCancel(key) => {
            let failures = failures(&known, key);
            if let Some((_, true)) = known[key] {
                known[key] = Some((failures + 1, false));
            } else {
                known[key] = Some((failures, true));
                steps.push(known);
                known[key] = match operation {
                    Operation::StartAndFail(_) => Some((failures + 1, false)),
                    Operation::StartAndCancel(_) if failures > 0 => Some((failures, false)),
                    _ => None,
                };
            }
        }
    }
    steps.push(known);
    steps
}

fn operate<S: Store>(tracker: &DurableTracker<S>, operation: Operation) {
    let end = |key: usize, end: fn(&Work<S>) -> bool| match tracker.start(KEYS[key]) {
        Ok(work) => assert!(end(&work)),
        Err(StartError::Refused(_)) => {}
        Err(error) => panic!("{error}"),
    };
    match operation {
        Operation::Fail(key) => assert!(tracker.record_failure(KEYS[key], "broken").is_ok()),
        Operation::Succeed(key) => assert!(tracker.record_success(KEYS[key]).is_ok()),
        Operation::FailAll => {
            let all = KEYS.map(|key| (key, "all"));
            assert!(tracker.record_failures(&all).is_ok());
        }
        Operation::StartAndFail(key) => end(key, |work| work.fail("broken").is_ok()),
        Operation::StartAndFinish(key) => end(key, |work| work.finish().is_ok()),
        Operation::StartAndCancel(key) => end(key, |work| work.cancel().is_ok()),
    }
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
    let tracker = DurableTracker::new(store, POLICY);
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

fn work<S: Store>(
    store: S,
    clock: &ManualClock,
    directory: &Path,
    operations: std::ops::Range<u64>,
) {
    let tracker = DurableTracker::new(store, POLICY);
    let mut options = OpenOptions::new();
    let mut log = options
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .unwrap();
    for n in operations {
        clock.set(time_of(n));
        log.write_all(format!("try {n}\n").as_bytes()).unwrap();
        operate(&tracker, Operation::nth(n));
        log.write_all(format!("done {n}\n").as_bytes()).unwrap();
    }
}

fn time_of(operation: u64) -> Duration {
    Duration::from_secs(1_800_000_000 + 1000 * operation)
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
    known: Known,
    next: u64,
}

impl Case {
    fn new(kind: Kind) -> Case {
        Case {
            kind,
            directory: tempdir().unwrap(),
            known: [None; KEYS.len()],
            next: 0,
        }
    }

    fn spawn(&self, count: u64, with: &BTreeMap<&str, String>) -> Child {
        let kind = match self.kind {
            Kind::File => "file",
            Kind::Sqlite => "sqlite",
        };
        let place = format!("{kind}:{}", self.directory.path().display());
        // Of a file's size there is no end, unless the environment says so; then it is an error to
        // write more, not a reason to be killed.
        let limited = "trap '' XFSZ; ulimit -f ${LIMIT:-unlimited}; exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", limited])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("RELENT_CRASH_CHILD", place)
            .env("RELENT_CRASH_FROM", self.next.to_string())
            .env("RELENT_CRASH_COUNT", count.to_string())
            .envs(with)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Compares the store with the log, and takes up from there.
    #[track_caller]
    fn verify(&mut self, context: &str) {
        let log = self.directory.path().join("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let mut lines = text.lines().peekable();
        let mut allowed = vec![self.known];
        while let Some(tried) = lines.next() {
            let n: u64 = tried.strip_prefix("try ").unwrap().parse().unwrap();
            assert_eq!(n, self.next);
            let before = *allowed.last().unwrap();
            let steps = steps(before, Operation::nth(n));
            self.next += 1;
            if lines.next_if_eq(&format!("done {n}").as_str()).is_some() {
                allowed = vec![*steps.last().unwrap()];
            } else {
                allowed.extend(steps);
                assert_eq!(lines.next(), None);
            }
        }
        let found = self.found();
        assert!(
            allowed.contains(&found),
            "{:?}, {context}: found {found:?} instead of {allowed:?}\n{text}",
            self.kind
        );
        self.known = found;
    }

    fn found(&self) -> Known {
        let (path, clock) = (self.directory.path(), clock_at(self.next));
        match self.kind {
            Kind::File => found(open_file(path, clock)),
            Kind::Sqlite => found(open_sqlite(path, clock)),
        }
    }
}

fn found<S: Store>(store: S) -> Known {
    let tracker = DurableTracker::new(store, POLICY);
    let known = KEYS.map(|key| {
        let record = tracker.get(key).unwrap()?;
        Some((record.state.failures, record.lease.is_some()))
    });
    let listed = tracker.due(10).unwrap().len() + tracker.waiting(10).unwrap().len();
    assert_eq!(listed, known.iter().flatten().count());
    known
}

/// The library that kills, compiled. `None` where there is no compiler, except in CI.
fn killer(directory: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_crash/kill_at.c");
    let library = directory.join("kill_at.so");
    let mut compiler = Command::new("cc");
    let command = compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    match command.arg(&library).arg(source).arg("-ldl").status() {
        Ok(status) if status.success() => Some(library),
        _ if std::env::var_os("CI").is_some() => panic!("no C compiler, which CI must have"),
        _ => {
            eprintln!("skipped: there is no C compiler to make the library that kills");
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
                assert_eq!(case.next, OPERATIONS);
                break;
            }
            killed += 1;
            // Another process goes on from there; of many points, after some.
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
        case.next
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
    // There is room again.
    assert!(case.spawn(5, &BTreeMap::new()).wait().unwrap().success());
}

fn waiting<S: Store>(store: S) -> usize {
    DurableTracker::new(store, POLICY)
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
