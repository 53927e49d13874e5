//! A time in nanoseconds that never runs back, made of the readings of a clock that might.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::atomic::AtomicU64;
use crate::clock::Clock;
use crate::policy::nanos;

/// What lies before a clock's zero: 9 years, so that a streak restored from a snapshot may have
/// begun before the clock did.
const BEFORE_ZERO: u64 = 1 << 58;

/// Where time ends, 146 years on: a wait that begins there still fits.
const END: u64 = 1 << 62;

/// A moment by the clock of a [`BackoffTracker`](super::BackoffTracker), meaningful to that tracker
/// alone. From [`now`](super::BackoffTracker::now).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub(super) u64);

/// How far the time is ahead of the clock. It grows where the clock steps back, so that the time
/// goes on from where it was, and no wait becomes longer.
#[derive(Debug)]
pub(super) struct Ahead(AtomicU64);

impl Ahead {
    pub(super) const fn new() -> Ahead {
        Ahead(AtomicU64::new(BEFORE_ZERO))
    }

    /// The time by `clock`.
    #[inline]
    pub(super) fn read(&self, clock: &impl Clock) -> u64 {
        // First this, then the clock: what was read before a step must not be taken for what was
        // read after it.
        let ahead = self.0.load(Acquire);
        later(nanos(clock.now()), ahead)
    }

    /// The time by `clock`, after the time had been `seen`: if it shows less, it stepped back.
    pub(super) fn read_after(&self, clock: &impl Clock, seen: u64) -> u64 {
        loop {
            let ahead = self.0.load(Acquire);
            let time = later(nanos(clock.now()), ahead);
            if time >= seen {
                return time;
            }
            // Another thread may have seen the same step: then read again.
            let further = ahead.saturating_add(seen - time);
            let noted = self.0.compare_exchange(ahead, further, AcqRel, Relaxed);
            if noted.is_ok() {
                return seen;
            }
        }
    }
}

#[inline]
fn later(reading: u64, ahead: u64) -> u64 {
    reading.saturating_add(ahead).min(END)
}

/// The latest time that was seen in a shard, kept under its lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) const fn new() -> Seen {
        Seen(BEFORE_ZERO)
    }

    pub(super) const fn get(self) -> u64 {
        self.0
    }

    /// The time to go by, if `time` was read just now; `None` if it is older than what was seen.
    ///
    /// Then either the clock stepped back, or it took this reading longer to arrive than a later
    /// one. Only a reading begun now can tell: [`Ahead::read_after`].
    #[inline]
    pub(super) const fn at(&mut self, time: u64) -> Option<u64> {
        if time < self.0 {
            return None;
        }
        self.0 = time;
        Some(time)
    }

    /// The time to go by, if `time` is no older than what was seen a moment ago.
    pub(super) fn at_least(&mut self, time: u64) -> u64 {
        self.0 = self.0.max(time);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ahead, BEFORE_ZERO, END, Seen};
    use crate::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3600);

    /// What the time is after it was seen on each of some readings, in hours.
    #[track_caller]
    fn assert_hours(readings: &[u32], expected: &[u64]) {
        let (clock, ahead, mut seen) = (ManualClock::new(), Ahead::new(), Seen::new());
        let hours: Vec<_> = readings
            .iter()
            .map(|hours| {
                clock.set(HOUR * *hours);
                let time = seen.at(ahead.read(&clock)).unwrap_or_else(|| {
                    let fresh = ahead.read_after(&clock, seen.get());
                    seen.at_least(fresh)
                });
                (time - BEFORE_ZERO) / HOUR.as_nanos() as u64
            })
            .collect();
        assert_eq!(hours, expected);
    }

    #[test]
    fn t5_after_a_step_back_time_goes_on() {
        assert_hours(&[5, 6, 1, 2, 4], &[5, 6, 6, 7, 9]);
        assert_hours(&[9, 0, 0, 1, 0, 1], &[9, 9, 9, 10, 10, 11]);
    }

    #[test]
    fn t5_a_late_arrival_is_no_step_back() {
        let (clock, ahead, mut seen) = (ManualClock::new(), Ahead::new(), Seen::new());
        clock.set(HOUR);
        let early = ahead.read(&clock);
        clock.advance(Duration::from_nanos(500));
        let late = ahead.read(&clock);
        assert_eq!(seen.at(late), Some(late));
        assert_eq!(seen.at(early), None);
        assert_eq!(ahead.read_after(&clock, seen.get()), late);
        assert_eq!(ahead.read(&clock), late);
    }

    #[test]
    fn t5_one_step_counts_once_however_many_shards_see_it() {
        let (clock, ahead) = (ManualClock::new(), Ahead::new());
        clock.set(HOUR * 5);
        let seen = ahead.read(&clock);
        clock.set(HOUR);
        assert_eq!(ahead.read_after(&clock, seen), seen);
        assert_eq!(ahead.read_after(&clock, seen - 7), seen);
        assert_eq!(ahead.read_after(&clock, seen), seen);
    }

    #[test]
    fn t5_time_ends_without_overflow() {
        let (clock, ahead) = (ManualClock::new(), Ahead::new());
        clock.set(Duration::MAX);
        assert_eq!(ahead.read(&clock), END);
        clock.set(Duration::ZERO);
        assert_eq!(ahead.read_after(&clock, END), END);
        clock.set(Duration::MAX);
        assert_eq!(ahead.read(&clock), END);
    }
}
