//! The statements that list, each from a part of the index.

use rusqlite::{Connection, params};

use super::row::{NEVER, fields, key_of, listed};
use crate::store::columns;
use crate::store::listing::{Listed, Page, Which};

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

    /// Without a `LIMIT`, as nobody knows how many rows have to be passed over; rows are only read
    /// as they are asked for.
    fn select(self) -> &'static str {
        macro_rules! select {
            ($what:literal) => {
                concat!(
                    "SELECT ",
                    fields!(),
                    " FROM relent WHERE namespace = ?1 AND (due, key) > (?3, ?4) AND ",
                    $what,
                    " ORDER BY due, key"
                )
            };
        }
        // A key that gave up is never due, though its column says the end of time, and a clock may
        // show that.
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
    // So that the index is entered where the range begins.
    let start = match range {
        Range::Due => i64::MIN,
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

/// The rows that cannot be read: their keys, and why not.
pub(super) fn unreadable(
    connection: &Connection,
    namespace: &str,
    limit: usize,
) -> rusqlite::Result<Vec<(String, String)>> {
    let select = concat!(
        "SELECT ",
        fields!(),
        " FROM relent WHERE namespace = ?1 ORDER BY key"
    );
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_and_then([namespace], |row| {
        Ok(listed(row).err().map(|why| (key_of(row), why)))
    })?;
    rows.filter_map(Result::transpose).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, params};

    use super::Range;
    use crate::store::sqlite::SqliteStore;

    /// How `SQLite` carries out the statements that [`list`] makes.
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
