//! Where the machines are: in PostgreSQL if there is a server for them, otherwise in SQLite.

use std::path::Path;

use relent::clock::MonotonicClock;

use crate::machines::Kind;
use crate::siege::{self, Result};
use crate::sqlite::Sqlite;
use crate::worker::options;

pub(crate) fn sqlite(home: &Path, name: &str, kind: Kind) -> Result<Sqlite<MonotonicClock>> {
    let path = home.join("machines.db");
    Sqlite::open(&path, kind, MonotonicClock, options(name, kind))
}

/// A worker process of that name.
pub(crate) fn work(home: &Path, name: &str) -> Result<()> {
    #[cfg(feature = "postgres")]
    if let Some(database) = postgres::Database::find(home)? {
        return siege::work(home, name, |kind| database.open(name, kind));
    }
    siege::work(home, name, |kind| sqlite(home, name, kind))
}

#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use sqlx::PgPool;
    use tokio::runtime::{Builder, Runtime};

    use super::{Kind, Result, options};
    use crate::postgres::Postgres;
    use crate::servers::postgres::{Server, pool};

    pub(crate) struct Database {
        runtime: Arc<Runtime>,
        pool: PgPool,
    }

    impl Database {
        /// A new one, on a server that is noted for the workers to find.
        pub(crate) fn make(home: &Path, server: &Server) -> Result<Database> {
            let runtime = runtime()?;
            let pool = runtime.block_on(server.database());
            let name = pool
                .connect_options()
                .get_database()
                .unwrap_or("postgres")
                .to_owned();
            let place = format!("{}\n{name}", server.directory().display());
            fs::write(home.join("server"), place)?;
            let database = Database { runtime, pool };
            database.open("main", Kind::Initialize)?.set_up()?;
            Ok(database)
        }

        pub(crate) fn find(home: &Path) -> Result<Option<Database>> {
            let Ok(place) = fs::read_to_string(home.join("server")) else {
                return Ok(None);
            };
            let (directory, name) = place.split_once('\n').unwrap_or_default();
            let runtime = runtime()?;
            let within = runtime.enter();
            let pool = pool(Path::new(directory), name, 5);
            drop(within);
            Ok(Some(Database { runtime, pool }))
        }

        pub(crate) fn open(&self, name: &str, kind: Kind) -> Result<Postgres> {
            Postgres::open(&self.runtime, &self.pool, kind, options(name, kind))
        }
    }

    fn runtime() -> Result<Arc<Runtime>> {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        Ok(Arc::new(runtime))
    }
}
