//! A store in a SQLite database.

mod error;
mod history;
mod list;
mod row;
mod schema;
mod turn;
mod update;

pub use error::SqliteError;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::blocking::Store;
use super::change::Change;
use super::columns;
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
/// The machine's clock is the store's. If it is set back, a process lists as due what is
/// [from the future](Record::is_from_the_future) as soon as the clock shows less than this process
/// has ever seen, when it opened the database or since. Until then, what another process wrote
/// later than that may be in no list, for at most as long as the clock was set back by. To take such
/// a key, or to ask about it, is right at once.
///
/// To open the database reads the whole table, for the latest time in it.
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
    /// No record was written later than this, as far as this process knows. So only while the clock shows less need lists look for
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
        let mut connection = Connection::open(path)?;
        turn::wait_for(&mut connection)?;
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

    fn damaged(&self, table: &str, key: &str, why: String) -> SqliteError {
        let place = &self.shared.place;
        error::damaged(format!("the row {key:?} of {table} in {place}"), why)
    }
}

impl<C: Clock> SqliteStore<C> {
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
