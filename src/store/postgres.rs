//! A store in a PostgreSQL database.

mod again;
mod batch;
mod claim;
mod columns;
mod error;
mod extend;
mod history;
mod keys;
mod lent;
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
use row::{IsRight, Kept};

/// Keeps records in a table of a PostgreSQL database, for any number of hosts.
///
/// The database may be one that the program already has: the tables are named `relent…`, are found
/// by the connection's `search_path`, and can be joined with. What was answered is as durable as
/// the database makes its commits (`synchronous_commit`).
///
/// A change takes two round trips: one reads the row and the server's time, one writes the row if
/// it is still as it was read. A batch of any size takes two as well. A claim takes one, and a few
/// more where workers have died or the server's clock was set back. Where others were quicker, the
/// change is made again, now with the rows locked. Set the pool not to check its connections
/// (`test_before_acquire(false)`), or each call takes one round trip more; the price is that after
/// a restart of the server one call fails for each connection that the pool had.
///
/// A batch is one commit, or none. Where others changed some of its keys meanwhile, the database
/// undoes its statement, and the batch is made again in a transaction, with the rows locked. (The
/// server's log then has an error that says `relent: others were quicker`.) That takes about six
/// round trips. A batch that has a key twice, takes several new keys, or writes some keys and
/// deletes others is always made in this way.
///
/// A change whose future is dropped may still be waiting in the database. Its connection goes back
/// to the pool once that is over, after a `ROLLBACK`, of which the server's log may have a warning.
///
/// A heartbeat takes two round trips, waits for nobody, and extends each lease by itself: a lease
/// whose row a transaction has locked is left out, until the row is free or the lease has run out.
///
/// A row that cannot be read is an error that names it, and is left as it is. Lists, claims and
/// heartbeats pass it over; [`unreadable`](Self::unreadable) finds it.
///
/// Transactions may be serializable by default: a call that the database then refuses, because it
/// could not be serialized with what others did, is made again. Only [within a transaction of the
/// caller's](#impl-AsyncTransactional-for-PostgresStore) is that left to the caller.
///
/// Rows are locked in the order of their keys, even those that are not there yet, so that batches
/// do not deadlock. There is one exception, for speed: a batch that writes over more than 32 rows
/// locks them in whatever order the database comes upon them. Should two such batches deadlock, the
/// database notices (`deadlock_timeout`), and one of them is made again, in order.
///
/// # Which sqlx
///
/// The pool and the transactions are those of the `sqlx` that this crate was built with: 0.8 or
/// 0.9. Cargo takes the newer one for this crate, and has both if the program asks for the older:
/// the compiler then says that one `Pool` is not the other. This makes them one:
///
/// ```sh
/// cargo update sqlx@0.9 --precise 0.8.6
/// ```
///
/// # The clock
///
/// The store goes by the server's clock, as it is when the row is read, not when the transaction
/// began. The sequence `relent_latest` keeps the latest time at which anything was written, in
/// microseconds. While the clock shows less, because it was set back, lists of what is due and
/// claims go through all that waits, to find what is from the future. A clock that was far ahead
/// for a moment leaves the sequence there until that time has come. Once the clock is right again,
/// this statement sets the sequence right; it goes no lower than the times of records from the
/// future, so that those are still found:
///
/// ```sql
/// SELECT setval('relent_latest', (EXTRACT(EPOCH FROM
///     GREATEST(clock_timestamp(), max(since), max(lease_since))) * 1000000)::BIGINT)
/// FROM relent WHERE gave_up IS NULL
/// ```
///
/// What is written says when it was decided, which is when the row was read. A call that had to
/// wait before it wrote, because somebody had locked the row and then left it as it was, wrote that
/// much later, so that the key's wait is already partly over. A lease that took longer to get than
/// it lives is given back ([`TooLate`](super::StartError::TooLate)). So keep transactions that lock
/// rows short, or have `lock_timeout` end such calls.
///
/// # Which server
///
/// PostgreSQL from version 10 on has all that the statements need. The tests run on version 15.
///
/// A replica that takes over lacks what had not reached it, if commits did not wait for that
/// (`synchronous_commit`). Tokens may then be given out a second time, and two workers may hold a
/// key. A logical replica has no sequences' values: before you switch over to one, set
/// `relent_tokens` and `relent_latest` there to what they are here.
///
/// # Connections
///
/// A call holds one connection for as long as it takes. Give the store a pool of its own, of at
/// least two connections, if the program's transactions take long: a heartbeat that gets no
/// connection within the leases' time to live loses them all.
///
/// A pool of its own also keeps it from a fault of sqlx, up to 0.9.0: a `begin` of the program's that
/// is dropped midway leaves the transaction open on the pool's connection, and whoever gets that
/// next writes within it.
///
/// A pooler that lends a server's connection for one transaction at a time, such as `PgBouncer` in
/// transaction mode, must keep track of prepared statements: `PgBouncer` does from version 1.21 on,
/// with `max_prepared_statements` above zero. With any other pooler, use session mode; setting
/// `statement_cache_capacity(0)` is not enough, as sqlx prepares and runs a statement in two steps.
/// The store relies on nothing else of a session, except where the tables are not in the `public`
/// schema: then set the `search_path` of the role or the database, not of the connection. The store
/// was never run behind a pooler.
///
/// A role that does not own the tables needs these rights, which suffice for
/// [`migrate`](Self::migrate) too once the tables are up to date. The last but one is needed only
/// with a history:
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
/// | `version` | the version of what the row says: 1 |
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
/// Tables and statements are written so that CockroachDB should take them as well: no functions in
/// another language, no advisory locks, no table changed twice in a statement, no change of tables
/// within a transaction. Its grammar, that of version 25.2, takes them all; and they were compared
/// with its sources, its own tests and its manual. **They have never been run on it.** Where there
/// is a CockroachDB server, this crate's tests hold it to the store's contract: they look for the
/// program `cockroach`, or for an address in `RELENT_COCKROACH`.
///
/// Known to differ there:
///
/// - Its nodes' clocks may differ by half a second, and so may the times of a key's waits.
/// - To start a key that has no row yet takes one round trip more, as a sequence is read there as
///   of when the statement began.
/// - The history may list a lease that ran out and the start that noticed it in either order, since
///   both are noted at once.
/// - Lists, claims and batches may read all of a namespace: the planner does not see which keys are
///   asked for. Nothing was measured.
///
/// # Example
///
/// A key's state and the program's own data, committed together or not at all:
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
    /// A store over the connections of a pool. Does nothing yet: see [`migrate`](Self::migrate).
    #[must_use]
    pub fn new(pool: PgPool) -> PostgresStore {
        PostgresStore {
            pool,
            namespace: String::new(),
            history: false,
        }
    }

    /// Makes the tables, or brings them up to date, keeping what is in them. Does nothing if they
    /// are, so any number of processes may call it at any time.
    ///
    /// If it is dropped half-way, the next call goes on from there.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Unreadable`] if there are tables of these names that are not relent's, or
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

    fn check(rows: &[PgRow], types: &[IsRight]) -> Result<(), PostgresError> {
        row::check(rows, types).map_err(Self::damaged)
    }

    /// An error that concerns all of an answer.
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
        let change = move |_: usize, record: Option<&Record>, now| change(record, now);
        let answers = self.change_all(&keys, change);
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
