//! A store in a SQLite database.

mod error;
mod row;
mod schema;
mod turn;

pub use error::SqliteError;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::blocking::{Store, Transactional};
use super::change::{Change, Settled, Write};
use super::columns;
use super::history::Entry;
use super::key::InvalidKey;
use super::listing::{Listed, Page, Which};
use super::record::Record;
use super::step::Start;
use crate::clock::{Clock, MonotonicClock};

/// Keeps records in a table of a SQLite database, for all processes of one host.
///
/// The database may be one that the program has anyway: the tables are named `relent…`, and are
/// there to be joined against. What was answered is on the disk (write-ahead log, `synchronous =
/// FULL`); a killed process loses nothing of it. Several processes, and several of these within one,
/// may work on the same file: whoever comes second waits for its turn, up to
/// [`BUSY`](Self::BUSY).
///
/// The machine's clock is the store's.
///
/// # The table
///
/// | column of `relent` | |
/// |---|---|
/// | `namespace`, `key` | the primary key |
/// | `failures` | how many in a row |
/// | `interval` | the last interval; `NULL` starts anew |
/// | `first_failure`, `since`, `until` | when the streak began, when the last failure was recorded, when the wait is over |
/// | `due` | when the key can be taken: the later of `until` and `lease_until`; 9223372036854775807 if it gave up |
/// | `gave_up` | `NULL`, `'failures'` or `'elapsed'` |
/// | `cause` | what went wrong last |
/// | `token`, `holder`, `lease_since`, `lease_until` | the lease; `NULL` if there is none |
///
/// Times and intervals are nanoseconds; times since 1970. An index on `(namespace, due, key)` serves
/// lists, and joins such as this: every machine that nobody works on, that does not back off, and
/// that has not given up.
///
/// ```
/// use relent::{Backoff, store::{SqliteStore, blocking::DurableTracker}};
/// use std::time::{Duration, SystemTime};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("machines.db");
/// let tracker = DurableTracker::new(SqliteStore::open(&path)?, Backoff::DEFAULT);
/// tracker.record_failure("m2", "no answer")?;
///
/// let machines = rusqlite::Connection::open(&path)?;
/// machines.execute_batch("CREATE TABLE machine (id TEXT); INSERT INTO machine VALUES ('m1'), ('m2')")?;
/// let now = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos() as i64;
/// let mut eligible = machines.prepare(
///     "SELECT machine.id FROM machine
///      LEFT JOIN relent ON relent.namespace = '' AND relent.key = machine.id AND relent.due > ?1
///      WHERE relent.key IS NULL",
/// )?;
/// let eligible = eligible.query_map([now], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
/// assert_eq!(eligible, ["m1"]);
/// let work = tracker.start_any(eligible)?;
/// assert_eq!(work.map(|work| work.key().to_owned()).as_deref(), Some("m1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SqliteStore<C = MonotonicClock> {
    shared: Arc<Shared>,
    namespace: String,
    clock: C,
    history: bool,
}

#[derive(Debug)]
struct Shared {
    connection: Mutex<Connection>,
    /// No record was written later than this. So only while the clock shows less need lists look for
    /// records from the future, which no index finds.
    latest: AtomicI64,
    place: String,
}

impl SqliteStore {
    /// How long a call waits for its turn at most, on a connection of its own.
    pub const BUSY: Duration = Duration::from_secs(10);

    /// Opens the database at `path`, makes it if there is none, and brings its tables
    /// [up to date](Self::migrate).
    ///
    /// # Errors
    ///
    /// [`SqliteError::Unreadable`] if the file is no database, or has tables of these names that are
    /// something else or of a newer version; [`SqliteError::Sqlite`].
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteStore, SqliteError> {
        let connection = Connection::open(path)?;
        connection.busy_handler(Some(turn::wait))?;
        SqliteStore::new(connection)
    }

    /// Takes over a connection, with its own way to wait for its turn, and brings the tables
    /// [up to date](Self::migrate).
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn new(connection: Connection) -> Result<SqliteStore, SqliteError> {
        let place = connection.path().unwrap_or_default();
        let place = format!("the SQLite database {place:?}");
        // Before anything is written to what may not be ours.
        schema::check(&connection, &place)?;
        turn::to_write_ahead(&connection)?;
        connection.pragma_update(None, "synchronous", "full")?;
        let store = SqliteStore {
            shared: Arc::new(Shared {
                connection: Mutex::new(connection),
                latest: AtomicI64::new(0),
                place,
            }),
            namespace: String::new(),
            clock: MonotonicClock,
            history: false,
        };
        store.migrate()?;
        let latest = schema::latest(&store.shared.connection.lock())?;
        store.shared.latest.store(latest, Relaxed);
        Ok(store)
    }
}

impl<C> SqliteStore<C> {
    /// Brings the tables up to date, keeping what is in them. Does nothing if they are, so any
    /// number of processes may do so at any time.
    ///
    /// # Errors
    ///
    /// As for [`open`](SqliteStore::open).
    pub fn migrate(&self) -> Result<(), SqliteError> {
        schema::migrate(&mut self.shared.connection.lock(), &self.shared.place)
    }

    /// Keeps a history of what happens to keys from now on: who [started](super::Event) and how it
    /// ended. Every process that should add to it has to say so.
    #[must_use]
    pub fn with_history(mut self) -> SqliteStore<C> {
        self.history = true;
        self
    }

    /// Goes by another clock's time of day: for tests. All processes must go by the same.
    #[must_use]
    pub fn with_clock<D: Clock>(self, clock: D) -> SqliteStore<D> {
        SqliteStore {
            shared: self.shared,
            namespace: self.namespace,
            clock,
            history: self.history,
        }
    }

    /// Another set of keys in the same tables, over the same connection. The first is named `""`.
    ///
    /// # Errors
    ///
    /// More than [`MAX_NAMESPACE`](super::MAX_NAMESPACE) bytes, or a NUL.
    pub fn namespace(&self, name: impl Into<String>) -> Result<SqliteStore<C>, InvalidKey>
    where
        C: Clone,
    {
        let namespace = name.into();
        InvalidKey::check_namespace(&namespace)?;
        Ok(SqliteStore {
            shared: Arc::clone(&self.shared),
            namespace,
            clock: self.clock.clone(),
            history: self.history,
        })
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

    fn damaged(&self, table: &str, key: &str, why: String) -> SqliteError {
        let place = &self.shared.place;
        error::damaged(format!("the row {key:?} of {table} in {place}"), why)
    }
}

impl<C: Clock> SqliteStore<C> {
    /// Runs `work` in a transaction that nobody else writes beside, and commits it.
    fn alone<T>(
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
    fn step<R>(
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

    fn get(&self, connection: &Connection, key: &str) -> Result<Option<Record>, SqliteError> {
        let found = row::get(connection, &self.namespace, key)?;
        found
            .transpose()
            .map_err(|why| self.damaged("relent", key, why))
    }

    fn page(
        &self,
        connection: &Connection,
        page: &Page,
        now: SystemTime,
    ) -> Result<Vec<Listed>, SqliteError> {
        let time = columns::time(now);
        let mut listed = self.range(connection, row::Range::of(page.which), page, time)?;
        let is_set_back = time < self.shared.latest.load(Relaxed);
        if page.which == Which::Due && is_set_back && listed.len() < page.limit {
            let rest = Page {
                limit: page.limit - listed.len(),
                ..page.clone()
            };
            listed.extend(self.range(connection, row::Range::FromTheFuture, &rest, time)?);
        }
        Ok(listed)
    }

    fn range(
        &self,
        connection: &Connection,
        range: row::Range,
        page: &Page,
        now: i64,
    ) -> Result<Vec<Listed>, SqliteError> {
        let rows = row::list(connection, &self.namespace, range, page, now)?;
        let listed = rows.into_iter().map(|(key, record)| match record {
            Ok(record) => Ok(Listed { key, record }),
            Err(why) => Err(self.damaged("relent", &key, why)),
        });
        listed.collect()
    }

    fn now(&self) -> SystemTime {
        let now = self.clock.wall();
        self.shared.latest.fetch_max(columns::time(now), Relaxed);
        now
    }
}

impl<C: Clock> Store for SqliteStore<C> {
    type Error = SqliteError;

    fn update<R>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, SqliteError> {
        self.alone(|transaction, now| self.step(transaction, key, now, change))
    }

    fn update_all<R>(
        &self,
        keys: &[&str],
        mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<Vec<R>, SqliteError> {
        self.alone(|transaction, now| {
            let each = keys.iter().enumerate();
            each.map(|(n, key)| {
                self.step(transaction, key, now, |record, now| change(n, record, now))
            })
            .collect()
        })
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), SqliteError> {
        let connection = self.shared.connection.lock();
        let record = self.get(&connection, key)?;
        // After the row: what it says is then not from the future.
        Ok((record, self.now()))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, SqliteError> {
        let connection = self.shared.connection.lock();
        self.page(&connection, page, self.now())
    }

    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, SqliteError> {
        self.alone(|transaction, now| {
            let due = self.page(transaction, &Page::first(Which::Due, limit), now)?;
            let started = due.iter().enumerate().map(|(n, Listed { key, .. })| {
                let start = start.nth(n);
                self.step(transaction, key, now, |record, now| {
                    start.apply(record, now)
                })
            });
            let started = started.collect::<Result<_, _>>()?;
            Ok(Listed::started(due, started))
        })
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
