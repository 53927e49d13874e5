//! The controller: reconciles parents into children, and backs off from each that fails.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::Duration;

use relent::clock::{Clock, MonotonicClock};
use relent::{Backoff, BackoffTracker, Decision, Recovery};
use serde::Serialize;

#[path = "../shared/files.rs"]
pub(crate) mod files;

/// Of any kind: a log and a status only want its text.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The files to render, by name.
pub(crate) type Children = BTreeMap<String, String>;

/// What is to be done for parents of one kind. All of it may fail, or panic, which is a failure too.
pub(crate) trait Handler {
    type Valid;
    type Status: Serialize;

    /// Understands what a parent says.
    fn validate(&self, name: &str, parent: &str) -> Result<Self::Valid, Error>;

    /// Does what a parent wants, and returns the children that it should have.
    fn sync(&self, name: &str, valid: &mut Self::Valid) -> Result<Children, Error>;

    /// Undoes that, for a parent that is gone. Until it succeeds the children stay. May be called
    /// again after it did.
    fn finalize(&self, name: &str) -> Result<(), Error>;

    /// What to tell of it.
    fn status(&self, name: &str, outcome: &Outcome) -> Self::Status;
}

/// How it went with a parent.
#[derive(Debug)]
pub(crate) enum Outcome {
    ValidationFailed(Error),
    SyncFailed(Error),
    SyncSucceeded,
    FinalizeFailed(Error),
    FinalizeSucceeded,
}

impl Outcome {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Outcome::ValidationFailed(_) => "validation failed",
            Outcome::SyncFailed(_) => "sync failed",
            Outcome::SyncSucceeded => "sync succeeded",
            Outcome::FinalizeFailed(_) => "finalize failed",
            Outcome::FinalizeSucceeded => "finalize succeeded",
        }
    }

    pub(crate) fn error(&self) -> Option<&Error> {
        match self {
            Outcome::SyncSucceeded | Outcome::FinalizeSucceeded => None,
            Outcome::ValidationFailed(error)
            | Outcome::SyncFailed(error)
            | Outcome::FinalizeFailed(error) => Some(error),
        }
    }
}

/// Keeps `parents/*.json` rendered into `children/*/`, and tells of it in `status/*.json`.
pub(crate) struct Operator<H, C = MonotonicClock> {
    home: PathBuf,
    handler: H,
    clock: C,
    pub(crate) tracker: BackoffTracker<String, C>,
    /// How long after a success, or after giving up, a parent is looked at again.
    resync: Option<Duration>,
    parents: BTreeMap<String, Parent>,
    /// When to reconcile whom, unless there was another round with it since the one that said so.
    timers: BinaryHeap<Reverse<(Duration, u64, String)>>,
    rounds: u64,
}

struct Parent {
    /// What it says, or why it cannot be read; `None` once it is gone.
    text: Option<Result<String, String>>,
    /// The last round with it.
    round: u64,
}

/// What became of a parent in one round.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// Why the outcome could not be told.
    pub(crate) untold: Option<Error>,
    /// What follows from a failure.
    pub(crate) decision: Option<Decision>,
    /// What a success ended.
    pub(crate) recovery: Option<Recovery>,
    /// How long until it is looked at again, if nothing happens before.
    pub(crate) again: Option<Duration>,
}

impl<H: Handler, C: Clock + Clone> Operator<H, C> {
    pub(crate) fn new(
        home: &Path,
        handler: H,
        backoff: Backoff,
        resync: Option<Duration>,
        clock: C,
    ) -> io::Result<Self> {
        for folder in ["parents", "children", "status"] {
            fs::create_dir_all(home.join(folder))?;
        }
        Ok(Operator {
            home: home.to_owned(),
            handler,
            tracker: BackoffTracker::builder(backoff)
                .clock(clock.clone())
                .build(),
            clock,
            resync,
            parents: BTreeMap::new(),
            timers: BinaryHeap::new(),
            rounds: 0,
        })
    }

    /// Reconciles each parent that was edited or deleted, and each whose timer is due.
    pub(crate) fn tick(&mut self) -> io::Result<Vec<Report>> {
        let changed = self.changed()?;
        let mut reports: Vec<_> = changed
            .into_iter()
            .map(|name| self.reconcile(name))
            .collect();
        let due = self.take_due();
        reports.extend(due.into_iter().map(|name| self.reconcile(name)));
        Ok(reports)
    }

    /// How long until the next timer is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let Reverse((due, ..)) = self.timers.peek()?;
        Some(due.saturating_sub(self.clock.now()))
    }

    /// Who is not as remembered. Also whose children are there and who is not: it was deleted while
    /// nobody was looking.
    fn changed(&mut self) -> io::Result<Vec<String>> {
        let mut found: BTreeMap<_, _> = self
            .parents
            .keys()
            .map(|name| (name.clone(), None))
            .collect();
        found.extend(
            files::names(&self.home.join("children"), "")?
                .into_iter()
                .map(|name| (name, None)),
        );
        for name in files::names(&self.home.join("parents"), ".json")? {
            match fs::read_to_string(self.file("parents", &name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                text => drop(found.insert(name, Some(text.map_err(|error| error.to_string())))),
            }
        }
        found.retain(|name, text| {
            self.parents
                .get(name)
                .is_none_or(|known| known.text != *text)
        });
        let changed = found.keys().cloned().collect();
        for (name, text) in found {
            if text.is_none() {
                // What failed so far is none of the deletion's business.
                self.tracker.forget(&name);
            }
            self.parents.insert(name, Parent { text, round: 0 });
        }
        Ok(changed)
    }

    fn take_due(&mut self) -> Vec<String> {
        let now = self.clock.now();
        let mut due = Vec::new();
        while self
            .timers
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= now)
        {
            let Some(Reverse((_, round, name))) = self.timers.pop() else {
                break;
            };
            if self
                .parents
                .get(&name)
                .is_some_and(|parent| parent.round == round)
            {
                due.push(name);
            }
        }
        due
    }

    /// One round with a parent.
    fn reconcile(&mut self, name: String) -> Report {
        // Also while it waits, or after it gave up: it was edited, or should be looked at regularly.
        let attempt = self.tracker.attempt_now(&name);
        let outcome = match self.work(&name) {
            Ok(outcome) | Err(outcome) => outcome,
        };
        let untold = guarded(|| self.tell(&name, &outcome)).err();
        // It went well if nothing failed: neither the handler, nor the disk, nor the telling.
        let (decision, recovery) = match outcome.error().or(untold.as_ref()) {
            Some(_) => (Some(attempt.fail()), None),
            None => (None, attempt.succeed()),
        };
        let again = decision.and_then(Decision::delay).or(self.resync);
        self.rounds += 1;
        if matches!(outcome, Outcome::FinalizeSucceeded) && untold.is_none() {
            self.parents.remove(&name);
        } else if let Some(parent) = self.parents.get_mut(&name) {
            parent.round = self.rounds;
            let due = again.map(|again| self.clock.now().saturating_add(again));
            self.timers
                .extend(due.map(|due| Reverse((due, self.rounds, name.clone()))));
        }
        Report {
            name,
            outcome,
            untold,
            decision,
            recovery,
            again,
        }
    }

    /// What the handler and the disk do, as far as they get.
    fn work(&self, name: &str) -> Result<Outcome, Outcome> {
        let Some(text) = self
            .parents
            .get(name)
            .and_then(|parent| parent.text.as_ref())
        else {
            let finalized = guarded(|| {
                self.handler.finalize(name)?;
                self.render(name, &Children::new())
            });
            return finalized
                .map(|()| Outcome::FinalizeSucceeded)
                .map_err(Outcome::FinalizeFailed);
        };
        let validated = guarded(|| {
            self.handler
                .validate(name, text.as_deref().map_err(String::as_str)?)
        });
        let mut valid = validated.map_err(Outcome::ValidationFailed)?;
        let synced = guarded(|| {
            // Before anything is done for it: whatever is, the folder tells that it is to be undone.
            fs::create_dir_all(self.folder(name))?;
            let children = self.handler.sync(name, &mut valid)?;
            self.render(name, &children)
        });
        synced
            .map(|()| Outcome::SyncSucceeded)
            .map_err(Outcome::SyncFailed)
    }

    fn tell(&self, name: &str, outcome: &Outcome) -> Result<(), Error> {
        let status = serde_json::to_string(&self.handler.status(name, outcome))?;
        files::write(&self.file("status", name), &status)?;
        if let Outcome::FinalizeSucceeded = outcome {
            // Its last trace goes last: until then a crash has it finalized again.
            fs::remove_dir(self.folder(name))?;
        }
        Ok(())
    }

    /// Makes the children what they should be.
    fn render(&self, name: &str, children: &Children) -> Result<(), Error> {
        let folder = self.folder(name);
        fs::create_dir_all(&folder)?;
        for file in files::names(&folder, "")? {
            if !children.contains_key(&file) {
                fs::remove_file(folder.join(file))?;
            }
        }
        for (file, text) in children {
            files::write(&folder.join(file), text)?;
        }
        Ok(())
    }

    fn file(&self, folder: &str, name: &str) -> PathBuf {
        self.home.join(folder).join(format!("{name}.json"))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.home.join("children").join(name)
    }
}

/// What `call` returns; an error if it panics.
fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without a word")).into())
    })
}
