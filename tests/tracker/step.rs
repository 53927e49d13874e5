//! R1: a tracker takes the one step, to the nanosecond.

use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use proptest::prelude::*;
use relent::clock::Clock;
use relent::{BackoffState, Decision, Failure, random};

use crate::{any, builder};

/// A tracker's time ends a few decades later.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A key is its own hash.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are whole numbers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

proptest! {
    /// A key draws from the tracker's seed and its hash, by the number of its streak and that of
    /// the failures before.
    #[test]
    fn r1_tracker_and_step_agree_to_the_nanosecond(
        backoff in any::backoff(),
        seed: u64,
        key: u64,
        hint in prop::option::of(any::duration()),
        late in (0..3_600_000_u64).prop_map(Duration::from_millis),
    ) {
        let (clock, builder) = builder(backoff);
        let tracker = builder.seed(seed).hasher(BuildHasherDefault::<Itself>::default()).build();
        for streak in 1..=3_u64 {
            let first = clock.now();
            let mut state = BackoffState::default();
            for n in 0..12 {
                if clock.now() > CENTURY {
                    return Ok(());
                }
                let elapsed = clock.now() - first;
                let entropy = random::draw(seed ^ key, streak << 32 | n);
                let mut failure = Failure::new(entropy).elapsed(elapsed);
                failure.retry_after = hint;
                let decision = backoff.next(&mut state, failure);
                prop_assert_eq!(tracker.record_failure_with(&key, &backoff, hint), decision);
                prop_assert_eq!(tracker.get(&key).map(|streak| streak.state), Some(state));
                match decision {
                    Decision::Retry { after } => clock.advance(after + late),
                    Decision::GiveUp(_) => break,
                }
            }
            tracker.record_success(&key);
        }
    }
}
