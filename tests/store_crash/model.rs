//! What a process that may be killed does to a store, what it notes in its log, and what the store
//! has to say afterwards.
//!
//! The model is its own: per key its failures, and whether somebody died on it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use relent::store::{AsyncStore, DurableTracker, StartError, Work};
use relent::{Backoff, random};

pub(crate) const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug)]
enum Operation {
    Fail(usize),
    Succeed(usize),
    FailAll,
    StartAndFail(usize),
    StartAndFinish(usize),
    StartAndCancel(usize),
}

impl Operation {
    fn nth(n: u64) -> Operation {
        let draw = random::draw(7, n);
        let key = (draw >> 32) as usize % KEYS.len();
        match draw % 8 {
            0..=2 => Operation::Fail(key),
            3 => Operation::Succeed(key),
            4 => Operation::FailAll,
            5 => Operation::StartAndFail(key),
            6 => Operation::StartAndFinish(key),
            _ => Operation::StartAndCancel(key),
        }
    }

    async fn run<S: AsyncStore>(self, tracker: &DurableTracker<S>) {
        match self {
            Operation::Fail(key) => {
                tracker.record_failure(KEYS[key], "broken").await.unwrap();
            }
            Operation::Succeed(key) => {
                tracker.record_success(KEYS[key]).await.unwrap();
            }
            Operation::FailAll => {
                let all = KEYS.map(|key| (key, "all"));
                tracker.record_failures(&all).await.unwrap();
            }
            Operation::StartAndFail(key)
            | Operation::StartAndFinish(key)
            | Operation::StartAndCancel(key) => match tracker.start(KEYS[key]).await {
                Ok(work) => self.end(&work).await,
                Err(StartError::Refused(_)) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }

    async fn end<S: AsyncStore>(self, work: &Work<S>) {
        let ended = match self {
            Operation::StartAndFail(_) => work.fail("broken").await.map(drop),
            Operation::StartAndFinish(_) => work.finish().await.map(drop),
            _ => work.cancel().await,
        };
        ended.unwrap();
    }
}

/// What is known of the keys: their failures, and whether somebody has died on them.
pub(crate) type Known = [Option<(u32, bool)>; KEYS.len()];

/// What has to be kept after each durable step of an operation.
///
/// Between two operations, enough time passes that no key waits any more, and no lease lasts.
fn steps(before: Known, operation: Operation) -> Vec<Known> {
    let mut known = before;
    let mut steps = vec![];
    let failures = |known: &Known, key: usize| known[key].map_or(0, |(failures, _)| failures);
    match operation {
        Operation::Fail(key) => known[key] = Some((failures(&known, key) + 1, false)),
        Operation::Succeed(key) => known[key] = None,
        Operation::FailAll => {
            for key in 0..KEYS.len() {
                known[key] = Some((failures(&known, key) + 1, false));
            }
        }
        Operation::StartAndFail(key)
        | Operation::StartAndFinish(key)
        | Operation::StartAndCancel(key) => {
            let failures = failures(&known, key);
            if let Some((_, true)) = known[key] {
                known[key] = Some((failures + 1, false));
            } else {
                known[key] = Some((failures, true));
                steps.push(known);
                known[key] = match operation {
                    Operation::StartAndFail(_) => Some((failures + 1, false)),
                    Operation::StartAndCancel(_) if failures > 0 => Some((failures, false)),
                    _ => None,
                };
            }
        }
    }
    steps.push(known);
    steps
}

/// The time at which an operation is made.
pub(crate) fn time_of(operation: u64) -> Duration {
    Duration::from_secs(1_800_000_000 + 1000 * operation)
}

/// Makes operations one after the other, each at its time, and notes in the log what it is about to
/// do and what was acknowledged.
pub(crate) async fn work<S: AsyncStore>(
    tracker: &DurableTracker<S>,
    mut set_clock: impl AsyncFnMut(Duration),
    log: &Path,
    operations: std::ops::Range<u64>,
) {
    let mut options = OpenOptions::new();
    let mut log = options.create(true).append(true).open(log).unwrap();
    for n in operations {
        set_clock(time_of(n)).await;
        log.write_all(format!("try {n}\n").as_bytes()).unwrap();
        Operation::nth(n).run(tracker).await;
        log.write_all(format!("done {n}\n").as_bytes()).unwrap();
    }
}

/// What a store says.
pub(crate) async fn found<S: AsyncStore>(tracker: &DurableTracker<S>) -> Known {
    let mut known = [None; KEYS.len()];
    for (key, known) in KEYS.iter().zip(&mut known) {
        let record = tracker.get(key).await.unwrap();
        *known = record.map(|record| (record.state.failures, record.lease.is_some()));
    }
    let due = tracker.due(10).await.unwrap().len();
    let waiting = tracker.waiting(10).await.unwrap().len();
    assert_eq!(due + waiting, known.iter().flatten().count());
    known
}

/// How far it has come, over all the processes that died.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) known: Known,
    pub(crate) next: u64,
}

impl Progress {
    /// Reads the log, and takes up from there: what the store may say now. The one thing that was
    /// being done may be done or not, as far as it had come.
    pub(crate) fn read(&mut self, log: &Path) -> Vec<Known> {
        let text = fs::read_to_string(log).unwrap_or_default();
        let _ = fs::remove_file(log);
        let mut lines = text.lines().peekable();
        let mut allowed = vec![self.known];
        while let Some(tried) = lines.next() {
            let n: u64 = tried.strip_prefix("try ").unwrap().parse().unwrap();
            assert_eq!(n, self.next);
            let before = *allowed.last().unwrap();
            let steps = steps(before, Operation::nth(n));
            self.next += 1;
            if lines.next_if_eq(&format!("done {n}").as_str()).is_some() {
                allowed = vec![*steps.last().unwrap()];
            } else {
                allowed.extend(steps);
                assert_eq!(lines.next(), None);
            }
        }
        allowed
    }

    /// Notes what the store says, which has to be allowed.
    #[track_caller]
    pub(crate) fn verify(&mut self, found: Known, allowed: &[Known], context: &str) {
        assert!(
            allowed.contains(&found),
            "{context}: found {found:?} instead of {allowed:?}, before operation {}",
            self.next
        );
        self.known = found;
    }
}
