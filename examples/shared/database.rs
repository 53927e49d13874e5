//! A database that has a program's tables beside those of a store: SQLite or PostgreSQL, behind one
//! blocking face.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use relent::clock::Clock;
use relent::store::blocking::Transactional;
use relent::store::{Entry, SqliteStore};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params_from_iter};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) trait Database {
    type Store: Transactional + Send + Sync + 'static;
    type Transaction<'a>: Transaction<Store = Self::Store>
    where
        Self: 'a;

    /// The store of this namespace, with a history.
    fn store(&self, namespace: &str) -> Result<Self::Store, Error>;
    /// What happened to a key, in order.
    fn history(&self, namespace: &str, key: &str) -> Result<Vec<Entry>, Error>;
    fn begin(&mut self) -> Result<Self::Transaction<'_>, Error>;

    /// One statement in a transaction of its own.
    fn query(&mut self, sql: &str, values: &[&str]) -> Result<Option<String>, Error> {
        let mut transaction = self.begin()?;
        let found = transaction.query(sql, values)?;
        transaction.commit()?;
        Ok(found)
    }
}

/// Rolled back when dropped.
pub(crate) trait Transaction {
    type Store: Transactional;

    /// The store's time, in SQL.
    fn now(&self) -> String;
    /// The SQL that locks the chosen `machine` for this transaction, and passes over those that
    /// others have locked.
    fn lock(&self) -> &'static str;
    /// The first column of the first row, if there is any. The values are `$1`, `$2` and so on,
    /// which first appear in that order.
    fn query(&mut self, sql: &str, values: &[&str]) -> Result<Option<String>, Error>;
    /// The connection by which the store takes part in this transaction.
    fn connection(&mut self) -> <Self::Store as Transactional>::Connection<'_>;
    fn commit(self) -> Result<(), Error>;
}

/// For the processes of one host, which all go by the same clock.
pub(crate) struct Sqlite<C> {
    connection: Connection,
    store: SqliteStore<C>,
}

impl<C: Clock + Clone> Sqlite<C> {
    pub(crate) fn open(home: &Path, clock: C) -> Result<Sqlite<C>, Error> {
        let path = home.join("machines.db");
        let store = SqliteStore::open(&path)?.with_clock(clock);
        let connection = Connection::open(&path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        Ok(Sqlite {
            connection,
            store: store.with_history(),
        })
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> Database for Sqlite<C> {
    type Store = SqliteStore<C>;
    type Transaction<'a> = SqliteTransaction<'a, C>;

    fn store(&self, namespace: &str) -> Result<SqliteStore<C>, Error> {
        Ok(self.store.namespace(namespace)?)
    }

    fn history(&self, namespace: &str, key: &str) -> Result<Vec<Entry>, Error> {
        let mut history = self.store(namespace)?.history(key, 1000)?;
        history.reverse();
        Ok(history)
    }

    fn begin(&mut self) -> Result<SqliteTransaction<'_, C>, Error> {
        let immediate = TransactionBehavior::Immediate;
        Ok(SqliteTransaction {
            inner: self.connection.transaction_with_behavior(immediate)?,
            store: &self.store,
        })
    }
}

pub(crate) struct SqliteTransaction<'a, C> {
    inner: rusqlite::Transaction<'a>,
    store: &'a SqliteStore<C>,
}

impl<C: Clock> Transaction for SqliteTransaction<'_, C> {
    type Store = SqliteStore<C>;

    fn now(&self) -> String {
        let since_1970 = self.store.now().duration_since(UNIX_EPOCH);
        since_1970.unwrap_or_default().as_nanos().to_string()
    }

    fn lock(&self) -> &'static str {
        // Nobody else writes meanwhile.
        ""
    }

    fn query(&mut self, sql: &str, values: &[&str]) -> Result<Option<String>, Error> {
        let values = params_from_iter(values);
        let found = self.inner.query_row(sql, values, |row| row.get(0));
        Ok(found.optional()?)
    }

    fn connection(&mut self) -> &Connection {
        &self.inner
    }

    fn commit(self) -> Result<(), Error> {
        Ok(self.inner.commit()?)
    }
}
