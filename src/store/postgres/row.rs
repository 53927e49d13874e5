//! A record as a row, and back.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::postgres::{PgRow, PgTypeInfo};
use sqlx::{Column, Decode, Postgres, Row, Type};

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

/// Whether a column has the type that it is read as.
type IsRight = fn(&PgTypeInfo) -> bool;

const TEXT: IsRight = <&str as Type<Postgres>>::compatible;
const SMALL: IsRight = <i16 as Type<Postgres>>::compatible;
const BIG: IsRight = <i64 as Type<Postgres>>::compatible;
const TIME: IsRight = <Moment as Type<Postgres>>::compatible;

/// Looks at the types of [`columns`](super::sql::columns), and of the time if it comes after them,
/// of all rows of an answer at once: to look in each row takes as long as to read it.
pub(super) fn check(rows: &[PgRow]) -> Read<()> {
    let types = [
        TEXT, SMALL, BIG, BIG, BIG, TIME, TIME, TIME, TEXT, TEXT, BIG, TEXT, TIME, TIME, TIME,
    ];
    rows.first().map_or(Ok(()), |row| are_right(row, &types))
}

fn are_right(row: &PgRow, types: &[IsRight]) -> Read<()> {
    for (column, is_right) in row.columns().iter().zip(types) {
        let found = column.type_info();
        if !is_right(found) {
            let name = column.name();
            return Err(Problem::Damaged(format!("{name}: its type is {found}")));
        }
    }
    Ok(())
}

/// The key that a [checked](check) row has; `None` if it is that of a join that found nothing.
pub(super) fn key(row: &PgRow) -> Result<Option<&str>, sqlx::Error> {
    let key = row.try_get_raw(0)?;
    Decode::<Postgres>::decode(key).map_err(sqlx::Error::Decode)
}

/// The time that a [checked](check) row tells after its columns.
pub(super) fn now(row: &PgRow) -> Result<Moment, sqlx::Error> {
    let now = row.try_get_raw(14)?;
    Decode::<Postgres>::decode(now).map_err(sqlx::Error::Decode)
}

/// When the wait is over, by a [checked](check) row that may say nothing else.
pub(super) fn until(row: &PgRow) -> Result<SystemTime, sqlx::Error> {
    let until: Moment = row.try_get(7)?;
    Ok(until.time().unwrap_or(UNIX_EPOCH))
}

/// What a [checked](check) row says.
pub(super) fn read(row: &PgRow) -> Read<Kept> {
    let mut fields = Fields { row, next: 1 };
    let version = fields.next::<i16>()?;
    if version > VERSION {
        return Err(Problem::Newer {
            found: u64::from(version.unsigned_abs()),
            known: u64::from(VERSION.unsigned_abs()),
        });
    }
    // One more can be written.
    let revision = fields.known(|revision: i64| (revision < i64::MAX).then_some(revision))?;
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
    are_right(row, &[TIME, TEXT, TEXT])?;
    let mut fields = Fields { row, next: 0 };
    Ok(Entry {
        at: fields.time()?,
        event: fields.known(columns::to_event)?,
        cause: fields.next()?,
    })
}

/// The columns of a row, one after the other, of the types that they are read as: to find each by
/// its name takes longer than to read it.
struct Fields<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Fields<'r> {
    fn next<T: Decode<'r, Postgres>>(&mut self) -> Read<T> {
        let column = self.row.try_get_raw(self.next);
        self.next += 1;
        let column = column.map_err(|error| self.damaged(&error.to_string()))?;
        T::decode(column).map_err(|error| self.damaged(&error.to_string()))
    }

    fn known<T, U>(&mut self, know: impl FnOnce(T) -> Option<U>) -> Read<U>
    where
        T: Decode<'r, Postgres>,
    {
        let column = self.next()?;
        know(column).ok_or_else(|| self.damaged("has a value that is not known"))
    }

    fn known_if_any<T, U>(&mut self, know: impl FnOnce(T) -> Option<U>) -> Read<Option<U>>
    where
        T: Decode<'r, Postgres>,
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
