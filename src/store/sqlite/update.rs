//! Changing rows, within a transaction.

use std::time::SystemTime;

use rusqlite::{Connection, Transaction};

use super::database::{Moment, place_of};
use super::error::{self, SqliteError};
use super::{SqliteStore, history, row};
use crate::clock::Clock;
use crate::store::blocking::Transactional;
use crate::store::change::{Change, Settled, Write};
use crate::store::columns;
use crate::store::record::Record;

impl<C: Clock> SqliteStore<C> {
    /// Runs `work` in a transaction during which nobody else writes, and commits it.
    pub(super) fn alone<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>, Moment) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        let database = &self.database;
        // The time is read once it is our turn.
        database.in_turn(|transaction| work(transaction, database.moment(&self.clock)))
    }

    /// Makes one change within a transaction.
    pub(super) fn step<R>(
        &self,
        transaction: &Connection,
        key: &str,
        now: SystemTime,
        change: impl FnOnce(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, SqliteError> {
        let failed = failed_on(transaction);
        let record = self.get(transaction, key)?;
        let is_there = record.is_some();
        let change = change(record.as_ref(), now);
        let Settled {
            write,
            events,
            answer,
        } = change
            .settle(|| row::next_token(transaction))
            .map_err(&failed)?;
        if self.history {
            let cause = match &write {
                Write::Put(record) => Some(record.cause.as_str()),
                Write::Keep | Write::Delete => None,
            };
            for event in events.into_iter().flatten() {
                let at = columns::time(now);
                history::note(transaction, &self.namespace, key, at, event, cause)
                    .map_err(&failed)?;
            }
        }
        let written = match &write {
            Write::Keep => Ok(()),
            Write::Put(record) => row::put(transaction, &self.namespace, key, record, is_there),
            Write::Delete => row::delete(transaction, &self.namespace, key),
        };
        written.map_err(failed)?;
        Ok(answer)
    }

    pub(super) fn get(
        &self,
        connection: &Connection,
        key: &str,
    ) -> Result<Option<Record>, SqliteError> {
        let found = row::get(connection, &self.namespace, key);
        let found = found.map_err(failed_on(connection))?;
        found
            .transpose()
            .map_err(|why| self.damaged("relent", key, why).into())
    }
}

/// What went wrong on a connection, which may be the caller's, and to the wrong database.
fn failed_on(connection: &Connection) -> impl Fn(rusqlite::Error) -> SqliteError {
    |error| error::failed(&place_of(connection))(error)
}

/// Within a transaction on a connection of the caller's to the same database. Begin it as
/// [immediate](rusqlite::TransactionBehavior::Immediate): one of another kind may fail to become a
/// writer.
///
/// From then until it is committed, nobody else can write, this store included. So within it, write
/// only by the methods whose names end in `_in`: any other would wait for the transaction to end,
/// and fail after [`BUSY`](SqliteStore::BUSY), as it would on every other thread. And keep the
/// transaction short: a heartbeat has to get its turn within the leases' time to live.
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
