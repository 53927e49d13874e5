//! The contract over Redis.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value, cmd};
use relent::store::contract::{self, Bench};
use relent::store::{
    AsyncStore, DurableTracker, LeaseLost, Options, RedisStore, Refusal, StartError, WorkError,
    step,
};
use relent::{Backoff, Decision, GiveUpReason, Jitter, Readiness};

use crate::servers::between::{Answers, Between, words};
use crate::servers::redis::{self as server, Server};

/// A connection whose scripts read the time from a list that the test sets.
#[derive(Clone)]
struct Clocked {
    connection: MultiplexedConnection,
    /// The scripts that replace those of the store.
    scripts: Arc<Mutex<HashMap<String, String>>>,
    ours: &'static str,
    /// How often each call is sent. All answers but the last are lost.
    sends: usize,
    /// How much time passes before each of the next calls is sent.
    pauses: Arc<Mutex<VecDeque<Duration>>>,
}

impl Clocked {
    fn new(connection: MultiplexedConnection, ours: &'static str) -> Clocked {
        Clocked {
            connection,
            scripts: Arc::default(),
            ours,
            sends: 1,
            pauses: Arc::default(),
        }
    }

    /// Moves a clock that runs.
    async fn pass(&self, time: Duration) {
        let mut ahead = cmd("INCRBY");
        ahead.arg("ahead").arg(time.as_micros().to_string());
        let mut connection = self.connection.clone();
        ahead.exec_async(&mut connection).await.unwrap();
    }
}

const THEIRS: &str = "redis.call('TIME')";

/// A clock that stands still where it was set.
const STANDS: &str = "redis.call('LRANGE', 'clock', 0, 1)";

/// The server's own clock, so many microseconds ahead.
const RUNS: &str = "(function()
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2] + redis.call('GET', 'ahead')
    local micros = now % 1000000
    return {string.format('%.0f', (now - micros) / 1000000), string.format('%.0f', micros)}
end)()";

impl Answers for Clocked {
    async fn answer(&mut self, call: &Cmd) -> RedisResult<Value> {
        let mut words = words(call);
        let script = String::from_utf8_lossy(&words[words.len().min(2) - 1]).into_owned();
        let scripts = Arc::clone(&self.scripts);
        match &words[0][..] {
            b"SCRIPT" => {
                let code = String::from_utf8(words.remove(2)).unwrap();
                assert!(code.contains(THEIRS));
                let theirs = load(&mut self.connection, &code).await?;
                let ours = load(&mut self.connection, &code.replace(THEIRS, self.ours)).await?;
                scripts.lock().insert(theirs.clone(), ours);
                Ok(Value::BulkString(theirs.into_bytes()))
            }
            b"EVALSHA" => {
                let unknown = (ErrorKind::Server(ServerErrorKind::NoScript), "no script");
                let ours = scripts.lock().get(&script).cloned().ok_or(unknown)?;
                words[1] = ours.into_bytes();
                let mut command = Cmd::new();
                command.arg(words);
                let pause = self.pauses.lock().pop_front();
                if let Some(time) = pause {
                    self.pass(time).await;
                }
                for _ in 1..self.sends {
                    self.connection.req_packed_command(&command).await?;
                }
                self.connection.req_packed_command(&command).await
            }
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
}

async fn load(connection: &mut MultiplexedConnection, code: &str) -> RedisResult<String> {
    let mut load = cmd("SCRIPT");
    load.arg("LOAD").arg(code).query_async(connection).await
}

struct Redis {
    connection: Clocked,
    stores: AtomicU32,
    /// In microseconds since 1970.
    now: Mutex<u64>,
}

impl Redis {
    async fn set(&self) {
        let now = *self.now.lock();
        let set = "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2])";
        let mut command = cmd("EVAL");
        command.arg(set).arg(1).arg("clock");
        command.arg(now / 1_000_000).arg(now % 1_000_000);
        let mut connection = self.connection.connection.clone();
        command.exec_async(&mut connection).await.unwrap();
    }
}

impl Bench for Redis {
    type Store = RedisStore<Between<Clocked>>;

    async fn empty(&self) -> Self::Store {
        let n = self.stores.fetch_add(1, Relaxed);
        let store = RedisStore::new(Between(self.connection.clone()));
        store.namespace(format!("{{contract}} {n}")).unwrap()
    }

    async fn pass(&self, time: Duration) {
        *self.now.lock() += u64::try_from(time.as_micros()).unwrap();
        self.set().await;
    }

    fn set_clock(&self, time: SystemTime) -> bool {
        let time = time.duration_since(UNIX_EPOCH).unwrap().as_micros();
        *self.now.lock() = u64::try_from(time).unwrap();
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(self.set()));
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    let Some(server) = server::shared() else {
        return;
    };
    let bench = Redis {
        connection: Clocked::new(server.connection().await, STANDS),
        stores: AtomicU32::new(0),
        now: Mutex::new(1_800_000_000_123_456),
    };
    bench.set().await;
    contract::all(&bench).await;
}

/// A store whose clock runs on, as handles expect it to: what they believe of it is then right.
struct Running {
    connection: Clocked,
    stores: AtomicU32,
}

impl Bench for Running {
    type Store = RedisStore<Between<Clocked>>;

    async fn empty(&self) -> Self::Store {
        let n = self.stores.fetch_add(1, Relaxed);
        let store = RedisStore::new(Between(self.connection.clone()));
        store.namespace(format!("running {n}")).unwrap()
    }

    async fn pass(&self, time: Duration) {
        self.connection.pass(time).await;
    }

    fn unit(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// A server of its own, whose clock nobody else moves.
async fn running(sends: usize) -> Option<(Server, Running)> {
    let server = Server::new()?;
    let mut connection = Clocked::new(server.connection().await, RUNS);
    connection.sends = sends;
    connection.pass(Duration::ZERO).await;
    let stores = AtomicU32::new(0);
    Some((server, Running { connection, stores }))
}

#[tokio::test]
async fn redis_keeps_the_contract_while_its_clock_runs() {
    let Some((_server, bench)) = running(1).await else {
        return;
    };
    contract::all(&bench).await;
}

/// As the client of a cluster does, which sends a call again if it gets no answer.
#[tokio::test]
async fn redis_keeps_the_contract_where_every_call_is_sent_three_times() {
    let Some((_server, bench)) = running(3).await else {
        return;
    };
    contract::all(&bench).await;
}

/// A client that has heard what a key says, and is stopped before it sends the change.
#[tokio::test]
async fn p1_what_was_decided_long_before_it_is_written_is_decided_anew() {
    let Some((_server, bench)) = running(1).await else {
        return;
    };
    // Much longer than the test takes, and shorter than the pauses, in which the clock is moved.
    let after = Duration::from_secs(60);
    let policy = Backoff::fixed(after).jitter(Jitter::None);
    let options = || Options::new(policy).time_to_live(after);
    let pause = |seconds: &[u64]| {
        let pauses = seconds.iter().copied().map(Duration::from_secs);
        bench.connection.pauses.lock().extend(pauses);
    };
    let store = bench.empty().await;
    let tracker = || DurableTracker::new(store.namespace("paused").unwrap(), options());

    pause(&[0, 90]);
    let told = tracker().record_failure("fails", "broken").await.unwrap();
    assert_eq!(told, Decision::Retry { after });
    let Readiness::Wait(left) = tracker().check("fails").await.unwrap() else {
        panic!("the wait was over when it was told");
    };
    assert!(left > after / 2, "{left:?}");

    pause(&[0, 90]);
    let held = tracker();
    let work = held.start("starts").await.unwrap();
    let refused = tracker().start("starts").await;
    assert!(matches!(
        refused,
        Err(StartError::Refused(Refusal::Held { .. }))
    ));
    work.finish().await.unwrap();

    // Where the moment decides: at the first one the key would be tried again, at the last one it
    // gives up.
    let policy = policy.give_up_after(Duration::from_secs(120));
    let limited = || DurableTracker::new(store.namespace("limited").unwrap(), policy);
    limited().record_failure("ends", "broken").await.unwrap();
    pause(&[30, 90]);
    let told = limited().record_failure("ends", "broken").await.unwrap();
    assert_eq!(told, Decision::GiveUp(GiveUpReason::Elapsed));
}

/// It depends on the very moment of writing, which the handle does not know: by its own clock it is
/// half a second earlier.
#[tokio::test]
async fn p1_where_the_moment_decides_it_is_that_of_the_server() {
    const MINUTE: Duration = Duration::from_secs(60);
    let Some((_server, bench)) = running(1).await else {
        return;
    };
    let half = Duration::from_millis(500);
    let pass = || bench.connection.pass(half);
    let tracker = async |policy: Backoff| {
        let policy = policy.jitter(Jitter::None);
        let options = Options::new(policy).time_to_live(MINUTE);
        DurableTracker::new(bench.empty().await, options)
    };

    let soon = tracker(Backoff::fixed(half / 2)).await;
    soon.record_failure("waits", "broken").await.unwrap();
    pass().await;
    assert!(soon.start("waits").await.is_ok(), "its wait is over");

    let limited = tracker(Backoff::fixed(MINUTE).give_up_after(MINUTE + half / 2)).await;
    limited.record_failure("ends", "broken").await.unwrap();
    pass().await;
    let told = limited.record_failure("ends", "broken").await.unwrap();
    assert_eq!(told, Decision::GiveUp(GiveUpReason::Elapsed));
    let kept = limited.get("ends").await.unwrap().unwrap();
    assert_eq!(kept.gave_up, Some(GiveUpReason::Elapsed));

    // A lease that lives for half as long again.
    let options = Options::new(Backoff::fixed(MINUTE)).time_to_live(half * 3 / 2);
    let brief = soon.another(options);
    let work = brief.start("fails").await.unwrap();
    pass().await;
    brief.record_failure("fails", "broken").await.unwrap();
    let kept = brief.get("fails").await.unwrap().unwrap();
    assert_eq!(kept.lease.map(|lease| lease.token), Some(work.token()));

    // It runs out between what the server says of it and what it is told.
    let work = brief.start("ends").await.unwrap();
    let pauses = [Duration::ZERO, half * 8 / 5];
    bench.connection.pauses.lock().extend(pauses);
    let late = work.finish().await;
    let is_expired = matches!(late, Err(WorkError::Lost(LeaseLost::Expired { .. })));
    assert!(is_expired, "{late:?}");

    // A heartbeat that would shorten the lease a moment earlier, and lengthens it now.
    let work = soon.start("held").await.unwrap();
    pass().await;
    let shorter = Duration::from_millis(59_750);
    let extend = step::extend(work.token(), shorter);
    let until = soon.store().update("held", extend).await.unwrap().unwrap();
    let kept = soon.get("held").await.unwrap().unwrap();
    assert_eq!(kept.lease.unwrap().until, until);
}

/// It may take twice as long each time that it was too late.
#[tokio::test]
async fn a_change_over_a_slow_connection_gets_there() {
    let Some((_server, bench)) = running(1).await else {
        return;
    };
    let slowly = Backoff::fixed(Duration::from_secs(3600));
    let tracker = DurableTracker::new(bench.empty().await, slowly.jitter(Jitter::None));
    let pauses = &bench.connection.pauses;
    pauses.lock().extend([Duration::from_secs(5); 100]);
    tracker.record_failure("key", "broken").await.unwrap();
    let calls = 100 - pauses.lock().len();
    assert!(calls < 10, "{calls}");
}
