//! The contract over Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisFuture, ServerErrorKind, Value, cmd};
use relent::store::RedisStore;
use relent::store::contract::{self, Bench};

use crate::servers::redis as server;

/// A connection whose scripts read the time from a list that the test sets.
#[derive(Clone)]
struct Clocked {
    connection: MultiplexedConnection,
    /// The scripts that take the place of others.
    scripts: Arc<Mutex<HashMap<String, String>>>,
    ours: &'static str,
}

impl Clocked {
    fn new(connection: MultiplexedConnection, ours: &'static str) -> Clocked {
        Clocked {
            connection,
            scripts: Arc::default(),
            ours,
        }
    }
}

const THEIRS: &str = "redis.call('TIME')";

/// A clock that stands still where it was set.
const STANDS: &str = "redis.call('LRANGE', 'clock', 0, 1)";

/// The server's own clock, so many seconds ahead.
const RUNS: &str = "(function()
    local time = redis.call('TIME')
    return {string.format('%.0f', time[1] + redis.call('GET', 'ahead')), time[2]}
end)()";

impl ConnectionLike for Clocked {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut words: Vec<_> = command.args_iter().filter_map(word).collect();
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
                    self.connection.req_packed_command(&command).await
                }
                other => panic!("{}", String::from_utf8_lossy(other)),
            }
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        panic!("all is done by scripts")
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as iterators hand it over")]
fn word(argument: Arg<&[u8]>) -> Option<Vec<u8>> {
    match argument {
        Arg::Simple(word) => Some(word.to_vec()),
        _ => None,
    }
}

async fn load(connection: &mut MultiplexedConnection, code: &str) -> redis::RedisResult<String> {
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
    type Store = RedisStore<Clocked>;

    async fn empty(&self) -> Self::Store {
        let n = self.stores.fetch_add(1, Relaxed);
        let store = RedisStore::new(self.connection.clone());
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
    type Store = RedisStore<Clocked>;

    async fn empty(&self) -> Self::Store {
        let n = self.stores.fetch_add(1, Relaxed);
        let store = RedisStore::new(self.connection.clone());
        store.namespace(format!("running {n}")).unwrap()
    }

    async fn pass(&self, time: Duration) {
        let mut ahead = cmd("INCRBY");
        let seconds = time.as_millis().div_ceil(1000);
        ahead.arg("ahead").arg(u64::try_from(seconds).unwrap());
        let mut connection = self.connection.connection.clone();
        ahead.exec_async(&mut connection).await.unwrap();
    }

    fn unit(&self) -> Duration {
        Duration::from_secs(30)
    }
}

#[tokio::test]
async fn redis_keeps_the_contract_while_its_clock_runs() {
    let Some(server) = server::shared() else {
        return;
    };
    let bench = Running {
        connection: Clocked::new(server.connection().await, RUNS),
        stores: AtomicU32::new(0),
    };
    bench.pass(Duration::ZERO).await;
    contract::all(&bench).await;
}
