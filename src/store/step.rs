//! The store without the store: every transition of a key, as a pure function from the record and
//! the store's time to what to write and what to answer.
//!
//! Each function here returns a transition: a closure to pass to
//! [`Store::update`](super::blocking::Store::update) or its async twin, which may call it more than
//! once. The trackers do nothing else. Call these yourself to change a key within a transaction of
//! your own, or to test a store of your own.

mod lease;

pub use lease::{
    LEASE_EXPIRED, Start, cancel, expiry, extend, fail, fail_out_of_turn, finish, give_back, start,
    start_now,
};
pub(super) use lease::{fail_in_turn, is_in_turn};

use std::time::{Duration, SystemTime};

use super::change::{Change, Event, Write};
use super::lease::Refusal;
use super::record::{Record, after, between};
use super::text::{MAX_CAUSE, storable};
use crate::policy::Backoff;
use crate::state::{BackoffState, Decision, Failure, Readiness, Recovery};

/// One more failure of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The policy. `None` repeats the last interval, at least a second.
    pub backoff: Option<Backoff>,
    /// A server's hint: do not come back sooner.
    pub retry_after: Option<Duration>,
    /// What went wrong, for people: any text. One longer than [`MAX_CAUSE`] is cut, and a NUL is
    /// kept as `�`.
    pub cause: String,
    /// 64 uniform random bits: all the randomness there is.
    pub entropy: u64,
}

/// The time between two recorded failures of a key, as an attempt saw it when it began.
///
/// Of the attempts that began in one window, only the first to fail counts. If the streak has ended
/// meanwhile and no other has begun, that failure is the first of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(Began);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Began {
    Healthy,
    After(LastFailure),
    OutOfTurn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastFailure {
    failures: u32,
    at: SystemTime,
    /// How long the streak had lasted, and how long the wait was to be.
    lasted: Duration,
    wait: Duration,
}

impl Window {
    /// The window that is open, according to a record.
    #[must_use]
    pub fn of(record: Option<&Record>) -> Window {
        let failing = record.filter(|record| !record.state.is_healthy());
        Window(failing.map_or(Began::Healthy, |record| {
            Began::After(LastFailure {
                failures: record.state.failures,
                at: record.since,
                lasted: between(record.first_failure, record.since),
                wait: between(record.since, record.until),
            })
        }))
    }

    /// The same for an attempt that begins even if the key waits or gave up. It is out of turn
    /// then: its failure counts only if the streak has ended meanwhile and no other has begun.
    #[must_use]
    pub fn at(record: Option<&Record>, now: SystemTime) -> Window {
        match ready(record, now) {
            Ok(()) => Window::of(record),
            Err(_) => Window(Began::OutOfTurn),
        }
    }

    /// Whether a failure counts that is recorded while the window `now` is open.
    fn counts_in(self, now: Window) -> bool {
        match (self.0, now.0) {
            // There is nothing that it could escalate.
            (_, Began::Healthy) => true,
            // A record that was moved back, because the clock was, keeps its durations.
            (Began::After(then), Began::After(now)) => {
                now.at <= then.at && now == LastFailure { at: now.at, ..then }
            }
            _ => false,
        }
    }
}

/// Whether a key may be tried, its lease aside.
pub fn readiness(record: Option<&Record>, now: SystemTime) -> Readiness {
    let Some(record) = record else {
        return Readiness::Ready;
    };
    let wait = between(now.max(record.since), record.until);
    match record.gave_up {
        Some(reason) => Readiness::GaveUp(reason),
        None if wait.is_zero() => Readiness::Ready,
        None => Readiness::Wait(wait),
    }
}

/// Says whether a key may be tried. All that it ever writes is to set right a record that was
/// written before the store's clock was set back.
pub fn check() -> impl FnMut(Option<&Record>, SystemTime) -> Change<Readiness> + Send + 'static {
    |record, now| {
        let readiness = readiness(record, now);
        match record.filter(|record| record.is_from_the_future(now)) {
            None => Change::keep(readiness),
            Some(record) => Change::put(moved_back(record, now), readiness),
        }
    }
}

/// Counts a failure. A lease stays, unless it has run out: then that is noted, but only this
/// failure counts.
pub fn failure(
    failed: Failed,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Decision> + Send + 'static {
    move |record, now| {
        let mut record = current(record, now);
        let decision = escalate(&mut record, now, &failed);
        let expired = record.lease.take_if(|lease| !lease.is_live(now));
        let change = Change::put(record, decision).noting(Event::Failed);
        noting_first(change, expired.is_some())
    }
}

/// Counts a failure of an attempt that began in `window`. Of several attempts that began in one
/// [window](Window), only the first to fail counts; the others are told what is left of its wait.
pub fn failure_in(
    window: Window,
    failed: Failed,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Decision> + Send + 'static {
    let mut failure = failure(failed);
    move |record, now| {
        if window.counts_in(Window::of(record)) {
            return failure(record, now);
        }
        Change::keep(left(record, now))
    }
}

/// What is left of a wait, as a decision after a failure.
fn left(record: Option<&Record>, now: SystemTime) -> Decision {
    match readiness(record, now) {
        Readiness::Ready => Decision::Retry {
            after: Duration::ZERO,
        },
        Readiness::Wait(after) => Decision::Retry { after },
        Readiness::GaveUp(reason) => Decision::GiveUp(reason),
    }
}

/// Ends the streak. A lease stays, unless it has run out.
pub fn success()
-> impl FnMut(Option<&Record>, SystemTime) -> Change<Option<Recovery>> + Send + 'static {
    |record, now| match without_streak(record, now) {
        None => Change::keep(None),
        Some(write) => {
            let recovery = record.and_then(|record| recovery(record, now));
            let change = Change::new(write, recovery).noting(Event::Finished);
            noting_first(change, is_died_on(record, now))
        }
    }
}

/// Forgets the streak, for an operator who wants a key to be tried again now. A lease stays, unless
/// it has run out. Answers whether there was anything to forget.
pub fn forget() -> impl FnMut(Option<&Record>, SystemTime) -> Change<bool> + Send + 'static {
    |record, now| match without_streak(record, now) {
        None => Change::keep(false),
        Some(write) => {
            let change = Change::new(write, true).noting(Event::Forgotten);
            noting_first(change, is_died_on(record, now))
        }
    }
}

/// Whether somebody took the key, and the lease has run out.
fn is_died_on(record: Option<&Record>, now: SystemTime) -> bool {
    record.is_some_and(|record| record.lease.is_some() && record.live_lease(now).is_none())
}

/// The change; if a lease had run out, it notes that first.
fn noting_first<R>(change: Change<R>, expired: bool) -> Change<R> {
    if expired {
        change.noting_first(Event::Expired)
    } else {
        change
    }
}

/// The record to go on from: times that are yet to come are moved back.
fn current(record: Option<&Record>, now: SystemTime) -> Record {
    record.map_or_else(|| Record::healthy(now), |record| moved_back(record, now))
}

/// The record as if it had been written now, if it was written at a time that is yet to come.
///
/// The clock was set back. Nobody knows by how much, so what was told stays the same: the wait, the
/// time to live, the time that the streak had lasted.
fn moved_back(record: &Record, now: SystemTime) -> Record {
    let mut record = record.clone();
    if record.since > now {
        let lasted = between(record.first_failure, record.since);
        record.first_failure = now.checked_sub(lasted).unwrap_or(now);
        record.until = after(now, between(record.since, record.until));
        record.since = now;
    }
    if let Some(lease) = record.lease.as_mut().filter(|lease| lease.since > now) {
        lease.until = after(now, between(lease.since, lease.until));
        lease.since = now;
    }
    record
}

/// The step: one more failure.
fn escalate(record: &mut Record, now: SystemTime, failed: &Failed) -> Decision {
    if record.state.is_healthy() {
        record.first_failure = now;
    }
    let backoff = failed
        .backoff
        .unwrap_or_else(|| continuing(&record.state, failed.retry_after));
    let failure = Failure {
        elapsed: between(record.first_failure, now),
        retry_after: failed.retry_after,
        entropy: failed.entropy,
    };
    let decision = backoff.next(&mut record.state, failure);
    // Giving up sticks, and so does its first reason.
    let decision = record.gave_up.map_or(decision, Decision::GiveUp);
    record.since = now;
    record.until = after(now, decision.delay().unwrap_or_default());
    record.gave_up = match decision {
        Decision::Retry { .. } => None,
        Decision::GiveUp(reason) => Some(reason),
    };
    record.cause = storable(&failed.cause, MAX_CAUSE).into_owned();
    decision
}

/// The policy where there is none: the last interval again, at least a second.
fn continuing(state: &BackoffState, hint: Option<Duration>) -> Backoff {
    const SECOND: Duration = Duration::from_secs(1);
    let interval = if state.is_healthy() {
        SECOND
    } else {
        state.interval.max(SECOND)
    };
    Backoff::fixed(interval).max(hint.map_or(interval, |hint| hint.max(interval)))
}

/// Why a key may not be tried, its lease aside.
pub(super) fn ready(record: Option<&Record>, now: SystemTime) -> Result<(), Refusal> {
    match readiness(record, now) {
        Readiness::Ready => Ok(()),
        Readiness::Wait(wait) => Err(Refusal::BackingOff {
            until: after(now, wait),
        }),
        Readiness::GaveUp(reason) => Err(Refusal::GaveUp(reason)),
    }
}

fn recovery(record: &Record, now: SystemTime) -> Option<Recovery> {
    let failures = record.state.failures;
    (failures > 0).then(|| Recovery {
        failures,
        outage: between(record.first_failure, now),
    })
}

/// What to write to leave nothing but a live lease, if there is anything else.
pub(super) fn without_streak(record: Option<&Record>, now: SystemTime) -> Option<Write> {
    let record = record?;
    if record.live_lease(now).is_none() {
        return Some(Write::Delete);
    }
    (!record.state.is_healthy()).then(|| {
        let Record { lease, .. } = moved_back(record, now);
        let healthy = Record::healthy(now);
        Write::Put(Record { lease, ..healthy })
    })
}
