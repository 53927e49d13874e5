//! P4: a client of PostgreSQL that is killed loses nothing acknowledged, and doubles nothing.
//!
//! Real child processes work on a store and note in a log what they are about to do and what the
//! store acknowledged. They are killed with SIGKILL before a statement reaches the server, when the
//! server has done it and the answer is on its way, or at any instant. Then the store has to agree
//! with the log, except that the one operation under way may be done or not, as far as it had come.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use relent::random;
use relent::store::{DurableTracker, PostgresStore};
use sqlx::postgres::{PgPool, PgPoolOptions, PgSslMode};
use sqlx::{query, query_scalar, raw_sql};
use tempfile::{TempDir, tempdir};
use tokio::time::sleep;

use crate::model::{self, POLICY, Progress, found, time_of};
use crate::servers::postgres::{self, Server};
use crate::servers::proxy::{Fate, Proxy};

/// Not a test: what the child processes do.
#[tokio::test]
async fn child() {
    let Ok(database) = std::env::var("RELENT_CRASH_DATABASE") else {
        return;
    };
    let text = |name| std::env::var(name).unwrap();
    let first: u64 = text("RELENT_CRASH_FROM").parse().unwrap();
    let count: u64 = text("RELENT_CRASH_COUNT").parse().unwrap();
    let store = pool(Path::new(&text("RELENT_CRASH_STORE")), &database, "child");
    let admin = pool(Path::new(&text("RELENT_CRASH_SERVER")), &database, "child");
    let store = PostgresStore::new(store).with_history();
    let tracker = DurableTracker::new(store, POLICY);
    let log = text("RELENT_CRASH_LOG");
    let set_clock = async |time| set_clock(&admin, time).await;
    model::work(&tracker, set_clock, Path::new(&log), first..first + count).await;
}

fn pool(server: &Path, database: &str, name: &str) -> PgPool {
    let options = postgres::with_clock(postgres::options(server, database));
    PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect_lazy_with(options.application_name(name).ssl_mode(PgSslMode::Disable))
}

async fn set_clock(admin: &PgPool, time: Duration) {
    let micros = i64::try_from(time.as_micros()).unwrap();
    let set = query("UPDATE clock SET micros = $1").bind(micros);
    set.execute(admin).await.unwrap();
}

/// A store that children work and die on.
struct Case {
    server: &'static Server,
    database: String,
    admin: PgPool,
    directory: TempDir,
    progress: Progress,
}

impl Case {
    async fn new() -> Option<Case> {
        let server = postgres::shared()?;
        let options = server.database().await.connect_options();
        let database = options.get_database().unwrap().to_owned();
        let admin = pool(server.directory(), &database, "parent");
        raw_sql(postgres::CLOCK).execute(&admin).await.unwrap();
        PostgresStore::new(admin.clone()).migrate().await.unwrap();
        Some(Case {
            server,
            database,
            admin,
            directory: tempdir().unwrap(),
            progress: Progress::default(),
        })
    }

    /// A child that reaches its store in this directory.
    fn spawn(&self, store: &Path, count: u64) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
            .env("RELENT_CRASH_DATABASE", &self.database)
            .env("RELENT_CRASH_STORE", store)
            .env("RELENT_CRASH_SERVER", self.server.directory())
            .env("RELENT_CRASH_FROM", self.progress.next.to_string())
            .env("RELENT_CRASH_COUNT", count.to_string())
            .env("RELENT_CRASH_LOG", self.directory.path().join("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Compares the store with the log, and takes up from there.
    async fn verify(&mut self, context: &str) {
        // The server may still be doing what the child asked for last.
        let asking = "SELECT count(*) FROM pg_stat_activity
                      WHERE application_name = 'child' AND datname = current_database()";
        while query_scalar::<_, i64>(asking)
            .fetch_one(&self.admin)
            .await
            .unwrap()
            > 0
        {
            sleep(Duration::from_millis(1)).await;
        }
        let allowed = self.progress.read(&self.directory.path().join("log"));
        set_clock(&self.admin, time_of(self.progress.next)).await;
        let store = PostgresStore::new(self.admin.clone());
        let found = found(&DurableTracker::new(store, POLICY)).await;
        self.progress.verify(found, &allowed, context);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_killed_before_and_after_every_statement() {
    const OPERATIONS: u64 = 10;
    let Some(mut case) = Case::new().await else {
        return;
    };
    let mut killed = 0;
    for fate in [Fate::Lost, Fate::Unanswered] {
        for nth in 1..=40 {
            let child: Arc<Mutex<Option<Child>>> = Arc::default();
            let victim = Arc::clone(&child);
            let proxy = Proxy::cutting(case.server.directory(), nth, fate, move || {
                victim.lock().as_mut().unwrap().kill().unwrap();
            });
            {
                let mut slot = child.lock();
                *slot = Some(case.spawn(proxy.directory(), OPERATIONS));
            }
            let status = loop {
                let status = child.lock().as_mut().unwrap().try_wait().unwrap();
                match status {
                    Some(status) => break status,
                    None => sleep(Duration::from_millis(1)).await,
                }
            };
            case.verify(&format!("statement {nth} {fate:?}")).await;
            if status.success() {
                break;
            }
            killed += 1;
        }
    }
    let next = case.progress.next;
    eprintln!("killed at {killed} points within {next} operations");
    assert!(killed > 3 * OPERATIONS, "only {killed} points");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_killed_at_any_instant() {
    let times = std::env::var("RELENT_CRASHES").map_or(100, |times| times.parse().unwrap());
    let Some(mut case) = Case::new().await else {
        return;
    };
    let log = case.directory.path().join("log");
    for n in 0..times {
        let mut child = case.spawn(case.server.directory(), 1_000_000);
        while !log.exists() {
            sleep(Duration::from_micros(200)).await;
        }
        sleep(Duration::from_micros(random::draw(3, n) % 60_000)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        case.verify(&format!("killed for the {n}-th time")).await;
    }
    let next = case.progress.next;
    eprintln!("killed {times} times within {next} operations");
}
