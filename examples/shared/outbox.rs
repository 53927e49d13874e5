//! A table of what is to be sent to whom. All changes happen within a transaction, which others may
//! join.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};

/// Events of one destination that are sent together. Their number stays the same however often they
/// are sent, so that the destination can recognize a repetition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbered {
    pub(crate) id: i64,
    pub(crate) events: Vec<String>,
}

pub(crate) struct Outbox(Mutex<Connection>);

impl Outbox {
    /// Opens the database at `path`; destinations that are new to it are up.
    pub(crate) fn open(path: &Path, destinations: &[&str]) -> Result<Outbox> {
        let database = Connection::open(path)?;
        database.busy_timeout(Duration::from_secs(5))?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS destination (
                 name TEXT PRIMARY KEY, up INTEGER NOT NULL, last_id INTEGER NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS event (
                 seq INTEGER PRIMARY KEY AUTOINCREMENT,
                 destination TEXT NOT NULL, id INTEGER, body TEXT NOT NULL
             ) STRICT;
             CREATE INDEX IF NOT EXISTS event_id ON event (destination, id, seq);",
        )?;
        for name in destinations {
            let insert = "INSERT OR IGNORE INTO destination VALUES (?1, 1, 0)";
            database.execute(insert, [name])?;
        }
        Ok(Outbox(Mutex::new(database)))
    }

    /// Does all of `work`, or nothing of it.
    pub(crate) fn commit<R, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut database = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

/// Adds events after all that were added before.
pub(crate) fn add(tx: &Transaction<'_>, to: &str, events: &[&str]) -> Result<()> {
    let insert = "INSERT INTO event (destination, body) VALUES (?1, ?2)";
    let mut insert = tx.prepare_cached(insert)?;
    events
        .iter()
        .try_for_each(|event| insert.execute([to, event]).map(drop))
}

/// What to send next: the events that have a number, or else the oldest, `most` of them, which then
/// get one. So only one transaction at a time has a number, and the longer events wait, the larger
/// the lots in which they are sent.
pub(crate) fn next(tx: &Transaction<'_>, to: &str, most: u32) -> Result<Option<Numbered>> {
    let next = numbered(tx, to)?;
    if next.is_some() {
        return Ok(next);
    }
    let number = "UPDATE event SET id = (SELECT last_id + 1 FROM destination WHERE name = ?1)
                  WHERE seq IN (SELECT seq FROM event WHERE destination = ?1 AND id IS NULL
                                ORDER BY seq LIMIT ?2)";
    if tx.prepare_cached(number)?.execute((to, most))? == 0 {
        return Ok(None);
    }
    let count = "UPDATE destination SET last_id = last_id + 1 WHERE name = ?1";
    tx.prepare_cached(count)?.execute([to])?;
    numbered(tx, to)
}

fn numbered(tx: &Transaction<'_>, to: &str) -> Result<Option<Numbered>> {
    let select = "SELECT id, body FROM event WHERE destination = ?1 AND id > 0 ORDER BY seq";
    let mut select = tx.prepare_cached(select)?;
    let mut rows = select.query([to])?;
    let mut numbered: Option<Numbered> = None;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let events = Vec::new();
        let numbered = numbered.get_or_insert(Numbered { id, events });
        numbered.events.push(row.get(1)?);
    }
    Ok(numbered)
}

/// Deletes what has arrived.
pub(crate) fn delete(tx: &Transaction<'_>, to: &str, id: i64) -> Result<()> {
    let delete = "DELETE FROM event WHERE destination = ?1 AND id = ?2";
    tx.prepare_cached(delete)?.execute((to, id)).map(drop)
}

/// Marks a destination as up or down. Returns whether it was not so before.
pub(crate) fn mark(tx: &Transaction<'_>, name: &str, up: bool) -> Result<bool> {
    let mark = "UPDATE destination SET up = ?2 WHERE name = ?1 AND up != ?2";
    Ok(tx.prepare_cached(mark)?.execute((name, up))? > 0)
}

/// How a destination stands.
#[derive(Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) is_up: bool,
    /// How many events it has yet to get.
    pub(crate) waiting: u32,
}

pub(crate) fn standing(tx: &Transaction<'_>, name: &str) -> Result<Standing> {
    let standing = "SELECT up, (SELECT count(*) FROM event WHERE destination = name)
                    FROM destination WHERE name = ?1";
    tx.query_row(standing, [name], |row| {
        let (is_up, waiting) = (row.get(0)?, row.get(1)?);
        Ok(Standing { is_up, waiting })
    })
}

/// How many events the database at `path` has, of all destinations.
pub(crate) fn count(path: &Path) -> Result<u32> {
    let database = Connection::open(path)?;
    database.query_row("SELECT count(*) FROM event", [], |row| row.get(0))
}
