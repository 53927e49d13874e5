//! What happened to keys, for those who asked to note it.

use std::time::SystemTime;

use sqlx::query;

use super::again::again;
use super::error::PostgresError;
use super::moment::Moment;
use super::{PostgresStore, count, row};
use crate::store::history::Entry;

/// `$1` namespace, `$2` key, `$3` how many.
const HISTORY: &str = "
    SELECT at, event, cause FROM relent_history
    WHERE namespace = $1 AND key = $2 ORDER BY id DESC LIMIT $3";

/// `$1` namespace, `$2` time.
const PRUNE: &str = "DELETE FROM relent_history WHERE namespace = $1 AND at < $2";

impl PostgresStore {
    /// Keeps a history of what happens to keys from now on: who [started](crate::store::Event) and
    /// how it ended. Every process that should add to it has to say so.
    #[must_use]
    pub fn with_history(mut self) -> PostgresStore {
        self.history = true;
        self
    }

    /// The last `limit` things that happened to a key, the latest first.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn history(&self, key: &str, limit: usize) -> Result<Vec<Entry>, PostgresError> {
        let read = || {
            query(HISTORY)
                .bind(&self.namespace)
                .bind(key)
                .bind(count(limit))
                .fetch_all(&self.pool)
        };
        let rows = again(read).await?;
        let entries = rows.iter().map(row::entry);
        entries
            .map(|entry| Ok(entry.map_err(|problem| self.refused("relent_history", key, problem))?))
            .collect()
    }

    /// Deletes what happened before `time` to any key of the namespace. Returns how much.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn prune_history(&self, time: SystemTime) -> Result<u64, PostgresError> {
        let prune = || {
            query(PRUNE)
                .bind(&self.namespace)
                .bind(Moment::of(time))
                .execute(&self.pool)
        };
        let pruned = again(prune).await?;
        Ok(pruned.rows_affected())
    }
}
