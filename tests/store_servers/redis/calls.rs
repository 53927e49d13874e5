//! Calls whose answer is lost, so that the client sends them again: that of a cluster does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Cmd, RedisResult, Value, cmd};
use relent::store::{AsyncStore, Change, DurableTracker, RedisStore};
use relent::{Backoff, Decision, Jitter};

use super::{Connection, store};
use crate::servers::between::{Answers, Between};

const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60)).jitter(Jitter::None);

type Other = Arc<DurableTracker<RedisStore<Connection>>>;

/// Sends each call twice, and loses the first answer.
#[derive(Clone)]
struct Resends {
    connection: Connection,
    /// The handle that forgets "key" before a call is sent again.
    other: Arc<Mutex<Option<Other>>>,
    sent: Arc<Mutex<Vec<Cmd>>>,
}

impl Answers for Resends {
    async fn answer(&mut self, call: &Cmd) -> RedisResult<Value> {
        self.connection.req_packed_command(call).await?;
        self.sent.lock().push(call.clone());
        let other = self.other.lock().clone();
        if let Some(other) = other {
            other.forget("key").await.unwrap();
        }
        self.connection.req_packed_command(call).await
    }
}

fn resending(connection: Connection) -> Between<Resends> {
    Between(Resends {
        connection,
        other: Arc::default(),
        sent: Arc::default(),
    })
}

fn tracker(
    connection: &Between<Resends>,
    namespace: &str,
) -> DurableTracker<RedisStore<Between<Resends>>> {
    let store = RedisStore::new(connection.clone());
    DurableTracker::new(store.namespace(namespace).unwrap(), POLICY)
}

#[tokio::test]
async fn p4_a_call_that_is_sent_again_is_answered_as_it_was() {
    let Some((connection, store)) = store("again").await else {
        return;
    };
    let tracker = tracker(&resending(connection), "again");
    for failures in 1..5 {
        let told = tracker.record_failure("key", "broken").await.unwrap();
        let after = POLICY.initial * 2_u32.pow(failures - 1);
        assert_eq!(told, Decision::Retry { after });
        let (kept, _) = store.load("key").await.unwrap();
        assert_eq!(kept.unwrap().state.failures, failures);
    }
    assert_eq!(
        tracker
            .record_success("key")
            .await
            .unwrap()
            .unwrap()
            .failures,
        4
    );

    let batch: Vec<_> = (0..100).map(|n| format!("{n}")).collect();
    let batch: Vec<_> = batch.iter().map(|key| (key.as_str(), "broken")).collect();
    for failures in 1..3 {
        let told = tracker.record_failures(&batch).await.unwrap();
        let after = POLICY.initial * failures;
        assert_eq!(told, vec![Decision::Retry { after }; 100]);
    }

    let mut tokens = vec![];
    for n in 0..3 {
        let work = tracker.start("work").await.unwrap();
        tokens.push(work.token());
        tracker.beat().await.unwrap();
        let ended = match n {
            0 => work.finish().await.map(drop),
            1 => work.cancel().await,
            _ => work.fail("broken").await.map(drop),
        };
        ended.unwrap();
    }
    assert_eq!(tokens, [1, 2, 3], "one for each");
}

#[tokio::test]
async fn what_others_did_before_a_call_is_sent_again_stays_done() {
    let Some((connection, store)) = store("between").await else {
        return;
    };
    let connection = resending(connection);
    let tracker = tracker(&connection, "between");
    // The handle hears the time: from now on it guesses, and rightly.
    assert_eq!(tracker.get("key").await.unwrap(), None);
    let other = Arc::new(DurableTracker::new(store.clone(), POLICY));
    *connection.0.other.lock() = Some(other);
    let after = POLICY.initial;
    for _ in 0..3 {
        let told = tracker.record_failure("key", "broken").await.unwrap();
        assert_eq!(told, Decision::Retry { after });
        let (kept, _) = store.load("key").await.unwrap();
        assert_eq!(kept, None, "it was forgotten since");
    }
}

/// All but one of the keys are not as they were believed to be. The server does not keep what they
/// say instead.
#[tokio::test]
async fn p4_of_a_batch_that_is_sent_again_each_key_is_answered_for_itself() {
    let Some((mut plain, store)) = store("mixed").await else {
        return;
    };
    let others = DurableTracker::new(store.clone(), POLICY);
    let ours = RedisStore::new(resending(plain.clone()));
    let ours = ours.namespace("mixed").unwrap();
    assert_eq!(ours.load("0").await.unwrap().0, None, "it hears the time");

    let cause = "broken".repeat(300);
    let keys: Vec<_> = (0..401).map(|n| n.to_string()).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let failures: Vec<_> = keys[1..].iter().map(|key| (*key, &cause[..])).collect();
    others.record_failures(&failures).await.unwrap();
    let failed = store.load("1").await.unwrap().0.unwrap();

    let is_there = ours.update_all(&keys, move |n, record, _| match record {
        None if n == 0 => Change::put(failed.clone(), false),
        record => Change::keep(record.is_some()),
    });
    let is_there = is_there.await.unwrap();
    assert!(!is_there[0] && is_there[1..].iter().all(|is_there| *is_there));
    assert!(store.load("0").await.unwrap().0.is_some());

    let mut lines = cmd("KEYS");
    lines.arg("{relent:mixed}:call:*");
    let lines: Vec<String> = lines.query_async(&mut plain).await.unwrap();
    assert_eq!(lines.len(), 2);
    for line in lines {
        let mut length = cmd("STRLEN");
        let length: usize = length.arg(line).query_async(&mut plain).await.unwrap();
        assert!(length < 2000, "{length} bytes for 401 keys");
    }
}

/// Its caller has gone on: its future was dropped, or its connection was thought to be dead.
#[tokio::test]
async fn a_call_that_arrives_after_later_ones_does_nothing() {
    let Some((mut plain, store)) = store("late").await else {
        return;
    };
    let connection = resending(plain.clone());
    let tracker = tracker(&connection, "late");
    assert_eq!(tracker.get("key").await.unwrap(), None);
    tracker.record_failure("key", "broken").await.unwrap();
    let late = connection.0.sent.lock().last().unwrap().clone();
    assert!(tracker.record_success("key").await.unwrap().is_some());
    plain.req_packed_command(&late).await.unwrap();
    assert_eq!(store.load("key").await.unwrap().0, None);
    tracker.record_failure("key", "broken").await.unwrap();
}

/// There are as many lines as there were calls at once, and they expire by themselves.
#[tokio::test]
async fn answers_are_kept_for_a_while_one_for_each_of_those_who_call_at_once() {
    let Some((mut plain, store)) = store("lines").await else {
        return;
    };
    let tracker = DurableTracker::new(store, POLICY);
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let tracker = tracker.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let key = format!("{task} {n}");
                    tracker.record_failure(&key, "broken").await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut lines = cmd("KEYS");
    lines.arg("{relent:lines}:call:*");
    let lines: Vec<String> = lines.query_async(&mut plain).await.unwrap();
    assert!((1..=4).contains(&lines.len()), "{lines:?}");
    for line in lines {
        let left: i64 = cmd("TTL").arg(line).query_async(&mut plain).await.unwrap();
        assert!((1..=300).contains(&left), "{left}");
    }
}

/// Answers so many calls more, and then none.
#[derive(Clone)]
struct Fails {
    connection: Connection,
    left: Arc<AtomicU32>,
}

impl Answers for Fails {
    async fn answer(&mut self, call: &Cmd) -> RedisResult<Value> {
        let one_less = |left: u32| left.checked_sub(1);
        if self.left.fetch_update(Relaxed, Relaxed, one_less).is_err() {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        }
        self.connection.req_packed_command(call).await
    }
}

/// Otherwise nobody would know of the leases, which would run out and count as failures.
#[tokio::test]
async fn p2_what_was_claimed_before_the_connection_was_lost_is_the_callers() {
    let Some((connection, store)) = store("claimed in part").await else {
        return;
    };
    let at_once = Backoff::fixed(Duration::from_micros(1));
    let others = DurableTracker::new(store, at_once);
    let keys: Vec<_> = (0..1500).map(|n| n.to_string()).collect();
    let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
    others.record_failures(&failures).await.unwrap();

    let left = Arc::new(AtomicU32::new(u32::MAX));
    let store = RedisStore::new(Between(Fails {
        connection,
        left: Arc::clone(&left),
    }));
    let store = store.namespace("claimed in part").unwrap();
    let tracker = DurableTracker::new(store, at_once);
    assert_eq!(tracker.due(1).await.unwrap().len(), 1);
    // Two that list, and one of the two that take.
    left.store(3, Relaxed);
    let works = tracker.claim_due(1500).await.unwrap();
    assert_eq!(works.len(), RedisStore::<Between<Fails>>::BATCH);
    for answered in [0, 1] {
        left.store(answered, Relaxed);
        let claimed = tracker.claim_due(1500).await;
        assert!(claimed.is_err(), "nothing was taken");
    }
    left.store(u32::MAX, Relaxed);
    for work in &works {
        let record = others.get(work.key()).await.unwrap();
        assert_eq!(record.as_ref(), Some(work.record()));
    }
    assert_eq!(others.due(1500).await.unwrap().len(), 500);
}
