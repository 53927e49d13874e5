//! The provisioner's own code: its logic on a clock that the tests move, and real workers, one of them
//! killed and one stopped.

#![cfg(unix)]

#[path = "../examples/provisioner/home.rs"]
mod home;
#[path = "../examples/provisioner/machines.rs"]
mod machines;
#[cfg(feature = "postgres")]
#[path = "../examples/provisioner/postgres.rs"]
mod postgres;
#[path = "../examples/provisioner/rack.rs"]
mod rack;
#[cfg(feature = "postgres")]
mod servers;
#[path = "../examples/provisioner/siege.rs"]
mod siege;
#[path = "../examples/provisioner/sqlite.rs"]
mod sqlite;
#[path = "../examples/provisioner/worker.rs"]
mod worker;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use machines::{Kind, Machines, Taken};
use relent::clock::ManualClock;
use relent::store::{Event, LeaseLost, Record, StartError};
use sqlite::Sqlite;
use tempfile::{TempDir, tempdir};
use worker::{End, Hardware, LEASE, Trouble, Worker, options};

const NANOSECOND: Duration = Duration::from_nanos(1);

type Outcome = Result<String, Trouble>;
type Script = dyn FnMut(&dyn Taken) -> Outcome;

/// Hardware that does what the test says.
struct Scripted(Box<Script>);

impl Hardware for Scripted {
    fn provision(&mut self, _: Kind, work: &dyn Taken) -> Outcome {
        self.0(work)
    }
}

#[allow(clippy::unnecessary_wraps)] // one script of several
fn fine(_: &dyn Taken) -> Outcome {
    Ok("linux".to_owned())
}

fn broken(_: &dyn Taken) -> Outcome {
    Err(Trouble::Failed("no answer".to_owned()))
}

fn not_now(_: &dyn Taken) -> Outcome {
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
        case.machines(Kind::Recover).add("m1", true).unwrap();
        case
    }

    fn machines(&self, kind: Kind) -> Sqlite<ManualClock> {
        let path = self.directory.path().join("machines.db");
        let options = options("w", kind).clock(self.clock.clone());
        Sqlite::open(&path, kind, self.clock.clone(), options).unwrap()
    }

    fn worker(
        &self,
        kind: Kind,
        hardware: impl FnMut(&dyn Taken) -> Outcome + 'static,
    ) -> Worker<Sqlite<ManualClock>, Scripted> {
        Worker {
            machines: self.machines(kind),
            hardware: Scripted(Box::new(hardware)),
            kind,
        }
    }

    /// What comes of the machine at the next turn of a worker that has just started.
    fn turn(
        &self,
        kind: Kind,
        hardware: impl FnMut(&dyn Taken) -> Outcome + 'static,
    ) -> Option<End> {
        let turn = self.worker(kind, hardware).turn().unwrap()?;
        assert_eq!(turn.0, "m1");
        Some(turn.1)
    }

    fn record(&self, kind: Kind) -> Option<Record> {
        self.machines(kind).tracker.get("m1").unwrap()
    }

    fn os(&self) -> Option<String> {
        let os = "SELECT os FROM machine";
        let connection = self.machines(Kind::Initialize).connection;
        connection.query_row(os, [], |row| row.get(0)).unwrap()
    }

    #[track_caller]
    fn history(&self, kind: Kind, expected: &[Event]) {
        assert_eq!(events(&self.machines(kind), "m1"), expected);
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

fn events(machines: &impl Machines, machine: &str) -> Vec<Event> {
    let history = machines.history(machine).unwrap();
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
    assert_eq!(case.machines(Kind::Recover).left().unwrap(), 0);
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
    // What is initialized does not hold up what is recovered.
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
        assert!(matches!(turn, Some(End::Canceled)));
        assert_eq!(case.record(Kind::Recover), before);
    }
    let [started, failed, canceled] = [Event::Started, Event::Failed, Event::Canceled];
    let expected = [started, canceled, started, failed, started, canceled];
    case.history(Kind::Recover, &expected);
}

#[test]
fn a_machine_that_a_worker_died_on_is_not_stuck() {
    let case = Case::new();
    let mut dead = case.worker(Kind::Initialize, fine);
    let work = dead.machines.take().unwrap();
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
        // And has to begin anew.
        assert!(first.machines.session().expired());
        let refused = first.machines.tracker.start("m1").map(drop);
        assert!(matches!(refused, Err(StartError::SessionExpired)));
        first.machines.renew().unwrap();
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
    if let Ok(home) = std::env::var("PROVISIONER_HOME") {
        home::work(
            Path::new(&home),
            &std::env::var("PROVISIONER_NAME").unwrap(),
        )
        .unwrap();
    }
}

#[test]
fn real_workers_one_killed_and_one_stopped() {
    let directory = tempdir().unwrap();
    let home = directory.path();
    besieged(home, |kind| home::sqlite(home, "test", kind).unwrap());
}

#[cfg(feature = "postgres")]
#[test]
fn real_workers_over_postgres_one_killed_and_one_stopped() {
    let Some(server) = servers::postgres::Server::new(&["fsync=off"]) else {
        return;
    };
    let directory = tempdir().unwrap();
    let home = directory.path();
    let database = home::postgres::Database::make(home, &server).unwrap();
    besieged(home, |kind| database.open("test", kind).unwrap());
}

fn besieged<M: Machines>(home: &Path, open: impl Fn(Kind) -> M) {
    siege::set_up(home, &open(Kind::Initialize)).unwrap();
    let program = std::env::current_exe().unwrap();
    let spawn = |name: &str| {
        let mut command = Command::new(&program);
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env("PROVISIONER_HOME", home);
        command.env("PROVISIONER_NAME", name);
        command.stdout(Stdio::null()).spawn()
    };
    let victims = siege::siege(home, &open(Kind::Initialize), spawn).unwrap();

    let left = open(Kind::Initialize).left().unwrap();
    assert_eq!(left, 0, "no machine is stuck");
    for kind in Kind::ALL {
        let machines = open(kind);
        for n in 1..=8 {
            let machine = format!("m{n}");
            let events = events(&machines, &machine);
            for pair in events.chunks(2) {
                let in_order = matches!(pair, [Event::Started, end] if *end != Event::Started);
                assert!(in_order, "{machine}, {}: {events:?}", kind.name());
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
        let events = events(&open(kind), &machine);
        assert!(events.contains(&Event::Expired), "{machine}: {events:?}");
    }

    // None was worked on twice at once: once a later worker has given an order, an earlier gives none;
    // the one that tried is the one that was stopped.
    let rack = siege::rack(home).unwrap().connection;
    let count = |which: &str| -> i64 {
        let count = format!("SELECT count(*) FROM orders {which}");
        rack.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    let overtaken =
        "AS late WHERE taken AND EXISTS (SELECT 1 FROM orders WHERE machine = late.machine
                     AND kind = late.kind AND token > late.token AND id < late.id)";
    assert_eq!(count(overtaken), 0);
    assert_eq!(count("WHERE NOT taken AND worker <> 'w2'"), 0);
    assert_eq!(count("WHERE NOT taken"), 1, "it did try");
}
