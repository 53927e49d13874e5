//! The provisioner's own code: its logic on a clock that the tests move, and real workers, one of
//! them killed and one stopped.

#![cfg(unix)]

#[expect(dead_code, reason = "its story is told by running it")]
#[path = "../examples/provisioner.rs"]
mod provisioner;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use provisioner::database::{Database, Error, Sqlite};
#[cfg(all(feature = "postgres", feature = "tokio"))]
use provisioner::postgres::Postgres;
use provisioner::rack::{Hardware, Job, Rack, Trouble};
use provisioner::{End, Kind, LEASE, TABLE, Worker, options, set_up, siege, work};
use relent::clock::{ManualClock, MonotonicClock};
use relent::store::{Event, LeaseLost, Record, StartError};
use tempfile::{TempDir, tempdir};

const NANOSECOND: Duration = Duration::from_nanos(1);

type Outcome = Result<String, Trouble>;
type Script = dyn FnMut(&Job<'_>) -> Outcome;

/// Hardware that does what the test says.
struct Scripted(Box<Script>);

impl Hardware for Scripted {
    fn provision(&mut self, job: &Job<'_>) -> Outcome {
        self.0(job)
    }
}

#[allow(clippy::unnecessary_wraps)] // one script of several
fn fine(_: &Job<'_>) -> Outcome {
    Ok("linux".to_owned())
}

fn broken(_: &Job<'_>) -> Outcome {
    Err(Trouble::Failed("no answer".to_owned()))
}

fn not_now(_: &Job<'_>) -> Outcome {
    Err(Trouble::NotNow)
}

/// A database with one machine that is down, too.
struct Case {
    directory: TempDir,
    clock: ManualClock,
}

impl Case {
    fn new() -> Case {
        let clock = ManualClock::new();
        clock.set(Duration::from_secs(1_800_000_000));
        let case = Case {
            directory: tempdir().unwrap(),
            clock,
        };
        let mut database = case.database();
        database.query(TABLE, &[]).unwrap();
        let add = "INSERT INTO machine (id, down) VALUES ('m1', TRUE)";
        database.query(add, &[]).unwrap();
        case
    }

    fn database(&self) -> Sqlite<ManualClock> {
        Sqlite::open(self.directory.path(), self.clock.clone()).unwrap()
    }

    fn worker(
        &self,
        kind: Kind,
        hardware: impl FnMut(&Job<'_>) -> Outcome + 'static,
    ) -> Worker<Sqlite<ManualClock>, Scripted> {
        let options = options("w", kind).clock(self.clock.clone());
        Worker::new(self.database(), Scripted(Box::new(hardware)), kind, options).unwrap()
    }

    /// How the machine's work ends in the next turn of a worker that has just started.
    fn turn(&self, kind: Kind, hardware: impl FnMut(&Job<'_>) -> Outcome + 'static) -> Option<End> {
        let turn = self.worker(kind, hardware).turn().unwrap()?;
        assert_eq!(turn.0, "m1");
        Some(turn.1)
    }

    fn record(&self, kind: Kind) -> Option<Record> {
        self.worker(kind, fine).tracker.get("m1").unwrap()
    }

    fn os(&self) -> Option<String> {
        let os = "SELECT os FROM machine WHERE os IS NOT NULL";
        self.database().query(os, &[]).unwrap()
    }

    #[track_caller]
    fn history(&self, kind: Kind, expected: &[Event]) {
        assert_eq!(events(&self.database(), kind, "m1"), expected);
    }

    fn wait(&self, kind: Kind) {
        let until = self.record(kind).unwrap().until;
        let since_1970 = until.duration_since(UNIX_EPOCH).unwrap();
        assert!(self.turn(kind, fine).is_none(), "it backs off");
        self.clock.set(since_1970.saturating_sub(NANOSECOND));
        assert!(self.turn(kind, fine).is_none(), "it still does");
        self.clock.set(since_1970);
    }
}

fn events(database: &impl Database, kind: Kind, machine: &str) -> Vec<Event> {
    let history = database.history(kind.name(), machine).unwrap();
    history.iter().map(|entry| entry.event).collect()
}

#[test]
fn a_success_is_noted_and_ends_the_lease() {
    let case = Case::new();
    let turn = case.turn(Kind::Initialize, fine);
    assert!(matches!(turn, Some(End::Finished)));
    assert_eq!(case.os().as_deref(), Some("linux"));
    assert_eq!(case.record(Kind::Initialize), None);
    case.history(Kind::Initialize, &[Event::Started, Event::Finished]);
    assert!(case.turn(Kind::Initialize, fine).is_none(), "nothing left");
    assert!(matches!(
        case.turn(Kind::Recover, fine),
        Some(End::Finished)
    ));
    let left = "SELECT id FROM machine WHERE os IS NULL OR down";
    assert_eq!(case.database().query(left, &[]).unwrap(), None);
}

#[test]
fn failures_keep_their_cause_and_wait_longer_and_longer_over_restarts() {
    let case = Case::new();
    // Each turn is that of a worker that has just started. 300 × 1.2ⁿ, exactly, up to the maximum.
    let mut exact = 300_000_000_u64;
    for failures in 1..=30 {
        let turn = case.turn(Kind::Initialize, broken);
        assert!(matches!(turn, Some(End::Failed(why, _)) if why == "no answer"));
        let record = case.record(Kind::Initialize).unwrap();
        assert_eq!(
            (record.state.failures, &*record.cause),
            (failures, "no answer")
        );
        assert_eq!(record.state.interval, Duration::from_nanos(exact));
        assert_eq!(record.lease, None);
        exact = ((exact * 12 + 5) / 10).min(14_400_000_000);
        let wait = record.until.duration_since(record.since).unwrap();
        let least = record.state.interval * 9 / 10;
        assert!(wait >= least && wait <= Duration::from_millis(14_400));
        case.wait(Kind::Initialize);
    }
    assert_eq!(exact, 14_400_000_000);
    // Backing off from initializing does not hold up recovering.
    assert!(matches!(
        case.turn(Kind::Recover, fine),
        Some(End::Finished)
    ));
    assert!(matches!(
        case.turn(Kind::Initialize, fine),
        Some(End::Finished)
    ));
    assert_eq!(case.record(Kind::Initialize), None);
}

#[test]
fn a_cancel_leaves_the_backoff_as_it_was() {
    let case = Case::new();
    for failing in [false, true] {
        if failing {
            assert!(case.turn(Kind::Recover, broken).is_some());
            case.wait(Kind::Recover);
        }
        let before = case.record(Kind::Recover);
        assert_eq!(before.is_some(), failing);
        let turn = case.turn(Kind::Recover, not_now);
        assert!(matches!(turn, Some(End::Cancelled)));
        assert_eq!(case.record(Kind::Recover), before);
    }
    let [started, failed, cancelled] = [Event::Started, Event::Failed, Event::Cancelled];
    let expected = [started, cancelled, started, failed, started, cancelled];
    case.history(Kind::Recover, &expected);
}

#[test]
fn a_machine_that_a_worker_died_on_is_not_stuck() {
    let case = Case::new();
    let mut dead = case.worker(Kind::Initialize, fine);
    let work = dead.take().unwrap();
    assert!(work.is_some());
    drop((work, dead));
    case.clock.advance(LEASE.saturating_sub(NANOSECOND));
    assert!(case.turn(Kind::Initialize, fine).is_none(), "held");
    case.clock.advance(NANOSECOND);
    assert!(
        case.turn(Kind::Initialize, fine).is_none(),
        "has just failed"
    );
    let record = case.record(Kind::Initialize).unwrap();
    assert_eq!((record.state.failures, record.lease), (1, None));
    case.wait(Kind::Initialize);
    assert!(matches!(
        case.turn(Kind::Initialize, fine),
        Some(End::Finished)
    ));
    let expected = [
        Event::Started,
        Event::Expired,
        Event::Started,
        Event::Finished,
    ];
    case.history(Kind::Initialize, &expected);
}

#[test]
fn a_worker_that_comes_too_late_writes_nothing() {
    for late in [fine, broken, not_now] {
        let case = Case::new();
        let (clock, mut second) = (case.clock.clone(), case.worker(Kind::Initialize, fine));
        let mut first = case.worker(Kind::Initialize, move |work| {
            assert!(second.turn().unwrap().is_none(), "one at a time");
            clock.advance(LEASE);
            assert!(
                second.turn().unwrap().is_none(),
                "expiry counts as a failure"
            );
            clock.advance(Duration::from_secs(1));
            let turn = second.turn().unwrap();
            assert!(matches!(turn, Some((_, End::Finished))));
            late(work).map(|_| "late".to_owned())
        });
        let turn = first.turn().unwrap();
        let refused = matches!(turn, Some((_, End::TooLate(LeaseLost::Ended))));
        assert!(refused, "{turn:?}");
        assert_eq!(case.os().as_deref(), Some("linux"));
        assert_eq!(case.record(Kind::Initialize), None);
        // And the worker has to begin a new session.
        assert!(first.tracker.session().expired());
        let refused = first.tracker.start("m1").map(drop);
        assert!(matches!(refused, Err(StartError::SessionExpired)));
        first.keep_alive().unwrap();
        assert!(first.turn().unwrap().is_none());
    }
}

#[test]
fn what_cannot_be_noted_has_failed_and_is_not_stuck() {
    let case = Case::new();
    let turn = case.turn(Kind::Recover, |_| Ok("nonsense".to_owned()));
    assert!(matches!(turn, Some(End::Failed(why, _)) if why.contains("CHECK")));
    let record = case.record(Kind::Recover).unwrap();
    assert_eq!((record.state.failures, record.lease), (1, None));
    case.history(Kind::Recover, &[Event::Started, Event::Failed]);
    case.wait(Kind::Recover);
    assert!(matches!(
        case.turn(Kind::Recover, fine),
        Some(End::Finished)
    ));
}

/// Not a test: what the child processes do.
#[test]
fn child() {
    let Ok(home) = std::env::var("PROVISIONER_HOME") else {
        return;
    };
    let (home, name) = (Path::new(&home), std::env::var("PROVISIONER_NAME").unwrap());
    #[cfg(all(feature = "postgres", feature = "tokio"))]
    if Postgres::is_at(home) {
        return work(home, &name, || Postgres::find(home)).unwrap();
    }
    work(home, &name, || Sqlite::open(home, MonotonicClock)).unwrap();
}

#[test]
fn real_workers_one_killed_and_one_stopped() {
    let home = tempdir().unwrap();
    besieged(home.path(), Sqlite::open(home.path(), MonotonicClock));
}

#[cfg(all(feature = "postgres", feature = "tokio"))]
#[test]
fn real_workers_over_postgres_one_killed_and_one_stopped() {
    let home = tempdir().unwrap();
    // If it is not installed, this has said so loudly, or failed in CI.
    let Some(_server) = Postgres::start(home.path()).unwrap() else {
        return;
    };
    besieged(home.path(), Postgres::find(home.path()));
}

fn besieged(home: &Path, database: Result<impl Database, Error>) {
    let mut database = database.unwrap();
    set_up(home, &mut database).unwrap();
    let program = std::env::current_exe().unwrap();
    let spawn = |name: &str| {
        let mut command = Command::new(&program);
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env("PROVISIONER_HOME", home);
        command.env("PROVISIONER_NAME", name);
        command.stdout(Stdio::null()).spawn()
    };
    // It ends once no machine is left: none is stuck.
    let victims = siege(home, &mut database, spawn).unwrap();

    for kind in [Kind::Initialize, Kind::Recover] {
        for n in 1..=8 {
            let machine = format!("m{n}");
            let events = events(&database, kind, &machine);
            for pair in events.chunks(2) {
                let in_order = matches!(pair, [Event::Started, end] if *end != Event::Started);
                assert!(in_order, "{machine}, {kind:?}: {events:?}");
            }
            assert!(events.is_empty() || events.ends_with(&[Event::Finished]));
            let finished = events.iter().filter(|event| **event == Event::Finished);
            let needed = kind == Kind::Initialize || n % 4 == 0;
            assert_eq!(
                finished.count(),
                usize::from(needed),
                "{machine}: {events:?}"
            );
        }
    }
    for (machine, kind) in victims {
        let history = database.history(&kind, &machine).unwrap();
        let died = history.iter().any(|entry| entry.event == Event::Expired);
        assert!(died, "{machine}: {history:?}");
    }

    // None was worked on twice at once: once a later worker has given an order, no earlier one
    // gives any; the only worker that tried is the one that was stopped.
    let rack = Rack::open(home).unwrap();
    let overtaken = "SELECT count(*) FROM orders AS late WHERE taken AND EXISTS
                     (SELECT 1 FROM orders WHERE machine = late.machine
                      AND kind = late.kind AND token > late.token AND id < late.id)";
    let overtaken: i64 = rack
        .connection
        .query_row(overtaken, [], |row| row.get(0))
        .unwrap();
    assert_eq!(overtaken, 0);
    let (refused, whose) = rack.refused().unwrap();
    assert!(refused > 0 && whose == "w2", "{whose} {refused} times");
}
