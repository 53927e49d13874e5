//! A record as a row, and back.

use std::time::SystemTime;

use sqlx::postgres::PgRow;
use sqlx::{Column, Row};

use super::moment::Moment;
use crate::random;
use crate::state::BackoffState;
use crate::store::columns;
use crate::store::history::Entry;
use crate::store::lease::Lease;
use crate::store::record::Record;
use crate::store::unreadable::Problem;

/// The version of what a row says. A newer one may mean something else by it.
pub(super) const VERSION: i16 = 1;

/// Where [`sql`](super::sql)'s statements tell the time: after the columns of a row.
pub(super) const NOW: usize = 14;

/// What was read, or what is wrong with it.
pub(super) type Read<T> = Result<T, Problem>;

/// A row that is there.
pub(super) struct Kept {
    /// A number that no other content of the row ever had or will have, nor that of another row of
    /// the key.
    pub(super) revision: i64,
    pub(super) record: Record,
}

/// What was found of a key.
pub(super) enum Found {
    Nothing,
    /// A row with this revision, put there by the transaction that asks, to keep others out.
    Place(i64),
    Kept(Kept),
}

impl Found {
    pub(super) fn record(&self) -> Option<&Record> {
        match self {
            Found::Kept(kept) => Some(&kept.record),
            Found::Nothing | Found::Place(_) => None,
        }
    }

    pub(super) fn revision(&self) -> Option<i64> {
        match self {
            Found::Nothing => None,
            Found::Place(revision) => Some(*revision),
            Found::Kept(kept) => Some(kept.revision),
        }
    }
}

/// Where the revisions of a new row begin, so that they are never those of an earlier row.
pub(super) fn first_revision() -> i64 {
    // Two bits fewer than there are: room to count up, and no sign.
    i64::try_from(random::seed() >> 2).unwrap_or_default()
}

/// The key that a row has; `None` if it is that of a join that found nothing.
pub(super) fn key(row: &PgRow) -> Result<Option<&str>, sqlx::Error> {
    row.try_get(0)
}

pub(super) fn read(row: &PgRow) -> Read<Kept> {
    let mut fields = Fields { row, next: 1 };
    let version = fields.next::<i16>()?;
    if version > VERSION {
        return Err(Problem::Newer {
            found: u64::from(version.unsigned_abs()),
            known: u64::from(VERSION.unsigned_abs()),
        });
    }
    let revision = fields.next()?;
    let failures = fields.known(|failures: i64| u32::try_from(failures).ok())?;
    let interval = fields.known_if_any(columns::to_duration)?;
    let record = Record {
        state: match interval {
            // A clean slate, as an older schema leaves it.
            None => BackoffState::default(),
            Some(interval) => BackoffState { failures, interval },
        },
        first_failure: fields.time()?,
        since: fields.time()?,
        until: fields.time()?,
        gave_up: fields.known_if_any(columns::to_reason)?,
        cause: fields.next()?,
        lease: match fields.known_if_any(|token: i64| u64::try_from(token).ok())? {
            None => None,
            Some(token) => Some(Lease {
                token,
                holder: fields.next()?,
                since: fields.time()?,
                until: fields.time()?,
            }),
        },
    };
    Ok(Kept { revision, record })
}

pub(super) fn entry(row: &PgRow) -> Read<Entry> {
    let mut fields = Fields { row, next: 0 };
    Ok(Entry {
        at: fields.time()?,
        event: fields.known(columns::to_event)?,
        cause: fields.next()?,
    })
}

/// The columns of a row, one after the other: to find each by its name takes longer than to read it.
struct Fields<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Fields<'r> {
    fn next<T>(&mut self) -> Read<T>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let column = self.row.try_get(self.next);
        self.next += 1;
        column.map_err(|error| self.damaged(&error.to_string()))
    }

    fn known<T, U>(&mut self, know: impl FnOnce(T) -> Option<U>) -> Read<U>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let column = self.next()?;
        know(column).ok_or_else(|| self.damaged("has a value that is not known"))
    }

    fn known_if_any<T, U>(&mut self, know: impl FnOnce(T) -> Option<U>) -> Read<Option<U>>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.known(|column: Option<T>| column.map_or(Some(None), |column| know(column).map(Some)))
    }

    fn time(&mut self) -> Read<SystemTime> {
        self.known(Moment::time)
    }

    /// Something is wrong with the column that was read last.
    fn damaged(&self, what: &str) -> Problem {
        let column = self.row.columns().get(self.next - 1);
        let name = column.map_or("a column", Column::name);
        Problem::Damaged(format!("{name}: {what}"))
    }
}
