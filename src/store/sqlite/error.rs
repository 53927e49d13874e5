//! What can go wrong with a database.

use std::fmt;

use rusqlite::ErrorCode;

use crate::store::error::Fault;
use crate::store::unreadable::{Problem, Unreadable};

/// What can go wrong with a [`SqliteStore`](super::SqliteStore).
#[derive(Debug)]
#[non_exhaustive]
pub enum SqliteError {
    /// The file, a table or a row is damaged, not relent's, or of a newer version.
    Unreadable(Unreadable),
    /// A change was to be made within the caller's transaction, but none is open.
    NoTransaction,
    /// The database failed.
    Sqlite {
        /// Which.
        place: String,
        /// What went wrong.
        source: rusqlite::Error,
    },
}

pub(super) fn unreadable(place: &str, problem: Problem) -> SqliteError {
    let place = place.to_owned();
    SqliteError::Unreadable(Unreadable { place, problem })
}

/// What went wrong with the database at a place.
pub(super) fn failed(place: &str) -> impl Fn(rusqlite::Error) -> SqliteError {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => unreadable(place, Problem::Foreign(source.to_string())),
        Some(ErrorCode::DatabaseCorrupt) => unreadable(place, Problem::Damaged(source.to_string())),
        _ => SqliteError::Sqlite {
            place: place.to_owned(),
            source,
        },
    }
}

/// What an error of the database at a place is about.
pub(super) fn fault(error: &SqliteError, place: &str) -> Fault {
    match error {
        // It may be only a part of the file that is damaged.
        SqliteError::Unreadable(unreadable) if unreadable.place == place => Fault::Unknown,
        SqliteError::Unreadable(_) => Fault::Key,
        SqliteError::NoTransaction => Fault::Store,
        SqliteError::Sqlite { source, .. } => match source.sqlite_error_code() {
            // A constraint that somebody else put on the rows.
            Some(ErrorCode::ConstraintViolation) => Fault::Key,
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure,
            ) => Fault::Store,
            _ => Fault::Unknown,
        },
    }
}

impl From<Unreadable> for SqliteError {
    fn from(unreadable: Unreadable) -> SqliteError {
        SqliteError::Unreadable(unreadable)
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqliteError::Unreadable(unreadable) => unreadable.fmt(f),
            SqliteError::NoTransaction => {
                f.write_str("no transaction is open on that connection; begin one")
            }
            SqliteError::Sqlite { place, source } => write!(f, "{place}: {source}"),
        }
    }
}

impl std::error::Error for SqliteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SqliteError::Sqlite { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::{Fault, Problem, SqliteError, failed, fault, unreadable};

    #[test]
    fn an_error_is_about_a_key_or_the_store_where_that_is_known() {
        const HERE: &str = "the SQLite database \"a.db\"";
        let sqlite = |code| {
            let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            failed(HERE)(source)
        };
        let damaged = |place| unreadable(place, Problem::Damaged("torn".to_owned()));
        for (error, about) in [
            (damaged(HERE), Fault::Unknown),
            (damaged("the record of \"key\""), Fault::Key),
            (SqliteError::NoTransaction, Fault::Store),
            (sqlite(ffi::SQLITE_CORRUPT), Fault::Unknown),
            (sqlite(ffi::SQLITE_NOTADB), Fault::Unknown),
            (sqlite(ffi::SQLITE_CONSTRAINT), Fault::Key),
            (sqlite(ffi::SQLITE_CONSTRAINT_TRIGGER), Fault::Key),
            (sqlite(ffi::SQLITE_BUSY), Fault::Store),
            (sqlite(ffi::SQLITE_LOCKED), Fault::Store),
            (sqlite(ffi::SQLITE_CANTOPEN), Fault::Store),
            (sqlite(ffi::SQLITE_READONLY), Fault::Store),
            (sqlite(ffi::SQLITE_FULL), Fault::Store),
            (sqlite(ffi::SQLITE_IOERR), Fault::Store),
            (sqlite(ffi::SQLITE_ERROR), Fault::Unknown),
        ] {
            assert_eq!(fault(&error, HERE), about, "{error:?}");
        }
    }
}
