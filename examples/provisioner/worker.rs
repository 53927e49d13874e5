//! A worker: takes machines, one after the other, and sees each to its end.

use std::time::Duration;

use relent::Decision;
use relent::store::{LeaseLost, Options};

use crate::machines::{Error, Kind, Machines, Refused, Taken};

/// How long a worker that died keeps a machine from the others.
pub(crate) const LEASE: Duration = Duration::from_millis(500);

/// The machines themselves.
pub(crate) trait Hardware {
    /// Does what `kind` is about. Answers what to note, or why not.
    fn provision(&mut self, kind: Kind, work: &dyn Taken) -> Result<String, Trouble>;
}

#[derive(Debug)]
pub(crate) enum Trouble {
    Failed(String),
    /// The machine is not to blame: it is left as it was.
    NotNow,
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

pub(crate) struct Worker<M, H> {
    pub(crate) machines: M,
    pub(crate) hardware: H,
    pub(crate) kind: Kind,
}

/// How a worker of this name takes its leases.
pub(crate) fn options(name: &str, kind: Kind) -> Options {
    let options = Options::new(kind.backoff()).holder(name);
    options.time_to_live(LEASE)
}

impl<M: Machines, H: Hardware> Worker<M, H> {
    /// Sees one machine to its end, if there is any to work on.
    pub(crate) fn turn(&mut self) -> Result<Option<(String, End)>, Error> {
        let Some(work) = self.machines.take()? else {
            return Ok(None);
        };
        let ended = match self.hardware.provision(self.kind, &work) {
            Ok(tag) => match self.machines.finish(&work, &tag) {
                // It is still in hand: what cannot be noted has failed.
                Err(Refused::Store(error)) => self.fail(&work, error.to_string()),
                finished => finished.map(|()| End::Finished),
            },
            Err(Trouble::Failed(cause)) => self.fail(&work, cause),
            Err(Trouble::NotNow) => self.machines.cancel(&work).map(|()| End::Canceled),
        };
        let machine = work.key().to_owned();
        match ended {
            Ok(end) => Ok(Some((machine, end))),
            Err(Refused::Lost(lost)) => Ok(Some((machine, End::TooLate(lost)))),
            Err(Refused::Store(error)) => Err(error),
        }
    }

    fn fail(&mut self, work: &M::Taken, cause: String) -> Result<End, Refused> {
        let decision = self.machines.fail(work, &cause)?;
        Ok(End::Failed(cause, decision))
    }
}
