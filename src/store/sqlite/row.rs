//! The statements: a record as a row, and back.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

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
        "INSERT OR REPLACE INTO relent VALUES (:namespace, :key, :failures, :interval,
         :first_failure, :since, :until, :due, :gave_up, :cause, :token, :holder, :lease_since,
         :lease_until)",
    )?;
    let lease = record.lease.as_ref();
    statement.execute(named_params! {
        ":namespace": namespace,
        ":key": key,
        ":failures": record.state.failures,
        ":interval": columns::duration(record.state.interval),
        ":first_failure": columns::time(record.first_failure),
        ":since": columns::time(record.since),
        ":until": columns::time(record.until),
        ":due": record.due().map_or(NEVER, columns::time),
        ":gave_up": record.gave_up.map(columns::reason),
        ":cause": record.cause,
        ":token": lease.map(|lease| columns::token(lease.token)),
        ":holder": lease.map(|lease| &lease.holder),
        ":lease_since": lease.map(|lease| columns::time(lease.since)),
        ":lease_until": lease.map(|lease| columns::time(lease.until)),
    })?;
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
    FromTheFuture,
}

impl Range {
    pub(super) fn of(which: Which) -> Range {
        match which {
            Which::Due => Range::Due,
            Which::Waiting => Range::Waiting,
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
    let (due, key) = match &page.after {
        None => (-1, ""),
        Some(after) => (columns::time(after.due), after.key.as_str()),
    };
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![namespace, now, due, key, limit], |row| {
        Ok((row.get("key")?, read(row)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> Read<Record> {
    let interval = column::<Option<i64>>(row, "interval")?;
    let gave_up = column::<Option<String>>(row, "gave_up")?;
    Ok(Record {
        state: match interval {
            // A clean slate, as an older schema leaves it.
            None => BackoffState::default(),
            Some(interval) => BackoffState {
                failures: column(row, "failures")?,
                interval: known(columns::to_duration(interval), "interval")?,
            },
        },
        first_failure: time(row, "first_failure")?,
        since: time(row, "since")?,
        until: time(row, "until")?,
        gave_up: match gave_up {
            None => None,
            Some(name) => Some(known(columns::to_reason(&name), "gave_up")?),
        },
        cause: column(row, "cause")?,
        lease: lease(row)?,
    })
}

fn lease(row: &Row<'_>) -> Read<Option<Lease>> {
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

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, name: &str) -> Read<T> {
    row.get(name).map_err(|error| format!("{name}: {error}"))
}

fn time(row: &Row<'_>, name: &str) -> Read<SystemTime> {
    known(columns::to_time(column(row, name)?), name)
}

fn known<T>(value: Option<T>, name: &str) -> Read<T> {
    value.ok_or_else(|| format!("{name} has a value that is not known"))
}

pub(super) fn note(
    connection: &Connection,
    namespace: &str,
    key: &str,
    at: i64,
    event: Event,
    cause: Option<&str>,
) -> Result<(), SqliteError> {
    let cause = cause.filter(|_| columns::has_cause(event));
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

fn entry(row: &Row<'_>) -> Read<Entry> {
    Ok(Entry {
        at: time(row, "at")?,
        event: known(columns::to_event(&column::<String>(row, "event")?), "event")?,
        cause: column(row, "cause")?,
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
