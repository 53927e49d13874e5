//! P2: several processes on one server: one lease per key, growing tokens, no failure lost or
//! doubled; and a process that was paused for too long.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::redis::aio::MultiplexedConnection;
use relent::store::{
    AsyncStore, DurableTracker, LeaseLost, Options, PostgresStore, Record, RedisStore, Refusal,
    StartError, Work, WorkError, step,
};
use relent::{Backoff, Decision, Jitter, random};
use tempfile::tempdir;
use tokio::time::sleep;

use crate::history::{self, Call, Made};
use crate::servers::{postgres, redis};

const PROCESSES: u64 = 8;
const KEYS: u64 = 200;

const UNIT: Duration = Duration::from_millis(8);

/// Doubles each time, so that a delay tells how many failures there were, and some wait.
const TELLING: Backoff =
    Backoff::exponential(UNIT, Duration::from_secs(10_000_000)).jitter(Jitter::None);

/// The length of the streak that made somebody wait so long.
fn failures(told: Decision) -> u32 {
    let delay = told.delay().unwrap();
    assert!(delay < TELLING.max, "too long a streak to tell");
    (delay.as_nanos() / UNIT.as_nanos()).ilog2() + 1
}

/// Where a child process finds its server, and puts what it has to say.
struct Place {
    server: PathBuf,
    database: String,
    said: PathBuf,
}

/// Not a test: what the child processes do.
#[tokio::test]
async fn child() {
    let Ok(what) = std::env::var("RELENT_SERVERS_CHILD") else {
        return;
    };
    let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let place = Place {
        server: path("RELENT_SERVERS_SERVER"),
        database: std::env::var("RELENT_SERVERS_DATABASE").unwrap(),
        said: path("RELENT_SERVERS_SAID"),
    };
    if place.database.is_empty() {
        let connection = redis::connect(&place.server).await.unwrap();
        be(&what, of_redis(connection), &place).await;
    } else {
        let pool = postgres::pool(&place.server, &place.database, 2);
        be(&what, PostgresStore::new(pool), &place).await;
    }
}

async fn be<S: AsyncStore + 'static>(what: &str, store: S, place: &Place) {
    match what {
        "pause" => be_paused(store, &place.said).await,
        number => contend(store, &place.said, number.parse().unwrap()).await,
    }
}

fn spawn(what: &str, place: &Place) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "contention::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("RELENT_SERVERS_CHILD", what)
        .env("RELENT_SERVERS_SERVER", &place.server)
        .env("RELENT_SERVERS_DATABASE", &place.database)
        .env("RELENT_SERVERS_SAID", &place.said)
        .stdout(Stdio::null());
    command.spawn().unwrap()
}

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

/// Does this and that to any key, and notes what it did.
async fn contend<S: AsyncStore>(store: S, said: &Path, number: u64) {
    let tracker = DurableTracker::new(store, TELLING);
    let mut log = String::new();
    let mut in_hand: Vec<Work<S>> = vec![];
    let end = Instant::now() + length();
    let mut draws = (0..).map(|n| random::draw(number, n));
    let mut draw = |below: u64| draws.next().unwrap() % below;
    while Instant::now() < end {
        let key = draw(KEYS).to_string();
        let from = now();
        let mut note = |key: &str, call: Call| {
            writeln!(log, "{key} {from} {} {call}", now()).unwrap();
        };
        match draw(11) {
            // A long streak is hard to tell by the wait, so there are more successes.
            0 => {
                let told = tracker.record_failure(&key, "broken").await.unwrap();
                note(&key, Call::Failed(failures(told)));
            }
            1 => {
                let keys: Vec<_> = (0..3).map(|_| draw(KEYS).to_string()).collect();
                let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
                let told = tracker.record_failures(&pairs).await.unwrap();
                for (key, told) in keys.iter().zip(told) {
                    note(key, Call::Failed(failures(told)));
                }
            }
            2..=4 => {
                let ended = tracker.record_success(&key).await.unwrap();
                note(
                    &key,
                    Call::Succeeded(ended.map_or(0, |ended| ended.failures)),
                );
            }
            5 => {
                for work in tracker.claim_due(3).await.unwrap() {
                    let failures = work.record().state.failures;
                    note(work.key(), Call::Started(work.token(), failures));
                    in_hand.push(work);
                }
            }
            6 | 7 => match tracker.start(&key).await {
                Ok(work) => {
                    let failures = work.record().state.failures;
                    note(&key, Call::Started(work.token(), failures));
                    in_hand.push(work);
                }
                Err(StartError::Refused(Refusal::Held { .. })) => note(&key, Call::Held),
                Err(StartError::Refused(Refusal::BackingOff { .. })) => note(&key, Call::Waits),
                Err(error) => panic!("{error}"),
            },
            _ if in_hand.is_empty() => {}
            how => {
                let any = usize::try_from(draw(in_hand.len() as u64)).unwrap();
                let work = in_hand.swap_remove(any);
                let (key, token) = (work.key(), work.token());
                let call = match how {
                    8 => Call::WorkFailed(token, failures(work.fail("broken").await.unwrap())),
                    9 => {
                        let ended = work.finish().await.unwrap();
                        Call::Finished(token, ended.map_or(0, |ended| ended.failures))
                    }
                    _ => {
                        work.cancel().await.unwrap();
                        Call::Canceled(token)
                    }
                };
                note(key, call);
            }
        }
    }
    fs::write(said.join(format!("log {number}")), log).unwrap();
}

/// How long to contend.
fn length() -> Duration {
    let seconds = std::env::var("RELENT_CONTENTION_SECONDS");
    Duration::from_secs(seconds.map_or(4, |seconds| seconds.parse().unwrap()))
}

/// Has processes contend, and looks for an order of what they did, key by key.
async fn all_contend<S: AsyncStore>(store: S, place: &Place) {
    let children = (0..PROCESSES).map(|n| spawn(&n.to_string(), place));
    for mut child in children.collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let mut histories: BTreeMap<String, Vec<Made>> = BTreeMap::new();
    let mut count = 0;
    let mut kinds: HashMap<_, u32> = HashMap::new();
    for n in 0..PROCESSES {
        let log = fs::read_to_string(place.said.join(format!("log {n}"))).unwrap();
        for line in log.lines() {
            let mut parts = line.splitn(4, ' ');
            let mut part = || parts.next().unwrap();
            let (key, from, to, call) = (part(), part(), part(), part());
            let call: Call = call.parse().unwrap();
            *kinds.entry(std::mem::discriminant(&call)).or_default() += 1;
            histories.entry(key.to_owned()).or_default().push(Made {
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                call,
            });
            count += 1;
        }
    }
    let place = if place.database.is_empty() {
        "Redis"
    } else {
        "PostgreSQL"
    };
    eprintln!(
        "{count} calls of {PROCESSES} processes on {} keys in {place}",
        histories.len()
    );
    assert_eq!(kinds.len(), 8, "every kind of call: {kinds:?}");
    for (key, made) in histories {
        let left = history::linearize(made).unwrap_or_else(|why| panic!("key {key}: {why}"));
        let (record, _) = store.load(&key).await.unwrap();
        let failures = record.as_ref().map_or(0, |record| record.state.failures);
        let token = record
            .and_then(|record| record.lease)
            .map(|lease| lease.token);
        assert_eq!((failures, token), (left.failures, left.lease), "key {key}");
    }
}

const TIME_TO_LIVE: Duration = Duration::from_secs(2);

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

async fn one_is_paused<S: AsyncStore + 'static>(store: S, place: &Place) {
    let signal = |child: &Child, name: &str| {
        let sent = Command::new("kill")
            .args([name, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    };
    let wait_for = async |name: &str| {
        let started = Instant::now();
        while !place.said.join(name).exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "no {name}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    let mut child = spawn("pause", place);
    wait_for("started").await;
    let tracker = DurableTracker::new(store, TELLING);

    // While it runs, its heartbeat keeps the lease beyond its time to live.
    sleep(TIME_TO_LIVE * 3).await;
    let held = tracker.start("key").await.map(drop);
    assert!(
        matches!(&held, Err(StartError::Refused(Refusal::Held { by, .. })) if by == "paused"),
        "{held:?}"
    );

    signal(&child, "-STOP");
    sleep(TIME_TO_LIVE + Duration::from_millis(100)).await;
    let refused = tracker.start("key").await.map(drop);
    assert!(matches!(
        refused,
        Err(StartError::Refused(Refusal::BackingOff { .. }))
    ));
    let record = tracker.get("key").await.unwrap().unwrap();
    assert_eq!(
        (record.state.failures, &*record.cause),
        (1, "lease expired")
    );
    sleep(UNIT * 2).await;
    let work = tracker.start("key").await.unwrap();

    fs::write(place.said.join("go on"), "").unwrap();
    signal(&child, "-CONT");
    wait_for("said").await;
    assert!(child.wait().unwrap().success());
    let said = fs::read_to_string(place.said.join("said")).unwrap();
    assert_eq!(said, "(true, true, true)");
    assert!(work.finish().await.is_ok());
}

/// A worker that is held up between reading and writing, until its lease has run out, writes nothing.
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

/// Apart from what other tests do on the server.
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
        all_contend(store, &place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_worker_that_was_paused_too_long_is_refused_by_postgres() {
    let said = tempdir().unwrap();
    if let Some((store, place)) = on_postgres(said.path()).await {
        one_is_paused(store, &place).await;
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
    all_contend(store.clone(), &place).await;
    one_is_paused(store, &place).await;
}
