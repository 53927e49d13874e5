//! The history of keys, for those who ask for one.

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

/// `$1` namespace, `$2` time, `$3` how many.
const PRUNE: &str = "
    DELETE FROM relent_history WHERE id = ANY (ARRAY(
        SELECT id FROM relent_history WHERE namespace = $1 AND at < $2 ORDER BY at LIMIT $3
    ))";

impl PostgresStore {
    /// Keeps a history of what happens to keys from now on: when work on them
    /// [started](crate::store::Event), and how it ended. Every process that is to add to the
    /// history has to call this.
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

    /// Deletes what happened before `time` to any key of the namespace. Returns how many entries
    /// that was.
    ///
    /// Deletes a thousand entries at a time, each thousand in a commit of its own, so that none
    /// takes long.
    ///
    /// # Errors
    ///
    /// The database's. Some entries may have been deleted by then.
    pub async fn prune_history(&self, time: SystemTime) -> Result<u64, PostgresError> {
        const MOST: usize = 1000;
        let mut pruned = 0;
        loop {
            let prune = || {
                query(PRUNE)
                    .bind(&self.namespace)
                    .bind(Moment::of(time))
                    .bind(count(MOST))
                    .execute(&self.pool)
            };
            let some = again(prune).await?.rows_affected();
            pruned += some;
            if some < MOST as u64 {
                return Ok(pruned);
            }
        }
    }
}
