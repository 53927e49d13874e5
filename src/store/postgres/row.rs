//! A record as a row, and back.

use std::time::SystemTime;

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

/// The version of what a row says. In a newer one, the same columns may mean something else.
pub(super) const VERSION: i16 = 1;

/// What was read, or what is wrong with it.
pub(super) type Read<T> = Result<T, Problem>;

/// A row that is there.
pub(super) struct Kept {
    /// A number that no other content of this row, or of any other row of the key, ever had or will
    /// have.
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
pub(super) type IsRight = fn(&PgTypeInfo) -> bool;

const TEXT: IsRight = <&str as Type<Postgres>>::compatible;
const SMALL: IsRight = <i16 as Type<Postgres>>::compatible;
const BIG: IsRight = <i64 as Type<Postgres>>::compatible;
const TIME: IsRight = <Moment as Type<Postgres>>::compatible;

/// The types of [`STREAK`](super::sql::STREAK).
pub(super) const STREAK: [IsRight; 8] = [TEXT, SMALL, BIG, BIG, TIME, TIME, TIME, TEXT];

/// The types of that, of [`REST`](super::sql::REST), and of the time that comes after them.
pub(super) const ALL: [IsRight; 15] = [
    TEXT, SMALL, BIG, BIG, TIME, TIME, TIME, TEXT, BIG, TEXT, BIG, TEXT, TIME, TIME, TIME,
];

/// Checks the types of all rows of an answer at once: checking each row would take as long as
/// reading it.
pub(super) fn check(rows: &[PgRow], types: &[IsRight]) -> Read<()> {
    rows.first().map_or(Ok(()), |row| are_right(row, types))
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

/// The key of a [checked](check) row; `None` if the row is that of a join that found nothing.
pub(super) fn key(row: &PgRow) -> Result<Option<&str>, sqlx::Error> {
    let key = row.try_get_raw(0)?;
    Decode::<Postgres>::decode(key).map_err(sqlx::Error::Decode)
}

/// The time that a [checked](check) row tells after its columns.
pub(super) fn now(row: &PgRow) -> Result<Moment, sqlx::Error> {
    let now = row.try_get_raw(14)?;
    Decode::<Postgres>::decode(now).map_err(sqlx::Error::Decode)
}

/// What a [checked](check) row says.
pub(super) fn read(row: &PgRow) -> Read<Kept> {
    let mut fields = Fields { row, next: 1 };
    let streak = fields.streak()?;
    Ok(Kept {
        // Below the greatest, so that one more can be written.
        revision: fields.known(|revision: i64| (revision < i64::MAX).then_some(revision))?,
        record: Record {
            gave_up: fields.known_if_any(columns::to_reason)?,
            lease: match fields.known_if_any(to_token)? {
                None => None,
                Some(token) => Some(Lease {
                    token,
                    holder: fields.next()?,
                    since: fields.time()?,
                    until: fields.time()?,
                }),
            },
            ..streak
        },
    })
}

/// What a [checked](check) row of a claim says.
pub(super) enum Claimed<'r> {
    Taken(&'r str, Read<Record>),
    /// The key was due, since then, but not taken.
    Left(&'r str, SystemTime),
    All(Grant),
}

pub(super) fn claimed(row: &PgRow) -> Read<Claimed<'_>> {
    let from = |next| Fields { row, next };
    let key: Option<&str> = from(0).next()?;
    let version: Option<i16> = from(1).next()?;
    Ok(match (key, version) {
        (Some(key), Some(_)) => Claimed::Taken(key, from(1).streak()),
        (Some(key), None) => Claimed::Left(key, from(6).time()?),
        (None, _) => Claimed::All(grant(from(3))?),
    })
}

/// What a claim says once, of all that it takes.
pub(super) struct Grant {
    /// `None` if nothing is taken.
    token: Option<u64>,
    /// The time, if rows may be from the future.
    pub(super) set_back_to: Option<SystemTime>,
    since: SystemTime,
    until: SystemTime,
}

impl Grant {
    /// The lease of each key that is taken.
    pub(super) fn lease(&self, holder: &str) -> Option<Lease> {
        Some(Lease {
            token: self.token?,
            holder: holder.to_owned(),
            since: self.since,
            until: self.until,
        })
    }
}

fn grant(mut fields: Fields<'_>) -> Read<Grant> {
    Ok(Grant {
        token: fields.known_if_any(to_token)?,
        set_back_to: fields.known_if_any(Moment::time)?,
        since: fields.time()?,
        until: fields.time()?,
    })
}

fn to_token(token: i64) -> Option<u64> {
    u64::try_from(token).ok()
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

/// The columns of a row, one after the other, of the types that they are read as: finding each by
/// its name would take longer than reading it.
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
        know(column).ok_or_else(|| self.damaged("has an unknown value"))
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

    /// What a row says of the streak, from the version on: the record without a lease, and as if it
    /// had not given up.
    fn streak(&mut self) -> Read<Record> {
        let version = self.next::<i16>()?;
        if version > VERSION {
            return Err(Problem::Newer {
                found: u64::from(version.unsigned_abs()),
                known: u64::from(VERSION.unsigned_abs()),
            });
        }
        let failures = self.known(|failures: i64| u32::try_from(failures).ok())?;
        let interval = self.known_if_any(columns::to_duration)?;
        Ok(Record {
            state: match interval {
                // A clean slate, as an older schema leaves it.
                None => BackoffState::default(),
                Some(interval) => BackoffState { failures, interval },
            },
            first_failure: self.time()?,
            since: self.time()?,
            until: self.time()?,
            gave_up: None,
            cause: self.next()?,
            lease: None,
        })
    }

    /// Something is wrong with the column that was read last.
    fn damaged(&self, what: &str) -> Problem {
        let column = self.row.columns().get(self.next - 1);
        let name = column.map_or("a column", Column::name);
        Problem::Damaged(format!("{name}: {what}"))
    }
}
