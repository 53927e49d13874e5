//! A store in a PostgreSQL database.

mod again;
mod batch;
mod claim;
mod columns;
mod error;
mod extend;
mod history;
mod keys;
mod list;
mod moment;
mod row;
mod schema;
mod sql;
mod update;

pub use error::PostgresError;

use std::time::{Duration, SystemTime};

use sqlx::postgres::{PgPool, PgRow};

use super::change::Change;
use super::error::Fault;
use super::future::AsyncStore;
use super::key::InvalidKey;
use super::lease::LeaseLost;
use super::listing::{Listed, Page};
use super::record::Record;
use super::rounds::Contended;
use super::step::Start;
use super::unreadable::{Problem, Unreadable};
use again::again;
use error::ROW;
use row::Kept;

/// Keeps records in a table of a PostgreSQL database, for any number of hosts.
///
/// The database may be one that the program has anyway: the tables are named `relent…`, are found
/// by the connection's `search_path`, and are there to be joined against. What was answered is as
/// durable as the database makes its commits (`synchronous_commit`).
///
/// A change takes two round trips: one reads the row and the server's time, one writes it if it is
/// still as it was read. So does a batch of any size, and a claim takes one. Where others were
/// quicker, it is done again, now with the rows locked. Keep connections unchecked in the pool
/// (`test_before_acquire(false)`), or each call takes a round trip more.
///
/// A batch is one commit, or none. Where others changed some of its keys meanwhile, the database
/// undoes its statement, and it is done again in a transaction, with the rows locked. (The server's
/// log then has an error that says `relent: others were quicker`.) That takes six round trips or so,
/// and is also how a batch is made that has a key twice, takes several new keys, or writes some keys
/// and deletes others.
///
/// A heartbeat takes two round trips, waits for nobody, and extends each lease by itself: one whose
/// row a transaction has locked is left out, until it is free or the lease has run out.
///
/// A row that cannot be read is an error that names it, and is left as it is. Lists, claims and
/// heartbeats pass it over; [`unreadable`](Self::unreadable) finds it.
///
/// Transactions may be serializable by default: what the database refuses then, a failure to put it
/// in order with what others did, is asked for again. Only [within a transaction of the
/// caller's](#impl-AsyncTransactional-for-PostgresStore) that is the caller's to do.
///
/// Rows are locked in the order of their keys, those too that are not there yet, so that batches do
/// not wait for each other in a circle. One exception is for the sake of speed: a batch that writes
/// over more than 32 rows takes them as the database comes by them. Should it meet another such
/// batch in a circle, the database notices (`deadlock_timeout`), and one of them is done again, in
/// order.
///
/// # Which sqlx
///
/// Its pool and its transactions are those of the `sqlx` that this crate was built with: 0.8, or
/// 0.9. Cargo takes the newer one, and has both if the program asks for the older: the compiler then
/// says that one `Pool` is not the other. This makes them one:
///
/// ```sh
/// cargo update sqlx@0.9 --precise 0.8.6
/// ```
///
/// # The clock
///
/// The server's clock is the store's, read as the row is read: not when the transaction began.
/// The sequence `relent_latest` keeps the latest time at which anything was written, in
/// microseconds. While the clock shows less, as it was set back, lists of what is due and claims go
/// through all that waits, to find what is from the future. A clock that was far ahead for a moment
/// leaves it at that until the time has come. Once the clock is right, this ends it; it goes no
/// lower than the times of records from the future, so that those are still found:
///
/// ```sql
/// SELECT setval('relent_latest', (EXTRACT(EPOCH FROM
///     GREATEST(clock_timestamp(), max(since), max(lease_since))) * 1000000)::BIGINT)
/// FROM relent WHERE gave_up IS NULL
/// ```
///
/// What is written says when it was decided, by the time of the read. A call that had to wait in
/// between, because somebody had the row locked and then left it as it was, wrote it that much
/// later: such a wait is already partly over. A lease that took longer to get than it lives is
/// given back ([`TooLate`](super::StartError::TooLate)). So keep transactions that lock rows short,
/// or have `lock_timeout` end such calls.
///
/// # Connections
///
/// A call has one connection for as long as it takes. Give the store a pool of its own, of two
/// connections at least, if the program's transactions take long: a heartbeat that gets no
/// connection within the leases' time to live loses them all.
///
/// Behind a pooler that lends a server's connection for one transaction at a time, such as
/// `PgBouncer` in transaction mode, it must keep track of prepared statements: from its version
/// 1.21 on, with `max_prepared_statements` above zero. For any other, use session mode; to set
/// `statement_cache_capacity(0)` is not enough, as sqlx prepares and runs a statement in two steps.
/// Nothing else of a session is relied on, but where the tables are not in the `public` schema: set
/// the `search_path` of the role or the database then, not of the connection. It was never run
/// behind one.
///
/// A role that does not own the tables needs these rights, [`migrate`](Self::migrate) included once
/// the tables are up to date; the last but one only with a history:
///
/// ```sql
/// GRANT SELECT, INSERT, UPDATE, DELETE ON relent TO worker;
/// GRANT SELECT, UPDATE ON SEQUENCE relent_tokens, relent_latest TO worker;
/// GRANT SELECT, INSERT, DELETE ON relent_history TO worker;
/// GRANT SELECT ON relent_meta TO worker;
/// ```
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
/// | `gave_up` | `NULL`, `'failures'` or `'elapsed'` |
/// | `cause` | what went wrong last |
/// | `token`, `holder`, `lease_since`, `lease_until` | the lease; `NULL` if there is none |
///
/// Times are `TIMESTAMPTZ`, in whole microseconds: rounded down. An index on
/// `(namespace, due, key)` serves lists, and joins such as this: every machine that nobody works
/// on, that does not back off, and that has not given up.
///
/// ```sql
/// SELECT machine.id FROM machine
/// LEFT JOIN relent ON relent.namespace = '' AND relent.key = machine.id AND relent.due > now()
/// WHERE relent.key IS NULL
/// ```
///
/// Keys that are due at the same microsecond, and those that gave up, are listed in the order of
/// the database's collation.
///
/// # CockroachDB
///
/// Tables and statements are written so that it should take them as well: no functions in
/// another language, no advisory locks, no table changed twice in a statement, no change of tables
/// within a transaction. They were read by its grammar, that of version 25.2, which takes them all;
/// and compared with its sources, its own tests and its manual. **They have never been run on it.**
/// The tests of this crate hold a server to the store's contract where there is one: the program
/// `cockroach`, or the address that is in `RELENT_COCKROACH`.
///
/// Known to differ there:
///
/// - Its nodes' clocks may differ by half a second, and so may the times of a key's waits.
/// - A key that has no row yet takes a round trip more to start, as a sequence is read there as of
///   when the statement began.
/// - Of a lease that ran out and the start that found it so, the history may tell in either order:
///   both are noted at once.
/// - Lists, claims and batches may read all of a namespace: the planner does not see which keys are
///   asked for. Nothing was measured.
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
    /// Dropped half-way, it goes on from there the next time.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Unreadable`] if there are tables of these names that are something else, or
    /// of a newer version; [`PostgresError::Encoding`] if the database is in another encoding than
    /// UTF8; [`PostgresError::Postgres`].
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

    fn refused(&self, table: &str, key: &str, problem: Problem) -> Unreadable {
        let namespace = &self.namespace;
        Unreadable {
            place: format!("{ROW} {key:?} of the table {table} (namespace {namespace:?})"),
            problem,
        }
    }

    fn check(rows: &[PgRow]) -> Result<(), PostgresError> {
        row::check(rows).map_err(Self::damaged)
    }

    /// What is wrong with all of an answer.
    fn damaged(problem: Problem) -> PostgresError {
        let place = "the table relent".to_owned();
        PostgresError::Unreadable(Unreadable { place, problem })
    }

    fn read(&self, row: &PgRow, key: &str) -> Result<Kept, Unreadable> {
        row::read(row).map_err(|problem| self.refused("relent", key, problem))
    }
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl AsyncStore for PostgresStore {
    type Error = PostgresError;

    fn fault(&self, error: &PostgresError) -> Fault {
        error::fault(error)
    }

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
        again(|| self.look(key)).await
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, PostgresError> {
        self.page(page).await
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, PostgresError> {
        self.take_due(start, limit).await
    }

    async fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), PostgresError> {
        self.extend_each(leases, time_to_live, told).await
    }
}
