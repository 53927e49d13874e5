//! Machines in SQLite, for the worker processes of one host.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use relent::Decision;
use relent::clock::Clock;
use relent::store::blocking::{DurableTracker, Heartbeat, Work};
use relent::store::{Entry, Options, Session, SqliteStore, StartError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::machines::{Error, Kind, Machines, Refused};

pub(crate) struct Sqlite<C> {
    pub(crate) connection: Connection,
    pub(crate) tracker: DurableTracker<SqliteStore<C>>,
    kind: Kind,
    clock: C,
    heartbeat: Option<Heartbeat>,
}

impl<C: Clock + Clone> Sqlite<C> {
    /// All processes go by the same clock.
    pub(crate) fn open(
        path: &Path,
        kind: Kind,
        clock: C,
        options: Options,
    ) -> Result<Sqlite<C>, Error> {
        let store = SqliteStore::open(path)?.with_clock(clock.clone());
        let store = store.with_history().namespace(kind.name())?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS machine (
                 id TEXT PRIMARY KEY,
                 os TEXT,
                 down INTEGER NOT NULL,
                 note TEXT CHECK (note <> 'nonsense')
             ) STRICT",
        )?;
        Ok(Sqlite {
            connection,
            tracker: DurableTracker::new(store, options),
            kind,
            clock,
            heartbeat: None,
        })
    }

    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> Machines for Sqlite<C> {
    type Taken = Work<SqliteStore<C>>;

    fn take(&mut self) -> Result<Option<Self::Taken>, Error> {
        let (kind, tracker, clock) = (self.kind, self.tracker.clone(), self.clock.clone());
        let needs = match kind {
            Kind::Initialize => "machine.os IS NULL",
            Kind::Recover => "machine.down",
        };
        let eligible = format!(
            "SELECT machine.id FROM machine
             LEFT JOIN relent ON relent.namespace = ?1 AND relent.key = machine.id AND relent.due > ?2
             WHERE relent.key IS NULL AND {needs} ORDER BY machine.id LIMIT 1"
        );
        let transaction = self.begin()?;
        let now = i64::try_from(clock.wall().duration_since(UNIX_EPOCH)?.as_nanos())?;
        let found = transaction.query_row(&eligible, params![kind.name(), now], |row| row.get(0));
        let Some(machine): Option<String> = found.optional()? else {
            return Ok(None);
        };
        let granted = match tracker.start_in(&transaction, &machine) {
            Ok(granted) => Some(granted),
            // It was left by a worker that died: that has just been counted as a failure.
            Err(StartError::Refused(_)) => None,
            Err(error) => return Err(error.into()),
        };
        transaction.commit()?;
        Ok(granted.map(|granted| tracker.committed(granted)))
    }

    fn finish(&mut self, work: &Self::Taken, tag: &str) -> Result<(), Refused> {
        let done = match self.kind {
            Kind::Initialize => "UPDATE machine SET os = ?1 WHERE id = ?2",
            Kind::Recover => "UPDATE machine SET down = FALSE, note = ?1 WHERE id = ?2",
        };
        let store = |error: rusqlite::Error| Refused::Store(error.into());
        let transaction = self.begin().map_err(store)?;
        work.finish_in(&transaction)?;
        let noted = transaction.execute(done, params![tag, work.key()]);
        noted.and_then(|_| transaction.commit()).map_err(store)
    }

    fn fail(&mut self, work: &Self::Taken, cause: &str) -> Result<Decision, Refused> {
        Ok(work.fail(cause)?)
    }

    fn cancel(&mut self, work: &Self::Taken) -> Result<(), Refused> {
        Ok(work.cancel()?)
    }

    fn session(&self) -> &Session {
        self.tracker.session()
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.tracker = self.tracker.renewed();
        self.heartbeat = Some(self.tracker.heartbeat()?);
        Ok(())
    }

    fn add(&self, machine: &str, is_down: bool) -> Result<(), Error> {
        let add = "INSERT INTO machine (id, down) VALUES (?1, ?2)";
        self.connection.execute(add, params![machine, is_down])?;
        Ok(())
    }

    fn left(&self) -> Result<i64, Error> {
        let left = "SELECT count(*) FROM machine WHERE os IS NULL OR down";
        Ok(self.connection.query_row(left, [], |row| row.get(0))?)
    }

    fn history(&self, machine: &str) -> Result<Vec<Entry>, Error> {
        let mut history = self.tracker.store().history(machine, 1000)?;
        history.reverse();
        Ok(history)
    }
}
