//! What can go wrong, by verb.

use std::error::Error as StdError;
use std::fmt;

use super::key::InvalidKey;
use super::lease::{LeaseLost, Refusal};

/// Why nothing was done to a key, or nobody knows whether anything was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// The key is not valid.
    Key(InvalidKey),
    /// The store failed.
    Store(E),
}

/// Why no work was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError<E> {
    /// The key cannot be taken now.
    Refused(Refusal),
    /// The session has expired: it could not keep the leases it had. Begin another one.
    SessionExpired,
    /// The store took longer to grant the lease than the lease lives, so the lease was given back.
    /// No work was begun, and no failure is counted: try again, with a longer time to live if this
    /// is usual.
    TooLate,
    /// The key is not valid.
    Key(InvalidKey),
    /// The store failed.
    Store(E),
}

/// Why work could not be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkError<E> {
    /// The work was not this worker's any more. Nothing was written.
    Lost(LeaseLost),
    /// The store failed. The work can still be ended, in this way or another.
    Store(E),
}

/// What an error of a store is about, as far as the store can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What is kept of one key: for all others the store works.
    Key,
    /// The store, whatever the key: it cannot be reached, or is busy.
    Store,
    /// Either: the store cannot tell.
    Unknown,
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Error<E> {
        Error::Store(error)
    }
}

impl<E> From<E> for StartError<E> {
    fn from(error: E) -> StartError<E> {
        StartError::Store(error)
    }
}

impl<E> From<E> for WorkError<E> {
    fn from(error: E) -> WorkError<E> {
        WorkError::Store(error)
    }
}

impl<E> From<Error<E>> for StartError<E> {
    fn from(error: Error<E>) -> StartError<E> {
        match error {
            Error::Key(invalid) => StartError::Key(invalid),
            Error::Store(error) => StartError::Store(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Key(invalid) => invalid.fmt(f),
            Error::Store(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for StartError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Refused(refusal) => refusal.fmt(f),
            StartError::SessionExpired => f.write_str("the session has expired; begin another"),
            StartError::TooLate => f.write_str(
                "the store took longer to grant the lease than the lease lives; it was given back: try again",
            ),
            StartError::Key(invalid) => invalid.fmt(f),
            StartError::Store(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for WorkError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkError::Lost(lost) => lost.fmt(f),
            WorkError::Store(error) => error.fmt(f),
        }
    }
}

// Each displays the error that it holds as its own message, so its source is the source of that
// error.

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Key(invalid) => invalid.source(),
            Error::Store(error) => error.source(),
        }
    }
}

impl<E: StdError + 'static> StdError for StartError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            StartError::Store(error) => error.source(),
            _ => None,
        }
    }
}

impl<E: StdError + 'static> StdError for WorkError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            WorkError::Lost(lost) => lost.source(),
            WorkError::Store(error) => error.source(),
        }
    }
}
