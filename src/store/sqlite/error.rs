//! What can go wrong with a database.

use std::fmt;

use rusqlite::ErrorCode;

use crate::store::unreadable::{Problem, Unreadable};

/// What can go wrong with a [`SqliteStore`](super::SqliteStore).
#[derive(Debug)]
#[non_exhaustive]
pub enum SqliteError {
    /// The file, a table or a row cannot be read for what it is.
    Unreadable(Unreadable),
    /// A change was to be made within the caller's transaction, and there is none open.
    NoTransaction,
    /// The database failed.
    Sqlite(rusqlite::Error),
}

pub(super) fn damaged(place: String, why: String) -> SqliteError {
    let problem = Problem::Damaged(why);
    SqliteError::Unreadable(Unreadable { place, problem })
}

impl SqliteError {
    /// The same error, if it is about the file as a whole, in words that name it.
    pub(super) fn about(self, place: &str) -> SqliteError {
        let SqliteError::Sqlite(error) = self else {
            return self;
        };
        let problem = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Problem::Foreign(error.to_string()),
            Some(ErrorCode::DatabaseCorrupt) => Problem::Damaged(error.to_string()),
            _ => return SqliteError::Sqlite(error),
        };
        SqliteError::Unreadable(Unreadable {
            place: place.to_owned(),
            problem,
        })
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> SqliteError {
        SqliteError::Sqlite(error)
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqliteError::Unreadable(unreadable) => unreadable.fmt(f),
            SqliteError::NoTransaction => {
                f.write_str("no transaction is open on that connection; begin one")
            }
            SqliteError::Sqlite(error) => write!(f, "SQLite: {error}"),
        }
    }
}

impl std::error::Error for SqliteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SqliteError::Sqlite(error) => Some(error),
            _ => None,
        }
    }
}
