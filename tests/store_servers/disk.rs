//! A full disk: an error, and nothing acknowledged is lost; and it goes on once there is room.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use relent::Backoff;
use relent::store::{DurableTracker, Error, PostgresError, PostgresStore};
use sqlx::raw_sql;
use tempfile::{TempDir, tempdir};

use crate::servers::postgres::{Server, made};

/// Longer than the test.
const POLICY: Backoff = Backoff::fixed(Duration::from_secs(3600));

/// A disk of its own, in memory.
struct Disk(TempDir);

impl Disk {
    /// `None`, with a loud message, if this process may not mount one.
    fn new(size: &str) -> Option<Disk> {
        let disk = Disk(tempdir().unwrap());
        let is_mounted = cfg!(target_os = "linux") && disk.mount(&format!("size={size}"));
        if !is_mounted {
            eprintln!("\n*** SKIPPED: no disk can be mounted; no full disk was tested ***\n");
        }
        is_mounted.then_some(disk)
    }

    fn mount(&self, options: &str) -> bool {
        let mut command = Command::new("mount");
        let command = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        let mounted = command.arg(self.path()).output();
        mounted.is_ok_and(|mounted| mounted.status.success())
    }

    fn grow(&self, size: &str) {
        assert!(self.mount(&format!("remount,size={size}")));
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, as a server may still be leaving it.
        let mut command = Command::new("umount");
        let _ = command.arg("--lazy").arg(self.path()).output();
    }
}

/// Records failures of ever more keys until the disk takes no more: how many were acknowledged, and
/// what was said then.
async fn fill(tracker: &DurableTracker<PostgresStore>) -> (usize, PostgresError) {
    for n in 0..10_000 {
        let keys = batch(n);
        let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "full")).collect();
        match tracker.record_failures(&failures).await {
            Ok(_) => {}
            Err(Error::Store(error)) => return (n, error),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a disk without end");
}

const BATCH: usize = 100;

fn batch(n: usize) -> Vec<String> {
    let long = "x".repeat(500);
    (0..BATCH).map(|key| format!("{n} {key} {long}")).collect()
}

/// Checks that all that was acknowledged is there, and nothing else.
async fn holds(tracker: &DurableTracker<PostgresStore>, batches: usize) {
    let waiting = tracker.waiting(usize::MAX).await.unwrap();
    assert_eq!(waiting.len(), batches * BATCH);
    assert!(waiting.iter().all(|key| key.record.state.failures == 1));
}

#[tokio::test]
async fn p4_tables_without_room_are_an_error_that_says_so() {
    let Some(disk) = Disk::new("2m") else {
        return;
    };
    let Some(server) = Server::new(&["fsync=off"]) else {
        return;
    };
    let pool = server.database().await;
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let mut command = Command::new("chown");
    let owned = command.arg("postgres").arg(disk.path()).status();
    assert!(owned.unwrap().success());
    let place = disk.path().display();
    for statement in [
        made(format!("CREATE TABLESPACE small LOCATION '{place}'")),
        "ALTER TABLE relent SET TABLESPACE small",
        "ALTER INDEX relent_pkey SET TABLESPACE small",
        "ALTER INDEX relent_due SET TABLESPACE small",
    ] {
        raw_sql(statement).execute(&pool).await.unwrap();
    }
    let tracker = DurableTracker::new(store, POLICY);
    let (acknowledged, error) = fill(&tracker).await;
    assert!(acknowledged > 0);
    let PostgresError::Postgres(sqlx::Error::Database(error)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.code().as_deref(), Some("53100"), "disk_full");
    holds(&tracker, acknowledged).await;
    disk.grow("64m");
    tracker.record_failure("again", "room").await.unwrap();
    assert!(tracker.forget("again").await.unwrap());
    holds(&tracker, acknowledged).await;
}

#[tokio::test]
async fn p4_a_server_that_has_no_room_for_its_log_has_all_that_it_acknowledged() {
    // Enough for two of the files that the log is made of.
    let Some(disk) = Disk::new("40m") else {
        return;
    };
    let Some(server) = Server::new(&["fsync=off"]) else {
        return;
    };
    let store = PostgresStore::new(server.database().await);
    store.migrate().await.unwrap();
    server.stop("INT");
    let log = server.directory().join("data/pg_wal");
    let mut command = Command::new("cp");
    let copied = command.arg("-a").arg(log.join(".")).arg(disk.path());
    assert!(copied.status().unwrap().success());
    fs::remove_dir_all(&log).unwrap();
    symlink(disk.path(), &log).unwrap();
    server.start();
    server.wait().await;

    let tracker = DurableTracker::new(store, POLICY);
    let recorded = async || loop {
        // The connections in the pool are those to a server that is gone.
        match tracker.record_failure("again", "room").await {
            Ok(_) => return,
            Err(Error::Store(PostgresError::Postgres(_))) => {}
            Err(error) => panic!("{error}"),
        }
    };
    recorded().await;
    assert!(tracker.forget("again").await.unwrap());
    let (acknowledged, error) = fill(&tracker).await;
    eprintln!("after {acknowledged} batches: {error}");
    assert!(acknowledged > 0);
    disk.grow("256m");
    server.stop("QUIT");
    server.start();
    server.wait().await;
    recorded().await;
    assert!(tracker.forget("again").await.unwrap());
    // The batch that was not acknowledged is there whole, or not at all.
    let kept = tracker.waiting(usize::MAX).await.unwrap().len();
    let whole = [acknowledged, acknowledged + 1].map(|batches| batches * BATCH);
    assert!(whole.contains(&kept), "{kept} instead of {whole:?}");
    holds(&tracker, kept / BATCH).await;
}
