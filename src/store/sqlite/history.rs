//! What happened to keys, for those who asked to note it.

use std::time::SystemTime;

use super::error::SqliteError;
use super::{SqliteStore, row};
use crate::store::columns;
use crate::store::history::Entry;

impl<C> SqliteStore<C> {
    /// Keeps a history of what happens to keys from now on: who [started](crate::store::Event) and
    /// how it ended. Every process that should add to it has to say so.
    #[must_use]
    pub fn with_history(mut self) -> SqliteStore<C> {
        self.history = true;
        self
    }

    /// The last `limit` things that happened to a key, the latest first.
    ///
    /// # Errors
    ///
    /// The database's.
    pub fn history(&self, key: &str, limit: usize) -> Result<Vec<Entry>, SqliteError> {
        let connection = self.database.reader().lock();
        let entries = row::history(&connection, &self.namespace, key, limit);
        let entries = entries.map_err(self.failed())?.into_iter();
        let entries = entries
            .map(|entry| entry.map_err(|why| self.damaged("relent_history", key, why).into()));
        entries.collect()
    }

    /// Deletes what happened before `time` to any key of the namespace. Returns how much.
    ///
    /// A thousand entries at a time, so that others get their turns in between.
    ///
    /// # Errors
    ///
    /// The database's. Some may be deleted by then.
    pub fn prune_history(&self, time: SystemTime) -> Result<usize, SqliteError> {
        const MOST: usize = 1000;
        let before = columns::time(time);
        let mut pruned = 0;
        loop {
            let some = self.database.in_turn(|transaction| {
                row::prune(transaction, &self.namespace, before, MOST).map_err(self.failed())
            })?;
            pruned += some;
            if some < MOST {
                return Ok(pruned);
            }
        }
    }
}
