//! What is kept of a key: 32 bytes, and what becomes of them.

use std::time::Duration;

use super::{NotReady, Readiness, Streak};
use crate::policy::{GiveUpReason, Plan, from_nanos};
use crate::random;
use crate::state::{BackoffState, Decision, Exact};

/// What is kept of a key while it fails. Times are nanoseconds of its shard's timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) interval: u64,
    pub(super) first_failure: u64,
    /// When it is due; for one that gave up, when its last failure was.
    pub(super) until: u64,
    pub(super) failures: u32,
    /// The streak's number, and in the two lowest bits whether it gave up.
    mark: u32,
}

/// How far a streak had come: what an attempt remembers, to know whether it is still so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    streak: u32,
    pub(super) failures: u32,
}

/// A failure, as it comes to the tracker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause<'a> {
    pub(super) plan: &'a Plan,
    /// Nanoseconds; zero for no hint.
    pub(super) retry_after: u64,
    /// What the key draws its jitter from.
    pub(super) seed: u64,
}

const GAVE_UP: u32 = 3;

impl Kept {
    /// A streak that begins now, before its first failure is counted.
    pub(super) const fn begin(streak: u32, now: u64) -> Kept {
        Kept {
            interval: 0,
            first_failure: now,
            until: now,
            failures: 0,
            mark: streak << 2, // of which 30 bits are kept
        }
    }

    /// Counts one more failure. Once the streak gave up it stays so, whatever the policy says now.
    #[inline(always)]
    pub(super) fn fail(&mut self, cause: &Cause<'_>, now: u64) -> Decision {
        // The streak's number too: the next streak of a key shall not wait the same again.
        let draw = u64::from(self.mark & !GAVE_UP) << 30 ^ u64::from(self.failures);
        let failure = Exact {
            elapsed: now.saturating_sub(self.first_failure),
            retry_after: cause.retry_after,
            entropy: random::draw(cause.seed, draw),
        };
        let step = cause.plan.step(self.failures, self.interval, failure);
        self.failures = step.failures;
        self.interval = step.interval;
        let gave_up = self.gave_up().or(step.gave_up);
        if let Some(reason) = gave_up {
            self.until = now;
            self.give_up(reason);
            return Decision::GiveUp(reason);
        }
        self.until = now.saturating_add(step.delay);
        Decision::Retry {
            after: from_nanos(step.delay),
        }
    }

    pub(super) const fn state(&self) -> BackoffState {
        BackoffState {
            failures: self.failures,
            interval: from_nanos(self.interval),
        }
    }

    pub(super) const fn progress(&self) -> Progress {
        Progress {
            streak: self.mark >> 2,
            failures: self.failures,
        }
    }

    pub(super) const fn gave_up(&self) -> Option<GiveUpReason> {
        match self.mark & GAVE_UP {
            0 => None,
            1 => Some(GiveUpReason::Failures),
            _ => Some(GiveUpReason::Elapsed),
        }
    }

    pub(super) const fn give_up(&mut self, reason: GiveUpReason) {
        self.mark |= match reason {
            GiveUpReason::Failures => 1,
            GiveUpReason::Elapsed => 2,
        };
    }

    pub(super) const fn wait(&self, now: u64) -> Duration {
        from_nanos(self.until.saturating_sub(now))
    }

    pub(super) const fn is_waiting(&self, now: u64) -> bool {
        self.gave_up().is_none() && self.until > now
    }

    /// Whether it failed, may be tried again, and is not forgotten.
    pub(super) const fn is_due(&self, now: u64, retention: u64) -> bool {
        self.gave_up().is_none() && self.until <= now && !self.is_stale(now, retention)
    }

    /// Whether its retention is over: it counts as forgotten.
    pub(super) const fn is_stale(&self, now: u64, retention: u64) -> bool {
        self.until < now && now - self.until >= retention
    }

    /// Whether the key may be tried, or why not.
    pub(super) const fn ready(&self, now: u64) -> Result<(), NotReady> {
        match self.gave_up() {
            Some(reason) => Err(NotReady::GaveUp(reason)),
            None if self.until > now => Err(NotReady::Wait(self.wait(now))),
            None => Ok(()),
        }
    }

    pub(super) fn readiness(&self, now: u64) -> Readiness {
        match self.ready(now) {
            Ok(()) => Readiness::Ready,
            Err(not_ready) => not_ready.into(),
        }
    }

    pub(super) fn streak(&self, now: u64) -> Streak {
        Streak {
            state: self.state(),
            elapsed: from_nanos(now.saturating_sub(self.first_failure)),
            readiness: self.readiness(now),
        }
    }

    /// What the last failure decided, as far as it is still to be obeyed.
    pub(super) const fn decision(&self, now: u64) -> Decision {
        match self.gave_up() {
            Some(reason) => Decision::GiveUp(reason),
            None => Decision::Retry {
                after: self.wait(now),
            },
        }
    }

    /// What it would cost to forget the key, where one has to go. Cheapest are those that have been
    /// due for longest, then those due soonest; dearest those that gave up, which would be tried
    /// again.
    pub(super) const fn worth(&self, now: u64) -> (u8, u64) {
        let age = u64::MAX - now.saturating_sub(self.until);
        match self.gave_up() {
            None if self.until <= now => (0, age),
            None => (1, self.until - now),
            Some(_) => (2, age),
        }
    }
}
