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
        let connection = self.shared.connection.lock();
        let entries = row::history(&connection, &self.namespace, key, limit)?;
        let entries = entries
            .into_iter()
            .map(|entry| entry.map_err(|why| self.damaged("relent_history", key, why)));
        entries.collect()
    }

    /// Deletes what happened before `time` to any key of the namespace. Returns how much.
    ///
    /// # Errors
    ///
    /// The database's.
    pub fn prune_history(&self, time: SystemTime) -> Result<usize, SqliteError> {
        let connection = self.shared.connection.lock();
        Ok(row::prune(
            &connection,
            &self.namespace,
            columns::time(time),
        )?)
    }
}
