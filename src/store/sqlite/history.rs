//! The history of keys, for those who ask for one.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use super::SqliteStore;
use super::error::SqliteError;
use super::row::{Read, column, known, time};
use crate::store::change::Event;
use crate::store::columns;
use crate::store::desk::checked;
use crate::store::error::Error;
use crate::store::history::Entry;
use crate::store::unreadable::Unreadable;

impl<C> SqliteStore<C> {
    /// Keeps a history of what happens to keys from now on: when work on them
    /// [started](crate::store::Event), and how it ended. Every process that is to add to the
    /// history has to call this.
    #[must_use]
    pub fn with_history(mut self) -> SqliteStore<C> {
        self.history = true;
        self
    }

    /// The last `limit` things that happened to a key, the latest first.
    ///
    /// # Errors
    ///
    /// The key is not valid; the database's.
    pub fn history(&self, key: &str, limit: usize) -> Result<Vec<Entry>, Error<SqliteError>> {
        let key = checked(key)?;
        let connection = self.database.reader().lock();
        let entries = entries(&connection, &self.namespace, key, limit);
        let entries = entries.map_err(self.failed())?.into_iter();
        let damaged = |why| self.damaged("relent_history", key, why);
        let entries: Result<_, Unreadable> = entries.map(|it| it.map_err(damaged)).collect();
        Ok(entries.map_err(SqliteError::from)?)
    }

    /// Deletes what happened before `time` to any key of the namespace. Returns how many entries
    /// that was.
    ///
    /// Deletes a thousand entries at a time, so that others get their turns in between.
    ///
    /// # Errors
    ///
    /// The database's. Some entries may have been deleted by then.
    pub fn prune_history(&self, time: SystemTime) -> Result<u64, SqliteError> {
        const MOST: usize = 1000;
        let before = columns::time(time);
        let mut pruned = 0;
        loop {
            let some = self.database.in_turn(|transaction| {
                prune(transaction, &self.namespace, before, MOST).map_err(self.failed())
            })?;
            pruned += some as u64;
            if some < MOST {
                return Ok(pruned);
            }
        }
    }
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
    statement.execute(params![namespace, key, at, event.name(), cause])?;
    Ok(())
}

fn entries(
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
fn prune(
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
