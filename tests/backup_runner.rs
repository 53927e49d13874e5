//! The backup runner's own code: its logic on a clock that the tests move, and real runners over real
//! services, killed at every point of the journal.

#![cfg(unix)]

#[path = "../examples/backup_runner/journal.rs"]
mod journal;
#[path = "../examples/backup_runner/runner.rs"]
mod runner;
#[path = "../examples/backup_runner/world.rs"]
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use journal::{CHECKS_EXPIRE, Kind, Operation};
use relent::clock::{ManualClock, MonotonicClock};
use relent::store::{self, FileError};
use runner::{Ended, Error, Failure, Halt, Observed, RETRY, Runner, Why, World};
use tempfile::{TempDir, tempdir};
use world::Shell;

const RUN: &str = "nightly";
const TARGETS: [&str; 2] = ["shop", "mail"];

/// A world that does as it is told, and keeps a diary.
#[derive(Clone, Default)]
struct Fake(Rc<Diary>);

#[derive(Default)]
struct Diary {
    clock: ManualClock,
    performed: RefCell<Vec<String>>,
    points: RefCell<Vec<String>>,
    said: RefCell<Vec<String>>,
    slept: RefCell<Vec<Duration>>,
    /// How often an operation fails still, and whether for good; also when its effect happened.
    fails: RefCell<BTreeMap<&'static str, (u32, bool)>>,
    happens_all_the_same: Cell<bool>,
    unclear: Cell<Option<&'static str>>,
    panic_at: RefCell<Option<String>>,
}

impl World for Fake {
    fn perform(&self, operation: &Operation) -> Result<String, Failure> {
        let key = operation.to_string();
        let mut fails = self.0.fails.borrow_mut();
        let failure = fails.get_mut(key.as_str()).filter(|(left, _)| *left > 0);
        let Some((left, permanent)) = failure else {
            self.0.performed.borrow_mut().push(key);
            return Ok("fine".to_owned());
        };
        *left -= 1;
        if self.0.happens_all_the_same.get() {
            self.0.performed.borrow_mut().push(key);
        }
        Err(Failure {
            cause: "broken".to_owned(),
            permanent: *permanent,
        })
    }

    fn observe(&self, operation: &Operation) -> Observed {
        let key = operation.to_string();
        assert!(!operation.kind.only_looks(), "{key} needs no looking after");
        if self.0.unclear.get() == Some(key.as_str()) {
            return Observed::Unknown("fog".to_owned());
        }
        let performed = self.0.performed.borrow();
        // A target that was started again has to be stopped again.
        let undone = match operation.kind {
            Kind::Stop => Some(key.replace("stop", "start")),
            Kind::Start => Some(key.replace("start", "stop")),
            _ => None,
        };
        let last = |key: &String| performed.iter().rposition(|done| done == key);
        let undone = undone.and_then(|undone| last(&undone));
        match last(&key) {
            Some(done) if undone.is_none_or(|undone| undone < done) => {
                Observed::Done("seen".to_owned())
            }
            _ => Observed::NotDone,
        }
    }

    fn sleep(&self, wait: Duration) {
        self.0.slept.borrow_mut().push(wait);
        self.0.clock.advance(wait);
    }

    fn say(&self, line: &str) {
        self.0.said.borrow_mut().push(line.to_owned());
    }

    fn reached(&self, point: &str) {
        self.0.points.borrow_mut().push(point.to_owned());
        let dies = self
            .0
            .panic_at
            .borrow_mut()
            .take_if(|at| at == point)
            .is_some();
        assert!(!dies, "killed at {point}");
    }
}

/// A run in the fake world: runners come and go.
struct Case {
    fake: Fake,
    directory: TempDir,
}

impl Case {
    fn new() -> Case {
        let fake = Fake::default();
        fake.0.clock.set(Duration::from_secs(1_800_000_000));
        Case {
            fake,
            directory: tempdir().unwrap(),
        }
    }

    fn open(&self) -> Result<Runner<Fake, ManualClock>, Error> {
        self.open_as(RUN)
    }

    fn open_as(&self, run: &str) -> Result<Runner<Fake, ManualClock>, Error> {
        let file = self.directory.path().join("journal.json");
        let clock = self.fake.0.clock.clone();
        Runner::open(&file, clock, run, &TARGETS, self.fake.clone())
    }

    fn run(&self) -> Result<Ended, Error> {
        self.open()?.run(None)
    }

    fn fail(&self, key: &'static str, times: u32, permanent: bool) {
        let mut fails = self.fake.0.fails.borrow_mut();
        fails.insert(key, (times, permanent));
    }

    fn performed(&self) -> Vec<String> {
        self.fake.0.performed.borrow().clone()
    }

    fn summary(&self) -> String {
        self.open().unwrap().summary().unwrap()
    }

    #[track_caller]
    fn halts(&self) -> Halt {
        match self.run() {
            Err(Error::Halted(halt)) => halt,
            other => panic!("{other:?} instead of a halt"),
        }
    }
}

const ALL: [&str; 15] = [
    "check of the vault",
    "shop: check",
    "mail: check",
    "shop: stop",
    "shop: snapshot",
    "shop: start",
    "shop: download",
    "shop: verify",
    "shop: finalize",
    "mail: stop",
    "mail: snapshot",
    "mail: start",
    "mail: download",
    "mail: verify",
    "mail: finalize",
];

#[test]
fn all_goes_well_and_a_finished_run_does_nothing() {
    let case = Case::new();
    assert_eq!(case.run().unwrap(), Ended::Complete);
    assert_eq!(case.performed(), ALL);
    assert_eq!(case.run().unwrap(), Ended::Complete);
    assert_eq!(case.performed(), ALL);
    assert_eq!(case.summary(), "{Completed: 15}; next: nothing");
}

#[test]
fn steps_are_counted_and_the_summary_says_where_it_stands() {
    let case = Case::new();
    let mut runner = case.open().unwrap();
    assert_eq!(runner.run(Some(0)).unwrap(), Ended::MaxSteps);
    assert_eq!(case.performed(), ALL[..3]);
    assert_eq!(runner.run(Some(2)).unwrap(), Ended::MaxSteps);
    assert_eq!(case.performed(), ALL[..5]);
    drop(runner);
    let expected = "{Ready: 10, Completed: 5}; next: shop: start; restart required: shop";
    assert_eq!(case.summary(), expected);
}

#[test]
fn a_second_runner_is_refused_and_another_run_too() {
    let case = Case::new();
    let first = case.open().unwrap();
    let second = case.open().map(drop);
    let locked = matches!(
        &second,
        Err(Error::Store(store::Error::Store(FileError::Locked { .. })))
    );
    assert!(locked, "{second:?}");
    drop(first);
    assert!(matches!(
        case.open_as("other").map(drop),
        Err(Error::OtherPlan)
    ));
    assert_eq!(case.performed(), [""; 0]);
}

#[test]
fn failures_are_tried_again_later_and_later_then_given_up() {
    let case = Case::new();
    case.fail("shop: download", 3, false);
    case.run().unwrap();
    assert_eq!(case.performed(), ALL);
    let slept = case.fake.0.slept.borrow().clone();
    let intervals = [200, 400, 800].map(Duration::from_millis);
    assert_eq!(slept.len(), 3);
    for (slept, interval) in slept.iter().zip(intervals) {
        assert!(*slept <= interval, "{slept:?} of {interval:?}");
    }

    let case = Case::new();
    case.fail("shop: download", 1000, false);
    for _ in 0..2 {
        assert_eq!(case.halts().why, Why::GaveUp("broken".to_owned()));
    }
    let attempts = 1000 - case.fake.0.fails.borrow()["shop: download"].0;
    assert_eq!(Some(attempts), RETRY.give_up.after_failures);
    // Until somebody says so.
    case.fail("shop: download", 0, false);
    let mut runner = case.open().unwrap();
    runner.again().unwrap();
    assert_eq!(runner.run(None).unwrap(), Ended::Complete);
    assert_eq!(case.performed(), ALL);
}

#[test]
fn a_wait_outlives_the_runner() {
    let case = Case::new();
    case.fail("shop: download", 1, false);
    *case.fake.0.panic_at.borrow_mut() = Some("after receipt, shop: download".to_owned());
    killed(&case);
    let slept = || case.fake.0.slept.borrow().len();
    assert_eq!(slept(), 0);
    case.run().unwrap();
    assert_eq!(slept(), 1);
}

#[test]
fn what_failed_and_happened_all_the_same_is_not_done_again() {
    let case = Case::new();
    case.fail("shop: download", 1, false);
    case.fake.0.happens_all_the_same.set(true);
    case.run().unwrap();
    assert_eq!(case.performed(), ALL);
}

#[test]
fn a_target_does_not_stay_stopped_after_a_failure() {
    let case = Case::new();
    case.fail("shop: snapshot", 1, true);
    let halt = case.halts();
    assert_eq!(halt.operation, "shop: snapshot");
    assert!(matches!(halt.restarted, Some(Ok(target)) if target == "shop"));
    let mut expected = ALL[..4].to_vec();
    expected.push("shop: start");
    assert_eq!(case.performed(), expected);
    // It is not stopped for what will not be tried.
    assert!(case.halts().restarted.is_none());
    assert_eq!(case.performed(), expected);
    let summary = case.summary();
    assert_eq!(
        summary,
        "{Ready: 11, Failed: 1, Completed: 3}; next: shop: snapshot"
    );
    // To be tried, it has to be.
    let mut runner = case.open().unwrap();
    runner.again().unwrap();
    runner.run(None).unwrap();
    expected.extend(&ALL[3..]);
    assert_eq!(case.performed(), expected);
}

#[test]
fn a_target_that_cannot_be_started_again_is_told_of() {
    let case = Case::new();
    case.fail("shop: snapshot", 1, true);
    case.fail("shop: start", 1000, false);
    let halt = case.halts();
    let both = Error::Halted(halt).to_string();
    let expected = "shop: snapshot: given up: broken; and it cannot be started again: \
                    shop: start: given up: broken";
    assert_eq!(both, expected);
    assert!(case.summary().ends_with("restart required: shop"));
}

#[test]
fn what_is_unknown_is_never_tried_again_but_contained_and_settled() {
    let case = Case::new();
    *case.fake.0.panic_at.borrow_mut() = Some("effect of shop: snapshot".to_owned());
    killed(&case);
    case.fake.0.unclear.set(Some("shop: snapshot"));
    let halt = case.halts();
    assert_eq!(halt.why, Why::OutcomeUnknown("fog".to_owned()));
    assert!(matches!(halt.restarted, Some(Ok(target)) if target == "shop"));
    for _ in 0..3 {
        assert_eq!(case.halts().why, Why::OutcomeUnknown("fog".to_owned()));
    }
    let mut runner = case.open().unwrap();
    assert!(matches!(
        runner.settle("shop: stop", true),
        Err(Error::NotPending)
    ));
    runner.settle("shop: snapshot", true).unwrap();
    runner.run(None).unwrap();
    // Started early: there is no need to stop and start it any more.
    assert_eq!(case.performed(), ALL);
    drop(runner);
    assert_eq!(case.summary(), "{Completed: 13, Skipped: 2}; next: nothing");
}

#[test]
fn checks_expire() {
    for (pause, repeated) in [(CHECKS_EXPIRE.mul_f64(0.99), 0), (CHECKS_EXPIRE, 2)] {
        let case = Case::new();
        let mut runner = case.open().unwrap();
        runner.run(Some(6)).unwrap();
        case.fake.0.clock.advance(pause);
        runner.run(Some(1)).unwrap();
        let checks = case.performed().split_off(9);
        // Those that concern what comes next, before it comes.
        let expected = ["check of the vault", "mail: check"];
        assert_eq!(checks[..repeated], expected[..repeated], "{pause:?}");
        assert_eq!(checks[repeated..], ["mail: stop"]);
    }
    // A target that is down is started again first of all.
    let case = Case::new();
    let mut runner = case.open().unwrap();
    runner.run(Some(2)).unwrap();
    case.fake.0.clock.advance(CHECKS_EXPIRE);
    case.fail("shop: check", 1, true);
    let halted = runner.run(None);
    assert!(matches!(halted, Err(Error::Halted(halt)) if halt.operation == "shop: check"));
    let performed = case.performed();
    assert_eq!(performed[..6], ALL[..6]);
    assert_eq!(performed[6..], ["check of the vault"]);
}

#[test]
fn a_crash_counts_as_a_failure() {
    let case = Case::new();
    for _ in 0..5 {
        *case.fake.0.panic_at.borrow_mut() = Some("after pending, shop: stop".to_owned());
        killed(&case);
    }
    let died = "the runner died before it was done".to_owned();
    assert_eq!(case.halts().why, Why::GaveUp(died));
    assert_eq!(case.performed(), ALL[..3]);
}

/// Runs until the runner dies, at the point that was set.
#[track_caller]
fn killed(case: &Case) {
    let run = std::panic::AssertUnwindSafe(|| case.run().map(drop));
    assert!(std::panic::catch_unwind(run).is_err());
}

/// Every point that a run comes to, where all goes well: before and after each write of the journal,
/// and after each effect.
fn points() -> Vec<String> {
    let case = Case::new();
    case.run().unwrap();
    let points = case.fake.0.points.borrow().clone();
    let writes = points.iter().filter(|point| point.starts_with("before"));
    assert_eq!(writes.count(), 1 + 2 * ALL.len());
    assert_eq!(points.len(), 2 * (1 + 2 * ALL.len()) + ALL.len());
    points
}

#[test]
fn killed_at_every_point_nothing_is_done_twice() {
    for point in points() {
        let case = Case::new();
        *case.fake.0.panic_at.borrow_mut() = Some(point.clone());
        killed(&case);
        case.run().unwrap();
        let effects = case.performed();
        let once = effects.iter().filter(|key| !only_looks(key));
        let expected = ALL.iter().filter(|key| !only_looks(key));
        assert!(once.eq(expected), "killed {point}: {effects:?}");
        let case = case.open().unwrap();
        assert_eq!(case.summary().unwrap(), "{Completed: 15}; next: nothing");
    }
}

fn only_looks(key: &str) -> bool {
    key.contains("check") || key.contains("verify")
}

/// Not a test: what the child processes do.
#[test]
fn child() {
    let Ok(home) = std::env::var("BACKUP_RUNNER_HOME") else {
        return;
    };
    let world = Shell::new(Path::new(&home), RUN, std::env::var("DIE_AT").ok());
    let journal = Path::new(&home).join("vault/journal.json");
    let mut runner = Runner::open(&journal, MonotonicClock, RUN, &TARGETS, world).unwrap();
    assert_eq!(runner.run(None).unwrap(), Ended::Complete);
}

fn spawn(home: &Path, die_at: Option<&str>) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("BACKUP_RUNNER_HOME", home)
        .envs(die_at.map(|point| ("DIE_AT", point)))
        .stdout(Stdio::null());
    command.status().unwrap()
}

fn effects(home: &Path) -> Vec<String> {
    let effects = fs::read_to_string(home.join("effects")).unwrap();
    effects.lines().map(str::to_owned).collect()
}

/// Ends the services, which do not see their data any more.
struct Services(TempDir);

impl Drop for Services {
    fn drop(&mut self) {
        for target in TARGETS {
            let _ = fs::remove_dir_all(self.0.path().join(target).join("data"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn services() -> Services {
    let services = Services(tempdir().unwrap());
    let shell = Shell::new(services.0.path(), RUN, None);
    shell.set_up(&TARGETS).unwrap();
    services
}

#[test]
fn real_runners_killed_at_every_point_do_everything_once() {
    let expected: Vec<_> = ALL.into_iter().filter(|key| !only_looks(key)).collect();
    let points = points();
    // Mostly the children wait for the disk, and for each other.
    std::thread::scope(|scope| {
        for points in points.chunks(points.len().div_ceil(4)) {
            let expected = &expected;
            scope.spawn(move || {
                for point in points {
                    let services = services();
                    let home = services.0.path();
                    assert_eq!(spawn(home, Some(point)).signal(), Some(9), "{point}");
                    assert!(spawn(home, None).success(), "after {point}");
                    assert_eq!(effects(home), *expected, "killed {point}");
                }
            });
        }
    });
}

#[test]
fn a_service_that_died_on_its_own_leaves_the_outcome_unknown() {
    let services = services();
    let home = services.0.path();
    let killed = spawn(home, Some("after pending, shop: stop"));
    assert_eq!(killed.signal(), Some(9));
    let mut kill = Command::new("sh");
    kill.args(["-c", r#"kill -9 "$(cat shop/pid)""#]);
    assert!(kill.current_dir(home).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    let journal = home.join("vault/journal.json");
    for _ in 0..2 {
        let world = Shell::new(home, RUN, None);
        let mut runner = Runner::open(&journal, MonotonicClock, RUN, &TARGETS, world).unwrap();
        let run = runner.run(None);
        let Err(Error::Halted(halt)) = run else {
            panic!("{run:?}");
        };
        assert_eq!(halt.operation, "shop: stop");
        assert!(matches!(halt.why, Why::OutcomeUnknown(_)));
    }
    assert_eq!(effects(home), [""; 0]);
}
