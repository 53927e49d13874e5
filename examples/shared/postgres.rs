//! PostgreSQL, for the processes of any number of hosts: a server is started for them, if one is
//! installed.

use std::fs;
use std::path::Path;

use relent::store::blocking::Block;
use relent::store::{Entry, PostgresStore};
use sqlx::postgres::{PgConnection, PgPool};
use tokio::runtime::{Builder, EnterGuard, Runtime};

use super::database::{Database, Error, Transaction};

#[path = "../../tests/servers/mod.rs"]
mod servers;

pub(crate) use servers::postgres::Server;

/// Connections to a database. The workers block; the runtime drives what they wait for.
pub(crate) struct Postgres {
    store: PostgresStore,
    pool: PgPool,
    runtime: Runtime,
}

impl Postgres {
    /// Starts a server with a database, if it is installed, and notes in `home` where they are.
    pub(crate) fn start(home: &Path) -> Result<Option<Server>, Error> {
        let Some(server) = Server::new(&["fsync=off"]) else {
            return Ok(None);
        };
        let made = runtime()?.block_on(server.database());
        let options = made.connect_options();
        let name = options.get_database().unwrap_or("postgres");
        let place = format!("{}\n{name}", server.directory().display());
        fs::write(home.join("server"), place)?;
        let new = Postgres::find(home)?;
        new.runtime.block_on(new.store.migrate())?;
        Ok(Some(server))
    }

    pub(crate) fn is_at(home: &Path) -> bool {
        home.join("server").exists()
    }

    pub(crate) fn find(home: &Path) -> Result<Postgres, Error> {
        let place = fs::read_to_string(home.join("server"))?;
        let (directory, name) = place.split_once('\n').ok_or("no name")?;
        let runtime = runtime()?;
        let within = runtime.enter();
        let pool = servers::postgres::pool(Path::new(directory), name, 5);
        drop(within);
        Ok(Postgres {
            store: PostgresStore::new(pool.clone()).with_history(),
            pool,
            runtime,
        })
    }
}

fn runtime() -> std::io::Result<Runtime> {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build()
}

impl Database for Postgres {
    type Store = Block<PostgresStore>;
    type Transaction<'a> = PostgresTransaction<'a>;

    fn store(&self, namespace: &str) -> Result<Block<PostgresStore>, Error> {
        let store = self.store.namespace(namespace)?;
        Ok(Block::new(store, self.runtime.handle().clone()))
    }

    fn history(&self, namespace: &str, key: &str) -> Result<Vec<Entry>, Error> {
        let store = self.store.namespace(namespace)?;
        let mut history = self.runtime.block_on(store.history(key, 1000))?;
        history.reverse();
        Ok(history)
    }

    fn begin(&mut self) -> Result<PostgresTransaction<'_>, Error> {
        Ok(PostgresTransaction {
            inner: self.runtime.block_on(self.pool.begin())?,
            _within: self.runtime.enter(),
            runtime: &self.runtime,
        })
    }
}

pub(crate) struct PostgresTransaction<'a> {
    inner: sqlx::Transaction<'static, sqlx::Postgres>,
    /// To be rolled back, it needs the runtime when it is dropped.
    _within: EnterGuard<'a>,
    runtime: &'a Runtime,
}

impl Transaction for PostgresTransaction<'_> {
    type Store = Block<PostgresStore>;

    fn now(&self) -> String {
        "clock_timestamp()".to_owned()
    }

    fn lock(&self) -> &'static str {
        "FOR UPDATE OF machine SKIP LOCKED"
    }

    fn query(&mut self, sql: &str, values: &[&str]) -> Result<Option<String>, Error> {
        let mut query = sqlx::query_scalar(sql);
        for value in values {
            query = query.bind(*value);
        }
        let found = query.fetch_optional(&mut *self.inner);
        Ok(self.runtime.block_on(found)?)
    }

    fn connection(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    fn commit(self) -> Result<(), Error> {
        let PostgresTransaction { inner, .. } = self;
        Ok(self.runtime.block_on(inner.commit())?)
    }
}
