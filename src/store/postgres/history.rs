//! The history of keys, for those who ask for one.

use std::time::SystemTime;

use sqlx::{query, query_as};

use super::again::again;
use super::error::PostgresError;
use super::moment::Moment;
use super::{PostgresStore, count, row};
use crate::store::desk::checked;
use crate::store::error::Error;
use crate::store::history::Entry;
use crate::store::unreadable::Unreadable;

/// `$1` namespace, `$2` key, `$3` how many.
const HISTORY: &str = "
    SELECT at, event, cause FROM relent_history
    WHERE namespace = $1 AND key = $2 ORDER BY id DESC LIMIT $3";

/// Answers how many were found, and how many of those were deleted: others may delete the same ones
/// at the same time, so that only the former tells whether there may be more.
///
/// `$1` namespace, `$2` time, `$3` how many.
const PRUNE: &str = "
    WITH old AS (
        SELECT id FROM relent_history WHERE namespace = $1 AND at < $2 ORDER BY at LIMIT $3
    ), gone AS (
        DELETE FROM relent_history WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id
    )
    SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone)";

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
    /// The key is not valid; the database's.
    pub async fn history(
        &self,
        key: &str,
        limit: usize,
    ) -> Result<Vec<Entry>, Error<PostgresError>> {
        let key = checked(key)?;
        let read = || {
            query(HISTORY)
                .bind(&self.namespace)
                .bind(key)
                .bind(count(limit))
                .fetch_all(&self.pool)
        };
        let rows = again(read).await?;
        let refused = |problem| self.refused("relent_history", key, problem);
        let entries = rows.iter().map(|row| row::entry(row).map_err(refused));
        let entries: Result<_, Unreadable> = entries.collect();
        Ok(entries.map_err(PostgresError::from)?)
    }

    /// Deletes what happened before `time` to any key of the namespace. Returns how many entries
    /// that was.
    ///
    /// Deletes a thousand entries at a time, each thousand in a commit of its own, so that none
    /// takes long. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// The database's. Some entries may have been deleted by then.
    pub async fn prune_history(&self, time: SystemTime) -> Result<u64, PostgresError> {
        const MOST: i64 = 1000;
        let mut pruned = 0;
        loop {
            let prune = || {
                query_as(PRUNE)
                    .bind(&self.namespace)
                    .bind(Moment::of(time))
                    .bind(MOST)
                    .fetch_one(&self.pool)
            };
            let (found, gone): (i64, i64) = again(prune).await?;
            pruned += gone.unsigned_abs();
            if found < MOST {
                return Ok(pruned);
            }
        }
    }
}
