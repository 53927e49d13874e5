//! An operator whose handler fails as it is told to, and a clock to move.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use relent::clock::ManualClock;
use relent::{Backoff, Decision, Jitter};
use serde::ser::{Error as _, Serialize, Serializer};
use tempfile::TempDir;

use crate::operator::folders::Children;
use crate::operator::{Error, Handler, Operator, Outcome, Report};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const EXACT: Backoff = Backoff::DEFAULT.jitter(Jitter::None);

/// What happens to all parents.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Trouble {
    #[default]
    None,
    Validate,
    Sync,
    Finalize,
    Status,
}

/// Fails as it was told to: by an error, or a panic.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    trouble: Rc<Cell<Trouble>>,
    pub(crate) panics: Rc<Cell<bool>>,
}

impl Scripted {
    fn meet(&self, trouble: Trouble) -> Result<(), Error> {
        if self.trouble.get() != trouble {
            return Ok(());
        }
        assert!(!self.panics.get(), "a bug");
        Err("trouble".into())
    }
}

impl Handler for Scripted {
    type Valid = String;

    fn validate(&self, _: &str, parent: &str) -> Result<String, Error> {
        self.meet(Trouble::Validate)?;
        Ok(parent.to_owned())
    }

    fn sync(&self, name: &str, valid: String) -> Result<Children, Error> {
        self.meet(Trouble::Sync)?;
        Ok(Children::from([(format!("{name}.txt"), valid)]))
    }

    fn finalize(&self, _: &str) -> Result<(), Error> {
        self.meet(Trouble::Finalize)
    }

    fn status(&self, _: &str, outcome: &Outcome) -> impl Serialize {
        let (outcome, error) = outcome.parts();
        Told(match self.meet(Trouble::Status) {
            Ok(()) => Some((outcome, error.map(ToString::to_string))),
            Err(_) => None,
        })
    }
}

/// A status, which serde may be unable to write.
struct Told(Option<(&'static str, Option<String>)>);

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let told = self.0.as_ref();
        told.ok_or_else(|| S::Error::custom("unspeakable"))?
            .serialize(serializer)
    }
}

fn operator(
    home: &TempDir,
    handler: &Scripted,
    backoff: Backoff,
    resync: Option<Duration>,
    clock: &ManualClock,
) -> Operator<Scripted, ManualClock> {
    let (handler, clock) = (handler.clone(), clock.clone());
    Operator::new(home.path(), handler, backoff, resync, clock).unwrap()
}

pub(crate) struct Rig {
    home: TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) handler: Scripted,
    pub(crate) operator: Operator<Scripted, ManualClock>,
}

impl Rig {
    /// An operator with one parent, `a`, whose first round is yet to come.
    pub(crate) fn new(backoff: Backoff, trouble: Trouble) -> Rig {
        let home = tempfile::tempdir().unwrap();
        let clock = ManualClock::new();
        let handler = Scripted::default();
        handler.trouble.set(trouble);
        let operator = operator(&home, &handler, backoff, Some(HOUR), &clock);
        let rig = Rig {
            home,
            clock,
            handler,
            operator,
        };
        rig.edit("a", "1");
        rig
    }

    /// Another operator, over what this one left.
    pub(crate) fn restarted(self, backoff: Backoff, resync: Option<Duration>) -> Rig {
        let operator = operator(&self.home, &self.handler, backoff, resync, &self.clock);
        Rig { operator, ..self }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    pub(crate) fn edit(&self, name: &str, text: &str) {
        fs::write(self.path(&format!("parents/{name}.json")), text).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        fs::remove_file(self.path(&format!("parents/{name}.json"))).unwrap();
    }

    pub(crate) fn set(&self, trouble: Trouble) {
        self.handler.trouble.set(trouble);
    }

    pub(crate) fn status(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("status/{name}.json"))).unwrap()
    }

    pub(crate) fn children(&self, name: &str) -> Vec<String> {
        let files = fs::read_dir(self.path(&format!("children/{name}"))).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[track_caller]
    pub(crate) fn nothing(&mut self) {
        let reports = self.operator.tick().unwrap();
        assert!(reports.is_empty(), "{reports:?}");
    }

    /// The round of one parent, and no other.
    #[track_caller]
    pub(crate) fn one(&mut self) -> Report {
        let mut reports = self.operator.tick().unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    /// The same, when the next timer is due, and not a nanosecond before.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Report {
        let due = self.operator.next_due().unwrap();
        self.clock
            .advance(due.saturating_sub(Duration::from_nanos(1)));
        self.nothing();
        self.clock.advance(Duration::from_nanos(1));
        self.one()
    }

    /// The delays after failures, of this round and the next.
    pub(crate) fn delays(&mut self, count: usize) -> Vec<Duration> {
        let mut report = self.one();
        let mut delays = Vec::new();
        while delays.len() < count {
            let delay = report.decision.and_then(Decision::delay);
            delays.push(delay.expect("a failure that is retried"));
            report = self.next();
        }
        delays
    }
}
