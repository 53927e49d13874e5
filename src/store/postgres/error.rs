//! What can go wrong with a server.

use std::borrow::Cow;
use std::fmt;

use super::sql::SOME_ONLY;
use crate::store::error::Fault;
use crate::store::rounds::Contended;
use crate::store::unreadable::Unreadable;

/// What can go wrong with a [`PostgresStore`](super::PostgresStore).
#[derive(Debug)]
#[non_exhaustive]
pub enum PostgresError {
    /// A table or a row is damaged, not relent's, or of a newer version.
    Unreadable(Unreadable),
    /// The tables are missing where the `search_path` looks, or older than this version needs them:
    /// see [`migrate`](super::PostgresStore::migrate).
    NotMigrated,
    /// The database keeps text in this encoding, which cannot hold every character: a failure whose
    /// cause it cannot keep would not be counted.
    Encoding(String),
    /// A change was to be made within the caller's transaction, and sqlx has none open.
    NoTransaction,
    /// Others changed the same keys each time that the change was tried. Nothing was written.
    Contended,
    /// A lease was not extended: somebody had the row of this key locked each time that it was
    /// tried.
    Locked(String),
    /// The database failed.
    Postgres(sqlx::Error),
}

impl PostgresError {
    /// Whether to try the same again: the database could not serialize it with what others did, and
    /// has written nothing.
    pub(super) fn is_conflict(&self) -> bool {
        match self {
            PostgresError::Contended => true,
            PostgresError::Postgres(error) => is_conflict(error),
            _ => false,
        }
    }
}

/// How the place of an unreadable row begins; any other place is a table.
pub(super) const ROW: &str = "the row";

pub(super) fn fault(error: &PostgresError) -> Fault {
    match error {
        PostgresError::Unreadable(unreadable) if unreadable.place.starts_with(ROW) => Fault::Key,
        PostgresError::Locked(_) => Fault::Key,
        PostgresError::NotMigrated
        | PostgresError::NoTransaction
        | PostgresError::Postgres(
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed,
        ) => Fault::Store,
        PostgresError::Postgres(error) if is_away(error) => Fault::Store,
        _ => Fault::Unknown,
    }
}

/// Whether an error of the database is about the server itself.
fn is_away(error: &sqlx::Error) -> bool {
    const AWAY: [&str; 5] = [
        "08",    // connection_exception
        "25006", // read_only_sql_transaction: a replica, say
        "28",    // invalid_authorization_specification
        "53",    // insufficient_resources: no room, no more connections
        "57P",   // admin_shutdown, crash_shutdown, cannot_connect_now
    ];
    let code = code(error);
    code.is_some_and(|code| AWAY.iter().any(|away| code.starts_with(away)))
}

/// As `PostgresError::is_conflict`, for an error of the database.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    let said = error.as_database_error();
    let said = said.map_or("", sqlx::error::DatabaseError::message);
    // serialization_failure, deadlock_detected
    is(error, &["40001", "40P01"]) || said.contains(SOME_ONLY)
}

/// Whether the database's error has one of these codes.
pub(super) fn is(error: &sqlx::Error, codes: &[&str]) -> bool {
    code(error).is_some_and(|code| codes.contains(&code.as_ref()))
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    let said = error.as_database_error();
    said.and_then(sqlx::error::DatabaseError::code)
}

impl From<Contended> for PostgresError {
    fn from(_: Contended) -> PostgresError {
        PostgresError::Contended
    }
}

impl From<Unreadable> for PostgresError {
    fn from(unreadable: Unreadable) -> PostgresError {
        PostgresError::Unreadable(unreadable)
    }
}

impl From<sqlx::Error> for PostgresError {
    fn from(error: sqlx::Error) -> PostgresError {
        // undefined_table, undefined_column
        if is(&error, &["42P01", "42703"]) {
            return PostgresError::NotMigrated;
        }
        PostgresError::Postgres(error)
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PostgresError::Unreadable(unreadable) => unreadable.fmt(f),
            PostgresError::NotMigrated => {
                f.write_str("relent's tables are missing where `search_path` looks, or lack columns; call `migrate`")
            }
            PostgresError::Encoding(encoding) => write!(
                f,
                "the database keeps text in {encoding}, which cannot hold every character; use one in UTF8"
            ),
            PostgresError::NoTransaction => {
                f.write_str("no transaction is open on the connection; begin one with sqlx")
            }
            PostgresError::Contended => {
                f.write_str("others changed the same keys time and again; nothing was written")
            }
            PostgresError::Locked(key) => {
                write!(
                    f,
                    "the row {key:?} is locked by a transaction; its lease was not extended"
                )
            }
            PostgresError::Postgres(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PostgresError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PostgresError::Postgres(error) => error.source(),
            _ => None,
        }
    }
}
