//! Changing rows, within a transaction.

use std::time::SystemTime;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::error::SqliteError;
use super::{SqliteStore, row};
use crate::clock::Clock;
use crate::store::blocking::Transactional;
use crate::store::change::{Change, Settled, Write};
use crate::store::columns;
use crate::store::record::Record;

impl<C: Clock> SqliteStore<C> {
    /// Runs `work` in a transaction that nobody else writes beside, and commits it.
    pub(super) fn alone<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>, SystemTime) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        let mut connection = self.shared.connection.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read once it is our turn: what was written before us is then not from the future.
        let done = work(&transaction, self.now())?;
        transaction.commit()?;
        Ok(done)
    }

    /// Makes one change within a transaction.
    pub(super) fn step<R>(
        &self,
        transaction: &Connection,
        key: &str,
        now: SystemTime,
        change: impl FnOnce(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, SqliteError> {
        let record = self.get(transaction, key)?;
        let change = change(record.as_ref(), now);
        let Settled {
            write,
            events,
            answer,
        } = change.settle(|| row::next_token(transaction))?;
        let cause = match &write {
            Write::Put(record) => Some(record.cause.as_str()),
            Write::Keep | Write::Delete => None,
        };
        if self.history {
            for event in events.into_iter().flatten() {
                let at = columns::time(now);
                row::note(transaction, &self.namespace, key, at, event, cause)?;
            }
        }
        match &write {
            Write::Keep => {}
            Write::Put(record) => row::put(transaction, &self.namespace, key, record)?,
            Write::Delete => row::delete(transaction, &self.namespace, key)?,
        }
        Ok(answer)
    }

    pub(super) fn get(
        &self,
        connection: &Connection,
        key: &str,
    ) -> Result<Option<Record>, SqliteError> {
        let found = row::get(connection, &self.namespace, key)?;
        found
            .transpose()
            .map_err(|why| self.damaged("relent", key, why))
    }
}

/// Within a transaction on a connection of the caller's to the same database. Begin it as
/// [immediate](TransactionBehavior::Immediate): another may fail to become a writer.
impl<C: Clock> Transactional for SqliteStore<C> {
    type Connection<'a> = &'a Connection;

    fn update_in<R>(
        &self,
        connection: &Connection,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, SqliteError> {
        if connection.is_autocommit() {
            return Err(SqliteError::NoTransaction);
        }
        self.step(connection, key, self.now(), change)
    }
}
