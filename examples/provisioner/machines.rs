//! The user's own table of machines, and the places where it meets the leases.

use std::time::Duration;

use relent::store::{Entry, LeaseLost, Record, Session, WorkError, blocking};
use relent::{Backoff, Decision, Jitter};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A process that a machine goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Initialize,
    Recover,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Initialize, Kind::Recover];

    /// Where its leases and its backoff are kept: apart from those of the other.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Initialize => "initialize",
            Kind::Recover => "recover",
        }
    }

    /// From 5 minutes to 4 hours, and from 1 minute to 1 hour; here a second lasts a millisecond.
    pub(crate) const fn backoff(self) -> Backoff {
        const fn growing(initial: u64, max: u64) -> Backoff {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
            Backoff::exponential(initial, max)
                .exponent(1.2)
                .jitter(Jitter::Proportional(0.1))
        }
        match self {
            Kind::Initialize => growing(5 * 60, 4 * 60 * 60),
            Kind::Recover => growing(60, 60 * 60),
        }
    }
}

/// Machines that need a process, in one database or another. What they go by is the store's clock.
pub(crate) trait Machines {
    type Taken: Taken;

    /// Takes a machine that needs it, on which nobody works at that, and which does not back off:
    /// chosen and taken in one, so that it cannot be finished by somebody else in between.
    fn take(&mut self) -> Result<Option<Self::Taken>, Error>;

    /// Notes what came of the work, and ends it: both, or neither.
    fn finish(&mut self, work: &Self::Taken, tag: &str) -> Result<(), Refused>;
    fn fail(&mut self, work: &Self::Taken, cause: &str) -> Result<Decision, Refused>;
    fn cancel(&mut self, work: &Self::Taken) -> Result<(), Refused>;

    fn session(&self) -> &Session;
    /// Begins another session after one that expired, and has its leases kept alive from now on.
    fn renew(&mut self) -> Result<(), Error>;

    fn add(&self, machine: &str, is_down: bool) -> Result<(), Error>;
    /// How many machines need anything.
    fn left(&self) -> Result<i64, Error>;
    /// What happened to a machine, in that order.
    fn history(&self, machine: &str) -> Result<Vec<Entry>, Error>;
}

/// A machine in hand.
pub(crate) trait Taken {
    fn key(&self) -> &str;
    fn token(&self) -> u64;
    fn record(&self) -> &Record;
}

/// Why work was not ended.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The lease had run out.
    Lost(LeaseLost),
    /// It can be ended still.
    Store(Error),
}

impl<E: std::error::Error + Send + Sync + 'static> From<WorkError<E>> for Refused {
    fn from(error: WorkError<E>) -> Refused {
        match error {
            WorkError::Lost(lost) => Refused::Lost(lost),
            other => Refused::Store(other.into()),
        }
    }
}

impl<S> Taken for blocking::Work<S> {
    fn key(&self) -> &str {
        self.key()
    }

    fn token(&self) -> u64 {
        self.token()
    }

    fn record(&self) -> &Record {
        self.record()
    }
}
