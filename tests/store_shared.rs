//! P2: several processes on one store: one lease per key, growing tokens, no failure lost or doubled.

#![cfg(all(unix, feature = "sqlite"))]

#[path = "store_shared/history.rs"]
mod history;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use history::{Call, Made};
use relent::store::blocking::{DurableTracker, Work};
use relent::store::{LeaseLost, Options, Refusal, SqliteStore, StartError, WorkError};
use relent::{Backoff, Decision, Jitter, random};
use tempfile::tempdir;

const PROCESSES: u64 = 8;
const KEYS: u64 = 200;

/// Doubles from a millisecond, so that a delay tells how many failures there were, and some wait.
const TELLING: Backoff =
    Backoff::exponential(Duration::from_millis(1), Duration::from_secs(8)).jitter(Jitter::None);

/// The length of the streak that made somebody wait so long.
fn failures(told: Decision) -> u32 {
    let delay = told.delay().unwrap();
    assert!(delay < Duration::from_secs(8), "too long a streak to tell");
    u32::try_from(delay.as_millis()).unwrap().ilog2() + 1
}

/// Not a test: what the child processes do.
#[test]
fn child() {
    let Ok(what) = std::env::var("RELENT_SHARED_CHILD") else {
        return;
    };
    let directory = std::env::var("RELENT_SHARED_DIRECTORY").unwrap();
    let directory = Path::new(&directory);
    match what.as_str() {
        "pause" => be_paused(directory),
        number => contend(directory, number.parse().unwrap()),
    }
}

fn spawn(what: &str, directory: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("RELENT_SHARED_CHILD", what)
        .env("RELENT_SHARED_DIRECTORY", directory)
        .stdout(Stdio::null());
    command.spawn().unwrap()
}

fn open(directory: &Path, options: impl Into<Options>) -> DurableTracker<SqliteStore> {
    let store = SqliteStore::open(directory.join("store.db")).unwrap();
    DurableTracker::new(store, options)
}

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

/// Does this and that to any key, and notes what it did.
fn contend(directory: &Path, number: u64) {
    let tracker = open(directory, TELLING);
    let mut log = String::new();
    let mut in_hand: Vec<Work<SqliteStore>> = vec![];
    let end = Instant::now() + length();
    let mut draws = (0..).map(|n| random::draw(number, n));
    let mut draw = |below: u64| draws.next().unwrap() % below;
    while Instant::now() < end {
        let key = draw(KEYS).to_string();
        let from = now();
        let mut note = |key: &str, call: Call| {
            writeln!(log, "{key} {from} {} {call}", now()).unwrap();
        };
        match draw(10) {
            // A long streak is hard to tell by the wait, so there are more successes.
            0 | 1 => {
                let told = tracker.record_failure(&key, "broken").unwrap();
                note(&key, Call::Failed(failures(told)));
            }
            2 | 3 => {
                let ended = tracker.record_success(&key).unwrap();
                note(
                    &key,
                    Call::Succeeded(ended.map_or(0, |ended| ended.failures)),
                );
            }
            4 => {
                for work in tracker.claim_due(3).unwrap() {
                    let failures = work.record().state.failures;
                    note(work.key(), Call::Started(work.token(), failures));
                    in_hand.push(work);
                }
            }
            5 | 6 => match tracker.start(&key) {
                Ok(work) => {
                    note(
                        &key,
                        Call::Started(work.token(), work.record().state.failures),
                    );
                    in_hand.push(work);
                }
                Err(StartError::Refused(Refusal::Held { .. })) => note(&key, Call::Held),
                Err(StartError::Refused(Refusal::BackingOff { .. })) => note(&key, Call::Waits),
                Err(error) => panic!("{error}"),
            },
            _ if in_hand.is_empty() => {}
            how => {
                let work = in_hand.swap_remove(draw(in_hand.len() as u64) as usize);
                let (key, token) = (work.key(), work.token());
                let call = match how {
                    7 => Call::WorkFailed(token, failures(work.fail("broken").unwrap())),
                    8 => {
                        let ended = work.finish().unwrap();
                        Call::Finished(token, ended.map_or(0, |ended| ended.failures))
                    }
                    _ => {
                        work.cancel().unwrap();
                        Call::Canceled(token)
                    }
                };
                note(key, call);
            }
        }
    }
    fs::write(directory.join(format!("log {number}")), log).unwrap();
}

/// How long to contend: a few seconds, or as many as the environment says.
fn length() -> Duration {
    let seconds = std::env::var("RELENT_CONTENTION_SECONDS");
    Duration::from_secs(seconds.map_or(4, |seconds| seconds.parse().unwrap()))
}

#[test]
fn p2_processes_that_contend_are_as_if_one_after_the_other() {
    let directory = tempdir().unwrap();
    // Made beforehand, so that no child has to wait for another's migration.
    drop(open(directory.path(), TELLING));
    let children = (0..PROCESSES).map(|n| spawn(&n.to_string(), directory.path()));
    for mut child in children.collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let mut histories: BTreeMap<String, Vec<Made>> = BTreeMap::new();
    let mut count = 0;
    let mut kinds: HashMap<_, u32> = HashMap::new();
    for n in 0..PROCESSES {
        let log = fs::read_to_string(directory.path().join(format!("log {n}"))).unwrap();
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
    eprintln!(
        "{count} calls of {PROCESSES} processes on {} keys",
        histories.len()
    );
    assert_eq!(kinds.len(), 8, "every kind of call: {kinds:?}");
    let tracker = open(directory.path(), TELLING);
    for (key, made) in histories {
        let left = history::linearize(made).unwrap_or_else(|why| panic!("key {key}: {why}"));
        let record = tracker.get(&key).unwrap();
        let failures = record.as_ref().map_or(0, |record| record.state.failures);
        let token = record
            .and_then(|record| record.lease)
            .map(|lease| lease.token);
        assert_eq!((failures, token), (left.failures, left.lease), "key {key}");
    }
}

const TIME_TO_LIVE: Duration = Duration::from_secs(2);

/// Takes a key, says so, and goes on for a while under a heartbeat; then tries to finish.
fn be_paused(directory: &Path) {
    let options = Options::new(TELLING)
        .time_to_live(TIME_TO_LIVE)
        .holder("paused");
    let tracker = open(directory, options);
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

#[test]
fn p2_a_worker_that_was_paused_too_long_is_refused() {
    let directory = tempdir().unwrap();
    let signal = |child: &Child, name: &str| {
        let mut kill = Command::new("kill");
        let sent = kill.args([name, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    let wait_for = |name: &str| {
        let started = Instant::now();
        while !directory.path().join(name).exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "no {name}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    let mut child = spawn("pause", directory.path());
    wait_for("started");
    let tracker = open(directory.path(), TELLING);

    // While it runs, its heartbeat keeps the lease beyond its time to live.
    thread::sleep(TIME_TO_LIVE * 3);
    let held = tracker.start("key").map(drop);
    assert!(
        matches!(&held, Err(StartError::Refused(Refusal::Held { by, .. })) if by == "paused"),
        "{held:?}"
    );

    signal(&child, "-STOP");
    thread::sleep(TIME_TO_LIVE + Duration::from_millis(100));
    let refused = tracker.start("key").map(drop);
    assert!(matches!(
        refused,
        Err(StartError::Refused(Refusal::BackingOff { .. }))
    ));
    let record = tracker.get("key").unwrap().unwrap();
    assert_eq!(
        (record.state.failures, &*record.cause),
        (1, "lease expired")
    );
    thread::sleep(Duration::from_millis(2));
    let work = tracker.start("key").unwrap();

    fs::write(directory.path().join("go on"), "").unwrap();
    signal(&child, "-CONT");
    wait_for("said");
    assert!(child.wait().unwrap().success());
    let said = fs::read_to_string(directory.path().join("said")).unwrap();
    assert_eq!(said, "(true, true, true)");
    assert!(work.finish().is_ok());
}
