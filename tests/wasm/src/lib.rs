//! Loops and a tracker, with all that they draw and read, as exports for `run.mjs` to call.

use std::time::Duration;

use relent::{Backoff, BackoffTracker};

const POLICY: Backoff = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(5));

fn third_time() -> impl FnMut() -> Result<u32, u32> {
    let mut attempts = 0;
    move || {
        attempts += 1;
        if attempts < 3 { Err(attempts) } else { Ok(attempts) }
    }
}

/// How many attempts a loop took: 3. By the clock and the sleep of the standard library.
#[cfg(target_os = "wasi")]
#[unsafe(no_mangle)]
pub extern "C" fn attempts() -> u32 {
    POLICY.retry(third_time()).call().unwrap_or(0)
}

/// The same, by those of the page: here there are none.
#[cfg(not(target_os = "wasi"))]
#[unsafe(no_mangle)]
pub extern "C" fn attempts() -> u32 {
    let clock = relent::clock::ManualClock::new();
    let retry = POLICY.retry(third_time()).clock(&clock);
    retry.sleep(|delay| clock.advance(delay)).call().unwrap_or(0)
}

/// How many keys of a tracker wait after a failure each: 2.
#[unsafe(no_mangle)]
pub extern "C" fn waiting() -> usize {
    let clock = relent::clock::ManualClock::new();
    let tracker: BackoffTracker<u32, _> = BackoffTracker::builder(POLICY).clock(clock).build();
    for key in [1, 2] {
        tracker.record_failure(&key);
    }
    tracker.waiting()
}

#[unsafe(no_mangle)]
pub extern "C" fn seed() -> u64 {
    relent::random::seed()
}
