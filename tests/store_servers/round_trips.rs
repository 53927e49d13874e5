//! How often a store asks its server.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use relent::Backoff;
use relent::store::{DurableTracker, PostgresStore};
use sqlx::postgres::{PgPoolOptions, PgSslMode};
use tempfile::tempdir;

use crate::servers::postgres;

const NOW: Backoff = Backoff::fixed(Duration::ZERO).jitter(relent::Jitter::None);

/// Passes on what it is told, and counts the statements.
fn listen(from: &Path, to: &Path) -> Arc<AtomicU32> {
    let statements = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&statements);
    let listener = UnixListener::bind(from.join(".s.PGSQL.5432")).unwrap();
    let to = to.join(".s.PGSQL.5432");
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&to).unwrap());
            let (mut answers, mut asker) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut answers, &mut asker));
            let count = Arc::clone(&count);
            thread::spawn(move || pass_on(client, server, &count));
        }
    });
    statements
}

/// A message is its kind, which the first lacks, its length, and its text.
fn pass_on(
    mut client: UnixStream,
    mut server: UnixStream,
    count: &AtomicU32,
) -> std::io::Result<()> {
    let mut is_first = true;
    loop {
        let mut head = [0; 5];
        let head = if is_first {
            &mut head[1..]
        } else {
            &mut head[..]
        };
        client.read_exact(head)?;
        let is_statement = head.len() == 5 && matches!(head[0], b'B' | b'Q');
        count.fetch_add(u32::from(is_statement), Relaxed);
        let length = head[head.len() - 4..]
            .try_into()
            .map(u32::from_be_bytes)
            .unwrap();
        let mut text = vec![0; length as usize - 4];
        client.read_exact(&mut text)?;
        server.write_all(head)?;
        server.write_all(&text)?;
        is_first = false;
    }
}

#[tokio::test]
async fn a_change_takes_two_round_trips_and_a_claim_one() {
    let Some(server) = postgres::shared() else {
        return;
    };
    let proxy = tempdir().unwrap();
    let statements = listen(proxy.path(), server.directory());
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
    let keys: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();

    let counted = |what: &str, at_most: u32| {
        let statements = statements.swap(0, Relaxed);
        assert!(statements <= at_most, "{what}: {statements}");
    };
    counted("migration", u32::MAX);
    assert!(tracker.record_failure("0", "broken").await.is_ok());
    counted("a first failure", 2);
    assert!(tracker.record_failure("0", "broken").await.is_ok());
    counted("a failure", 2);
    assert_eq!(tracker.record_failures(&failures).await.unwrap().len(), 100);
    counted("a batch", 2);
    let works = tracker.claim_due(100).await.unwrap();
    assert_eq!(works.len(), 100);
    counted("a claim", 1);
    tracker.beat().await.unwrap();
    counted("a heartbeat", 2);
    assert!(works[0].finish().await.is_ok());
    counted("a finish", 2);
    let work = tracker.start("fresh").await.unwrap();
    counted("a start", 2);
    assert!(tracker.start("fresh").await.is_err());
    counted("a refusal", 1);
    assert!(work.fail("broken").await.is_ok());
    counted("a failed work", 2);
    assert_eq!(tracker.due(100).await.unwrap().len(), 1);
    counted("a list", 1);
}
