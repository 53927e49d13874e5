//! A run in a world that does as it is told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use relent::clock::ManualClock;
use tempfile::{TempDir, tempdir};

use crate::backup_runner::plan::Why;
use crate::backup_runner::services::{Failure, Kind, Observed, World};
use crate::backup_runner::{Ended, Error, RUN, Runner, TARGETS};

/// A world that does as it is told, and keeps a diary.
#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Rc<Diary>);

#[derive(Default)]
pub(crate) struct Diary {
    pub(crate) clock: ManualClock,
    pub(crate) performed: RefCell<Vec<String>>,
    pub(crate) points: RefCell<Vec<String>>,
    pub(crate) said: RefCell<Vec<String>>,
    pub(crate) slept: RefCell<Vec<Duration>>,
    /// How often an operation is still to fail, and whether for good; it may fail although its
    /// effect has happened.
    pub(crate) fails: RefCell<BTreeMap<&'static str, (u32, bool)>>,
    pub(crate) happens_all_the_same: Cell<bool>,
    pub(crate) unclear: Cell<Option<&'static str>>,
    pub(crate) panic_at: RefCell<Option<String>>,
}

impl World for Fake {
    fn perform(&self, kind: Kind, target: &str) -> Result<String, Failure> {
        let key = format!("{target}: {kind}");
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

    fn observe(&self, kind: Kind, target: &str) -> Observed {
        let key = format!("{target}: {kind}");
        assert!(!kind.only_looks(), "{key} needs no looking after");
        if self.0.unclear.get() == Some(key.as_str()) {
            return Observed::Unknown("fog".to_owned());
        }
        let performed = self.0.performed.borrow();
        // A target that was started again has to be stopped again.
        let undone = match kind {
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
pub(crate) struct Case {
    pub(crate) fake: Fake,
    directory: TempDir,
}

impl Case {
    pub(crate) fn new() -> Case {
        let fake = Fake::default();
        fake.0.clock.set(Duration::from_secs(1_800_000_000));
        Case {
            fake,
            directory: tempdir().unwrap(),
        }
    }

    pub(crate) fn open(&self) -> Result<Runner<Fake, ManualClock>, Error> {
        self.open_as(RUN)
    }

    pub(crate) fn open_as(&self, run: &str) -> Result<Runner<Fake, ManualClock>, Error> {
        let file = self.directory.path().join("journal.json");
        let clock = self.fake.0.clock.clone();
        Runner::open(&file, clock, run, &TARGETS, self.fake.clone())
    }

    pub(crate) fn run(&self) -> Result<Ended, Error> {
        self.open()?.run(None)
    }

    pub(crate) fn fail(&self, key: &'static str, times: u32, permanent: bool) {
        let mut fails = self.fake.0.fails.borrow_mut();
        fails.insert(key, (times, permanent));
    }

    pub(crate) fn performed(&self) -> Vec<String> {
        self.fake.0.performed.borrow().clone()
    }

    pub(crate) fn summary(&self) -> String {
        self.open().unwrap().summary().unwrap()
    }

    #[track_caller]
    pub(crate) fn halts(&self) -> (String, Why, String) {
        match self.run() {
            Ok(Ended::Halted(operation, why, then)) => (operation, why, then),
            other => panic!("{other:?} instead of a halt"),
        }
    }
}

pub(crate) const ALL: [&str; 15] = [
    "vault: check",
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

/// Runs until the runner dies, at the point that was set.
#[track_caller]
pub(crate) fn killed(case: &Case) {
    let run = std::panic::AssertUnwindSafe(|| case.run().map(drop));
    std::panic::catch_unwind(run).unwrap_err();
}

/// Every point that a run comes to, where all goes well: before and after each write of the
/// journal, and after each effect.
pub(crate) fn points() -> Vec<String> {
    let case = Case::new();
    case.run().unwrap();
    let points = case.fake.0.points.borrow().clone();
    let writes = points.iter().filter(|point| point.starts_with("before"));
    assert_eq!(writes.count(), 1 + 2 * ALL.len());
    assert_eq!(points.len(), 2 * (1 + 2 * ALL.len()) + ALL.len());
    points
}

pub(crate) fn only_looks(key: &str) -> bool {
    key.contains("check") || key.contains("verify")
}
