//! The scheduler: events are stored, grouped into numbered transactions, and sent until they arrive.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relent::clock::{Clock, MonotonicClock};
use relent::store::SqliteStore;
use relent::store::blocking::DurableTracker;
use relent::{Backoff, Jitter, Readiness};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
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
    Delivered(i64),
    /// It was down, and its queue is empty now.
    Up,
    /// The database failed, and is tried again after that long.
    Stuck(Error, Duration),
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
        let bells = self
            .desk
            .destinations
            .get(to)
            .ok_or("no such destination")?;
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
    pub(crate) fn force(&self, name: &str) {
        if let Some(bells) = self.desk.destinations.get(name) {
            bells.forced.notify_waiters();
        }
    }

    /// Whether a destination is up, and how many events it has yet to get.
    pub(crate) fn status(&self, name: &str) -> Result<(bool, u32), Error> {
        self.desk.commit(|transaction| {
            let status = "SELECT up, (SELECT count(*) FROM event WHERE destination = name)
                          FROM destination WHERE name = ?1";
            Ok(transaction.query_row(status, [name], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })
    }

    pub(crate) fn tracker(&self) -> &DurableTracker<SqliteStore<C>> {
        &self.desk.tracker
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
        let bells = self.destinations.get(name).ok_or("no such destination")?;
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

    /// The oldest transaction that is yet to arrive. If none has a number, the oldest events get one.
    fn oldest(&self, name: &str) -> Result<Option<Numbered>, Error> {
        self.commit(|transaction| {
            let oldest = "SELECT id FROM event WHERE destination = ?1 AND id > 0 ORDER BY id LIMIT 1";
            let oldest = transaction.prepare_cached(oldest)?.query_row([name], |row| row.get(0));
            let id: i64 = match oldest.optional()? {
                Some(id) => id,
                None => {
                    let number = "UPDATE event SET id = 1 + (SELECT last_id FROM destination WHERE name = ?1)
                         WHERE seq IN (SELECT seq FROM event WHERE destination = ?1 AND id IS NULL ORDER BY seq LIMIT ?2)";
                    if transaction.prepare_cached(number)?.execute((name, self.batch))? == 0 {
                        return Ok(None);
                    }
                    let count = "UPDATE destination SET last_id = last_id + 1 WHERE name = ?1 RETURNING last_id";
                    transaction.prepare_cached(count)?.query_row([name], |row| row.get(0))?
                }
            };
            let events = "SELECT body FROM event WHERE destination = ?1 AND id = ?2 ORDER BY seq";
            let mut events = transaction.prepare_cached(events)?;
            let events = events.query_map((name, id), |row| row.get(0))?;
            let events = events.collect::<Result<_, _>>()?;
            Ok(Some(Numbered { id, events }))
        })
    }

    /// One commit: the transaction goes, the backoff ends, and if nothing is left the destination is
    /// up. What is submitted meanwhile comes before that, and is seen, or after, and rings.
    fn delivered(&self, name: &str, id: i64) -> Result<(), Error> {
        let is_up = self.commit(|transaction| {
            let delete = "DELETE FROM event WHERE destination = ?1 AND id = ?2";
            transaction.prepare_cached(delete)?.execute((name, id))?;
            self.tracker.record_success_in(transaction, name)?;
            let up = "UPDATE destination SET up = 1 WHERE name = ?1 AND NOT up
                      AND NOT EXISTS (SELECT 1 FROM event WHERE destination = ?1)";
            Ok(transaction.prepare_cached(up)?.execute([name])? > 0)
        })?;
        self.world.hear(name, News::Delivered(id));
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

async fn wait(delay: Duration, forced: Notified<'_>) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = forced => {}
    }
}
