//! A program without std, without alloc and without a panic handler but its own: if relent's core
//! needed any of them, this would not link.

#![no_std]

use core::hint::black_box;
use core::time::Duration;

use relent::{Backoff, BackoffState, Failure, random};

const POLICY: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(10));

/// The milliseconds to wait after one more failure.
#[unsafe(no_mangle)]
pub extern "C" fn wait_after(failures: u32, interval_ms: u64, seed: u64) -> u64 {
    let mut state = BackoffState { failures, interval: Duration::from_millis(interval_ms) };
    let failure = Failure::new(random::draw(seed, failures.into()));
    black_box((POLICY.preview().rows().count(), POLICY.schedule_seeded(seed).next()));
    match POLICY.next(&mut state, failure).delay() {
        Some(wait) => wait.as_millis() as u64,
        None => 0,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
