//! The statements: a record as a row, and back.

use std::time::SystemTime;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::SqliteError;
use crate::state::BackoffState;
use crate::store::change::Event;
use crate::store::columns;
use crate::store::history::Entry;
use crate::store::lease::Lease;
use crate::store::listing::{Page, Which};
use crate::store::record::Record;

/// When a key is due that gave up: never.
const NEVER: i64 = i64::MAX;

/// What was read, or what is wrong with it.
type Read<T> = Result<T, String>;

/// The columns by their places, which later steps of the schema only add to.
mod place {
    pub(super) const KEY: usize = 1;
    pub(super) const FAILURES: usize = 2;
    pub(super) const INTERVAL: usize = 3;
    pub(super) const FIRST_FAILURE: usize = 4;
    pub(super) const SINCE: usize = 5;
    pub(super) const UNTIL: usize = 6;
    pub(super) const GAVE_UP: usize = 8;
    pub(super) const CAUSE: usize = 9;
    pub(super) const TOKEN: usize = 10;
    pub(super) const HOLDER: usize = 11;
    pub(super) const LEASE_SINCE: usize = 12;
    pub(super) const LEASE_UNTIL: usize = 13;
}

pub(super) fn get(
    connection: &Connection,
    namespace: &str,
    key: &str,
) -> rusqlite::Result<Option<Read<Record>>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM relent WHERE namespace = ?1 AND key = ?2")?;
    statement
        .query_row([namespace, key], |row| Ok(read(row)))
        .optional()
}

pub(super) fn put(
    connection: &Connection,
    namespace: &str,
    key: &str,
    record: &Record,
) -> Result<(), SqliteError> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO relent
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    let lease = record.lease.as_ref();
    statement.execute(params![
        namespace,
        key,
        record.state.failures,
        columns::duration(record.state.interval),
        columns::time(record.first_failure),
        columns::time(record.since),
        columns::time(record.until),
        record.due().map_or(NEVER, columns::time),
        record.gave_up.map(columns::reason),
        record.cause,
        lease.map(|lease| columns::token(lease.token)),
        lease.map(|lease| &lease.holder),
        lease.map(|lease| columns::time(lease.since)),
        lease.map(|lease| columns::time(lease.until)),
    ])?;
    Ok(())
}

pub(super) fn delete(
    connection: &Connection,
    namespace: &str,
    key: &str,
) -> Result<(), SqliteError> {
    let mut statement =
        connection.prepare_cached("DELETE FROM relent WHERE namespace = ?1 AND key = ?2")?;
    statement.execute([namespace, key])?;
    Ok(())
}

pub(super) fn next_token(connection: &Connection) -> Result<u64, SqliteError> {
    let mut statement = connection.prepare_cached(
        "UPDATE relent_meta SET last_token = last_token + 1 RETURNING last_token",
    )?;
    let token: i64 = statement.query_row([], |row| row.get(0))?;
    u64::try_from(token).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, token).into())
}

/// A part of the index, in order.
#[derive(Clone, Copy)]
pub(super) enum Range {
    Due,
    Waiting,
    GaveUp,
    FromTheFuture,
}

impl Range {
    pub(super) fn of(which: Which) -> Range {
        match which {
            Which::Due => Range::Due,
            Which::Waiting => Range::Waiting,
            Which::GaveUp => Range::GaveUp,
        }
    }

    fn select(self) -> &'static str {
        // The end of time is never due: a key that gave up has it, and a clock may show it.
        match self {
            Range::Due => {
                "SELECT * FROM relent WHERE namespace = ?1 AND (due, key) > (?3, ?4) AND due <= ?2 AND gave_up IS NULL
                 ORDER BY due, key LIMIT ?5"
            }
            Range::Waiting => {
                "SELECT * FROM relent WHERE namespace = ?1 AND (due, key) > (?3, ?4) AND due > ?2 AND gave_up IS NULL
                 AND since <= ?2 AND coalesce(lease_since <= ?2, 1) ORDER BY due, key LIMIT ?5"
            }
            Range::GaveUp => {
                "SELECT * FROM relent WHERE namespace = ?1 AND (due, key) > (?3, ?4) AND gave_up IS NOT NULL
                 ORDER BY due, key LIMIT ?5"
            }
            Range::FromTheFuture => {
                "SELECT * FROM relent WHERE namespace = ?1 AND (due, key) > (?3, ?4) AND due > ?2 AND gave_up IS NULL
                 AND (since > ?2 OR lease_since > ?2) ORDER BY due, key LIMIT ?5"
            }
        }
    }
}

pub(super) fn list(
    connection: &Connection,
    namespace: &str,
    range: Range,
    page: &Page,
    now: i64,
) -> Result<Vec<(String, Read<Record>)>, SqliteError> {
    let mut statement = connection.prepare_cached(range.select())?;
    // The index is entered where the range begins.
    let start = match range {
        Range::Due => -1,
        Range::Waiting | Range::FromTheFuture => now,
        Range::GaveUp => NEVER - 1,
    };
    let after = page.after.as_ref();
    let after = after.map(|after| (columns::time(after.due), after.key.as_str()));
    let (due, key) = after.filter(|&(due, _)| due > start).unwrap_or((start, ""));
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![namespace, now, due, key, limit], |row| {
        Ok((row.get(place::KEY)?, read(row)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> Read<Record> {
    let interval = column::<Option<i64>>(row, place::INTERVAL)?;
    let gave_up = column::<Option<String>>(row, place::GAVE_UP)?;
    Ok(Record {
        state: match interval {
            // A clean slate, as an older schema leaves it.
            None => BackoffState::default(),
            Some(interval) => BackoffState {
                failures: column(row, place::FAILURES)?,
                interval: known(columns::to_duration(interval), row, place::INTERVAL)?,
            },
        },
        first_failure: time(row, place::FIRST_FAILURE)?,
        since: time(row, place::SINCE)?,
        until: time(row, place::UNTIL)?,
        gave_up: match gave_up {
            None => None,
            Some(name) => Some(known(columns::to_reason(&name), row, place::GAVE_UP)?),
        },
        cause: column(row, place::CAUSE)?,
        lease: lease(row)?,
    })
}

fn lease(row: &Row<'_>) -> Read<Option<Lease>> {
    let Some(token) = column::<Option<i64>>(row, place::TOKEN)? else {
        return Ok(None);
    };
    Ok(Some(Lease {
        token: known(u64::try_from(token).ok(), row, place::TOKEN)?,
        holder: column(row, place::HOLDER)?,
        since: time(row, place::LEASE_SINCE)?,
        until: time(row, place::LEASE_UNTIL)?,
    }))
}

fn column<T: FromSql>(row: &Row<'_>, place: usize) -> Read<T> {
    row.get(place)
        .map_err(|error| format!("{}: {error}", name(row, place)))
}

fn time(row: &Row<'_>, place: usize) -> Read<SystemTime> {
    known(columns::to_time(column(row, place)?), row, place)
}

fn known<T>(value: Option<T>, row: &Row<'_>, place: usize) -> Read<T> {
    value.ok_or_else(|| format!("{} has a value that is not known", name(row, place)))
}

fn name<'a>(row: &'a Row<'_>, place: usize) -> &'a str {
    row.as_ref()
        .column_name(place)
        .unwrap_or("a column that is not there")
}

pub(super) fn note(
    connection: &Connection,
    namespace: &str,
    key: &str,
    at: i64,
    event: Event,
    cause: Option<&str>,
) -> Result<(), SqliteError> {
    let cause = columns::cause(event, cause);
    let mut statement = connection.prepare_cached(
        "INSERT INTO relent_history (namespace, key, at, event, cause) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    statement.execute(params![namespace, key, at, columns::event(event), cause])?;
    Ok(())
}

pub(super) fn history(
    connection: &Connection,
    namespace: &str,
    key: &str,
    limit: usize,
) -> Result<Vec<Read<Entry>>, SqliteError> {
    let mut statement = connection.prepare_cached(
        "SELECT at, event, cause FROM relent_history WHERE namespace = ?1 AND key = ?2
         ORDER BY id DESC LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![namespace, key, limit], |row| Ok(entry(row)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// From the columns `at, event, cause`.
fn entry(row: &Row<'_>) -> Read<Entry> {
    let event = column::<String>(row, 1)?;
    Ok(Entry {
        at: time(row, 0)?,
        event: known(columns::to_event(&event), row, 1)?,
        cause: column(row, 2)?,
    })
}

pub(super) fn prune(
    connection: &Connection,
    namespace: &str,
    before: i64,
) -> rusqlite::Result<usize> {
    let mut statement =
        connection.prepare_cached("DELETE FROM relent_history WHERE namespace = ?1 AND at < ?2")?;
    statement.execute(params![namespace, before])
}
