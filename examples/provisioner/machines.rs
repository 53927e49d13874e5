//! The user's own table, and the places where it meets the leases: each a transaction over both.

use std::path::Path;
use std::time::Duration;

use relent::clock::Clock;
use relent::store::blocking::{DurableTracker, Work};
use relent::store::{Error, Options, SqliteError, SqliteStore, StartError, WorkError};
use relent::{Backoff, Jitter};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

pub(crate) type Tracker<C> = DurableTracker<SqliteStore<C>>;
pub(crate) type Taken<C> = Work<SqliteStore<C>>;

/// A process that a machine goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Initialize,
    Recover,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Initialize, Kind::Recover];

    /// Where its leases and its backoff are kept: apart from those of the other.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Initialize => "initialize",
            Kind::Recover => "recover",
        }
    }

    /// From 5 minutes to 4 hours, and from 1 minute to 1 hour; here a second lasts a millisecond.
    pub(crate) const fn backoff(self) -> Backoff {
        const fn spread(initial: u64, max: u64) -> Backoff {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
            Backoff::exponential(initial, max)
                .exponent(1.2)
                .jitter(Jitter::Proportional(0.1))
        }
        match self {
            Kind::Initialize => spread(5 * 60, 4 * 60 * 60),
            Kind::Recover => spread(60, 60 * 60),
        }
    }

    const fn needed(self) -> &'static str {
        match self {
            Kind::Initialize => "machine.os IS NULL",
            Kind::Recover => "machine.down",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Kind::Initialize => "UPDATE machine SET os = ?1 WHERE id = ?2",
            Kind::Recover => "UPDATE machine SET down = FALSE, note = ?1 WHERE id = ?2",
        }
    }
}

pub(crate) struct Machines<C> {
    pub(crate) connection: Connection,
    pub(crate) store: SqliteStore<C>,
    clock: C,
}

impl<C: Clock + Clone> Machines<C> {
    /// All processes go by the same clock.
    pub(crate) fn open(path: &Path, clock: C) -> Result<Machines<C>, SqliteError> {
        let store = SqliteStore::open(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(SqliteStore::BUSY)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS machine (
                 id TEXT PRIMARY KEY,
                 os TEXT,
                 down INTEGER NOT NULL DEFAULT FALSE,
                 note TEXT CHECK (note <> 'nonsense')
             ) STRICT",
        )?;
        Ok(Machines {
            connection,
            store: store.with_clock(clock.clone()).with_history(),
            clock,
        })
    }

    pub(crate) fn tracker(&self, kind: Kind, options: Options) -> Tracker<C> {
        let store = self.store.namespace(kind.name());
        DurableTracker::new(store.expect("a short name"), options)
    }

    /// Takes a machine that needs `kind`, on which nobody works at that, and which does not back off:
    /// chosen and taken in one, so that it cannot be finished by somebody else in between.
    pub(crate) fn take(
        &mut self,
        kind: Kind,
        tracker: &Tracker<C>,
    ) -> Result<Option<Taken<C>>, StartError<SqliteError>> {
        let begun = immediate(&mut self.connection);
        let transaction = begun.map_err(Error::Store)?;
        let eligible = format!(
            "SELECT machine.id FROM machine
             LEFT JOIN relent ON relent.namespace = ?1 AND relent.key = machine.id AND relent.due > ?2
             WHERE relent.key IS NULL AND {} ORDER BY machine.id LIMIT 1",
            kind.needed()
        );
        let now = self.clock.wall().duration_since(std::time::UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX);
        let found = transaction.query_row(&eligible, params![kind.name(), now], |row| row.get(0));
        let found: Option<String> = found.optional().map_err(sqlite)?;
        let Some(machine) = found else {
            return Ok(None);
        };
        let granted = match tracker.start_in(&transaction, &machine) {
            Ok(granted) => Some(granted),
            // It was left by a worker that died: that has just been counted as a failure.
            Err(StartError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        transaction.commit().map_err(sqlite)?;
        Ok(granted.map(|granted| tracker.committed(granted)))
    }

    /// Notes what came of the work, and ends it: both, or neither.
    pub(crate) fn finish(
        &mut self,
        kind: Kind,
        work: &Taken<C>,
        tag: &str,
    ) -> Result<(), WorkError<SqliteError>> {
        let transaction = immediate(&mut self.connection).map_err(WorkError::Store)?;
        work.finish_in(&transaction)?;
        transaction
            .execute(kind.done(), params![tag, work.key()])
            .and_then(|_| transaction.commit())
            .map_err(|error| WorkError::Store(error.into()))
    }

    /// How many machines need anything.
    pub(crate) fn left(&self) -> Result<i64, SqliteError> {
        let left = "SELECT count(*) FROM machine WHERE os IS NULL OR down";
        Ok(self.connection.query_row(left, [], |row| row.get(0))?)
    }
}

fn immediate(connection: &mut Connection) -> Result<rusqlite::Transaction<'_>, SqliteError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn sqlite(error: rusqlite::Error) -> Error<SqliteError> {
    Error::Store(error.into())
}
