//! The contract over PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::store::blocking::Block;
use relent::store::contract::{self, Bench, End, HistoryBench, TransactionBench};
use relent::store::{AsyncStore, AsyncTransactional, Change, Entry, Inline, PostgresStore, Record};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, Postgres};
use sqlx::{Transaction, query, query_scalar, raw_sql};
use tokio::runtime::Handle;

use crate::servers::{cockroach, postgres};

/// A database, and the face by which its stores are shown.
struct Face<A> {
    pool: PgPool,
    clock: Clock,
    has_history: bool,
    stores: AtomicU32,
    show: fn(PostgresStore) -> A,
    behind: fn(&A) -> &PostgresStore,
}

#[derive(Clone, Copy)]
enum Clock {
    /// It stands still where it was set.
    Ours,
    /// It is the server's, and has to be waited for, in multiples of this.
    Theirs(Duration),
}

/// The caller's own data.
const OWN: [&str; 2] = [
    "CREATE TABLE own (data BIGINT NOT NULL)",
    "INSERT INTO own VALUES (0)",
];

/// A database whose transactions have this isolation by default.
async fn database(isolation: &str) -> Option<PgPool> {
    let options = postgres::shared()?.database().await.connect_options();
    let options = postgres::with_clock(options.as_ref().clone());
    // One word, as on a command line.
    let isolation = isolation.replace(' ', "\\ ");
    let options = options.options([("default_transaction_isolation", isolation)]);
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    raw_sql(postgres::CLOCK).execute(&pool).await.unwrap();
    Some(tables(pool).await)
}

async fn tables(pool: PgPool) -> PgPool {
    for statement in OWN {
        raw_sql(statement).execute(&pool).await.unwrap();
    }
    PostgresStore::new(pool.clone()).migrate().await.unwrap();
    pool
}

impl<A> Face<A> {
    fn new(
        pool: PgPool,
        show: fn(PostgresStore) -> A,
        behind: fn(&A) -> &PostgresStore,
    ) -> Face<A> {
        Face {
            pool,
            clock: Clock::Ours,
            has_history: true,
            stores: AtomicU32::new(0),
            show,
            behind,
        }
    }

    /// By the server's own clock.
    fn in_real_time(self, unit: Duration) -> Face<A> {
        let clock = Clock::Theirs(unit);
        Face { clock, ..self }
    }

    fn without_history(self) -> Face<A> {
        Face {
            has_history: false,
            ..self
        }
    }
}

fn native(pool: PgPool) -> Face<PostgresStore> {
    Face::new(pool, |store| store, |shown| shown)
}

/// In the blocking face, and back.
fn blocked(pool: PgPool) -> Face<Inline<Block<PostgresStore>>> {
    let show = |store| Inline(Block::new(store, Handle::current()));
    Face::new(pool, show, |shown| shown.0.get_ref())
}

impl<A: AsyncStore + 'static> Bench for Face<A> {
    type Store = A;

    async fn empty(&self) -> A {
        let n = self.stores.fetch_add(1, Relaxed);
        let name = format!("{n} {}", self.has_history);
        let store = PostgresStore::new(self.pool.clone());
        let store = store.namespace(name).unwrap();
        (self.show)(if self.has_history {
            store.with_history()
        } else {
            store
        })
    }

    async fn pass(&self, time: Duration) {
        if let Clock::Theirs(_) = self.clock {
            return tokio::time::sleep(time).await;
        }
        query("UPDATE clock SET micros = micros + $1")
            .bind(i64::try_from(time.as_micros()).unwrap())
            .execute(&self.pool)
            .await
            .unwrap();
    }

    fn unit(&self) -> Duration {
        match self.clock {
            Clock::Ours => Duration::from_secs(60),
            Clock::Theirs(unit) => unit,
        }
    }

    fn set_clock(&self, time: SystemTime) -> bool {
        if let Clock::Theirs(_) = self.clock {
            return false;
        }
        let micros = time.duration_since(UNIX_EPOCH).unwrap().as_micros();
        let micros = i64::try_from(micros).unwrap();
        let set = query("UPDATE clock SET micros = $1").bind(micros);
        let set = set.execute(&self.pool);
        tokio::task::block_in_place(|| Handle::current().block_on(set)).unwrap();
        true
    }
}

impl<A: AsyncStore + 'static> HistoryBench for Face<A> {
    async fn history(&self, store: &A, key: &str, limit: usize) -> Vec<Entry> {
        (self.behind)(store).history(key, limit).await.unwrap()
    }

    async fn prune_history(&self, store: &A, time: SystemTime) -> u64 {
        (self.behind)(store).prune_history(time).await.unwrap()
    }
}

impl<A> TransactionBench for Face<A>
where
    A: for<'a> AsyncTransactional<Connection<'a> = &'a mut PgConnection> + 'static,
{
    type Transaction = Transaction<'static, Postgres>;

    async fn transaction(
        &self,
        _: &A,
        work: impl AsyncFnOnce(&mut Transaction<'static, Postgres>) -> End,
    ) {
        let mut transaction = self.pool.begin().await.unwrap();
        let ended = match work(&mut transaction).await {
            End::Commit => transaction.commit().await,
            End::RollBack => transaction.rollback().await,
        };
        ended.unwrap();
    }

    async fn update_in<R: Send + 'static>(
        &self,
        store: &A,
        transaction: &mut Transaction<'static, Postgres>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, A::Error> {
        store.update_in(transaction, key, change).await
    }

    async fn put_data(&self, transaction: &mut Transaction<'static, Postgres>, data: u32) {
        let put = query("UPDATE own SET data = $1").bind(i64::from(data));
        put.execute(&mut **transaction).await.unwrap();
    }

    async fn data(&self, _: &A) -> u32 {
        let data = query_scalar("SELECT data FROM own");
        let data: i64 = data.fetch_one(&self.pool).await.unwrap();
        u32::try_from(data).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract() {
    let Some(pool) = database("read committed").await else {
        return;
    };
    contract::all(&native(pool.clone()).without_history()).await;
    contract::all(&native(pool)).await;
}

/// The contracts of history and of transactions.
async fn the_rest<A>(face: &Face<A>)
where
    A: for<'a> AsyncTransactional<Connection<'a> = &'a mut PgConnection> + 'static,
{
    contract::all_of_history(face).await;
    contract::all_in_transactions(face).await;
    contract::p3_history_joins_the_callers_transaction(face).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract_of_history_and_of_transactions() {
    let Some(pool) = database("repeatable read").await else {
        return;
    };
    the_rest(&native(pool)).await;
    let Some(pool) = database("read committed").await else {
        return;
    };
    the_rest(&blocked(pool)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract_where_all_is_serializable() {
    let Some(pool) = database("serializable").await else {
        return;
    };
    let face = native(pool);
    contract::all(&face).await;
    the_rest(&face).await;
}

/// A database on a CockroachDB server, if there is any.
async fn cockroach() -> Option<Face<PostgresStore>> {
    let pool = cockroach::shared().await?.database().await;
    // A thousand keys at once take a while.
    Some(native(tables(pool).await).in_real_time(Duration::from_secs(2)))
}

#[tokio::test(flavor = "multi_thread")]
async fn cockroach_keeps_the_contract() {
    if let Some(face) = cockroach().await {
        contract::all(&face).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cockroach_keeps_the_contract_of_history_and_of_transactions() {
    if let Some(face) = cockroach().await {
        the_rest(&face).await;
    }
}
