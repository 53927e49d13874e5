//! The statements: a record as a row, and back.

use std::time::SystemTime;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::state::BackoffState;
use crate::store::change::Event;
use crate::store::columns;
use crate::store::history::Entry;
use crate::store::lease::Lease;
use crate::store::listing::{Listed, Page, Which};
use crate::store::record::Record;

/// When a key is due that gave up: never.
const NEVER: i64 = i64::MAX;

/// What was read, or what is wrong with it.
type Read<T> = Result<T, String>;

/// The columns of a record, by name: there may be more, of a later step of the schema or of somebody
/// else's.
macro_rules! columns {
    () => {
        "key, failures, interval, first_failure, since, until, gave_up, cause, token, holder, \
         lease_since, lease_until"
    };
}

/// Their places.
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
        columns!(),
        " FROM relent WHERE namespace = ?1 AND key = ?2"
    );
    let mut statement = connection.prepare_cached(select)?;
    statement
        .query_row([namespace, key], |row| Ok(read(row)))
        .optional()
}

/// Writes what a row says, in place if it is there: what else is in it, and what refers to it, stays.
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
            columns!(),
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

    /// Without a limit, as nobody knows how many rows have to be passed over; they are read as they are
    /// asked for.
    fn select(self) -> &'static str {
        macro_rules! select {
            ($what:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM relent WHERE namespace = ?1 AND (due, key) > (?3, ?4) AND ",
                    $what,
                    " ORDER BY due, key"
                )
            };
        }
        // The end of time is never due: a key that gave up has it, and a clock may show it.
        match self {
            Range::Due => select!("due <= ?2 AND gave_up IS NULL"),
            Range::Waiting => select!(
                "due > ?2 AND gave_up IS NULL AND since <= ?2 AND coalesce(lease_since <= ?2, 1)"
            ),
            Range::GaveUp => select!("gave_up IS NOT NULL"),
            Range::FromTheFuture => {
                select!("due > ?2 AND gave_up IS NULL AND (since > ?2 OR lease_since > ?2)")
            }
        }
    }
}

/// Some rows, and the first of those among them that could not be read: its key, and why not.
#[derive(Default)]
pub(super) struct Found {
    pub(super) listed: Vec<Listed>,
    pub(super) unreadable: Option<(String, String)>,
}

/// Adds the rows of a range to those found, up to the page's limit.
pub(super) fn list(
    connection: &Connection,
    namespace: &str,
    range: Range,
    page: &Page,
    now: i64,
    found: &mut Found,
) -> rusqlite::Result<()> {
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
    let mut rows = statement.query(params![namespace, now, due, key])?;
    while found.listed.len() < page.limit {
        let Some(row) = rows.next()? else {
            break;
        };
        match listed(row) {
            Ok(listed) => found.listed.push(listed),
            Err(why) => {
                found.unreadable.get_or_insert_with(|| (key_of(row), why));
            }
        }
    }
    Ok(())
}

fn listed(row: &Row<'_>) -> Read<Listed> {
    Ok(Listed {
        key: column(row, place::KEY)?,
        record: read(row)?,
    })
}

/// The rows that cannot be read: their keys, and why not.
pub(super) fn unreadable(
    connection: &Connection,
    namespace: &str,
    limit: usize,
) -> rusqlite::Result<Vec<(String, String)>> {
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM relent WHERE namespace = ?1 ORDER BY key"
    );
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_and_then([namespace], |row| {
        Ok(listed(row).err().map(|why| (key_of(row), why)))
    })?;
    rows.filter_map(Result::transpose).take(limit).collect()
}

/// A row's key, as far as it is text.
fn key_of(row: &Row<'_>) -> String {
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
) -> rusqlite::Result<()> {
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
) -> rusqlite::Result<Vec<Read<Entry>>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, event, cause FROM relent_history WHERE namespace = ?1 AND key = ?2
         ORDER BY id DESC LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![namespace, key, limit], |row| Ok(entry(row)))?;
    rows.collect()
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

/// Deletes up to `most` entries.
pub(super) fn prune(
    connection: &Connection,
    namespace: &str,
    before: i64,
    most: usize,
) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM relent_history WHERE id IN (
             SELECT id FROM relent_history WHERE namespace = ?1 AND at < ?2 LIMIT ?3
         )",
    )?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    statement.execute(params![namespace, before, most])
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, params};

    use super::Range;
    use crate::store::sqlite::SqliteStore;

    /// How `SQLite` goes about the statements that [`list`] makes.
    #[test]
    fn lists_go_by_the_index() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        drop(SqliteStore::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        let ranges = [
            Range::Due,
            Range::Waiting,
            Range::GaveUp,
            Range::FromTheFuture,
        ];
        for range in ranges {
            let plan = format!("EXPLAIN QUERY PLAN {}", range.select());
            let mut plan = connection.prepare(&plan).unwrap();
            let steps = plan.query_map(params!["", 0, 0, ""], |row| row.get("detail"));
            let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
            assert_eq!(steps.len(), 1, "sorted: {steps:?}");
            let begin = "SEARCH relent USING INDEX relent_due (namespace=? AND (due,key)>(?,?)";
            assert!(steps[0].starts_with(begin), "{steps:?}");
        }
    }
}
