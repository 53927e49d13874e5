//! A worker: takes machines, one after the other, and sees each to its end.

use std::io;
use std::time::Duration;

use relent::Decision;
use relent::clock::Clock;
use relent::store::blocking::Heartbeat;
use relent::store::{LeaseLost, Options, SqliteError, StartError, WorkError};

use crate::machines::{Kind, Machines, Taken, Tracker};

/// How long a worker that died keeps a machine from the others.
pub(crate) const LEASE: Duration = Duration::from_millis(500);

/// The machines themselves.
pub(crate) trait Hardware<C> {
    /// Does what `kind` is about. Answers what to note, or why not.
    fn provision(&mut self, kind: Kind, work: &Taken<C>) -> Result<String, Trouble>;
}

#[derive(Debug)]
pub(crate) enum Trouble {
    Failed(String),
    /// The machine is not to blame: it is left as it was.
    NotNow,
}

pub(crate) struct Worker<C, H> {
    pub(crate) machines: Machines<C>,
    pub(crate) hardware: H,
    pub(crate) kind: Kind,
    pub(crate) tracker: Tracker<C>,
}

/// What came of a machine.
#[derive(Debug)]
pub(crate) enum End {
    Finished,
    Failed(String, Decision),
    Canceled,
    /// The lease had run out. What the worker had to say was not written.
    TooLate(LeaseLost),
}

#[derive(Debug)]
pub(crate) enum Error {
    Start(StartError<SqliteError>),
    Work(WorkError<SqliteError>),
    NoThread(io::Error),
}

impl<C: Clock + Clone + Send + Sync + 'static, H: Hardware<C>> Worker<C, H> {
    pub(crate) fn new(
        name: &str,
        kind: Kind,
        machines: Machines<C>,
        clock: C,
        hardware: H,
    ) -> Worker<C, H> {
        let options = Options::new(kind.backoff()).holder(name).clock(clock);
        let tracker = machines.tracker(kind, options.time_to_live(LEASE));
        Worker {
            machines,
            hardware,
            kind,
            tracker,
        }
    }

    pub(crate) fn heartbeat(&self) -> Result<Heartbeat, Error> {
        self.tracker.heartbeat().map_err(Error::NoThread)
    }

    /// Begins anew after the session has expired. The heartbeat has ended then.
    pub(crate) fn renew(&mut self) {
        self.tracker = self.tracker.renewed();
    }

    /// Sees one machine to its end, if there is any to work on.
    pub(crate) fn turn(&mut self) -> Result<Option<(String, End)>, Error> {
        let taken = self.machines.take(self.kind, &self.tracker);
        let Some(work) = taken.map_err(Error::Start)? else {
            return Ok(None);
        };
        let ended = match self.hardware.provision(self.kind, &work) {
            Ok(tag) => match self.machines.finish(self.kind, &work, &tag) {
                // It is still in hand: what cannot be noted has failed.
                Err(WorkError::Store(error)) => failed(&work, error.to_string()),
                finished => finished.map(|()| End::Finished),
            },
            Err(Trouble::Failed(cause)) => failed(&work, cause),
            Err(Trouble::NotNow) => work.cancel().map(|()| End::Canceled),
        };
        match ended {
            Ok(end) => Ok(Some((work.key().to_owned(), end))),
            Err(WorkError::Lost(lost)) => Ok(Some((work.key().to_owned(), End::TooLate(lost)))),
            Err(error) => Err(Error::Work(error)),
        }
    }
}

fn failed<C: Clock>(work: &Taken<C>, cause: String) -> Result<End, WorkError<SqliteError>> {
    let decision = work.fail(&cause)?;
    Ok(End::Failed(cause, decision))
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Start(error) => error.fmt(f),
            Error::Work(error) => error.fmt(f),
            Error::NoThread(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
