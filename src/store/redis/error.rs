//! What can go wrong with a server.

use std::fmt;

use redis::ErrorKind;

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
    const AWAY: [&str; 7] = [
        "BUSY", // it runs somebody's script
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF", // it cannot write its snapshots
        "NOREPLICAS",
        "READONLY", // it is a replica
    ];
    match error {
        RedisError::Unreadable(_) => Fault::Key,
        RedisError::Redis(error) => match error.kind() {
            ErrorKind::Io
            | ErrorKind::AuthenticationFailed
            | ErrorKind::ClusterConnectionNotFound => Fault::Store,
            _ if error.code().is_some_and(|code| AWAY.contains(&code)) => Fault::Store,
            // Without memory, say, some keys can still be deleted.
            _ => Fault::Unknown,
        },
        RedisError::Contended => Fault::Unknown,
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
            ErrorKind::Client,
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

#[cfg(test)]
mod tests {
    use redis::ErrorKind;

    use super::{Fault, RedisError, fault};
    use crate::store::unreadable::{Problem, Unreadable};

    #[test]
    fn an_error_is_about_a_key_or_the_store_where_that_is_known() {
        let said = |code: &str| RedisError::Redis(redis::make_extension_error(code.into(), None));
        let of = |kind| RedisError::Redis(redis::RedisError::from((kind, "broken")));
        let unreadable = RedisError::Unreadable(Unreadable {
            place: "the Redis key \"key\"".to_owned(),
            problem: Problem::Damaged("torn".to_owned()),
        });
        for (error, about) in [
            (unreadable, Fault::Key),
            (RedisError::Contended, Fault::Unknown),
            (of(ErrorKind::Io), Fault::Store),
            (of(ErrorKind::AuthenticationFailed), Fault::Store),
            (of(ErrorKind::ClusterConnectionNotFound), Fault::Store),
            (of(ErrorKind::UnexpectedReturnType), Fault::Unknown),
            (said("BUSY"), Fault::Store),
            (said("LOADING"), Fault::Store),
            (said("READONLY"), Fault::Store),
            (said("OOM"), Fault::Unknown),
            (said("WRONGTYPE"), Fault::Unknown),
        ] {
            assert_eq!(fault(&error), about, "{error:?}");
        }
    }
}
