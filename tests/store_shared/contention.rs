//! P2: several processes on one store: one lease per key, growing tokens, no failure lost or
//! doubled; and a process that was paused for too long.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use relent::store::{AsyncStore, DurableTracker, Options, Refusal, StartError, Work};
use relent::{Backoff, Decision, Jitter, random};
use tokio::time::sleep;

use crate::history::{self, Call, Made};

const PROCESSES: u64 = 8;
const KEYS: u64 = 200;

const UNIT: Duration = Duration::from_millis(8);

/// Doubles each time, so that a delay tells how many failures there were, and some wait.
pub(crate) const TELLING: Backoff =
    Backoff::exponential(UNIT, Duration::from_secs(10_000_000)).jitter(Jitter::None);

/// The length of the streak that made somebody wait so long.
fn failures(told: Decision) -> u32 {
    let delay = told.delay().unwrap();
    assert!(delay < TELLING.max, "too long a streak to tell");
    (delay.as_nanos() / UNIT.as_nanos()).ilog2() + 1
}

/// What a child process is to do, as [`spawn`] told it; nothing in the others.
pub(crate) fn task() -> Option<String> {
    std::env::var(TASK).ok()
}

const TASK: &str = "RELENT_CONTENTION_TASK";

/// Starts another process that runs only one test, with a task to do, and with more variables in
/// its environment.
pub(crate) fn spawn<'a>(
    test: &str,
    task: &str,
    environment: impl IntoIterator<Item = (&'a str, &'a OsStr)>,
) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .envs(environment)
        .stdout(Stdio::null());
    command.spawn().unwrap()
}

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

/// Does random operations on random keys, and notes what it did.
pub(crate) async fn contend<S: AsyncStore>(store: S, said: &Path, number: u64) {
    // No lease runs out meanwhile.
    let options = Options::new(TELLING).time_to_live(length() + Duration::from_secs(600));
    let tracker = DurableTracker::new(store, options);
    let mut log = String::new();
    let mut in_hand: Vec<Work<S>> = vec![];
    let end = Instant::now() + length();
    let mut made = 0;
    let mut draws = (0..).map(|n| random::draw(number, n));
    let mut draw = |below: u64| draws.next().unwrap() % below;
    while made < LEAST || Instant::now() < end {
        made += 1;
        let key = draw(KEYS).to_string();
        let from = now();
        let mut note = |key: &str, call: Call| {
            writeln!(log, "{key} {from} {} {call}", now()).unwrap();
        };
        match draw(11) {
            // The wait hardly tells how long a long streak is, so there are more successes.
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
                        Call::Cancelled(token)
                    }
                };
                note(key, call);
            }
        }
    }
    fs::write(said.join(format!("log {number}")), log).unwrap();
}

/// How many calls a process makes at least, however slow they are: the rarest kind is one in a
/// hundred or so.
const LEAST: u32 = 300;

/// How long to contend.
fn length() -> Duration {
    let seconds = std::env::var("RELENT_CONTENTION_SECONDS");
    Duration::from_secs(seconds.map_or(4, |seconds| seconds.parse().unwrap()))
}

/// Has processes contend, and looks for an order of what they did, key by key.
pub(crate) async fn all_contend<S: AsyncStore>(
    store: S,
    said: &Path,
    spawn: impl Fn(&str) -> Child,
) {
    let children = (0..PROCESSES).map(|n| spawn(&n.to_string()));
    for mut child in children.collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let mut histories: BTreeMap<String, Vec<Made>> = BTreeMap::new();
    let mut count = 0;
    let mut kinds: HashMap<_, u32> = HashMap::new();
    for n in 0..PROCESSES {
        let log = fs::read_to_string(said.join(format!("log {n}"))).unwrap();
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
        "{count} calls of {PROCESSES} processes on {} keys in {}",
        histories.len(),
        std::any::type_name::<S>()
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

pub(crate) const TIME_TO_LIVE: Duration = Duration::from_secs(2);

/// Pauses another process that works on a key beyond its time to live, and takes the key meanwhile.
pub(crate) async fn one_is_paused<S: AsyncStore + 'static>(
    store: S,
    said: &Path,
    spawn: impl Fn(&str) -> Child,
) {
    let signal = |child: &Child, name: &str| {
        let sent = Command::new("kill")
            .args([name, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    };
    let wait_for = async |name: &str| {
        let started = Instant::now();
        while !said.join(name).exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "no {name}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    let mut child = spawn("pause");
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
    let mut refused = tracker.start("key").await.map(drop);
    if matches!(refused, Err(StartError::Store(_))) {
        // Paused within a commit, it has a file to itself, and nobody else gets anywhere. Its lease
        // has run out all the same.
        signal(&child, "-CONT");
        refused = tracker.start("key").await.map(drop);
    }
    assert!(
        matches!(
            refused,
            Err(StartError::Refused(Refusal::BackingOff { .. }))
        ),
        "{refused:?}"
    );
    let record = tracker.get("key").await.unwrap().unwrap();
    assert_eq!(
        (record.state.failures, &*record.cause),
        (1, "lease expired")
    );
    sleep(UNIT * 2).await;
    let work = tracker.start("key").await.unwrap();

    fs::write(said.join("go on"), "").unwrap();
    signal(&child, "-CONT");
    wait_for("said").await;
    assert!(child.wait().unwrap().success());
    let said = fs::read_to_string(said.join("said")).unwrap();
    assert_eq!(said, "(true, true, true)");
    work.finish().await.unwrap();
}
