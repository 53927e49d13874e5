//! What changed in a tracker in memory since it was last written to a store.

mod flush;

pub(super) use flush::{Flushed, Listener, Pace};

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::change::{Change, Write};
use super::error::Fault;
use super::key::InvalidKey;
use super::listing::{Listed, Page, Which};
use super::record::{Record, after, between};
use super::step::without_streak;
use crate::clock::Clock;
use crate::state::{BackoffState, BackoffTracker, Snapshot, SnapshotKey};

/// What the store knows, as far as this process wrote or read it.
#[derive(Debug, Default)]
pub(super) struct Behind {
    written: HashMap<String, SnapshotKey<String>>,
    /// The keys of which nobody knows what the store has: it was asked to write them, and its
    /// answer was an error, was lost, or was not waited for.
    in_doubt: HashSet<String>,
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
    /// Whether the key was in doubt already, before the store is asked to write this.
    was_in_doubt: bool,
}

impl Behind {
    /// What to write so that the store knows what the snapshot does. Keys that no store takes are
    /// left out.
    pub(super) fn changes(&self, snapshot: &Snapshot<String>) -> Vec<Changed> {
        let failing = snapshot.keys.iter();
        let failing = failing.filter(|now| InvalidKey::check(&now.key).is_ok());
        let to_write = |key: &String, now| Changed {
            key: key.clone(),
            now,
            was_in_doubt: self.in_doubt.contains(key),
        };
        let mut changes: Vec<_> = failing
            .clone()
            .filter(|now| {
                let written = self.written.get(&now.key);
                written.is_none_or(|written| Behind::differs(written, now))
                    || self.in_doubt.contains(&now.key)
            })
            .map(|now| to_write(&now.key, Some(now.clone())))
            .collect();
        let failing: HashSet<&String> = failing.map(|now| &now.key).collect();
        let in_doubt = self.in_doubt.iter();
        let in_doubt = in_doubt.filter(|&key| !self.written.contains_key(key));
        let gone = self.written.keys().chain(in_doubt);
        changes.extend(
            gone.filter(|key| !failing.contains(key))
                .map(|key| to_write(key, None)),
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
        if let ([changed], Fault::Key) = (changes, fault) {
            if !changed.was_in_doubt {
                self.in_doubt.remove(&changed.key);
            }
        }
    }

    /// Notes that the changes are in the store.
    pub(super) fn written(&mut self, changes: &[Changed]) {
        for Changed { key, now, .. } in changes {
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
