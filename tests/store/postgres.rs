//! The contract over PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::store::PostgresStore;
use relent::store::contract::{self, Bench};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::servers::postgres;

/// A database whose clock can be set.
struct Postgres {
    pool: PgPool,
    stores: AtomicU32,
}

impl Bench for Postgres {
    type Store = PostgresStore;

    async fn empty(&self) -> PostgresStore {
        let n = self.stores.fetch_add(1, Relaxed);
        let store = PostgresStore::new(self.pool.clone());
        let store = if n % 2 == 0 {
            store
        } else {
            store.with_history()
        };
        store.namespace(n.to_string()).unwrap()
    }

    async fn pass(&self, time: Duration) {
        sqlx::query("UPDATE clock SET micros = micros + $1")
            .bind(i64::try_from(time.as_micros()).unwrap())
            .execute(&self.pool)
            .await
            .unwrap();
    }

    fn set_clock(&self, time: SystemTime) -> bool {
        let micros = time.duration_since(UNIX_EPOCH).unwrap().as_micros();
        let micros = i64::try_from(micros).unwrap();
        let set = sqlx::query("UPDATE clock SET micros = $1").bind(micros);
        let set = set.execute(&self.pool);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(set)).unwrap();
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract() {
    let Some(server) = postgres::shared() else {
        return;
    };
    let options = server.database().await.connect_options();
    let options = postgres::with_clock(options.as_ref().clone());
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    sqlx::raw_sql(postgres::CLOCK).execute(&pool).await.unwrap();
    PostgresStore::new(pool.clone()).migrate().await.unwrap();
    contract::all(&Postgres {
        pool,
        stores: AtomicU32::new(0),
    })
    .await;
}
