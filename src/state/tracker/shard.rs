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
    /// How often keys may have moved to other buckets.
    moves: u32,
    /// Whether a key has left since then: the next to come may be the same, in another bucket.
    left: bool,
    /// The bucket at which the next insertion goes on to look for keys to purge.
    swept: usize,
}

/// A tracked key.
#[derive(Clone, Debug)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) kept: Kept,
}

/// How many buckets an insertion looks at for keys to purge. At this rate all have been looked at
/// before there are half as many keys again.
const SWEEP: usize = 4;

/// Among how many keys the one to evict is chosen.
pub(super) const CANDIDATES: usize = 16;

/// A key that may have to make room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) worth: (u8, u64),
    pub(super) shard: usize,
    bucket: usize,
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
            left: false,
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

    /// Changes whenever keys may have moved to other buckets, if only by leaving and coming back.
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
///
/// Whatever of a key's own code may panic, its hash above all, runs before anything changes, or
/// after all has; and never within the table, which would lose keys.
pub(super) struct Open<'a, K, S> {
    pub(super) table: MutexGuard<'a, Table<K>>,
    pub(super) shard: usize,
    pub(super) presence: &'a Presence,
    pub(super) room: &'a Room,
    pub(super) hasher: &'a S,
    /// A key that was taken out. Dropped after the lock is released, as fields are in their order.
    pub(super) gone: Option<Entry<K>>,
}

impl<K: Hash, S: BuildHasher> Open<'_, K, S> {
    /// Makes the table and the presence fit for one key more.
    pub(super) fn prepare(&mut self) {
        let entries = &self.table.entries;
        if entries.len() == entries.capacity() {
            // A bucket that a key has left may still count as taken, so that the search for other
            // keys goes on beyond it. If there are many of those, a table of the same size will do.
            let full = entries.num_buckets() * 7 / 8;
            let grows = usize::from(entries.len() >= full / 2);
            self.rebuild(full + grows);
        }
        self.follow(self.table.entries.len() + 1);
    }

    /// Puts in a key that is not there yet, for which room was taken and all is prepared.
    pub(super) fn insert(&mut self, place: Place, entry: Entry<K>) {
        let Table {
            entries,
            usage,
            moves,
            left,
            ..
        } = &mut *self.table;
        *moves = moves.wrapping_add(u32::from(std::mem::take(left)));
        entries.insert_unique(place.hash, entry, |entry| self.hasher.hash_one(&entry.key));
        self.presence.add(place, usage);
    }

    /// Takes a key out, to be dropped once the lock is released.
    pub(super) fn remove<Q>(&mut self, place: Place, key: &Q) -> Option<Kept>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let found = self
            .table
            .entries
            .find_entry(place.hash, |entry| entry.key.borrow() == key);
        let (entry, _) = found.ok()?.remove();
        Some(self.removed(place, entry))
    }

    /// Takes out, of the keys within some buckets, those that are to go. The others stay in their
    /// buckets, until [`refit`](Self::refit).
    pub(super) fn remove_within(
        &mut self,
        buckets: Range<usize>,
        gone: &mut Vec<Entry<K>>,
        mut goes: impl FnMut(&Kept) -> bool,
    ) {
        for bucket in buckets.start..buckets.end.min(self.table.buckets()) {
            match self.table.entries.get_bucket_entry(bucket) {
                Ok(found) if goes(&found.get().kept) => {
                    let place = Place::new(self.hasher.hash_one(&found.get().key));
                    let (entry, _) = found.remove();
                    self.table.left = true;
                    self.presence.remove(place, &self.table.usage);
                    self.room.give_back(1);
                    gone.push(entry);
                }
                _ => {}
            }
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
        let entries = (from..buckets)
            .chain(0..from)
            .filter_map(|bucket| Some((bucket, self.table.entries.get_bucket(bucket)?.kept)));
        found.extend(
            entries
                .take(CANDIDATES - found.len())
                .map(|(bucket, kept)| Candidate {
                    worth: kept.worth(now),
                    shard: self.shard,
                    bucket,
                    progress: kept.progress(),
                }),
        );
    }

    /// Takes out a candidate of this shard, unless it has changed or moved.
    pub(super) fn remove_candidate(&mut self, candidate: &Candidate) -> Option<Kept> {
        let found = self.table.entries.get_bucket_entry(candidate.bucket).ok()?;
        let Entry { key, kept } = found.get();
        if kept.progress() != candidate.progress {
            return None;
        }
        let place = Place::new(self.hasher.hash_one(key));
        let (entry, _) = found.remove();
        Some(self.removed(place, entry))
    }

    fn removed(&mut self, place: Place, entry: Entry<K>) -> Kept {
        let kept = entry.kept;
        self.gone = Some(entry);
        self.table.left = true;
        self.presence.remove(place, &self.table.usage);
        self.room.give_back(1);
        self.refit();
        kept
    }

    /// Lets the table and the presence follow the number of keys, down.
    pub(super) fn refit(&mut self) {
        let entries = &self.table.entries;
        if entries.num_buckets() > 64 && entries.len() < entries.num_buckets() / 16 {
            self.rebuild(2 * entries.len());
        }
        self.follow(self.table.entries.len());
    }

    /// Lets the presence follow the number of keys, up and down.
    fn follow(&mut self, keys: usize) {
        let Table { entries, usage, .. } = &mut *self.table;
        if let Some(level) = usage.wants(keys) {
            let places = entries
                .iter()
                .map(|entry| Place::new(self.hasher.hash_one(&entry.key)));
            self.presence.move_to(level, self.shard, usage, places);
        }
    }

    /// Moves the keys to a table with room for so many.
    #[cold]
    fn rebuild(&mut self, capacity: usize) {
        let Table { entries, moves, .. } = &mut *self.table;
        let hash = |entry: &Entry<K>| self.hasher.hash_one(&entry.key);
        // All hashes first, which may panic, then all moves, which need no more of them.
        let hashes: Vec<u64> = entries.iter().map(hash).collect();
        let mut moved = HashTable::with_capacity(capacity);
        for (entry, hashed) in entries.drain().zip(hashes) {
            moved.insert_unique(hashed, entry, hash);
        }
        *entries = moved;
        *moves = moves.wrapping_add(1);
    }
}
