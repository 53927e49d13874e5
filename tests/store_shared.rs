//! P2 on one file of SQLite.

#![cfg(all(unix, feature = "sqlite", feature = "tokio"))]

#[path = "store_shared/contention.rs"]
mod contention;
#[path = "store_shared/history.rs"]
mod history;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use contention::{TELLING, TIME_TO_LIVE, all_contend, contend, one_is_paused};
use relent::store::{Inline, LeaseLost, Options, SqliteStore, StartError, WorkError, blocking};
use tempfile::tempdir;

const DIRECTORY: &str = "RELENT_SHARED_DIRECTORY";

/// Not a test: what the child processes do.
#[tokio::test]
async fn child() {
    let Some(task) = contention::task() else {
        return;
    };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    match task.as_str() {
        "pause" => be_paused(&directory),
        number => {
            let store = Inline(open(&directory));
            contend(store, &directory, number.parse().unwrap()).await;
        }
    }
}

fn spawn(directory: &Path) -> impl Fn(&str) -> Child {
    move |task| contention::spawn("child", task, [(DIRECTORY, directory.as_os_str())])
}

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory.join("shared.db")).unwrap()
}

#[tokio::test]
async fn p2_processes_that_contend_are_as_if_one_after_the_other() {
    let directory = tempdir().unwrap();
    // Made beforehand, so that no child has to wait for another's migration.
    let store = Inline(open(directory.path()));
    all_contend(store, directory.path(), spawn(directory.path())).await;
}

#[tokio::test]
async fn p2_a_worker_that_was_paused_too_long_is_refused() {
    let directory = tempdir().unwrap();
    let store = Inline(open(directory.path()));
    one_is_paused(store, directory.path(), spawn(directory.path())).await;
}

/// As [`contention::be_paused`], by the blocking face, whose heartbeat is a thread: takes a key,
/// says so, and goes on for a while under a heartbeat; then tries to finish.
fn be_paused(directory: &Path) {
    let options = Options::new(TELLING)
        .time_to_live(TIME_TO_LIVE)
        .holder("paused");
    let tracker = blocking::DurableTracker::new(open(directory), options);
    let heartbeat = tracker.heartbeat().unwrap();
    let work = tracker.start("key").unwrap();
    fs::write(directory.join("started"), "").unwrap();
    while !directory.join("go on").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let said = (
        tracker.session().expired() && work.expired(),
        matches!(tracker.start("other"), Err(StartError::SessionExpired)),
        matches!(
            work.finish(),
            Err(WorkError::Lost(LeaseLost::Taken { .. } | LeaseLost::Ended))
        ),
    );
    drop(heartbeat);
    fs::write(directory.join("said"), format!("{said:?}")).unwrap();
}
