//! What changed in a tracker in memory since it was last written to a store.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, SystemTime};

use super::change::{Change, Write};
use super::error::Fault;
use super::key::InvalidKey;
use super::listing::{Listed, Page, Which};
use super::record::{Record, after, between};
use super::step::without_streak;
use crate::clock::Clock;
use crate::policy::Backoff;
use crate::random;
use crate::state::{BackoffState, BackoffTracker, Failure, Snapshot, SnapshotKey};

/// What the store knows, as far as this process wrote or read it.
#[derive(Debug, Default)]
pub(super) struct Behind {
    written: HashMap<String, SnapshotKey<String>>,
    /// The keys of which nobody knows what the store has: it was asked to write them, and its
    /// answer was an error, was lost, or was not waited for.
    in_doubt: HashSet<String>,
}

/// The result of a flush.
pub(super) struct Flushed<E> {
    keys: usize,
    failed: Option<E>,
    /// Whether the store can be reached, whatever else failed.
    is_there: bool,
}

impl<E> Flushed<E> {
    pub(super) fn nothing() -> Flushed<E> {
        Flushed {
            keys: 0,
            failed: None,
            is_there: false,
        }
    }

    /// Notes that this many keys were written.
    pub(super) fn wrote(&mut self, keys: usize) {
        self.keys += keys;
        self.is_there = true;
    }

    /// Notes that some could not be written. If `is_over`, this flush does not try them again;
    /// otherwise it still tries smaller parts of them.
    pub(super) fn missed(&mut self, error: E, fault: Fault, is_over: bool) {
        self.is_there |= fault == Fault::Key;
        if is_over {
            self.failed = Some(error);
        }
    }

    /// Whether the next flush comes at the usual interval: a key that cannot be reached delays no
    /// other.
    pub(super) fn is_well(&self) -> bool {
        self.is_there || self.failed.is_none()
    }

    /// How many keys were written, if all were.
    pub(super) fn all(self) -> Result<usize, E> {
        self.failed.map_or(Ok(self.keys), Err)
    }
}

/// When a flusher flushes.
pub(super) struct Pace {
    interval: Duration,
    state: BackoffState,
}

impl Pace {
    /// The shortest interval between flushes.
    const SHORTEST: Duration = Duration::from_millis(1);

    pub(super) fn new(interval: Duration) -> Pace {
        Pace {
            interval: interval.max(Pace::SHORTEST),
            state: BackoffState::default(),
        }
    }

    /// How long to wait before the next flush, given whether the last went well.
    pub(super) fn pause(&mut self, well: bool) -> Duration {
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
pub(super) struct Listener<F> {
    on_error: F,
    panic: Option<Box<dyn Any + Send>>,
}

impl<F> Listener<F> {
    pub(super) fn new(on_error: F) -> Listener<F> {
        let panic = None;
        Listener { on_error, panic }
    }

    pub(super) fn tell<E>(&mut self, error: &E)
    where
        F: FnMut(&E),
    {
        // Unwind safe: only the closure itself sees what its panic may have left half done.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.on_error)(error))) {
            self.panic.get_or_insert(panic);
        }
    }

    /// Resumes the first panic, if there was one.
    pub(super) fn dismiss(self) {
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
    }
}

/// The first pages for reading all that a store knows. Their order matters: time passes between two
/// pages, and a key that becomes due meanwhile is then found twice, rather than never.
pub(super) fn first_pages() -> [Page; 3] {
    const KEYS: usize = 10_000;
    [Which::Waiting, Which::Due, Which::GaveUp].map(|which| Page::first(which, KEYS))
}

/// A key, and what is known of it now: `None` if it is no longer failing.
pub(super) struct Changed {
    pub(super) key: String,
    now: Option<SnapshotKey<String>>,
}

impl Behind {
    /// What to write so that the store knows what the snapshot does. Keys that no store takes are
    /// left out.
    pub(super) fn changes(&self, snapshot: &Snapshot<String>) -> Vec<Changed> {
        let failing = snapshot.keys.iter();
        let failing = failing.filter(|now| InvalidKey::check(&now.key).is_ok());
        let mut changes: Vec<_> = failing
            .clone()
            .filter(|now| {
                let written = self.written.get(&now.key);
                written.is_none_or(|written| Behind::differs(written, now))
                    || self.in_doubt.contains(&now.key)
            })
            .map(|now| Changed {
                key: now.key.clone(),
                now: Some(now.clone()),
            })
            .collect();
        let failing: HashSet<&String> = failing.map(|now| &now.key).collect();
        let in_doubt = self.in_doubt.iter();
        let in_doubt = in_doubt.filter(|&key| !self.written.contains_key(key));
        let gone = self.written.keys().chain(in_doubt);
        changes.extend(
            gone.filter(|key| !failing.contains(key))
                .map(|key| Changed {
                    key: key.clone(),
                    now: None,
                }),
        );
        changes
    }

    /// Whether there was a failure between the two. A small difference in their times alone does
    /// not mean one: a snapshot holds times of day, and a tracker goes by another clock.
    fn differs(a: &SnapshotKey<String>, b: &SnapshotKey<String>) -> bool {
        let count = |key: &SnapshotKey<String>| (key.failures, key.interval, key.gave_up);
        let moved = between(a.until, b.until).max(between(b.until, a.until));
        count(a) != count(b) || moved > Duration::from_millis(1)
    }

    /// Notes that the store is about to be asked to write the changes.
    pub(super) fn asked(&mut self, changes: &[Changed]) {
        let keys = changes.iter().map(|changed| changed.key.clone());
        self.in_doubt.extend(keys);
    }

    /// Notes that the store could not write the changes.
    pub(super) fn missed(&mut self, changes: &[Changed], fault: Fault) {
        // It has what it had, as that could not be read, or replaced.
        if let ([Changed { key, .. }], Fault::Key) = (changes, fault) {
            self.in_doubt.remove(key);
        }
    }

    /// Notes that the changes are in the store.
    pub(super) fn written(&mut self, changes: &[Changed]) {
        for Changed { key, now } in changes {
            self.in_doubt.remove(key);
            match now {
                Some(now) => self.written.insert(key.clone(), now.clone()),
                None => self.written.remove(key),
            };
        }
    }

    /// Has the tracker go on from a page that the store listed at its time `now`. The tracker
    /// evicts nothing to make room for it: the streak of a key that is not there would count as
    /// ended.
    pub(super) fn restore<C: Clock>(
        &mut self,
        tracker: &mut BackoffTracker<String, C>,
        listed: Vec<Listed>,
        now: SystemTime,
    ) {
        let wall = tracker.wall();
        let failing = listed
            .into_iter()
            .filter(|listed| !listed.record.state.is_healthy());
        let keys = failing.map(|Listed { key, record }| SnapshotKey {
            key,
            failures: record.state.failures,
            interval: record.state.interval,
            first_failure: moved(record.first_failure, now, wall),
            until: moved(record.until, now.max(record.since), wall),
            gave_up: record.gave_up,
        });
        let keys: Vec<_> = keys.collect();
        let written = keys.iter().map(|kept| (kept.key.clone(), kept.clone()));
        self.written.extend(written);
        tracker.reserve(keys.len());
        tracker.restore_whole(Snapshot::new(wall, keys));
    }
}

/// The transitions that write the changes. They keep the lease and the cause that the store has,
/// and note nothing in a history: nobody knows what happened between two flushes.
pub(super) fn transitions(
    changes: &[Changed],
    taken_at: SystemTime,
) -> impl FnMut(usize, Option<&Record>, SystemTime) -> Change<()> + Send + 'static {
    let kept: Vec<_> = changes.iter().map(|changed| changed.now.clone()).collect();
    move |n, record, now| match kept.get(n) {
        Some(Some(kept)) => Change::put(merged(record, kept, taken_at, now), ()),
        _ => Change::new(without_streak(record, now).unwrap_or(Write::Keep), ()),
    }
}

fn merged(
    record: Option<&Record>,
    kept: &SnapshotKey<String>,
    taken_at: SystemTime,
    now: SystemTime,
) -> Record {
    let (cause, lease) = record.map_or_else(Default::default, |record| {
        (record.cause.clone(), record.lease.clone())
    });
    Record {
        state: BackoffState {
            failures: kept.failures,
            interval: kept.interval,
        },
        first_failure: moved(kept.first_failure, taken_at, now),
        since: now,
        until: moved(kept.until, taken_at, now),
        gave_up: kept.gave_up,
        cause,
        lease,
    }
}

/// As far from `other` as `time` is from `one`: the same moment by another clock.
fn moved(time: SystemTime, one: SystemTime, other: SystemTime) -> SystemTime {
    match time.duration_since(one) {
        Ok(ahead) => after(other, ahead),
        Err(behind) => other.checked_sub(behind.duration()).unwrap_or(other),
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
