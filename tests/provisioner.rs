//! The provisioner's own code: its logic on a clock that the tests move, and real workers, one of them
//! killed and one stopped.

#![cfg(unix)]

#[path = "../examples/provisioner/machines.rs"]
mod machines;
#[path = "../examples/provisioner/rack.rs"]
mod rack;
#[path = "../examples/provisioner/siege.rs"]
mod siege;
#[path = "../examples/provisioner/worker.rs"]
mod worker;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use machines::{Kind, Machines, Taken};
use rack::Rack;
use relent::clock::{Clock, ManualClock, MonotonicClock};
use relent::store::{Event, LeaseLost, Record, StartError};
use tempfile::{TempDir, tempdir};
use worker::{End, Hardware, LEASE, Trouble, Worker};

const NANOSECOND: Duration = Duration::from_nanos(1);

type Outcome = Result<String, Trouble>;

type Script = dyn FnMut(&Taken<ManualClock>) -> Outcome;

/// Hardware that does what the test says.
struct Scripted(Box<Script>);

impl Hardware<ManualClock> for Scripted {
    fn provision(&mut self, _: Kind, work: &Taken<ManualClock>) -> Outcome {
        self.0(work)
    }
}

#[allow(clippy::unnecessary_wraps)] // one script of several
fn fine(_: &Taken<ManualClock>) -> Outcome {
    Ok("linux".to_owned())
}

fn broken(_: &Taken<ManualClock>) -> Outcome {
    Err(Trouble::Failed("no answer".to_owned()))
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
        let insert = "INSERT INTO machine (id, down) VALUES ('m1', TRUE)";
        case.machines().connection.execute(insert, []).unwrap();
        case
    }

    fn machines(&self) -> Machines<ManualClock> {
        let path = self.directory.path().join("machines.db");
        Machines::open(&path, self.clock.clone()).unwrap()
    }

    fn worker(
        &self,
        kind: Kind,
        hardware: impl FnMut(&Taken<ManualClock>) -> Outcome + 'static,
    ) -> Worker<ManualClock, Scripted> {
        let hardware = Scripted(Box::new(hardware));
        Worker::new("w", kind, self.machines(), self.clock.clone(), hardware)
    }

    /// What comes of the machine at the next turn of a worker that has just started.
    fn turn(
        &self,
        kind: Kind,
        hardware: impl FnMut(&Taken<ManualClock>) -> Outcome + 'static,
    ) -> Option<End> {
        let turn = self.worker(kind, hardware).turn().unwrap()?;
        assert_eq!(turn.0, "m1");
        Some(turn.1)
    }

    fn record(&self, kind: Kind) -> Option<Record> {
        let tracker = self.machines().tracker(kind, kind.backoff().into());
        tracker.get("m1").unwrap()
    }

    fn os(&self) -> Option<String> {
        let os = "SELECT os FROM machine";
        let connection = self.machines().connection;
        connection.query_row(os, [], |row| row.get(0)).unwrap()
    }

    #[track_caller]
    fn history(&self, kind: Kind, expected: &[Event]) {
        assert_eq!(events(&self.machines(), kind.name(), "m1"), expected);
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

/// In the order in which they happened.
fn events<C: Clock + Clone>(machines: &Machines<C>, kind: &str, machine: &str) -> Vec<Event> {
    let store = machines.store.namespace(kind).unwrap();
    let history = store.history(machine, 1000).unwrap();
    history.iter().rev().map(|entry| entry.event).collect()
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
    assert_eq!(case.machines().left().unwrap(), 0);
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
        let turn = case.turn(Kind::Recover, |_| Err(Trouble::NotNow));
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
    let work = dead.machines.take(Kind::Initialize, &dead.tracker).unwrap();
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
    for late in [fine, broken, |_: &_| Err(Trouble::NotNow)] {
        let case = Case::new();
        let (clock, mut second) = (case.clock.clone(), case.worker(Kind::Initialize, fine));
        let mut first = case.worker(Kind::Initialize, move |work| {
            assert!(second.turn().unwrap().is_none(), "one at a time");
            assert!(!work.expired());
            clock.advance(LEASE);
            assert!(work.expired());
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
        assert!(first.tracker.session().expired());
        let refused = first.tracker.start("m1").map(drop);
        assert!(matches!(refused, Err(StartError::SessionExpired)));
        first.renew();
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
        siege::work(
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
    siege::set_up(home).unwrap();
    let program = std::env::current_exe().unwrap();
    let spawn = |name: &str| {
        let mut command = Command::new(&program);
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env("PROVISIONER_HOME", home);
        command.env("PROVISIONER_NAME", name);
        command.stdout(Stdio::null()).spawn()
    };
    let victims = siege::siege(home, spawn).unwrap();

    let machines = Machines::open(&home.join("machines.db"), MonotonicClock).unwrap();
    assert_eq!(machines.left().unwrap(), 0, "no machine is stuck");
    for kind in Kind::ALL {
        let tracker = machines.tracker(kind, kind.backoff().into());
        let kept = [tracker.due(9).unwrap(), tracker.waiting(9).unwrap()].concat();
        assert_eq!(
            kept,
            [],
            "{}: leases and backoff end with success",
            kind.name()
        );
        for n in 1..=8 {
            let machine = format!("m{n}");
            let events = events(&machines, kind.name(), &machine);
            for pair in events.chunks(2) {
                let in_order = matches!(pair, [Event::Started, end] if *end != Event::Started);
                assert!(in_order, "{machine}, {}: {events:?}", kind.name());
            }
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
        let events = events(&machines, &kind, &machine);
        assert!(events.contains(&Event::Expired), "{machine}: {events:?}");
    }

    // None was worked on twice at once: once a later worker has given an order, an earlier gives none;
    // the one that tried is the one that was stopped.
    let rack = Rack::open(&home.join("rack.db")).unwrap().connection;
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
