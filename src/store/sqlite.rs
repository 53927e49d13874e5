//! A store in a SQLite database.

mod database;
mod error;
mod history;
mod list;
mod range;
mod row;
mod schema;
mod turn;
mod update;

pub use error::SqliteError;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

use super::blocking::Store;
use super::change::Change;
use super::desk;
use super::error::Fault;
use super::key::InvalidKey;
use super::lease::LeaseLost;
use super::listing::{Listed, Page, Which};
use super::record::Record;
use super::step::Start;
use super::unreadable::{Problem, Unreadable};
use crate::clock::{Clock, MonotonicClock};
use database::Database;

/// Keeps records in a table of a SQLite database, for all processes of one host.
///
/// The database may be one that the program already has: the tables are named `relent…`, and can be
/// joined with. What was answered is on the disk (write-ahead log, `synchronous = FULL`); a killed
/// process loses none of it. Several processes may work on the same file, and several stores within
/// one process: of two that write, the second waits for its turn, up to [`BUSY`](Self::BUSY).
/// Readers do not wait, and see what is committed.
///
/// A row that cannot be read is an error that names it, and is left as it is. Lists and claims pass
/// it over where there is anything else to answer; [`unreadable`](Self::unreadable) finds it.
///
/// The store goes by the machine's clock. If that is set back, lists show as due what is [from the
/// future](Record::is_from_the_future). A process notices this once the clock shows less than the
/// latest time that it knows, from the table when it was opened, or since. Until then, a key that
/// another process wrote at a later time may be in no list, at most for as long as the clock was
/// set back by; but whoever takes such a key, or asks about it, gets the right answer at once.
///
/// Opening the database reads the whole table, for the latest time in it.
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
/// Times and intervals are nanoseconds; times since 1970. Rows are changed in place, so there may
/// be other columns, and references to them, of your own. An index on `(namespace, due, key)`
/// serves lists, and joins such as this: every machine that nobody works on, that does not back
/// off, and that has not given up.
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
/// let now = tracker.store().now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as i64;
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
    database: Arc<Database>,
    namespace: String,
    clock: C,
    history: bool,
}

impl SqliteStore {
    /// How long a call waits for its turn to write before it fails. While somebody else has a
    /// transaction open, dropping a heartbeat may take as long, since it finishes its call;
    /// dropping a flusher may take twice as long, since it also flushes a last time.
    pub const BUSY: Duration = Duration::from_secs(10);

    /// Opens the database at `path`, makes it if there is none, and brings its tables
    /// [up to date](Self::migrate).
    ///
    /// To `SQLite`, an empty path and `:memory:` are databases that nobody else sees, and that end
    /// with the store.
    ///
    /// # Errors
    ///
    /// [`SqliteError::Unreadable`] if the file is not a database, or is damaged, or has tables of
    /// these names that are not relent's, or of a newer version; [`SqliteError::Sqlite`].
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteStore, SqliteError> {
        Ok(SqliteStore::on(Database::open(path.as_ref())?))
    }

    /// Takes over a connection, which waits for its turn in whatever way it is set up to, and
    /// brings the tables [up to date](Self::migrate).
    ///
    /// For a database in memory, or one that takes more than a path to open. The store then has no
    /// other connection: while a thread waits for its turn to write, all others wait for that
    /// thread, readers too.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn new(connection: Connection) -> Result<SqliteStore, SqliteError> {
        Ok(SqliteStore::on(Database::over(connection)?))
    }

    fn on(database: Database) -> SqliteStore {
        SqliteStore {
            database: Arc::new(database),
            namespace: String::new(),
            clock: MonotonicClock,
            history: false,
        }
    }
}

impl<C> SqliteStore<C> {
    /// Brings the tables up to date, keeping what is in them. Does nothing if they are, so any
    /// number of processes may call it at any time.
    ///
    /// # Errors
    ///
    /// As for [`open`](SqliteStore::open).
    pub fn migrate(&self) -> Result<(), SqliteError> {
        self.database.migrate()
    }

    /// Goes by another clock's time of day: for tests. All processes must go by the same clock.
    #[must_use]
    pub fn with_clock<D: Clock>(self, clock: D) -> SqliteStore<D> {
        SqliteStore {
            database: self.database,
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
            database: Arc::clone(&self.database),
            namespace,
            clock: self.clock.clone(),
            history: self.history,
        })
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> SqliteError {
        error::failed(self.database.place())
    }

    fn damaged(&self, table: &str, key: &str, why: String) -> Unreadable {
        let place = self.database.place();
        Unreadable {
            place: format!("the row {key:?} of {table} in {place}"),
            problem: Problem::Damaged(why),
        }
    }
}

impl<C: Clock> SqliteStore<C> {
    /// The store's time: what a query of your own compares the column `due` with.
    pub fn now(&self) -> SystemTime {
        self.database.moment(&self.clock).now
    }
}

impl<C: Clock> Store for SqliteStore<C> {
    type Error = SqliteError;

    fn fault(&self, error: &SqliteError) -> Fault {
        error::fault(error, self.database.place())
    }

    fn update<R>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, SqliteError> {
        self.alone(|transaction, moment| self.step(transaction, key, moment.now, change))
    }

    fn update_all<R>(
        &self,
        keys: &[&str],
        mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<Vec<R>, SqliteError> {
        self.alone(|transaction, moment| {
            let each = keys.iter().enumerate();
            each.map(|(n, key)| {
                self.step(transaction, key, moment.now, |record, now| {
                    change(n, record, now)
                })
            })
            .collect()
        })
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), SqliteError> {
        let connection = self.database.reader().lock();
        let record = self.get(&connection, key)?;
        // Read after the row, so that nothing in the row is from the future.
        Ok((record, self.now()))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, SqliteError> {
        let look = |connection: &Connection, moment| self.page(connection, page, moment);
        self.database.at_once(&self.clock, look)
    }

    fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, SqliteError> {
        self.alone(|transaction, moment| {
            let due = self.page(transaction, &Page::first(Which::Due, limit), moment)?;
            let started = due.iter().enumerate().map(|(n, Listed { key, .. })| {
                let start = start.nth(n);
                self.step(transaction, key, moment.now, |record, now| {
                    start.apply(record, now)
                })
            });
            let started = started.collect::<Result<_, _>>()?;
            Ok(Listed::started(due, started))
        })
    }

    /// In one transaction, which takes one turn. An error in one row concerns that row alone.
    fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        mut told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), SqliteError> {
        let mut change = desk::extensions(leases, time_to_live);
        let mut missed = Ok(());
        let extended = self.alone(|transaction, moment| {
            let mut extended = Vec::with_capacity(leases.len());
            for (n, (key, _)) in leases.iter().enumerate() {
                let change = |record: Option<&Record>, now| change(n, record, now);
                match self.step(transaction, key, moment.now, change) {
                    Ok(answer) => extended.push((n, answer)),
                    // Some errors end the transaction.
                    Err(error)
                        if self.fault(&error) == Fault::Store || transaction.is_autocommit() =>
                    {
                        return Err(error);
                    }
                    Err(error) => missed = Err(error),
                }
            }
            Ok(extended)
        })?;
        for (n, answer) in extended {
            told(n, answer);
        }
        missed
    }
}
