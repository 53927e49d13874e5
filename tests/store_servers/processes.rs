//! P2 on servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use relent::store::{
    AsyncStore, DurableTracker, LeaseLost, Options, PostgresStore, Record, RedisStore, StartError,
    WorkError, step,
};
use tempfile::tempdir;
use tokio::time::sleep;

use crate::contention::{TELLING, TIME_TO_LIVE, all_contend, contend, one_is_paused, spawn, task};
use crate::servers::{postgres, redis};

/// Where a child process finds its server, and puts what it has to say.
struct Place {
    server: PathBuf,
    database: String,
    said: PathBuf,
}

impl Place {
    fn spawn(&self, task: &str) -> Child {
        let environment = [
            (SERVER, self.server.as_os_str()),
            (DATABASE, self.database.as_ref()),
            (SAID, self.said.as_os_str()),
        ];
        spawn("processes::child", task, environment)
    }
}

const SERVER: &str = "RELENT_SERVERS_SERVER";
const DATABASE: &str = "RELENT_SERVERS_DATABASE";
const SAID: &str = "RELENT_SERVERS_SAID";

/// Not a test: what the child processes do.
#[tokio::test]
async fn child() {
    let Some(task) = task() else {
        return;
    };
    let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let place = Place {
        server: path(SERVER),
        database: std::env::var(DATABASE).unwrap(),
        said: path(SAID),
    };
    if place.database.is_empty() {
        let connection = redis::connect(&place.server).await.unwrap();
        be(&task, of_redis(connection), &place.said).await;
    } else {
        let pool = postgres::pool(&place.server, &place.database, 2);
        be(&task, PostgresStore::new(pool), &place.said).await;
    }
}

async fn be<S: AsyncStore + 'static>(task: &str, store: S, said: &Path) {
    match task {
        "pause" => be_paused(store, said).await,
        number => contend(store, said, number.parse().unwrap()).await,
    }
}

/// Takes a key, says so, and goes on for a while under a heartbeat; then tries to finish.
async fn be_paused<S: AsyncStore + 'static>(store: S, said: &Path) {
    let options = Options::new(TELLING)
        .time_to_live(TIME_TO_LIVE)
        .holder("paused");
    let tracker = DurableTracker::new(store, options);
    let work = tracker.start("key").await.unwrap();
    let heartbeat = tokio::spawn(tracker.heartbeat());
    fs::write(said.join("started"), "").unwrap();
    while !said.join("go on").exists() {
        sleep(Duration::from_millis(5)).await;
    }
    let found = (
        tracker.session().expired() && work.expired(),
        matches!(
            tracker.start("other").await,
            Err(StartError::SessionExpired)
        ),
        matches!(
            work.finish().await,
            Err(WorkError::Lost(LeaseLost::Taken { .. } | LeaseLost::Ended))
        ),
    );
    heartbeat.abort();
    fs::write(said.join("said"), format!("{found:?}")).unwrap();
}

/// A worker that is held up between reading and writing, until its lease has run out, writes
/// nothing.
async fn one_is_held_up<S: AsyncStore + 'static>(store: S) {
    let store = Arc::new(store);
    for is_finish in [true, false] {
        let options = Options::new(TELLING).time_to_live(TIME_TO_LIVE);
        let tracker = DurableTracker::new(Arc::clone(&store), options);
        let key = if is_finish { "finish" } else { "fail" };
        let work = tracker.start(key).await.unwrap();
        let token = work.token();
        let mut calls = 0;
        let failed = step::Failed {
            backoff: None,
            retry_after: None,
            cause: "late".to_owned(),
            entropy: 0,
        };
        let mut hold_up = move || {
            calls += 1;
            if calls == 1 {
                std::thread::sleep(TIME_TO_LIVE * 2);
            }
        };
        let late = if is_finish {
            let mut finish = step::finish(token);
            let change = move |record: Option<&Record>, now| {
                hold_up();
                finish(record, now)
            };
            store.update(key, change).await.unwrap().map(drop)
        } else {
            let mut fail = step::fail(token, failed);
            let change = move |record: Option<&Record>, now| {
                hold_up();
                fail(record, now)
            };
            store.update(key, change).await.unwrap().map(drop)
        };
        assert!(matches!(late, Err(LeaseLost::Expired { .. })), "{late:?}");
        let record = tracker.get(key).await.unwrap();
        assert_eq!(record.as_ref(), Some(work.record()));
    }
}

/// A namespace apart from what other tests do on the server.
fn of_redis(connection: MultiplexedConnection) -> RedisStore<MultiplexedConnection> {
    let store = RedisStore::new(connection);
    store.namespace("contention").unwrap()
}

async fn on_postgres(said: &Path) -> Option<(PostgresStore, Place)> {
    let server = postgres::shared()?;
    let pool = server.database().await;
    let database = pool.connect_options().get_database().unwrap().to_owned();
    let store = PostgresStore::new(pool);
    store.migrate().await.unwrap();
    let place = Place {
        server: server.directory().to_owned(),
        database,
        said: said.to_owned(),
    };
    Some((store, place))
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_processes_that_contend_on_postgres_are_as_if_one_after_the_other() {
    let said = tempdir().unwrap();
    if let Some((store, place)) = on_postgres(said.path()).await {
        all_contend(store, &place.said, |task| place.spawn(task)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_worker_that_was_paused_too_long_is_refused_by_postgres() {
    let said = tempdir().unwrap();
    if let Some((store, place)) = on_postgres(said.path()).await {
        one_is_paused(store, &place.said, |task| place.spawn(task)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_worker_that_is_held_up_between_reading_and_writing_is_refused() {
    let said = tempdir().unwrap();
    if let Some((store, _)) = on_postgres(said.path()).await {
        one_is_held_up(store).await;
    }
    if let Some(server) = redis::shared() {
        let store = RedisStore::new(server.connection().await);
        one_is_held_up(store.namespace("held up").unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_redis_with_processes_that_contend_and_one_that_is_paused() {
    let Some(server) = redis::shared() else {
        return;
    };
    let said = tempdir().unwrap();
    let place = Place {
        server: server.directory().to_owned(),
        database: String::new(),
        said: said.path().to_owned(),
    };
    let connection = server.connection().await;
    let store = of_redis(connection.clone());
    all_contend(store.clone(), &place.said, |task| place.spawn(task)).await;
    one_is_paused(store, &place.said, |task| place.spawn(task)).await;
}
