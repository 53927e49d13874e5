//! Stores on servers beside hand-written SQL, or commands, with the same durability, in one run.
//!
//! `cargo bench --bench servers --features postgres,redis,tokio`. It starts its own servers, with
//! their data in the directory for temporary files: PostgreSQL with its defaults, which wait for
//! the disk, and Redis with `appendfsync always`, which does too.
//!
//! Both sides of a pair take turns in short rounds, so that whatever else the machine does hits
//! both alike; the median round is reported.
//!
//! What is written by hand makes the same promise in the least work: an index of what is due; no
//! write over what somebody else has written since it was read; a lease that no failure cuts short,
//! with a fencing token, drawn once for all that are claimed. It knows one application, one policy
//! that never gives up, and a clock that is never set back: so it needs no namespace, and neither
//! of the columns that those need.

#![cfg(unix)]

#[path = "../tests/servers/mod.rs"]
mod servers;

use std::collections::HashMap;
use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use relent::store::{AsyncStore, DurableTracker, Page, PostgresStore, RedisStore, Which};
use relent::{Backoff, BackoffState, Decision, Failure, Jitter};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Row, query, raw_sql};

const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(3600));

/// Due at once, to be claimed again.
const AT_ONCE: Backoff = Backoff::fixed(Duration::from_nanos(1)).jitter(Jitter::None);

#[tokio::main]
async fn main() {
    // `cargo test` runs this too, only to see that it does.
    let quick = std::env::args().any(|argument| argument == "--test");
    let rounds = if quick { 1 } else { 21 };
    if let Some(server) = servers::postgres::Server::new(&[]) {
        let pool = server.database().await;
        let tracker = DurableTracker::new(PostgresStore::new(pool.clone()), POLICY);
        tracker.store().migrate().await.expect("migrated");
        raw_sql(BARE).execute(&pool).await.expect("a bare table");
        settle(&tracker, &pool).await;
        failures(&tracker, &pool, rounds).await;
        batches(&tracker, &pool, rounds).await;
        claims(&tracker, &pool, rounds).await;
        due(
            &tracker,
            &pool,
            if quick { 1000 } else { 1_000_000 },
            rounds,
        )
        .await;
    }
    if let Some(server) = servers::redis::Server::new() {
        redis(&server, rounds).await;
    }
}

/// Fills both tables a little and has the database analyze them, as it does by itself after a
/// minute.
async fn settle(tracker: &DurableTracker<PostgresStore>, pool: &PgPool) {
    let keys: Vec<_> = (0..10_000).map(|n| format!("other {n}")).collect();
    let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
    tracker.record_failures(&pairs).await.unwrap();
    let bare = "INSERT INTO bare SELECT key, 1, 1, now(), until, cause FROM relent;
                VACUUM ANALYZE bare; VACUUM ANALYZE relent;";
    for statement in bare.split(';') {
        raw_sql(statement).execute(pool).await.expect("settled");
    }
}

/// Calls both by turns, and prints the median times of one call.
async fn by_turns<A: Future, B: Future>(
    what: &str,
    rounds: usize,
    calls: u32,
    mut ours: impl FnMut(u32) -> A,
    mut bare: impl FnMut(u32) -> B,
) {
    let mut times = (vec![], vec![]);
    for round in 0..rounds as u32 {
        let began = Instant::now();
        for n in 0..calls {
            black_box(ours(round * calls + n).await);
        }
        times.0.push(began.elapsed() / calls);
        let began = Instant::now();
        for n in 0..calls {
            black_box(bare(round * calls + n).await);
        }
        times.1.push(began.elapsed() / calls);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (ours, bare) = (median(times.0), median(times.1));
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{what}: {ours:.1?}, bare {bare:.1?}: {ratio:.2} times");
}

/// The table that somebody would make by hand.
const BARE: &str = "
    CREATE TABLE bare (
        key TEXT PRIMARY KEY, failures BIGINT NOT NULL, interval_ns BIGINT NOT NULL,
        first_failure TIMESTAMPTZ NOT NULL, until TIMESTAMPTZ NOT NULL, cause TEXT NOT NULL,
        token BIGINT, holder TEXT, lease_until TIMESTAMPTZ
    );
    CREATE INDEX bare_until ON bare (until);
    CREATE SEQUENCE bare_tokens;
";

/// What somebody would call by hand, as short as can be: two statements, of which the second writes
/// only rows that nobody has changed since the first, and answers which those were.
async fn bare(pool: &PgPool, keys: &[String]) {
    let mut connection = pool.acquire().await.expect("a connection");
    let read = query("SELECT key, failures, interval_ns FROM bare WHERE key = ANY($1)");
    let rows = read.bind(keys).fetch_all(&mut *connection).await;
    let states: HashMap<_, _> = rows.as_ref().expect("read").iter().map(state).collect();
    let (mut failures, mut intervals, mut waits) = (vec![], vec![], vec![]);
    for key in keys {
        let state = states.get(key.as_str()).copied().unwrap_or_default();
        let (next, interval, wait) = fail(state);
        failures.push(next);
        intervals.push(interval);
        waits.push(wait);
    }
    let put = query(
        "INSERT INTO bare
         SELECT key, failures, interval_ns, now(), now() + wait * INTERVAL '1 microsecond', cause
         FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::TEXT[])
            AS new (key, failures, interval_ns, wait, cause)
         ON CONFLICT (key) DO UPDATE SET failures = excluded.failures,
            interval_ns = excluded.interval_ns, cause = excluded.cause,
            until = GREATEST(excluded.until, bare.lease_until)
         WHERE bare.failures = excluded.failures - 1
         RETURNING key",
    );
    let put = put.bind(keys).bind(failures).bind(intervals).bind(waits);
    let put = put.bind(vec!["broken"; keys.len()]);
    let written = put.fetch_all(&mut *connection).await.expect("written");
    assert_eq!(written.len(), keys.len());
}

/// The same for one key.
async fn bare_one(pool: &PgPool, key: &str) {
    let mut connection = pool.acquire().await.expect("a connection");
    let read = query("SELECT key, failures, interval_ns FROM bare WHERE key = $1");
    let row = read.bind(key).fetch_optional(&mut *connection).await;
    let row = row.expect("read");
    let (failures, interval, wait) = fail(row.as_ref().map(state).unwrap_or_default().1);
    let put = query(
        "INSERT INTO bare VALUES ($1, $2, $3, now(), now() + $4 * INTERVAL '1 microsecond', $5)
         ON CONFLICT (key) DO UPDATE SET failures = excluded.failures,
            interval_ns = excluded.interval_ns, cause = excluded.cause,
            until = GREATEST(excluded.until, bare.lease_until)
         WHERE bare.failures = excluded.failures - 1",
    );
    let put = put.bind(key).bind(failures).bind(interval).bind(wait);
    let written = put.bind("broken").execute(&mut *connection).await;
    assert_eq!(written.expect("written").rows_affected(), 1);
}

fn state(row: &PgRow) -> (&str, BackoffState) {
    let failures = u32::try_from(row.get::<i64, _>(1)).expect("failures");
    let interval = u64::try_from(row.get::<i64, _>(2)).expect("an interval");
    let interval = Duration::from_nanos(interval);
    (row.get(0), BackoffState { failures, interval })
}

/// One more failure, and for how many microseconds to wait.
fn fail(mut state: BackoffState) -> (i64, i64, i64) {
    let failure = Failure {
        elapsed: Duration::ZERO,
        retry_after: None,
        entropy: relent::random::seed(),
    };
    let wait = POLICY.next(&mut state, failure).delay();
    let wait = wait.expect("a policy that never gives up").as_micros();
    let interval = state.interval.as_nanos();
    (i64::from(state.failures), interval as i64, wait as i64)
}

/// One more failure of one of fifty keys.
async fn failure<S: AsyncStore>(tracker: &DurableTracker<S>, n: u32) -> Decision {
    let key = format!("{}", n % 50);
    let recorded = tracker.record_failure(&key, "broken").await;
    recorded.expect("recorded")
}

async fn failures(tracker: &DurableTracker<PostgresStore>, pool: &PgPool, rounds: usize) {
    by_turns(
        "PostgreSQL: record_failure",
        rounds,
        100,
        async |n| failure(tracker, n).await,
        async |n| bare_one(pool, &format!("{}", n % 50)).await,
    )
    .await;
}

async fn batches(tracker: &DurableTracker<PostgresStore>, pool: &PgPool, rounds: usize) {
    for size in [100, 1000] {
        let keys: Vec<_> = (0..size).map(|n| format!("batch {n}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
        by_turns(
            &format!("PostgreSQL: record_failures of {size}"),
            rounds,
            5,
            async |_| tracker.record_failures(&pairs).await.expect("recorded"),
            async |_| bare(pool, &keys).await,
        )
        .await;
    }
}

/// Claims in a round.
const CLAIMS: usize = 5;

async fn claims(tracker: &DurableTracker<PostgresStore>, pool: &PgPool, rounds: usize) {
    let store = tracker.store().namespace("claims").expect("a namespace");
    let tracker = DurableTracker::new(store, AT_ONCE);
    let keys: Vec<_> = (0..100 * CLAIMS * rounds)
        .map(|n| format!("claim {n}"))
        .collect();
    let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
    tracker.record_failures(&pairs).await.unwrap();
    query("UPDATE bare SET until = now() + INTERVAL '1 hour'")
        .execute(pool)
        .await
        .expect("reset");
    query(
        "INSERT INTO bare SELECT key, 1, 1, now(), now(), 'broken' FROM UNNEST($1::TEXT[]) AS key",
    )
    .bind(&keys)
    .execute(pool)
    .await
    .expect("written");
    by_turns(
        "PostgreSQL: claim_due(100)",
        rounds,
        CLAIMS as u32,
        async |_| assert_eq!(tracker.claim_due(100).await.expect("claimed").len(), 100),
        async |_| {
            let claim = query(
                "UPDATE bare SET token = (SELECT nextval('bare_tokens')), holder = 'me',
                    lease_until = now() + INTERVAL '30 s', until = now() + INTERVAL '30 s'
                 WHERE key IN (
                    SELECT key FROM bare WHERE until <= now() ORDER BY until LIMIT 100
                    FOR UPDATE SKIP LOCKED
                 ) RETURNING *",
            );
            let claimed = claim.fetch_all(pool).await.expect("claimed");
            assert_eq!(claimed.iter().map(state).map(black_box).count(), 100);
        },
    )
    .await;
}

async fn due(tracker: &DurableTracker<PostgresStore>, pool: &PgPool, rows: i64, rounds: usize) {
    query(
        "INSERT INTO relent (namespace, key, revision, failures, interval_ns, first_failure, since,
            until, due, cause)
         SELECT 'due', 'key ' || n, n, 1, 1, now(), now(), time, time, 'broken'
         FROM (SELECT n, now() + (n - $1 / 2) * INTERVAL '1 millisecond' AS time
               FROM generate_series(1, $1) AS n) AS new",
    )
    .bind(rows)
    .execute(pool)
    .await
    .expect("written");
    raw_sql("ANALYZE relent")
        .execute(pool)
        .await
        .expect("analyzed");
    let store = tracker.store().namespace("due").expect("a namespace");
    for which in [Which::Due, Which::Waiting] {
        by_turns(
            &format!("PostgreSQL: the first 100 of {rows}, {which:?}"),
            rounds,
            20,
            async |_| {
                store
                    .list(&Page::first(which, 100))
                    .await
                    .expect("listed")
                    .len()
            },
            async |_| {
                let list = query(
                    "SELECT * FROM relent WHERE namespace = 'due' AND due <= now()
                     ORDER BY due, key LIMIT 100",
                );
                list.fetch_all(pool).await.expect("listed").len()
            },
        )
        .await;
    }
    let tracker = DurableTracker::new(store, AT_ONCE);
    by_turns(
        &format!("PostgreSQL: claim_due(100) of {rows}, bare in the same table"),
        rounds,
        1,
        async |_| assert_eq!(tracker.claim_due(100).await.expect("claimed").len(), 100),
        async |_| {
            let claim = query(
                "UPDATE relent SET revision = revision + 1, token = 1, holder = 'me',
                    lease_since = now(), lease_until = now() + INTERVAL '30 s',
                    due = now() + INTERVAL '30 s'
                 WHERE namespace = 'due' AND key IN (
                    SELECT key FROM relent WHERE namespace = 'due' AND due <= now()
                    ORDER BY due, key LIMIT 100 FOR UPDATE SKIP LOCKED
                 ) RETURNING *",
            );
            assert_eq!(claim.fetch_all(pool).await.expect("claimed").len(), 100);
        },
    )
    .await;
}

/// The script that somebody would write by hand: it reads each key, writes it, and puts it in a
/// list, at once.
const BARE_SCRIPT: &str = "
    local time = redis.call('TIME')
    local answer = {time[1], time[2]}
    for n = 2, #KEYS do
        answer[n + 1] = redis.call('GET', KEYS[n])
        redis.call('SET', KEYS[n], ARGV[1])
        redis.call('ZADD', KEYS[1], ARGV[2], KEYS[n])
    end
    return answer
";

async fn redis(server: &servers::redis::Server, rounds: usize) {
    let connection = server.connection().await;
    let tracker = DurableTracker::new(RedisStore::new(connection.clone()), POLICY);
    let script = redis::Script::new(BARE_SCRIPT);
    let bare = async |keys: &[String], n: u32| {
        let mut call = script.prepare_invoke();
        call.key("bare due").key(keys).arg(VALUE).arg(n);
        let mut connection = connection.clone();
        let answer: Vec<Option<String>> = call.invoke_async(&mut connection).await.expect("done");
        answer
    };
    by_turns(
        "Redis: record_failure",
        rounds,
        100,
        async |n| failure(&tracker, n).await,
        async |n| bare(&[format!("bare {}", n % 50)], n).await,
    )
    .await;
    by_turns(
        "Redis: start and finish, bare twice as much",
        rounds,
        50,
        async |n| {
            let work = tracker.start(&format!("work {n}")).await.expect("started");
            work.finish().await.expect("finished")
        },
        async |n| {
            let key = [format!("bare {}", n % 50)];
            bare(&key, n).await;
            bare(&key, n).await
        },
    )
    .await;
    for size in [100, 1000] {
        let keys: Vec<_> = (0..size).map(|n| format!("batch {n}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
        let bare_keys: Vec<_> = keys.iter().map(|key| format!("bare {key}")).collect();
        by_turns(
            &format!("Redis: record_failures of {size}"),
            rounds,
            5,
            async |_| tracker.record_failures(&pairs).await.expect("recorded"),
            async |n| bare(&bare_keys, n).await,
        )
        .await;
    }
}

/// As long as a record.
const VALUE: &str = "{\"failures\":1,\"interval\":\"1s\",\"first_failure\":\"2026-05-01T12:00:00.123456Z\",\"since\":\"2026-05-01T12:00:00.123456Z\",\"until\":\"2026-05-01T12:00:01.123456Z\",\"cause\":\"broken\"}";
