//! The keyed tracker: rules T, and what G and J mean for many keys.

#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a panic is how a test fails"
)]

mod answers;
#[allow(dead_code, reason = "shared with the tests of the policy")]
#[path = "../policy/any.rs"]
mod any;
mod clocks;
mod costs;
mod due;
mod memory;
mod model;
mod panics;
mod rules;
mod snapshots;
mod step;
mod threads;
mod types;

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use relent::clock::{Clock, ManualClock};
use relent::{Backoff, BackoffTracker, BackoffTrackerBuilder, Jitter};

type Tracker<K> = BackoffTracker<K, ManualClock>;

/// 1, 2, 4, 8, … 60 s, exactly.
const DOUBLING: Backoff = Backoff::exponential(secs(1), secs(60)).jitter(Jitter::None);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn builder<K>(backoff: Backoff) -> (ManualClock, BackoffTrackerBuilder<K, ManualClock>) {
    let clock = ManualClock::new();
    let builder = BackoffTracker::builder(backoff).clock(clock.clone());
    (clock, builder)
}

/// How long until the next key becomes due, other than those that are due now.
fn next_due<K: Hash + Eq, C: Clock, S: BuildHasher>(
    tracker: &BackoffTracker<K, C, S>,
) -> Option<Duration> {
    tracker.next_due(tracker.now())
}

fn tracker(backoff: Backoff) -> (ManualClock, Tracker<String>) {
    let (clock, builder) = builder(backoff);
    (clock, builder.build())
}
