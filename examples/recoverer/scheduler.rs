//! The scheduler: events are stored, grouped into numbered transactions, and sent until they arrive.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relent::clock::{Clock, MonotonicClock};
use relent::store::SqliteStore;
use relent::store::blocking::DurableTracker;
use relent::{Backoff, BackoffState, Jitter, Readiness};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Notify, futures::Notified};
use tokio::task::JoinSet;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Events of one destination that are sent together. The number stays the same however often they
/// are, so that the destination can tell a repetition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbered {
    pub(crate) id: i64,
    pub(crate) events: Vec<String>,
}

/// Where events go, and who wants to know.
pub(crate) trait World: Send + Sync + 'static {
    /// Delivers events, all or none.
    fn send(&self, to: &str, events: &Numbered) -> impl Future<Output = Result<(), Error>> + Send;

    /// Is told of a destination.
    fn hear(&self, of: &str, news: News);
}

#[derive(Debug)]
pub(crate) enum News {
    /// It failed, and is tried again after that long. Until all of its queue is delivered it is down.
    Failed(Error, Duration),
    /// It was down, and its queue is empty now.
    Up,
    /// The database failed, and is tried again after that long.
    Stuck(Error, Duration),
}

/// How a destination stands.
#[derive(Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) is_up: bool,
    /// How many events it has yet to get.
    pub(crate) waiting: u32,
    /// Its failures since the last transaction that arrived.
    pub(crate) streak: BackoffState,
}

/// Sends to each destination one transaction at a time, oldest first, until it is dropped.
pub(crate) struct Scheduler<W, C = MonotonicClock> {
    desk: Arc<Desk<W, C>>,
    /// Aborted when dropped.
    _loops: JoinSet<Result<Infallible, Error>>,
}

struct Desk<W, C> {
    world: W,
    database: Mutex<Connection>,
    tracker: DurableTracker<SqliteStore<C>>,
    backoff: Backoff,
    destinations: BTreeMap<String, Bells>,
    /// How many events a transaction has at most.
    batch: u32,
}

#[derive(Default)]
struct Bells {
    stored: Notify,
    forced: Notify,
}

/// For a database that fails, which is no destination's fault.
const STUCK: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(60));

impl<W: World, C: Clock + Send + Sync + 'static> Scheduler<W, C> {
    /// Goes on with what the database at `path` says is still to be sent.
    pub(crate) fn open(
        path: &Path,
        world: W,
        destinations: &[&str],
        batch: u32,
        backoff: Backoff,
        clock: C,
    ) -> Result<Self, Error> {
        let store = SqliteStore::open(path)?.with_clock(clock);
        let database = Connection::open(path)?;
        database.busy_timeout(SqliteStore::BUSY)?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS destination (
                 name TEXT PRIMARY KEY, up INTEGER NOT NULL, last_id INTEGER NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS event (
                 seq INTEGER PRIMARY KEY AUTOINCREMENT,
                 destination TEXT NOT NULL, id INTEGER, body TEXT NOT NULL
             ) STRICT;
             CREATE INDEX IF NOT EXISTS event_id ON event (destination, id, seq);",
        )?;
        for name in destinations {
            database.execute(
                "INSERT OR IGNORE INTO destination VALUES (?1, 1, 0)",
                [name],
            )?;
        }
        let bells = |name: &&str| ((*name).to_owned(), Bells::default());
        let desk = Arc::new(Desk {
            world,
            database: Mutex::new(database),
            tracker: DurableTracker::new(store, backoff),
            backoff,
            destinations: destinations.iter().map(bells).collect(),
            batch,
        });
        let mut loops = JoinSet::new();
        for name in desk.destinations.keys().cloned() {
            loops.spawn(Arc::clone(&desk).look_after(name));
        }
        Ok(Scheduler {
            desk,
            _loops: loops,
        })
    }

    /// Stores events, to be sent after all that were stored before. Once this returns, they will be.
    pub(crate) fn submit(&self, to: &str, events: &[&str]) -> Result<(), Error> {
        let bells = self.desk.bells(to)?;
        self.desk.commit(|transaction| {
            let insert = "INSERT INTO event (destination, body) VALUES (?1, ?2)";
            let mut insert = transaction.prepare_cached(insert)?;
            for event in events {
                insert.execute([to, event])?;
            }
            Ok(())
        })?;
        // Kept until the loop listens, if it does not just now.
        bells.stored.notify_one();
        Ok(())
    }

    /// Has a destination that waits tried now. Where nothing waits, this changes nothing.
    pub(crate) fn force(&self, name: &str) -> Result<(), Error> {
        self.desk.bells(name)?.forced.notify_waiters();
        Ok(())
    }

    pub(crate) fn status(&self, name: &str) -> Result<Status, Error> {
        let record = self.desk.tracker.get(name)?;
        self.desk.commit(|transaction| {
            let status = "SELECT up, (SELECT count(*) FROM event WHERE destination = name)
                          FROM destination WHERE name = ?1";
            let status = transaction.query_row(status, [name], |row| {
                Ok(Status {
                    is_up: row.get(0)?,
                    waiting: row.get(1)?,
                    streak: record.map(|record| record.state).unwrap_or_default(),
                })
            });
            Ok(status?)
        })
    }
}

impl<W: World, C: Clock + Send + Sync + 'static> Desk<W, C> {
    async fn look_after(self: Arc<Self>, name: String) -> Result<Infallible, Error> {
        let delivering = STUCK.retry_async(|| self.deliver(&name));
        let delivering = delivering.notify(|failed| {
            let error = failed.error.to_string().into();
            self.world.hear(&name, News::Stuck(error, failed.delay));
        });
        delivering.await
    }

    /// The one loop of a destination, be it up or down: there is no moment between the two in which
    /// an event could be overlooked or overtake another.
    async fn deliver(&self, name: &str) -> Result<Infallible, Error> {
        let bells = self.bells(name)?;
        let left = self.left(name)?;
        wait(left, bells.forced.notified()).await;
        loop {
            let Some(oldest) = self.oldest(name)? else {
                bells.stored.notified().await;
                continue;
            };
            let sent = self.world.send(name, &oldest).await;
            // From here on the operator is heard, before anybody can see that there is a wait.
            let forced = bells.forced.notified();
            match sent {
                Ok(()) => self.delivered(name, oldest.id)?,
                Err(error) => {
                    let delay = self.failed(name, &error.to_string())?;
                    self.world.hear(name, News::Failed(error, delay));
                    wait(delay, forced).await;
                }
            }
        }
    }

    fn bells(&self, name: &str) -> Result<&Bells, Error> {
        let bells = self.destinations.get(name);
        bells.ok_or_else(|| format!("{name}: no such destination").into())
    }

    /// What is left of a wait that began before a restart.
    fn left(&self, name: &str) -> Result<Duration, Error> {
        Ok(match self.tracker.check(name)? {
            Readiness::Wait(left) => left,
            _ if self.tracker.get(name)?.is_none() => Duration::ZERO,
            // Overdue, like others perhaps: they shall not all come at once.
            _ => {
                let spread = self.backoff.jitter(Jitter::Full);
                spread.schedule().next().unwrap_or_default()
            }
        })
    }

    /// The transaction to send next.
    fn oldest(&self, name: &str) -> Result<Option<Numbered>, Error> {
        self.commit(|transaction| {
            let mut oldest = numbered(transaction, name)?;
            if oldest.is_none() && self.number(transaction, name)? {
                oldest = numbered(transaction, name)?;
            }
            Ok(oldest)
        })
    }

    /// Makes the oldest events the next transaction, if there are any. One has a number at a time:
    /// whatever waits longer is sent in larger lots.
    fn number(&self, transaction: &Transaction<'_>, name: &str) -> Result<bool, Error> {
        let number = "UPDATE event SET id = (SELECT last_id + 1 FROM destination WHERE name = ?1)
                      WHERE seq IN (SELECT seq FROM event WHERE destination = ?1 AND id IS NULL
                                    ORDER BY seq LIMIT ?2)";
        let events = transaction
            .prepare_cached(number)?
            .execute((name, self.batch))?;
        let count = "UPDATE destination SET last_id = last_id + 1 WHERE name = ?1";
        if events > 0 {
            transaction.prepare_cached(count)?.execute([name])?;
        }
        Ok(events > 0)
    }

    /// One commit: the transaction goes, the backoff ends, and the next transaction is made, or the
    /// destination is up. Events are stored before that, and found, or after, and ring.
    fn delivered(&self, name: &str, id: i64) -> Result<(), Error> {
        let is_up = self.commit(|transaction| {
            let delete = "DELETE FROM event WHERE destination = ?1 AND id = ?2";
            transaction.prepare_cached(delete)?.execute((name, id))?;
            self.tracker.record_success_in(transaction, name)?;
            let up = "UPDATE destination SET up = 1 WHERE name = ?1 AND NOT up";
            let is_last = !self.number(transaction, name)?;
            Ok(is_last && transaction.prepare_cached(up)?.execute([name])? > 0)
        })?;
        if is_up {
            self.world.hear(name, News::Up);
        }
        Ok(())
    }

    /// One commit: the destination is down, and backs off.
    fn failed(&self, name: &str, cause: &str) -> Result<Duration, Error> {
        self.commit(|transaction| {
            transaction.execute("UPDATE destination SET up = 0 WHERE name = ?1", [name])?;
            let decision = self.tracker.record_failure_in(transaction, name, cause)?;
            Ok(decision.delay().unwrap_or(Duration::MAX))
        })
    }

    fn commit<R>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

/// The transaction that has a number.
fn numbered(transaction: &Transaction<'_>, name: &str) -> Result<Option<Numbered>, Error> {
    let select = "SELECT id, body FROM event WHERE destination = ?1 AND id > 0 ORDER BY seq";
    let mut select = transaction.prepare_cached(select)?;
    let mut rows = select.query([name])?;
    let mut numbered: Option<Numbered> = None;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let events = Vec::new();
        let numbered = numbered.get_or_insert(Numbered { id, events });
        numbered.events.push(row.get(1)?);
    }
    Ok(numbered)
}

async fn wait(delay: Duration, forced: Notified<'_>) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = forced => {}
    }
}
