//! What a flush came to, when the next one is, and who is told of its errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::policy::Backoff;
use crate::random;
use crate::state::{BackoffState, Failure};
use crate::store::error::Fault;

/// The result of a flush.
pub(in crate::store) struct Flushed<E> {
    keys: usize,
    failed: Option<E>,
    /// Whether the store can be reached, whatever else failed.
    is_there: bool,
}

impl<E> Flushed<E> {
    pub(in crate::store) fn nothing() -> Flushed<E> {
        Flushed {
            keys: 0,
            failed: None,
            is_there: false,
        }
    }

    /// Notes that this many keys were written.
    pub(in crate::store) fn wrote(&mut self, keys: usize) {
        self.keys += keys;
        self.is_there = true;
    }

    /// Notes that some could not be written. If `is_over`, this flush does not try them again;
    /// otherwise it still tries smaller parts of them.
    pub(in crate::store) fn missed(&mut self, error: E, fault: Fault, is_over: bool) {
        self.is_there |= fault == Fault::Key;
        if is_over {
            self.failed = Some(error);
        }
    }

    /// Whether the next flush comes at the usual interval: a key that cannot be reached delays no
    /// other.
    pub(in crate::store) fn is_well(&self) -> bool {
        self.is_there || self.failed.is_none()
    }

    /// How many keys were written, if all were.
    pub(in crate::store) fn all(self) -> Result<usize, E> {
        self.failed.map_or(Ok(self.keys), Err)
    }
}

/// When a flusher flushes.
pub(in crate::store) struct Pace {
    interval: Duration,
    state: BackoffState,
}

impl Pace {
    /// The shortest interval between flushes.
    const SHORTEST: Duration = Duration::from_millis(1);

    pub(in crate::store) fn new(interval: Duration) -> Pace {
        Pace {
            interval: interval.max(Pace::SHORTEST),
            state: BackoffState::default(),
        }
    }

    /// How long to wait before the next flush, given whether the last went well.
    pub(in crate::store) fn pause(&mut self, well: bool) -> Duration {
        if well {
            self.state = BackoffState::default();
            return self.interval;
        }
        let slowest = self.interval.saturating_mul(16);
        let retry = Backoff::exponential(self.interval / 4, slowest);
        let decision = retry.next(&mut self.state, Failure::new(random::seed()));
        decision.delay().unwrap_or(slowest)
    }
}

/// Where a flusher reports its errors.
///
/// A panic in `on_error` does not end the flusher: all later changes would be lost, and nobody
/// would know.
pub(in crate::store) struct Listener<F> {
    on_error: F,
    panic: Option<Box<dyn Any + Send>>,
}

impl<F> Listener<F> {
    pub(in crate::store) fn new(on_error: F) -> Listener<F> {
        let panic = None;
        Listener { on_error, panic }
    }

    pub(in crate::store) fn tell<E>(&mut self, error: &E)
    where
        F: FnMut(&E),
    {
        // Unwind safe: only the closure itself sees what its panic may have left half done.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.on_error)(error))) {
            self.panic.get_or_insert(panic);
        }
    }

    /// Resumes the first panic, if there was one.
    pub(in crate::store) fn dismiss(self) {
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Fault, Flushed, Pace};

    #[test]
    fn after_an_error_the_next_flush_comes_sooner_and_then_ever_later() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut pace = Pace::new(SECOND * 4);
        for _ in 0..100 {
            for longest in [1, 2, 4, 8, 16, 32, 64, 64] {
                let pause = pace.pause(false);
                assert!(pause <= SECOND * longest, "{pause:?} of {longest}");
            }
            let longest = (0..100).map(|_| pace.pause(false)).max();
            assert!(longest > Some(SECOND * 50), "{longest:?}");
            assert_eq!(pace.pause(true), SECOND * 4);
        }
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(pace.pause(true), Duration::from_millis(1));
    }

    #[test]
    fn a_flush_is_well_unless_the_store_may_be_away() {
        let flushed = |wrote, fault| {
            let mut flushed = Flushed::nothing();
            if wrote > 0 {
                flushed.wrote(wrote);
            }
            flushed.missed("damaged", fault, true);
            let is_well = flushed.is_well();
            assert_eq!(flushed.all(), Err("damaged"));
            is_well
        };
        assert!(flushed(1, Fault::Unknown) && flushed(0, Fault::Key));
        assert!(!flushed(0, Fault::Unknown) && !flushed(0, Fault::Store));
        let mut flushed = Flushed::<()>::nothing();
        assert!(flushed.is_well());
        flushed.wrote(2);
        assert!(flushed.is_well());
        assert_eq!(flushed.all(), Ok(2));
    }
}
