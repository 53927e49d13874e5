//! The database: a connection to write by, and one to read by.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::error::{SqliteError, failed};
use super::{schema, turn};
use crate::atomic::AtomicI64;
use crate::clock::Clock;
use crate::store::columns;

#[derive(Debug)]
pub(super) struct Database {
    writer: Mutex<Connection>,
    /// Lets those who only read not wait for a writer. `None` if there is one connection for both.
    reader: Option<Mutex<Connection>>,
    /// Whether turns are waited for here; otherwise the connection itself waits.
    takes_turns: bool,
    /// No record was written later than this, as far as this process knows. So only while the clock
    /// shows less need lists look for records from the future, which no index finds.
    latest: AtomicI64,
    place: String,
}

/// The store's time, and what that means for what is kept.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: SystemTime,
    /// Whether something may have been written later than that.
    pub(super) is_set_back: bool,
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Database, SqliteError> {
        let connect = || turn::connect(path).map_err(failed(&place(&path.to_string_lossy())));
        let mut database = Database::over(connect()?)?;
        let writer = database.writer.get_mut();
        // Without a write-ahead log, as in memory, another connection would not see this one's
        // writes, or would wait for them all the same.
        if turn::is_write_ahead(writer).map_err(failed(&database.place))? {
            turn::wait_outside(writer).map_err(failed(&database.place))?;
            database.takes_turns = true;
            database.reader = Some(Mutex::new(connect()?));
        }
        Ok(database)
    }

    pub(super) fn over(connection: Connection) -> Result<Database, SqliteError> {
        let place = place_of(&connection);
        // Before anything is written to what may not be ours.
        schema::version(&connection, &place)?;
        turn::to_write_ahead(&connection).map_err(failed(&place))?;
        let full = connection.pragma_update(None, "synchronous", "full");
        full.map_err(failed(&place))?;
        let database = Database {
            writer: Mutex::new(connection),
            reader: None,
            takes_turns: false,
            latest: AtomicI64::new(0),
            place,
        };
        database.migrate()?;
        let latest = schema::latest(&database.reader().lock());
        let latest = latest.map_err(failed(&database.place))?;
        database.latest.store(latest, Relaxed);
        Ok(database)
    }

    pub(super) fn migrate(&self) -> Result<(), SqliteError> {
        if schema::version(&self.reader().lock(), &self.place)? == schema::VERSION {
            return Ok(());
        }
        self.in_turn(|transaction| schema::migrate(transaction, &self.place))
    }

    /// How errors name the database.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn reader(&self) -> &Mutex<Connection> {
        self.reader.as_ref().unwrap_or(&self.writer)
    }

    /// Runs `look` on what is there at one moment, whatever is written meanwhile.
    pub(super) fn at_once<T>(
        &self,
        clock: &impl Clock,
        look: impl FnOnce(&Connection, Moment) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        let connection = self.reader().lock();
        let begin = || {
            let transaction = connection.unchecked_transaction()?;
            // The transaction sees what is there when it first reads.
            let first = "SELECT version FROM relent_meta";
            let mut first = transaction.prepare_cached(first)?;
            first.query_row([], |_| Ok(()))?;
            drop(first);
            Ok(transaction)
        };
        let transaction = begin().map_err(failed(&self.place))?;
        look(&transaction, self.moment(clock))
    }

    /// Runs `work` in a transaction during which nobody else writes, and commits it.
    pub(super) fn in_turn<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        let mut waits = turn::waits();
        loop {
            let mut writer = self.writer.lock();
            let pause = match writer.transaction_with_behavior(TransactionBehavior::Immediate) {
                Ok(transaction) => {
                    let done = work(&transaction)?;
                    transaction.commit().map_err(failed(&self.place))?;
                    return Ok(done);
                }
                Err(error) => {
                    let wait = self.takes_turns && turn::is_busy(&error);
                    let pause = wait.then(|| waits.next()).flatten();
                    pause.ok_or_else(|| failed(&self.place)(error))?
                }
            };
            // Without the lock, so that each waiting thread waits out its own time.
            drop(writer);
            turn::pause(pause);
        }
    }

    /// The store's time. Ask for it once it is settled what can be seen: then all of that was
    /// written before, and none of it is from the future.
    pub(super) fn moment(&self, clock: &impl Clock) -> Moment {
        // Loaded before the clock is read: a later time that another thread stores in between does
        // not mean that the clock was set back.
        let latest = self.latest.load(Relaxed);
        let now = clock.wall();
        let nanos = columns::time(now);
        self.latest.fetch_max(nanos, Relaxed);
        Moment {
            now,
            is_set_back: nanos < latest,
        }
    }
}

/// How errors name the database that a connection is to.
pub(super) fn place_of(connection: &Connection) -> String {
    place(connection.path().unwrap_or_default())
}

fn place(path: &str) -> String {
    match path {
        "" => "the SQLite database in memory".to_owned(),
        path => format!("the SQLite database {path:?}"),
    }
}
