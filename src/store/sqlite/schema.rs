//! The tables, and how they came to be: one step per version, never changed afterwards.

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::error::{SqliteError, failed, unreadable};
use crate::store::unreadable::Problem;

/// The steps that bring the tables from one version to the next. Processes of an older version go
/// on meanwhile: a step only adds what they need not know of, which is tables, and columns with a
/// default.
const STEPS: [&str; 2] = [
    "CREATE TABLE relent_meta (
         only INTEGER PRIMARY KEY CHECK (only = 1),
         version INTEGER NOT NULL,
         last_token INTEGER NOT NULL
     ) STRICT;
     INSERT INTO relent_meta VALUES (1, 1, 0);
     CREATE TABLE relent (
         namespace TEXT NOT NULL,
         key TEXT NOT NULL,
         failures INTEGER NOT NULL,
         interval INTEGER,
         first_failure INTEGER NOT NULL,
         since INTEGER NOT NULL,
         until INTEGER NOT NULL,
         due INTEGER NOT NULL,
         gave_up TEXT,
         cause TEXT NOT NULL,
         token INTEGER,
         holder TEXT,
         lease_since INTEGER,
         lease_until INTEGER,
         PRIMARY KEY (namespace, key)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX relent_due ON relent (namespace, due, key);",
    "CREATE TABLE relent_history (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         namespace TEXT NOT NULL,
         key TEXT NOT NULL,
         at INTEGER NOT NULL,
         event TEXT NOT NULL,
         cause TEXT
     ) STRICT;
     CREATE INDEX relent_history_key ON relent_history (namespace, key, id);
     CREATE INDEX relent_history_at ON relent_history (namespace, at);",
];

/// The version that the steps lead to.
pub(super) const VERSION: u32 = STEPS.len() as u32;

/// Brings the tables up to date, within a transaction.
pub(super) fn migrate(connection: &Connection, place: &str) -> Result<(), SqliteError> {
    let version = version(connection, place)?;
    for step in STEPS.iter().skip(version as usize) {
        connection.execute_batch(step).map_err(failed(place))?;
    }
    let update = "UPDATE relent_meta SET version = ?1";
    let updated = connection.execute(update, [VERSION]);
    updated.map(drop).map_err(failed(place))
}

/// The version of the tables; 0 if there are none. Refuses what is not ours to write to.
pub(super) fn version(connection: &Connection, place: &str) -> Result<u32, SqliteError> {
    let refused = |problem| unreadable(place, problem);
    let tables = tables(connection, place)?;
    let has = |table: &str| tables.iter().any(|name| name == table);
    if tables.is_empty() {
        return Ok(0);
    }
    if !has("relent_meta") {
        let why = "it has a table `relent` or `relent_history`, but no `relent_meta`";
        return Err(refused(Problem::Foreign(why.to_owned())));
    }
    let version = connection
        .query_row("SELECT version FROM relent_meta", [], |row| row.get(0))
        .optional()
        .map_err(|error| match error.sqlite_error_code() {
            // It has other columns, or the column is of another type.
            None | Some(ErrorCode::Unknown) => {
                refused(Problem::Foreign(format!("`relent_meta`: {error}")))
            }
            Some(_) => failed(place)(error),
        })?;
    let version: i64 = version.unwrap_or_default();
    let damaged = |why| Err(refused(Problem::Damaged(why)));
    match u32::try_from(version) {
        Ok(1..=VERSION) if !has("relent") => damaged("it has no table `relent`".to_owned()),
        Ok(2..=VERSION) if !has("relent_history") => {
            damaged("it has no table `relent_history`".to_owned())
        }
        Ok(version @ 1..=VERSION) => Ok(version),
        Ok(found) if found > VERSION => Err(refused(Problem::Newer {
            found: found.into(),
            known: VERSION.into(),
        })),
        _ => damaged(format!("`relent_meta` says version {version}")),
    }
}

/// Which of our tables there are. Refuses views of their names.
fn tables(connection: &Connection, place: &str) -> Result<Vec<String>, SqliteError> {
    let names = || -> rusqlite::Result<Vec<(String, bool)>> {
        let mut names = connection.prepare(
            "SELECT name, type = 'view' FROM sqlite_schema WHERE type IN ('table', 'view')
             AND name IN ('relent', 'relent_meta', 'relent_history')",
        )?;
        let names = names.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        names.collect()
    };
    let names = names().map_err(failed(place))?;
    if let Some((view, _)) = names.iter().find(|(_, is_view)| *is_view) {
        let why = format!("`{view}` is a view");
        return Err(unreadable(place, Problem::Foreign(why)));
    }
    Ok(names.into_iter().map(|(name, _)| name).collect())
}

/// The latest time at which any record was written.
pub(super) fn latest(connection: &Connection) -> rusqlite::Result<i64> {
    let latest = "SELECT coalesce(max(max(since, coalesce(lease_since, 0))), 0) FROM relent";
    connection.query_row(latest, [], |row| row.get(0))
}
