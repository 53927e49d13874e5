//! A record as a row, and back.

use std::time::SystemTime;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::moment::Moment;
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
    pub(super) key: String,
    /// A number that no other content of the row ever had or will have, nor that of another row of
    /// the key.
    pub(super) revision: i64,
    pub(super) record: Record,
}

/// The key that a row has; `None` if it is that of a join that found nothing.
pub(super) fn key(row: &PgRow) -> Result<Option<String>, sqlx::Error> {
    row.try_get("key")
}

pub(super) fn read(row: &PgRow, key: String) -> Read<Kept> {
    let version = column::<i16>(row, "version")?;
    if version > VERSION {
        return Err(Problem::Newer {
            found: u64::from(version.unsigned_abs()),
            known: u64::from(VERSION.unsigned_abs()),
        });
    }
    Ok(Kept {
        key,
        revision: column(row, "revision")?,
        record: record(row)?,
    })
}

fn record(row: &PgRow) -> Read<Record> {
    let gave_up = column::<Option<&str>>(row, "gave_up")?;
    Ok(Record {
        state: match column::<Option<i64>>(row, "interval_ns")? {
            // A clean slate, as an older schema leaves it.
            None => BackoffState::default(),
            Some(interval) => BackoffState {
                failures: known(
                    u32::try_from(column::<i64>(row, "failures")?).ok(),
                    "failures",
                )?,
                interval: known(columns::to_duration(interval), "interval_ns")?,
            },
        },
        first_failure: time(row, "first_failure")?,
        since: time(row, "since")?,
        until: time(row, "until")?,
        gave_up: match gave_up {
            None => None,
            Some(name) => Some(known(columns::to_reason(name), "gave_up")?),
        },
        cause: column(row, "cause")?,
        lease: lease(row)?,
    })
}

fn lease(row: &PgRow) -> Read<Option<Lease>> {
    let Some(token) = column::<Option<i64>>(row, "token")? else {
        return Ok(None);
    };
    Ok(Some(Lease {
        token: known(u64::try_from(token).ok(), "token")?,
        holder: column(row, "holder")?,
        since: time(row, "lease_since")?,
        until: time(row, "lease_until")?,
    }))
}

pub(super) fn entry(row: &PgRow) -> Read<Entry> {
    Ok(Entry {
        at: time(row, "at")?,
        event: known(columns::to_event(column(row, "event")?), "event")?,
        cause: column(row, "cause")?,
    })
}

fn column<'r, T>(row: &'r PgRow, name: &str) -> Read<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(name)
        .map_err(|error| Problem::Damaged(format!("{name}: {error}")))
}

fn time(row: &PgRow, name: &str) -> Read<SystemTime> {
    known(column::<Moment>(row, name)?.time(), name)
}

fn known<T>(value: Option<T>, name: &str) -> Read<T> {
    value.ok_or_else(|| Problem::Damaged(format!("{name} has a value that is not known")))
}
