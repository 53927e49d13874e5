//! A part of the keys under one lock, and all that changes together with it.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::panic::RefUnwindSafe;

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use super::kept::{Kept, Progress};
use super::place::Place;
use super::presence::{Presence, Usage};
use super::room::Room;
use super::timeline::Seen;

/// A part of the keys. Apart from its neighbours in the cache: other threads lock them.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard<K>(Mutex<Table<K>>);

/// What the lock of a shard guards.
#[derive(Debug)]
pub(super) struct Table<K> {
    entries: HashTable<Entry<K>>,
    pub(super) seen: Seen,
    usage: Usage,
    /// The number of the latest streak.
    streaks: u32,
    /// How often entries may have moved to other buckets.
    moves: u32,
    /// The bucket at which the next insertion goes on to look for keys to purge.
    swept: usize,
}

/// A tracked key.
#[derive(Clone, Debug)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) kept: Kept,
}

/// How many buckets an insertion looks at for keys to purge. At this rate it has been all of them
/// before the keys become half as many again.
const SWEEP: usize = 4;

/// Among how many keys the one to evict is chosen.
pub(super) const CANDIDATES: usize = 16;

/// A key that may have to make room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) worth: (u8, u64),
    pub(super) shard: usize,
    hash: u64,
    progress: Progress,
}

/// A panic, of a key's `Hash`, `Eq` or `Clone`, leaves it whole: see [`Open`].
impl<K: RefUnwindSafe> RefUnwindSafe for Shard<K> {}

impl<K> Shard<K> {
    pub(super) fn new() -> Shard<K> {
        Shard(Mutex::new(Table {
            entries: HashTable::new(),
            seen: Seen::new(),
            usage: Usage::at(0),
            streaks: 0,
            moves: 0,
            swept: 0,
        }))
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Table<K>> {
        self.0.lock()
    }
}

impl<K> Table<K> {
    #[inline]
    pub(super) fn find<Q>(&self, place: Place, key: &Q) -> Option<&Kept>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let entry = self
            .entries
            .find(place.hash, |entry| entry.key.borrow() == key)?;
        Some(&entry.kept)
    }

    #[inline]
    pub(super) fn find_mut<Q>(&mut self, place: Place, key: &Q) -> Option<&mut Kept>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let entry = self
            .entries
            .find_mut(place.hash, |entry| entry.key.borrow() == key)?;
        Some(&mut entry.kept)
    }

    /// A number that no recent streak of this shard had.
    pub(super) fn next_streak(&mut self) -> u32 {
        self.streaks = self.streaks.wrapping_add(1);
        self.streaks
    }

    pub(super) fn buckets(&self) -> usize {
        self.entries.num_buckets()
    }

    /// Changes whenever entries may have moved to other buckets.
    pub(super) fn moves(&self) -> u32 {
        self.moves
    }

    pub(super) fn within(&self, buckets: Range<usize>) -> impl Iterator<Item = &Entry<K>> {
        let end = buckets.end.min(self.buckets());
        (buckets.start..end).filter_map(|bucket| self.entries.get_bucket(bucket))
    }
}

/// A shard while its lock is held. Keys come and go only here, so that table, presence and room
/// agree.
pub(super) struct Open<'a, K, S> {
    pub(super) table: MutexGuard<'a, Table<K>>,
    pub(super) shard: usize,
    pub(super) presence: &'a Presence,
    pub(super) room: &'a Room,
    pub(super) hasher: &'a S,
}

impl<K: Hash, S: BuildHasher> Open<'_, K, S> {
    /// Puts in a key that is not there yet, for which room was taken.
    pub(super) fn insert(&mut self, place: Place, entry: Entry<K>) {
        let Table {
            entries,
            usage,
            moves,
            ..
        } = &mut *self.table;
        if entries.len() == entries.capacity() {
            *moves = moves.wrapping_add(1);
        }
        entries.insert_unique(place.hash, entry, |entry| self.hasher.hash_one(&entry.key));
        self.presence.add(place, usage);
        self.refit();
    }

    /// Takes a key out, to be dropped once the lock is released.
    pub(super) fn remove<Q>(&mut self, place: Place, key: &Q) -> Option<Entry<K>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let found = self
            .table
            .entries
            .find_entry(place.hash, |entry| entry.key.borrow() == key);
        let (entry, _) = found.ok()?.remove();
        self.removed(place);
        Some(entry)
    }

    /// Takes out, of the keys within some buckets, those that are to go. The others stay in their
    /// buckets, until [`refit`](Self::refit).
    pub(super) fn remove_within(
        &mut self,
        buckets: Range<usize>,
        gone: &mut Vec<Entry<K>>,
        mut goes: impl FnMut(&Kept) -> bool,
    ) {
        let before = gone.len();
        for bucket in buckets.start..buckets.end.min(self.table.buckets()) {
            match self.table.entries.get_bucket_entry(bucket) {
                Ok(found) if goes(&found.get().kept) => {
                    let (entry, _) = found.remove();
                    let place = Place::new(self.hasher.hash_one(&entry.key));
                    self.presence.remove(place, &self.table.usage);
                    gone.push(entry);
                }
                _ => {}
            }
        }
        if gone.len() > before {
            self.room.give_back(gone.len() - before);
        }
    }

    /// Does a little of the purge: each call goes on where the last one ended.
    pub(super) fn sweep(&mut self, gone: &mut Vec<Entry<K>>, goes: impl FnMut(&Kept) -> bool) {
        let from = match self.table.swept {
            swept if swept < self.table.buckets() => swept,
            _ => 0,
        };
        self.table.swept = from + SWEEP;
        self.remove_within(from..from + SWEEP, gone, goes);
    }

    /// Adds keys that might make room, from where `place` says on, until there are enough of them.
    pub(super) fn candidates(&self, place: Place, now: u64, found: &mut Vec<Candidate>) {
        let buckets = self.table.buckets();
        let from = place.hash as usize & buckets.saturating_sub(1);
        let entries = self
            .table
            .within(from..buckets)
            .chain(self.table.within(0..from));
        found.extend(
            entries
                .take(CANDIDATES - found.len())
                .map(|entry| Candidate {
                    worth: entry.kept.worth(now),
                    shard: self.shard,
                    hash: self.hasher.hash_one(&entry.key),
                    progress: entry.kept.progress(),
                }),
        );
    }

    /// Takes out a candidate of this shard, unless it has changed.
    pub(super) fn remove_candidate(&mut self, candidate: &Candidate) -> Option<Entry<K>> {
        let same = |entry: &Entry<K>| entry.kept.progress() == candidate.progress;
        let (entry, _) = self
            .table
            .entries
            .find_entry(candidate.hash, same)
            .ok()?
            .remove();
        self.removed(Place::new(candidate.hash));
        Some(entry)
    }

    fn removed(&mut self, place: Place) {
        self.presence.remove(place, &self.table.usage);
        self.room.give_back(1);
        self.refit();
    }

    /// Lets the presence and the table follow the number of keys, up and down.
    pub(super) fn refit(&mut self) {
        let Table {
            entries,
            usage,
            moves,
            ..
        } = &mut *self.table;
        let hash = |entry: &Entry<K>| self.hasher.hash_one(&entry.key);
        if entries.num_buckets() > 64 && entries.len() < entries.num_buckets() / 16 {
            *moves = moves.wrapping_add(1);
            entries.shrink_to(2 * entries.len(), hash);
        }
        if let Some(level) = usage.wants(entries.len()) {
            let places = entries.iter().map(|entry| Place::new(hash(entry)));
            self.presence.move_to(level, self.shard, usage, places);
        }
    }
}
