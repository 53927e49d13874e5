//! A time that never runs back, made of the readings of a clock that might.

/// What lies before a clock's zero: 9 years, so that a streak restored from a snapshot may have
/// begun before the clock did.
const BEFORE_ZERO: u64 = 1 << 58;

/// Two threads that read the clock one after the other may arrive in the other order, a little
/// apart: that is no step back, and is not worth another reading.
const JITTER_OF_ARRIVAL: u64 = 1_000_000;

/// A time in nanoseconds that never runs back, kept under a shard's lock.
///
/// Where the clock steps back, the time goes on from where it was: what is waiting waits no longer
/// for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    /// The latest time there was.
    seen: u64,
    /// The time less the clock's reading.
    ahead: u64,
}

impl Timeline {
    pub(super) const fn new() -> Timeline {
        Timeline {
            seen: BEFORE_ZERO,
            ahead: BEFORE_ZERO,
        }
    }

    /// The latest time there was.
    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// The time at a reading of the clock; `None` if the reading is older than what was seen.
    ///
    /// Then either the clock stepped back, or it took this reading longer to arrive than a later
    /// one took. Only a reading begun now can tell: hand it to [`at_fresh`](Self::at_fresh).
    #[inline]
    pub(super) const fn at(&mut self, reading: u64) -> Option<u64> {
        let time = reading.saturating_add(self.ahead);
        if time >= self.seen {
            self.seen = time;
        } else if self.seen - time > JITTER_OF_ARRIVAL {
            return None;
        }
        Some(self.seen)
    }

    /// The time at a reading that was begun after the time had been `seen`: if it is before that,
    /// the clock stepped back, and the time goes on from where it was.
    pub(super) fn at_fresh(&mut self, reading: u64, seen: u64) -> u64 {
        let time = reading.saturating_add(self.ahead);
        if time < seen {
            self.ahead = self.ahead.saturating_add(seen - time);
        }
        self.seen = self.seen.max(time);
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::{BEFORE_ZERO, Timeline};

    const HOUR: u64 = 3_600_000_000_000;

    #[track_caller]
    fn at(line: &mut Timeline, reading: u64) -> Option<u64> {
        line.at(reading).map(|time| time - BEFORE_ZERO)
    }

    #[test]
    fn t5_a_step_back_lets_time_go_on() {
        let mut line = Timeline::new();
        assert_eq!(at(&mut line, 5 * HOUR), Some(5 * HOUR));
        assert_eq!(at(&mut line, HOUR), None);
        let seen = line.seen();
        assert_eq!(line.at_fresh(HOUR, seen) - BEFORE_ZERO, 5 * HOUR);
        assert_eq!(at(&mut line, HOUR + 7), Some(5 * HOUR + 7));
        assert_eq!(at(&mut line, 2 * HOUR), Some(6 * HOUR));
    }

    #[test]
    fn t5_a_late_reading_is_no_step_back() {
        let mut line = Timeline::new();
        assert_eq!(at(&mut line, HOUR), Some(HOUR));
        // A little late: the time stands still.
        assert_eq!(at(&mut line, HOUR - 500), Some(HOUR));
        // Very late: the fresh reading shows that the clock is well.
        assert_eq!(at(&mut line, HOUR / 2), None);
        let seen = line.seen();
        assert_eq!(line.at_fresh(HOUR + 3, seen) - BEFORE_ZERO, HOUR + 3);
        assert_eq!(at(&mut line, HOUR + 4), Some(HOUR + 4));
    }

    #[test]
    fn t5_two_threads_note_one_step_once() {
        let mut line = Timeline::new();
        assert_eq!(at(&mut line, 5 * HOUR), Some(5 * HOUR));
        let seen = line.seen();
        assert_eq!(line.at_fresh(HOUR, seen) - BEFORE_ZERO, 5 * HOUR);
        assert_eq!(line.at_fresh(HOUR + 9, seen) - BEFORE_ZERO, 5 * HOUR + 9);
    }

    #[test]
    fn t5_absurd_readings_saturate() {
        let mut line = Timeline::new();
        assert_eq!(line.at(u64::MAX), Some(u64::MAX));
        assert_eq!(line.at(0), None);
        assert_eq!(line.at_fresh(0, u64::MAX), u64::MAX);
        assert_eq!(line.at_fresh(u64::MAX, u64::MAX), u64::MAX);
    }
}
