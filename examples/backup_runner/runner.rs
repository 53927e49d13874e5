//! Does what the journal says, and says in the journal what it did. No effect happens before it is
//! announced there, and none is repeated before it is known what became of it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use relent::clock::Clock;
use relent::store::blocking::DurableTracker;
use relent::store::{self, FileError, FileStore, FileTransaction};
use relent::{Backoff, Decision, Readiness};

use crate::journal::{Journal, Operation, Receipt, State, plan};

/// How an operation is tried again.
pub(crate) const RETRY: Backoff =
    Backoff::exponential(Duration::from_millis(200), Duration::from_secs(2))
        .give_up_after_failures(5);

/// Where the effects happen.
pub(crate) trait World {
    /// Does it, and tells what it came to.
    fn perform(&self, operation: &Operation) -> Result<String, Failure>;
    /// Finds out what became of an operation that was begun: by somebody who died, or with an error.
    fn observe(&self, operation: &Operation) -> Observed;
    fn sleep(&self, wait: Duration);
    /// For people to read.
    fn say(&self, line: &str);
    /// The runner has come to this point; a good one to be killed at.
    fn reached(&self, _point: &str) {}
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: String,
    /// It will fail the same way each time.
    pub(crate) permanent: bool,
}

#[derive(Debug)]
pub(crate) enum Observed {
    /// It happened: what it came to.
    Done(String),
    NotDone,
    /// Neither can be said: why. Never tried again, for it may be done.
    Unknown(String),
}

pub(crate) struct Runner<W, C> {
    world: W,
    clock: C,
    journal: Journal,
    /// Of each operation: its failures, its wait, whether it was given up. In the journal's file.
    tracker: DurableTracker<FileStore<C>>,
    /// The same, for failures that no patience cures.
    permanent: DurableTracker<FileStore<C>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Complete,
    MaxSteps,
}

#[derive(Debug)]
pub(crate) enum Error {
    /// Another runner is at work, or the journal cannot be read or written.
    Store(store::Error<FileError>),
    /// The journal is about something else.
    OtherPlan,
    /// There is nothing to settle.
    NotPending,
    Halted(Halt),
}

/// An operation that stops the run.
#[derive(Debug)]
pub(crate) struct Halt {
    n: usize,
    pub(crate) operation: String,
    pub(crate) why: Why,
    /// How it went to start again what had been stopped.
    pub(crate) restarted: Option<Result<String, Box<Error>>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Why {
    GaveUp(String),
    OutcomeUnknown(String),
}

impl<W: World, C: Clock + Clone> Runner<W, C> {
    /// Takes up the run, or begins it. While this lives, the file is locked.
    pub(crate) fn open(
        file: &Path,
        clock: C,
        run: &str,
        targets: &[&str],
        world: W,
    ) -> Result<Runner<W, C>, Error> {
        let store = FileStore::with_clock(file, clock.clone()).map_err(store::Error::Store)?;
        let plan = plan(targets);
        let found: Option<Journal> = store.data().map_err(store::Error::Store)?;
        let is_new = found.is_none();
        let journal = found.unwrap_or_else(|| Journal::new(run, plan.clone()));
        if !journal.is_of(run, &plan) {
            return Err(Error::OtherPlan);
        }
        let tracker = DurableTracker::new(store, RETRY);
        let mut runner = Runner {
            world,
            clock,
            journal,
            permanent: tracker.another(Backoff::never_retry()),
            tracker,
        };
        if is_new {
            runner.write("plan", |_, _| Ok(()))?;
        }
        Ok(runner)
    }

    /// Goes on to the end; or until so many operations were done, checks not counted; or until one
    /// cannot be done, and then leaves no target stopped.
    pub(crate) fn run(&mut self, max_steps: Option<usize>) -> Result<Ended, Error> {
        let mut steps = 0;
        while let Some(n) = self.next()? {
            if !self.journal.entries[n].operation.kind.is_check() {
                if max_steps == Some(steps) {
                    return Ok(Ended::MaxSteps);
                }
                steps += 1;
            }
            match self.drive(n) {
                Err(Error::Halted(halt)) => return Err(self.contain(halt)),
                driven => driven?,
            }
        }
        Ok(Ended::Complete)
    }

    /// Has what was given up tried again.
    pub(crate) fn again(&mut self) -> Result<(), Error> {
        for entry in &self.journal.entries {
            self.tracker.forget(&entry.operation.to_string())?;
        }
        Ok(())
    }

    /// Takes somebody's word for the outcome of an operation that was begun.
    pub(crate) fn settle(&mut self, key: &str, happened: bool) -> Result<(), Error> {
        let pending = |&n: &usize| self.journal.entries[n].state == State::Pending;
        let Some(n) = self.journal.find(key).filter(pending) else {
            return Err(Error::NotPending);
        };
        if happened {
            return self.complete(n, "somebody says so".to_owned());
        }
        self.write(key, |journal, _| {
            journal.entries[n].state = State::Ready;
            Ok(())
        })
    }

    /// What a runner that goes on from here will do.
    pub(crate) fn summary(&self) -> Result<String, Error> {
        let next = self.next()?.map(|n| self.key(n));
        let next = next.unwrap_or_else(|| "nothing".to_owned());
        let counts = self.journal.counts();
        let restart = self.journal.restart_required();
        let restart = restart.map(|n| format!("; restart required: {}", self.target(n)));
        let restart = restart.unwrap_or_default();
        Ok(format!("{counts:?}; next: {next}{restart}"))
    }

    fn next(&self) -> Result<Option<usize>, Error> {
        let Some(next) = self.journal.next() else {
            return Ok(None);
        };
        // Nothing is stopped for what will not be tried.
        for n in self.journal.failed() {
            if let Readiness::GaveUp(_) = self.tracker.check(&self.key(n))? {
                return Ok(Some(n));
            }
        }
        let stale = self.journal.stale_check(next, self.clock.wall());
        Ok(Some(stale.unwrap_or(next)))
    }

    fn key(&self, n: usize) -> String {
        self.journal.entries[n].operation.to_string()
    }

    fn target(&self, n: usize) -> &str {
        &self.journal.entries[n].operation.target
    }

    /// Brings an operation to its end, whatever it takes.
    fn drive(&mut self, n: usize) -> Result<(), Error> {
        let operation = self.journal.entries[n].operation.clone();
        let key = operation.to_string();
        loop {
            if self.journal.entries[n].state == State::Pending && self.reconcile(n)? {
                return Ok(());
            }
            match self.tracker.check(&key)? {
                Readiness::Ready => {}
                Readiness::Wait(wait) => self.world.sleep(wait),
                Readiness::GaveUp(_) => {
                    let last = self.tracker.get(&key)?;
                    let cause = last.map_or(String::new(), |record| record.cause);
                    return Err(self.halt(n, Why::GaveUp(cause)));
                }
            }
            // What failed may have happened all the same.
            if self.journal.entries[n].state == State::Failed && self.reconcile(n)? {
                return Ok(());
            }
            self.write(&format!("pending, {key}"), |journal, _| {
                journal.entries[n].state = State::Pending;
                Ok(())
            })?;
            let performed = self.world.perform(&operation);
            self.world.reached(&format!("effect of {key}"));
            match performed {
                Ok(told) => return self.complete(n, told),
                Err(failure) => self.fail(n, &failure)?,
            }
        }
    }

    /// Finds out what an operation really did. Returns whether it is done.
    fn reconcile(&mut self, n: usize) -> Result<bool, Error> {
        let entry = &self.journal.entries[n];
        let observed = if entry.operation.kind.only_looks() {
            Observed::NotDone
        } else {
            self.world.observe(&entry.operation)
        };
        match observed {
            Observed::Done(told) => self.complete(n, format!("{told}; found done"))?,
            Observed::Unknown(why) => return Err(self.halt(n, Why::OutcomeUnknown(why))),
            // A crash counts: what kills its runner each time is given up like all else.
            Observed::NotDone if entry.state == State::Pending => {
                let cause = "the runner died before it was done".to_owned();
                let permanent = false;
                self.fail(n, &Failure { cause, permanent })?;
                return Ok(false);
            }
            Observed::NotDone => return Ok(false),
        }
        Ok(true)
    }

    fn halt(&self, n: usize, why: Why) -> Error {
        Error::Halted(Halt {
            n,
            operation: self.key(n),
            why,
            restarted: None,
        })
    }

    /// Starts again what was stopped for an operation that cannot be done.
    fn contain(&mut self, mut halt: Halt) -> Error {
        let start = self.journal.restart_required();
        if let Some(start) = start.filter(|&start| start != halt.n) {
            let target = self.target(start).to_owned();
            let driven = self.drive(start);
            halt.restarted = Some(driven.map(|()| target).map_err(Box::new));
        }
        Error::Halted(halt)
    }

    fn complete(&mut self, n: usize, told: String) -> Result<(), Error> {
        let key = self.key(n);
        self.world.say(&format!("{key}: done, {told}"));
        let tracker = self.tracker.clone();
        self.write(&format!("receipt, {key}"), |journal, transaction| {
            tracker.record_success_in(transaction, &key)?;
            let at = transaction.now();
            journal.end(n, State::Completed, Receipt { at, told });
            Ok(())
        })
    }

    fn fail(&mut self, n: usize, failure: &Failure) -> Result<(), Error> {
        let key = self.key(n);
        let trackers = (&self.tracker, &self.permanent);
        let tracker = if failure.permanent {
            trackers.1
        } else {
            trackers.0
        }
        .clone();
        let told = failure.cause.clone();
        let decision = self.write(&format!("receipt, {key}"), |journal, transaction| {
            let decision = tracker.record_failure_in(transaction, &key, &told)?;
            let at = transaction.now();
            journal.end(n, State::Failed, Receipt { at, told });
            Ok(decision)
        })?;
        let then = match decision {
            Decision::Retry { after } => format!("again in {after:.0?}"),
            Decision::GiveUp(_) if failure.permanent => "no use to try again".to_owned(),
            Decision::GiveUp(reason) => format!("given up: {reason}"),
        };
        self.world.say(&format!("{key}: {}; {then}", failure.cause));
        Ok(())
    }

    /// Changes the journal, and the backoff with it: on the disk first.
    fn write<T>(
        &mut self,
        point: &str,
        change: impl FnOnce(&mut Journal, &mut FileTransaction) -> Result<T, store::Error<FileError>>,
    ) -> Result<T, Error> {
        let mut journal = self.journal.clone();
        self.world.reached(&format!("before {point}"));
        let answer = self.tracker.store().transaction(|transaction| {
            let answer = change(&mut journal, transaction)?;
            transaction.put_data(&journal)?;
            Ok::<_, store::Error<FileError>>(answer)
        })?;
        self.journal = journal;
        self.world.reached(&format!("after {point}"));
        Ok(answer)
    }
}

impl From<store::Error<FileError>> for Error {
    fn from(error: store::Error<FileError>) -> Error {
        Error::Store(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let halt = match self {
            Error::Store(error) => return error.fmt(f),
            Error::OtherPlan => return f.write_str("the journal is about another run"),
            Error::NotPending => return f.write_str("no such operation was begun"),
            Error::Halted(halt) => halt,
        };
        match &halt.why {
            Why::GaveUp(cause) => write!(f, "{}: given up: {cause}", halt.operation)?,
            Why::OutcomeUnknown(why) => write!(f, "{}: outcome unknown: {why}", halt.operation)?,
        }
        match &halt.restarted {
            None => Ok(()),
            Some(Ok(target)) => write!(f, "; {target} was started again"),
            Some(Err(error)) => write!(f, "; and it cannot be started again: {error}"),
        }
    }
}

impl std::error::Error for Error {}
