//! How often a store asks its server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use relent::store::{AsyncStore, Change, DurableTracker, PostgresStore, Record, RedisStore};
use relent::{Backoff, Readiness};
use sqlx::postgres::{PgPoolOptions, PgSslMode};
use tempfile::tempdir;

use crate::servers::{postgres, redis};

const SLOWLY: Backoff = Backoff::fixed(Duration::from_secs(60));
const NOW: Backoff = Backoff::fixed(Duration::ZERO).jitter(relent::Jitter::None);

fn keys() -> Vec<String> {
    (0..100).map(|n| n.to_string()).collect()
}

fn failures(keys: &[String]) -> Vec<(&str, &str)> {
    keys.iter().map(|key| (key.as_str(), "broken")).collect()
}

/// Passes messages on to another socket, one by one, and counts those that ask for an answer.
fn listen(
    at: &Path,
    to: PathBuf,
    pass_on: impl FnMut(&mut BufReader<UnixStream>, &mut Vec<u8>) -> io::Result<bool>
    + Clone
    + Send
    + 'static,
) -> Arc<AtomicU32> {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let listener = UnixListener::bind(at).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, mut server) = (client.unwrap(), UnixStream::connect(&to).unwrap());
            let (mut answers, mut back) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut answers, &mut back));
            let (count, mut pass_on) = (Arc::clone(&count), pass_on.clone());
            thread::spawn(move || -> io::Result<()> {
                let mut client = BufReader::new(client);
                loop {
                    let mut message = vec![];
                    let is_asked = pass_on(&mut client, &mut message)?;
                    count.fetch_add(u32::from(is_asked), Relaxed);
                    server.write_all(&message)?;
                }
            });
        }
    });
    asked
}

/// A message to PostgreSQL is its kind, which the first lacks, its length, and its text.
fn statement(
    mut is_first: bool,
) -> impl FnMut(&mut BufReader<UnixStream>, &mut Vec<u8>) -> io::Result<bool> + Clone {
    move |client, message| {
        let head = if is_first { 4 } else { 5 };
        message.resize(head, 0);
        client.read_exact(message)?;
        let length: [u8; 4] = message[head - 4..].try_into().unwrap();
        let length = u32::from_be_bytes(length) as usize - 4;
        message.resize(head + length, 0);
        client.read_exact(&mut message[head..])?;
        let is_statement = !is_first && matches!(message[0], b'B' | b'Q');
        is_first = false;
        Ok(is_statement)
    }
}

/// A command to Redis is the number of its words, and each word's length and text. All that are
/// asked here wait for the answer to the one before.
fn command(client: &mut BufReader<UnixStream>, message: &mut Vec<u8>) -> io::Result<bool> {
    for _ in 0..number(client, message)? {
        let length = number(client, message)?;
        let at = message.len();
        message.resize(at + length + 2, 0);
        client.read_exact(&mut message[at..])?;
    }
    Ok(true)
}

/// A line that is a sign and a number.
fn number(client: &mut BufReader<UnixStream>, message: &mut Vec<u8>) -> io::Result<usize> {
    let mut line = String::new();
    client.read_line(&mut line)?;
    message.extend(line.as_bytes());
    let number = line
        .get(1..)
        .and_then(|number| number.trim_end().parse().ok());
    number.ok_or(io::ErrorKind::UnexpectedEof.into())
}

#[tokio::test]
async fn a_change_takes_two_round_trips_and_a_claim_one() {
    let Some(server) = postgres::shared() else {
        return;
    };
    let proxy = tempdir().unwrap();
    let socket = ".s.PGSQL.5432";
    let (at, to) = (proxy.path().join(socket), server.directory().join(socket));
    let statements = listen(&at, to, statement(true));
    let options = server.database().await.connect_options();
    let options = options
        .as_ref()
        .clone()
        .socket(proxy.path())
        .ssl_mode(PgSslMode::Disable);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false);
    let store = PostgresStore::new(pool.connect_with(options).await.unwrap());
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, NOW);
    let keys = keys();
    let failures = failures(&keys);

    let counted = |what: &str, at_most: u32| {
        let statements = statements.swap(0, Relaxed);
        assert!(statements <= at_most, "{what}: {statements}");
    };
    counted("migration", u32::MAX);
    tracker.record_failure("0", "broken").await.unwrap();
    counted("a first failure", 2);
    tracker.record_failure("0", "broken").await.unwrap();
    counted("a failure", 2);
    assert_eq!(tracker.record_failures(&failures).await.unwrap().len(), 100);
    counted("a batch", 2);
    let works = tracker.claim_due(100).await.unwrap();
    assert_eq!(works.len(), 100);
    counted("a claim", 1);
    tracker.beat().await.unwrap();
    counted("a heartbeat", 2);
    works[0].finish().await.unwrap();
    counted("a finish", 2);
    let work = tracker.start("fresh").await.unwrap();
    counted("a start", 2);
    tracker.start("fresh").await.unwrap_err();
    counted("a refusal", 1);
    work.fail("broken").await.unwrap();
    counted("a failed work", 2);
    assert_eq!(tracker.due(100).await.unwrap().len(), 1);
    counted("a list", 1);

    let record = tracker.get("1").await.unwrap().unwrap();
    counted("a look", 1);
    let turn = move |_: usize, kept: Option<&Record>, _| match kept {
        Some(_) => Change::delete(()),
        None => Change::put(record.clone(), ()),
    };
    let turned = tracker.store().update_all(&["1", "new"], turn).await;
    assert_eq!(turned.unwrap().len(), 2);
    counted("a batch that writes and deletes", 6);
}

#[tokio::test]
async fn what_redis_is_believed_to_know_takes_one_round_trip_and_a_surprise_two() {
    let Some(server) = redis::shared() else {
        return;
    };
    server.connection().await;
    let proxy = tempdir().unwrap();
    let to = redis::socket(server.directory());
    let asked = listen(&redis::socket(proxy.path()), to, command);
    let store = RedisStore::new(redis::connect(proxy.path()).await.unwrap());
    let store = store.namespace("round trips").unwrap();
    let tracker = DurableTracker::new(store.clone(), SLOWLY);
    let keys = keys();
    let failures = failures(&keys);

    // Loads the scripts, and hears the time.
    tracker.record_failure("first", "broken").await.unwrap();
    assert_eq!(tracker.due(1).await.unwrap(), []);
    asked.store(0, Relaxed);
    let counted =
        |what: &str, expected: u32| assert_eq!(asked.swap(0, Relaxed), expected, "{what}");

    assert_eq!(tracker.get("0").await.unwrap(), None);
    counted("a look", 1);
    for what in ["a first failure", "the next", "and the next"] {
        tracker.record_failure("0", "broken").await.unwrap();
        counted(what, 1);
    }
    let ready = tracker.check("0").await.unwrap();
    assert!(matches!(ready, Readiness::Wait(_)));
    counted("a check", 1);
    assert!(tracker.record_success("0").await.unwrap().is_some());
    counted("a success", 1);
    assert_eq!(tracker.record_success("0").await.unwrap(), None);
    counted("a success of what was well", 1);
    for what in ["a first batch", "the next"] {
        assert_eq!(tracker.record_failures(&failures).await.unwrap().len(), 100);
        counted(what, 1);
    }
    let work = tracker.start("fresh").await.unwrap();
    counted("a start", 1);
    tracker.start("fresh").await.unwrap_err();
    counted("a refusal", 1);
    tracker.beat().await.unwrap();
    counted("a heartbeat", 1);
    work.fail("broken").await.unwrap();
    counted("a failed work", 1);
    for (n, key) in ["finished", "cancelled"].iter().enumerate() {
        let work = tracker.start(key).await.unwrap();
        counted("a start", 1);
        if n == 0 {
            work.finish().await.unwrap();
        } else {
            work.cancel().await.unwrap();
        }
        counted(key, 1);
    }

    // Another handle knows nothing of all this.
    let other = DurableTracker::new(store.namespace("round trips").unwrap(), NOW);
    other.record_failure("0", "broken").await.unwrap();
    counted("a failure of one that has not heard the time", 2);
    other.record_failures(&failures).await.unwrap();
    counted("a batch of which all but one is a surprise", 2);
    other.record_failures(&failures).await.unwrap();
    counted("a batch of which nothing is", 1);
    other.start("fresh").await.unwrap_err();
    counted("a refusal that is a surprise", 1);
    tracker.record_failure("0", "broken").await.unwrap();
    counted("a failure after another's", 2);
    let works = other.claim_due(100).await.unwrap();
    assert_eq!(works.len(), 99);
    counted("a claim, which lists and takes", 2);
    other.beat().await.unwrap();
    counted("a heartbeat of all of them", 1);
}
