//! How many instructions the hottest paths take: what a noisy machine can still measure.
//!
//! ```text
//! cargo bench --bench instructions            # needs valgrind; fails if a path takes more than its limit
//! cargo bench --bench instructions -- check   # only the paths whose name contains "check"
//! ```
//!
//! Each path runs under callgrind twice, once some thousand times and once twice as often; the
//! difference is what it takes, without what comes before. The loop around it takes 5 of the
//! instructions.

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Duration;

use relent::clock::ManualClock;
use relent::{Backoff, BackoffState, BackoffTracker, Decision, Failure};

/// A path, the most instructions it may take, and what runs it a number of times.
struct Path {
    name: &'static str,
    limit: u64,
    run: fn(u64),
}

const PATHS: &[Path] = &[
    Path {
        name: "step: constant policy, full jitter",
        limit: 50,
        run: |n| steps(n, |state, failure| POLICY.next(state, failure)),
    },
    Path {
        name: "step: any policy, full jitter",
        limit: 145,
        run: |n| {
            let policy = black_box(POLICY);
            steps(n, |state, failure| black_box(&policy).next(state, failure));
        },
    },
    Path {
        name: "loop: success at once",
        limit: 30,
        run: |n| {
            for n in 0..n {
                let answer = POLICY.retry(|| black_box(Ok::<_, ()>(n))).call();
                black_box(answer).ok();
            }
        },
    },
    Path {
        name: "tracker: check, none failing",
        limit: 20,
        run: |n| healthy(n, 0, |tracker, key| tracker.check(&key)),
    },
    Path {
        name: "tracker: check, 1000 failing",
        limit: 45,
        run: |n| healthy(n, 1000, |tracker, key| tracker.check(&key)),
    },
    Path {
        name: "tracker: record_success, 1000 failing",
        limit: 50,
        run: |n| healthy(n, 1000, |tracker, key| tracker.record_success(&key)),
    },
    Path {
        name: "tracker: check of a failing key",
        limit: 205,
        run: |n| failing(n, |tracker, key| tracker.check(&key)),
    },
    Path {
        name: "tracker: record_failure",
        limit: 270,
        run: |n| failing(n, |tracker, key| tracker.record_failure(&key)),
    },
    Path {
        name: "tracker: first failure, and success",
        limit: 950,
        run: |n| {
            healthy(n, 1000, |tracker, key| {
                tracker.record_failure(&key);
                tracker.record_success(&key)
            });
        },
    },
];

const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(600));

/// Streaks of sixteen failures, which grow and then stay at `max`.
fn steps(n: u64, step: impl Fn(&mut BackoffState, Failure) -> Decision) {
    let mut state = BackoffState::default();
    for n in 0..n {
        if n % 16 == 0 {
            state = BackoffState::default();
        }
        let entropy = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        black_box(step(black_box(&mut state), Failure::new(entropy)));
    }
}

type Tracker = BackoffTracker<u64, ManualClock>;

fn tracker(failing: u64) -> Tracker {
    let clock = ManualClock::new();
    let tracker = BackoffTracker::builder(POLICY).clock(clock).build();
    for key in 0..failing {
        tracker.record_failure(&key);
    }
    tracker
}

fn healthy<T>(n: u64, failing: u64, path: impl Fn(&Tracker, u64) -> T) {
    let tracker = tracker(failing);
    for key in 0..n {
        black_box(path(&tracker, black_box(key + (1 << 32))));
    }
}

fn failing<T>(n: u64, path: impl Fn(&Tracker, u64) -> T) {
    let tracker = tracker(1000);
    for key in 0..n {
        black_box(path(&tracker, black_box(key % 1000)));
    }
}

const RUNS: u64 = 4000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, run, name, n] = &arguments[..] {
        if run == "--run" {
            let path = PATHS
                .iter()
                .find(|path| path.name == name)
                .expect("a path of that name");
            (path.run)(n.parse().expect("a number of runs"));
            return ExitCode::SUCCESS;
        }
    }
    let wanted = arguments
        .iter()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let mut code = ExitCode::SUCCESS;
    for path in PATHS
        .iter()
        .filter(|path| wanted.is_none_or(|wanted| path.name.contains(wanted.as_str())))
    {
        let counted = (count(path.name, 2 * RUNS) - count(path.name, RUNS)) / RUNS;
        let verdict = if counted > path.limit {
            "  TOO MANY"
        } else {
            ""
        };
        println!(
            "{:40} {counted:6} instructions, at most {:6}{verdict}",
            path.name, path.limit
        );
        if counted > path.limit {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// The instructions of this program when it runs a path `n` times.
fn count(name: &str, n: u64) -> u64 {
    let this = std::env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["--run", name, &n.to_string()])
        .output()
        .expect("valgrind, which this bench needs");
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected :"));
    let (_, count) = collected.unwrap_or_else(|| panic!("valgrind failed:\n{report}"));
    count.trim().parse().expect("a number of instructions")
}
