//! Machines in PostgreSQL, for the workers of any number of hosts.

use std::sync::Arc;

use relent::Decision;
use relent::store::{
    DurableTracker, Entry, Options, PostgresStore, Record, Session, StartError, Work,
};
use sqlx::PgPool;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::machines::{Error, Kind, Machines, Refused, Taken};

pub(crate) struct Postgres {
    /// What waits for the answers of the database. The workers themselves block.
    runtime: Arc<Runtime>,
    pool: PgPool,
    tracker: DurableTracker<PostgresStore>,
    kind: Kind,
    heartbeat: Option<JoinHandle<()>>,
}

impl Postgres {
    pub(crate) fn open(
        runtime: &Arc<Runtime>,
        pool: &PgPool,
        kind: Kind,
        options: Options,
    ) -> Result<Postgres, Error> {
        let store = PostgresStore::new(pool.clone()).with_history();
        let store = store.namespace(kind.name())?;
        runtime.block_on(store.migrate())?;
        Ok(Postgres {
            runtime: Arc::clone(runtime),
            pool: pool.clone(),
            tracker: DurableTracker::new(store, options),
            kind,
            heartbeat: None,
        })
    }

    pub(crate) fn set_up(&self) -> Result<(), Error> {
        let table = "CREATE TABLE machine (
                         id TEXT PRIMARY KEY,
                         os TEXT,
                         down BOOLEAN NOT NULL,
                         note TEXT
                     )";
        let made = self
            .runtime
            .block_on(sqlx::query(table).execute(&self.pool));
        made.map(drop).map_err(Into::into)
    }
}

impl Machines for Postgres {
    type Taken = Work<PostgresStore>;

    fn take(&mut self) -> Result<Option<Self::Taken>, Error> {
        // The row stays locked until the lease is there: whoever comes second looks at another.
        let eligible = match self.kind {
            Kind::Initialize => {
                "SELECT machine.id FROM machine LEFT JOIN relent ON relent.namespace = $1
                 AND relent.key = machine.id AND relent.due > clock_timestamp()
                 WHERE relent.key IS NULL AND machine.os IS NULL
                 ORDER BY machine.id LIMIT 1 FOR UPDATE OF machine SKIP LOCKED"
            }
            Kind::Recover => {
                "SELECT machine.id FROM machine LEFT JOIN relent ON relent.namespace = $1
                 AND relent.key = machine.id AND relent.due > clock_timestamp()
                 WHERE relent.key IS NULL AND machine.down
                 ORDER BY machine.id LIMIT 1 FOR UPDATE OF machine SKIP LOCKED"
            }
        };
        self.runtime.block_on(async {
            let mut transaction = self.pool.begin().await?;
            let found = sqlx::query_scalar(eligible).bind(self.kind.name());
            let found: Option<String> = found.fetch_optional(&mut *transaction).await?;
            let Some(machine) = found else {
                return Ok(None);
            };
            let granted = match self.tracker.start_in(&mut transaction, &machine).await {
                Ok(granted) => Some(granted),
                // It was left by a worker that died: that has just been counted as a failure.
                Err(StartError::Refused(_)) => None,
                Err(error) => return Err(error.into()),
            };
            transaction.commit().await?;
            Ok(granted.map(|granted| self.tracker.committed(granted)))
        })
    }

    fn finish(&mut self, work: &Self::Taken, tag: &str) -> Result<(), Refused> {
        let done = match self.kind {
            Kind::Initialize => "UPDATE machine SET os = $1 WHERE id = $2",
            Kind::Recover => "UPDATE machine SET down = FALSE, note = $1 WHERE id = $2",
        };
        let store = |error: sqlx::Error| Refused::Store(error.into());
        self.runtime.block_on(async {
            let mut transaction = self.pool.begin().await.map_err(store)?;
            work.finish_in(&mut transaction).await?;
            let note = sqlx::query(done).bind(tag).bind(work.key());
            note.execute(&mut *transaction).await.map_err(store)?;
            transaction.commit().await.map_err(store)
        })
    }

    fn fail(&mut self, work: &Self::Taken, cause: &str) -> Result<Decision, Refused> {
        Ok(self.runtime.block_on(work.fail(cause))?)
    }

    fn cancel(&mut self, work: &Self::Taken) -> Result<(), Refused> {
        Ok(self.runtime.block_on(work.cancel())?)
    }

    fn session(&self) -> &Session {
        self.tracker.session()
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.tracker = self.tracker.renewed();
        let heartbeat = self.tracker.heartbeat_with(tokio::time::sleep);
        let before = self.heartbeat.replace(self.runtime.spawn(heartbeat));
        before.inspect(JoinHandle::abort);
        Ok(())
    }

    fn add(&self, machine: &str, is_down: bool) -> Result<(), Error> {
        let add = sqlx::query("INSERT INTO machine (id, down) VALUES ($1, $2)");
        let add = add.bind(machine).bind(is_down).execute(&self.pool);
        self.runtime.block_on(add)?;
        Ok(())
    }

    fn left(&self) -> Result<i64, Error> {
        let left = sqlx::query_scalar("SELECT count(*) FROM machine WHERE os IS NULL OR down");
        Ok(self.runtime.block_on(left.fetch_one(&self.pool))?)
    }

    fn history(&self, machine: &str) -> Result<Vec<Entry>, Error> {
        let history = self.tracker.store().history(machine, 1000);
        let mut history = self.runtime.block_on(history)?;
        history.reverse();
        Ok(history)
    }
}

impl Taken for Work<PostgresStore> {
    fn key(&self) -> &str {
        self.key()
    }

    fn token(&self) -> u64 {
        self.token()
    }

    fn record(&self) -> &Record {
        self.record()
    }
}
