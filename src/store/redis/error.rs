//! What can go wrong with a server.

use std::fmt;

use crate::store::error::Fault;
use crate::store::rounds::Contended;
use crate::store::unreadable::Unreadable;

/// What can go wrong with a [`RedisStore`](super::RedisStore).
#[derive(Debug)]
#[non_exhaustive]
pub enum RedisError {
    /// A value is damaged, not relent's, or of a newer version. All other keys of a batch were
    /// changed.
    Unreadable(Unreadable),
    /// Others changed the same keys each time that the change was tried. Some of the changes of a
    /// batch may have been made.
    Contended,
    /// The server failed, or gave an answer that no script of this crate gives.
    Redis(redis::RedisError),
}

pub(super) fn fault(error: &RedisError) -> Fault {
    /// What the server answers for every key, until somebody sees to it.
    const AWAY: [&str; 6] = [
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF", // it cannot write its snapshots
        "NOREPLICAS",
        "READONLY", // it is a replica
    ];
    match error {
        RedisError::Unreadable(_) => Fault::Key,
        RedisError::Redis(error) if error.is_io_error() => Fault::Store,
        RedisError::Redis(error) if error.code().is_some_and(|code| AWAY.contains(&code)) => {
            Fault::Store
        }
        // Without memory some keys can still be deleted.
        _ => Fault::Unknown,
    }
}

impl From<Unreadable> for RedisError {
    fn from(unreadable: Unreadable) -> RedisError {
        RedisError::Unreadable(unreadable)
    }
}

impl From<redis::RedisError> for RedisError {
    fn from(error: redis::RedisError) -> RedisError {
        RedisError::Redis(error)
    }
}

impl From<serde_json::Error> for RedisError {
    fn from(error: serde_json::Error) -> RedisError {
        RedisError::Redis(redis::RedisError::from((
            redis::ErrorKind::Client,
            "a record cannot be written as JSON",
            error.to_string(),
        )))
    }
}

impl From<Contended> for RedisError {
    fn from(_: Contended) -> RedisError {
        RedisError::Contended
    }
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisError::Unreadable(unreadable) => unreadable.fmt(f),
            RedisError::Contended => f.write_str("others changed the same keys time and again"),
            RedisError::Redis(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RedisError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RedisError::Redis(error) => error.source(),
            _ => None,
        }
    }
}
