//! A store in a PostgreSQL database.

mod batch;
mod error;
mod moment;
mod row;
mod schema;
mod sql;

pub use error::PostgresError;

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Connection, Row, query};

use super::change::Change;
use super::future::{AsyncStore, AsyncTransactional};
use super::history::Entry;
use super::key::InvalidKey;
use super::listing::{Listed, Page, Which};
use super::record::Record;
use super::rounds::{Contended, Place, Rounds};
use super::step::Start;
use super::unreadable::{Problem, Unreadable};
use batch::Batch;
use moment::Moment;
use row::Kept;
use sql::Statement;

/// Keeps records in a table of a PostgreSQL database, for any number of hosts.
///
/// The database may be one that the program has anyway: the tables are named `relent…`, are found by
/// the connection's `search_path`, and are there to be joined against. What was answered is as
/// durable as the database makes its commits (`synchronous_commit`).
///
/// A change takes two round trips: one reads the row and the server's time, one writes it if it is
/// still as it was read. So does a batch of any size, and a claim takes one. Where others were
/// quicker, it is done again, now with the rows locked. Keep connections unchecked in the pool
/// (`test_before_acquire(false)`), or each call takes a round trip more.
///
/// The server's clock is the store's, read as the row is read: not when the transaction began.
/// Once it was set back, lists find what is from the future by an index of their own.
///
/// A batch is one commit. Where others changed some of its keys meanwhile, the rest of it is
/// committed before those are done again.
///
/// # The table
///
/// | column of `relent` | |
/// |---|---|
/// | `namespace`, `key` | the primary key |
/// | `version` | of what the row says; 1 |
/// | `revision` | changes with every write |
/// | `failures` | how many in a row |
/// | `interval_ns` | the last interval in nanoseconds; `NULL` starts anew |
/// | `first_failure`, `since`, `until` | when the streak began, when the last failure was recorded, when the wait is over |
/// | `due` | when the key can be taken: the later of `until` and `lease_until`; in the year 2262 if it gave up |
/// | `written` | the later of `since` and `lease_since` |
/// | `gave_up` | `NULL`, `'failures'` or `'elapsed'` |
/// | `cause` | what went wrong last |
/// | `token`, `holder`, `lease_since`, `lease_until` | the lease; `NULL` if there is none |
///
/// Times are `TIMESTAMPTZ`, in whole microseconds: rounded down. An index on `(namespace, due, key)`
/// serves lists, and joins such as this: every machine that nobody works on, that does not back off,
/// and that has not given up.
///
/// ```sql
/// SELECT machine.id FROM machine
/// LEFT JOIN relent ON relent.namespace = '' AND relent.key = machine.id AND relent.due > now()
/// WHERE relent.key IS NULL
/// ```
///
/// Keys that are due at the same microsecond are listed in the order of the database's collation.
///
/// # CockroachDB
///
/// Tables and statements are written so that it should take them as well: no functions in
/// another language, no advisory locks, no table changed twice in a statement, no change of tables
/// within a transaction. They have been tried on PostgreSQL only. Its nodes' clocks may differ by
/// half a second, and so may the times of a key's waits.
///
/// # Example
///
/// State and data of one's own are committed together, or not at all:
///
/// ```no_run
/// use relent::{Backoff, store::{DurableTracker, PostgresStore}};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = sqlx::PgPool::connect("postgres://localhost/machines").await?;
/// let store = PostgresStore::new(pool.clone());
/// store.migrate().await?;
/// let tracker = DurableTracker::new(store, Backoff::DEFAULT);
///
/// if let Some(work) = tracker.start_any(["m1", "m2"]).await? {
///     let mut transaction = pool.begin().await?;
///     sqlx::query("UPDATE machine SET installed = TRUE WHERE id = $1")
///         .bind(work.key())
///         .execute(&mut *transaction)
///         .await?;
///     work.finish_in(&mut transaction).await?;
///     transaction.commit().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: PgPool,
    namespace: String,
    history: bool,
}

impl PostgresStore {
    /// Over the connections of a pool. Does nothing yet: see [`migrate`](Self::migrate).
    #[must_use]
    pub fn new(pool: PgPool) -> PostgresStore {
        PostgresStore {
            pool,
            namespace: String::new(),
            history: false,
        }
    }

    /// Makes the tables, or brings them up to date, keeping what is in them. Does nothing if they
    /// are, so any number of processes may do so at any time.
    ///
    /// Cancelled half-way, it goes on from there the next time.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Unreadable`] if there are tables of these names that are something else, or
    /// of a newer version; [`PostgresError::Postgres`].
    pub async fn migrate(&self) -> Result<(), PostgresError> {
        schema::migrate(&mut *self.pool.acquire().await?).await
    }

    /// Another set of keys in the same tables. The first is named `""`.
    ///
    /// # Errors
    ///
    /// More than [`MAX_NAMESPACE`](super::MAX_NAMESPACE) bytes, or a NUL.
    pub fn namespace(&self, name: impl Into<String>) -> Result<PostgresStore, InvalidKey> {
        let namespace = name.into();
        InvalidKey::check_namespace(&namespace)?;
        Ok(PostgresStore {
            namespace,
            ..self.clone()
        })
    }

    /// Keeps a history of what happens to keys from now on: who [started](super::Event) and how it
    /// ended. Every process that should add to it has to say so.
    #[must_use]
    pub fn with_history(mut self) -> PostgresStore {
        self.history = true;
        self
    }

    /// The last `limit` things that happened to a key, the latest first.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn history(&self, key: &str, limit: usize) -> Result<Vec<Entry>, PostgresError> {
        let rows = query(sql::HISTORY)
            .bind(&self.namespace)
            .bind(key)
            .bind(count(limit))
            .fetch_all(&self.pool)
            .await?;
        let entries = rows.iter().map(row::entry);
        entries
            .map(|entry| entry.map_err(|problem| self.unreadable("relent_history", key, problem)))
            .collect()
    }

    /// Deletes what happened before `time` to any key of the namespace. Returns how much.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn prune_history(&self, time: SystemTime) -> Result<u64, PostgresError> {
        let pruned = query(sql::PRUNE)
            .bind(&self.namespace)
            .bind(Moment::of(time))
            .execute(&self.pool)
            .await?;
        Ok(pruned.rows_affected())
    }

    fn unreadable(&self, table: &str, key: &str, problem: Problem) -> PostgresError {
        let namespace = &self.namespace;
        PostgresError::Unreadable(Unreadable {
            place: format!("the row {key:?} of the table {table} (namespace {namespace:?})"),
            problem,
        })
    }

    fn read(&self, row: &PgRow) -> Result<Option<Kept>, PostgresError> {
        let Some(key) = row::key(row)? else {
            return Ok(None);
        };
        let kept = row::read(row, key.clone());
        kept.map(Some)
            .map_err(|problem| self.unreadable("relent", &key, problem))
    }

    /// Reads the rows of several keys by the statement [`sql::READ`] or [`sql::LOCK`], and the time.
    async fn look(
        &self,
        connection: &mut PgConnection,
        statement: Statement,
        keys: &[&str],
    ) -> Result<(HashMap<String, Kept>, SystemTime), PostgresError> {
        let read = query(statement.about(keys.len())).bind(&self.namespace);
        let read = match keys {
            [key] => read.bind(*key),
            _ => read.bind(keys),
        };
        let rows = read.fetch_all(connection).await?;
        let mut kept = HashMap::with_capacity(rows.len());
        let mut now = Moment::BEGINNING;
        for row in &rows {
            // The last: no row may be from the future.
            now = now.max(row.try_get("now")?);
            if let Some(found) = self.read(row)? {
                kept.insert(found.key.clone(), found);
            }
        }
        Ok((kept, now.time().unwrap_or(UNIX_EPOCH)))
    }

    /// Makes changes to several keys, none of them twice, as far as nobody comes in the way: the
    /// answers of those that were made.
    async fn attempt<R: Send>(
        &self,
        connection: &mut PgConnection,
        statement: Statement,
        keys: &[Place<'_>],
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<Option<R>>, PostgresError> {
        let names: Vec<_> = keys.iter().map(|&(_, key)| key).collect();
        let (kept, now) = self.look(connection, statement, &names).await?;
        let changes = keys.iter().map(|&(n, key)| {
            let kept = kept.get(key);
            (key, change(n, kept.map(|kept| &kept.record), now))
        });
        let changes: Vec<_> = changes.collect();
        let mut batch = Batch::default();
        let to_write = changes
            .iter()
            .map(|(key, change)| batch.add(key, kept.get(*key), change, self.history));
        let to_write: Vec<_> = to_write.collect();
        let written = batch.write(connection, &self.namespace, now).await?;
        let answers = changes
            .into_iter()
            .zip(to_write)
            .map(|((key, change), is_to_write)| {
                let token = match written.get(key) {
                    Some(token) => token.and_then(|token| u64::try_from(token).ok()),
                    None if is_to_write => return None,
                    None => None,
                };
                let Ok(settled) = change.settle(|| Ok::<_, Infallible>(token.unwrap_or_default()));
                Some(settled.answer)
            });
        Ok(answers.collect())
    }

    /// As [`attempt`](Self::attempt), with the rows locked.
    async fn attempt_locked<R: Send>(
        &self,
        connection: &mut PgConnection,
        keys: &[Place<'_>],
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<Option<R>>, PostgresError> {
        let mut transaction = Connection::begin(connection).await?;
        let answers = self
            .attempt(&mut transaction, sql::LOCK, keys, change)
            .await?;
        transaction.commit().await?;
        Ok(answers)
    }

    async fn change_all<R: Send>(
        &self,
        keys: &[&str],
        mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send,
    ) -> Result<Vec<R>, PostgresError> {
        let mut rounds = Rounds::of(keys);
        let mut connection = self.pool.acquire().await?;
        loop {
            let keys = rounds.next(usize::MAX)?;
            if keys.is_empty() {
                return Ok(rounds.answers()?);
            }
            // Hardly ever does anybody come in the way. After that, make sure of our turn.
            let made = if rounds.is_contended() {
                self.attempt_locked(&mut connection, &keys, &mut change)
                    .await
            } else {
                self.attempt(&mut connection, sql::READ, &keys, &mut change)
                    .await
            };
            match made {
                Err(error) if error.is_conflict() => rounds.made(keys, Vec::new()),
                made => rounds.made(keys, made?),
            }
        }
    }
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl AsyncStore for PostgresStore {
    type Error = PostgresError;

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, PostgresError> {
        let keys = [key];
        let answers = self.change_all(&keys, |_, record, now| change(record, now));
        Ok(answers.await?.pop().ok_or(Contended)?)
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, PostgresError> {
        self.change_all(keys, change).await
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), PostgresError> {
        let mut connection = self.pool.acquire().await?;
        let (mut kept, now) = self.look(&mut connection, sql::READ, &[key]).await?;
        Ok((kept.remove(key).map(|kept| kept.record), now))
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, PostgresError> {
        let statement = match page.which {
            Which::Due => sql::DUE,
            Which::Waiting => sql::WAITING,
            Which::GaveUp => sql::GAVE_UP,
        };
        let (due, key) = match &page.after {
            None if page.which == Which::Waiting => (None, ""),
            None => (Some(Moment::BEGINNING), ""),
            Some(after) => (Some(Moment::of(after.due)), after.key.as_str()),
        };
        let rows = query(statement)
            .bind(&self.namespace)
            .bind(due)
            .bind(key)
            .bind(count(page.limit))
            .fetch_all(&self.pool)
            .await?;
        let listed = rows.iter().filter_map(|row| self.read(row).transpose());
        listed
            .map(|kept| kept.map(|Kept { key, record, .. }| Listed { key, record }))
            .collect()
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, PostgresError> {
        let micros = start.time_to_live.min(LONGEST).as_micros();
        let rows = query(sql::CLAIM)
            .bind(&self.namespace)
            .bind(count(limit))
            .bind(&start.holder)
            .bind(i64::try_from(micros).unwrap_or(i64::MAX))
            .bind(Moment::NEVER)
            .bind(self.history)
            .bind(row::VERSION)
            .fetch_all(&self.pool)
            .await;
        let rows = match rows.map_err(PostgresError::from) {
            // Others were quicker.
            Err(error) if error.is_conflict() => Vec::new(),
            rows => rows?,
        };
        let mut claimed = Vec::with_capacity(rows.len());
        let mut others = Vec::new();
        for (n, row) in rows.iter().enumerate() {
            let Some(Kept { key, record, .. }) = self.read(row)? else {
                continue;
            };
            let granted: Option<i64> = row.try_get("next")?;
            let Some(token) = granted.and_then(|token| u64::try_from(token).ok()) else {
                others.push((n, key));
                continue;
            };
            let now = row
                .try_get::<Moment, _>("now")?
                .time()
                .unwrap_or(UNIX_EPOCH);
            let change = start.nth(n).apply(Some(&record), now);
            let Ok(settled) = change.settle(|| Ok::<_, Infallible>(token));
            claimed.extend(
                settled
                    .answer
                    .ok()
                    .map(|record| (n, Listed { key, record })),
            );
        }
        others.truncate(limit.saturating_sub(claimed.len()));
        if !others.is_empty() {
            let keys: Vec<_> = others.iter().map(|(_, key)| key.as_str()).collect();
            let started = self.change_all(&keys, |n, record, now| {
                let n = others.get(n).map_or(n, |&(n, _)| n);
                start.nth(n).apply(record, now)
            });
            let started = started.await?;
            for ((n, key), started) in others.into_iter().zip(started) {
                claimed.extend(started.ok().map(|record| (n, Listed { key, record })));
            }
            claimed.sort_unstable_by_key(|&(n, _)| n);
        }
        Ok(claimed.into_iter().map(|(_, listed)| listed).collect())
    }
}

/// No lease lives longer: the database cannot add more to a time.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// Within a transaction that sqlx has begun on the connection, at any level of isolation. It keeps
/// the key's row to itself until it ends: others wait.
///
/// [`PostgresError::Contended`] or a serialization failure ask to do the whole transaction again.
impl AsyncTransactional for PostgresStore {
    type Connection<'a> = &'a mut PgConnection;

    async fn update_in<R: Send + 'static>(
        &self,
        connection: Self::Connection<'_>,
        key: &str,
        mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, PostgresError> {
        if !connection.is_in_transaction() {
            return Err(PostgresError::NoTransaction);
        }
        let mut change = move |_: usize, record: Option<&Record>, now| change(record, now);
        for _ in 0..Rounds::<R>::MOST {
            let keys = [(0, key)];
            let made = self.attempt(connection, sql::LOCK, &keys, &mut change);
            if let Some(answer) = made.await?.pop().flatten() {
                return Ok(answer);
            }
        }
        Err(Contended.into())
    }
}
