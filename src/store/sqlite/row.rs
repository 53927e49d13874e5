//! The statements: a record as a row, and back.

use std::time::SystemTime;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::state::BackoffState;
use crate::store::columns;
use crate::store::lease::Lease;
use crate::store::listing::Listed;
use crate::store::record::Record;

/// When a key that gave up is due: never.
pub(super) const NEVER: i64 = i64::MAX;

/// What was read, or what is wrong with it.
pub(super) type Read<T> = Result<T, String>;

/// The columns of a record, by name: there may be others, from a later step of the schema or added
/// by somebody else.
macro_rules! fields {
    () => {
        "key, failures, interval, first_failure, since, until, gave_up, cause, token, holder, \
         lease_since, lease_until"
    };
}

pub(super) use fields;

/// Their positions.
mod place {
    pub(super) const KEY: usize = 0;
    pub(super) const FAILURES: usize = 1;
    pub(super) const INTERVAL: usize = 2;
    pub(super) const FIRST_FAILURE: usize = 3;
    pub(super) const SINCE: usize = 4;
    pub(super) const UNTIL: usize = 5;
    pub(super) const GAVE_UP: usize = 6;
    pub(super) const CAUSE: usize = 7;
    pub(super) const TOKEN: usize = 8;
    pub(super) const HOLDER: usize = 9;
    pub(super) const LEASE_SINCE: usize = 10;
    pub(super) const LEASE_UNTIL: usize = 11;
}

pub(super) fn get(
    connection: &Connection,
    namespace: &str,
    key: &str,
) -> rusqlite::Result<Option<Read<Record>>> {
    let select = concat!(
        "SELECT ",
        fields!(),
        " FROM relent WHERE namespace = ?1 AND key = ?2"
    );
    let mut statement = connection.prepare_cached(select)?;
    statement
        .query_row([namespace, key], |row| Ok(read(row)))
        .optional()
}

/// Writes a record to its row; in place, if the row is there, so that other columns in it, and
/// references to it, stay.
pub(super) fn put(
    connection: &Connection,
    namespace: &str,
    key: &str,
    record: &Record,
    is_there: bool,
) -> rusqlite::Result<()> {
    // An upsert would do for both, but in a batch it takes a tenth longer.
    let put = if is_there {
        "UPDATE relent SET failures = ?4, interval = ?5, first_failure = ?6, since = ?7, until = ?8,
             gave_up = ?9, cause = ?10, token = ?11, holder = ?12, lease_since = ?13,
             lease_until = ?14, due = ?2
         WHERE namespace = ?1 AND key = ?3"
    } else {
        concat!(
            "INSERT INTO relent (namespace, due, ",
            fields!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        )
    };
    let mut statement = connection.prepare_cached(put)?;
    let lease = record.lease.as_ref();
    statement.execute(params![
        namespace,
        record.due().map_or(NEVER, columns::time),
        key,
        record.state.failures,
        columns::duration(record.state.interval),
        columns::time(record.first_failure),
        columns::time(record.since),
        columns::time(record.until),
        record.gave_up.map(columns::reason),
        record.cause,
        lease.map(|lease| columns::token(lease.token)),
        lease.map(|lease| &lease.holder),
        lease.map(|lease| columns::time(lease.since)),
        lease.map(|lease| columns::time(lease.until)),
    ])?;
    Ok(())
}

pub(super) fn delete(connection: &Connection, namespace: &str, key: &str) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM relent WHERE namespace = ?1 AND key = ?2")?;
    statement.execute([namespace, key])?;
    Ok(())
}

pub(super) fn next_token(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "UPDATE relent_meta SET last_token = last_token + 1 RETURNING last_token",
    )?;
    let token: i64 = statement.query_row([], |row| row.get(0))?;
    u64::try_from(token).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, token))
}

pub(super) fn listed(row: &Row<'_>) -> Read<Listed> {
    Ok(Listed {
        key: column(row, place::KEY)?,
        record: read(row)?,
    })
}

/// A row's key, as far as it is text.
pub(super) fn key_of(row: &Row<'_>) -> String {
    let key = row.get_ref(place::KEY).ok();
    let key = key.and_then(|key| key.as_bytes().ok());
    String::from_utf8_lossy(key.unwrap_or_default()).into_owned()
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

pub(super) fn column<T: FromSql>(row: &Row<'_>, place: usize) -> Read<T> {
    row.get(place)
        .map_err(|error| format!("{}: {error}", name(row, place)))
}

pub(super) fn time(row: &Row<'_>, place: usize) -> Read<SystemTime> {
    known(columns::to_time(column(row, place)?), row, place)
}

pub(super) fn known<T>(value: Option<T>, row: &Row<'_>, place: usize) -> Read<T> {
    value.ok_or_else(|| format!("{} has an unknown value", name(row, place)))
}

fn name<'a>(row: &'a Row<'_>, place: usize) -> &'a str {
    row.as_ref()
        .column_name(place)
        .unwrap_or("a column that is not there")
}
