//! Which keys may be tracked, for whoever only wants to know that a key is not.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::place::Place;

/// A counting filter that is read without a lock: most keys are healthy, and learn it here.
///
/// A key has a slot, and the slot counts the keys that are tracked in it: none means that the key is
/// not tracked. Each shard has its own slots, which only change under the shard's lock; so plain
/// loads and stores do, and whoever knows of an insertion (it happened before) sees its slot
/// counted.
///
/// A shard begins with the slots of one cache line, and moves to eight times as many when its keys
/// need them: the levels. A level is made when a shard first needs it, and its slots are counted
/// before the shard moves there. Slots of two bits count up to two keys; one that reaches three
/// can't tell how many any more and stays, until the shard counts anew.
#[derive(Debug)]
pub(super) struct Presence {
    near: Box<[Near]>,
    far: [OnceLock<Box<[OnceLock<Counts>]>>; LEVELS - 1],
}

type Counts = Box<[AtomicU8]>;

/// What a look-up reads of a shard, in one cache line as long as there are few keys.
#[derive(Debug)]
#[repr(align(64))]
struct Near {
    level: AtomicU8,
    counts: [AtomicU8; NEAR_BYTES],
}

const LEVELS: usize = 5;
const NEAR_BYTES: usize = 56;
const FAR_BYTES: [usize; LEVELS - 1] = [512, 4 << 10, 32 << 10, 256 << 10];

const SLOTS_PER_BYTE: usize = 4;
const FULL: u8 = 3;

/// The slots that a shard uses at `level`.
const fn slots(level: usize) -> usize {
    let bytes = match level {
        0 => NEAR_BYTES,
        _ => FAR_BYTES[level - 1],
    };
    bytes * SLOTS_PER_BYTE
}

/// How many keys a shard may have at `level` before it should move on. The fewer of the slots are
/// taken, the fewer healthy keys need to ask further: an eighth of them in the level that is used
/// where all is well, a quarter in the others.
const fn room(level: usize) -> usize {
    match level {
        0 => slots(0) / 8,
        _ => slots(level) / 4,
    }
}

/// How a shard's slots are doing, kept under its lock.
#[derive(Debug)]
pub(super) struct Usage {
    level: usize,
    /// How many more slots may become full before the shard counts anew.
    spare: usize,
}

impl Usage {
    pub(super) const fn new() -> Usage {
        Usage::at(0)
    }

    const fn at(level: usize) -> Usage {
        Usage {
            level,
            spare: slots(level) / 16,
        }
    }

    /// The level to which a shard with so many keys should move, if it should.
    pub(super) const fn wants(&self, keys: usize) -> Option<usize> {
        if keys > room(self.level) && self.level + 1 < LEVELS {
            Some(self.level + 1)
        } else if self.level > 0 && keys < room(self.level - 1) / 2 {
            Some(self.level - 1)
        } else if self.spare == 0 {
            Some(self.level)
        } else {
            None
        }
    }
}

impl Presence {
    pub(super) fn new(shards: usize) -> Presence {
        Presence {
            near: (0..shards).map(|_| Near::new()).collect(),
            far: [const { OnceLock::new() }; LEVELS - 1],
        }
    }

    /// Whether the key at `place` may be tracked. If not, it is not.
    #[inline]
    pub(super) fn may_hold(&self, place: Place) -> bool {
        let shard = place.shard(self.near.len());
        let Some(near) = self.near.get(shard) else {
            return true;
        };
        // Pairs with the release in `move_to`: the slots of the level are counted.
        let counts = self.counts(near, shard, near.level.load(Acquire));
        let (byte, shift) = position(place, counts.len());
        counts
            .get(byte)
            .is_none_or(|counts| counts.load(Relaxed) >> shift & FULL != 0)
    }

    /// Counts a key in. Only under the lock of its shard, like all that follows.
    #[inline]
    pub(super) fn add(&self, place: Place, usage: &mut Usage) {
        self.change(place, |count| {
            if count + 1 == FULL {
                usage.spare = usage.spare.saturating_sub(1);
            }
            if count == FULL { FULL } else { count + 1 }
        });
    }

    /// Counts a key out.
    #[inline]
    pub(super) fn remove(&self, place: Place) {
        self.change(place, |count| {
            if count == FULL {
                FULL
            } else {
                count.saturating_sub(1)
            }
        });
    }

    /// Moves a shard to another level, or counts it anew: `keys` are all that it has.
    pub(super) fn move_to(
        &self,
        level: usize,
        shard: usize,
        usage: &mut Usage,
        keys: impl Iterator<Item = Place>,
    ) {
        let Some(near) = self.near.get(shard) else {
            return;
        };
        if let Some(far) = level.checked_sub(1).and_then(|far| self.far.get(far)) {
            let far = far.get_or_init(|| self.near.iter().map(|_| OnceLock::new()).collect());
            if let Some(counts) = far.get(shard) {
                counts.get_or_init(|| {
                    let bytes = slots(level) / SLOTS_PER_BYTE;
                    (0..bytes).map(|_| AtomicU8::new(0)).collect()
                });
            }
        }
        let counts = self.counts(near, shard, level as u8);
        let mut fresh = vec![0; counts.len()];
        for place in keys {
            let (byte, shift) = position(place, fresh.len());
            if let Some(byte) = fresh.get_mut(byte) {
                if *byte >> shift & FULL != FULL {
                    *byte += 1 << shift;
                }
            }
        }
        // Never by way of zero: a reader who found the shard at this level long ago may be looking.
        for (count, fresh) in counts.iter().zip(fresh) {
            count.store(fresh, Relaxed);
        }
        near.level.store(level as u8, Release);
        *usage = Usage::at(level);
    }

    #[inline]
    fn counts<'a>(&'a self, near: &'a Near, shard: usize, level: u8) -> &'a [AtomicU8] {
        match level {
            0 => &near.counts,
            _ => self.far_counts(shard, level),
        }
    }

    #[inline]
    fn far_counts(&self, shard: usize, level: u8) -> &[AtomicU8] {
        let far = self.far.get(usize::from(level) - 1).and_then(OnceLock::get);
        let counts = far.and_then(|far| far.get(shard)).and_then(OnceLock::get);
        counts.map_or(&[], |counts| counts)
    }

    #[inline]
    fn change(&self, place: Place, change: impl FnOnce(u8) -> u8) {
        let shard = place.shard(self.near.len());
        let Some(near) = self.near.get(shard) else {
            return;
        };
        let counts = self.counts(near, shard, near.level.load(Relaxed));
        let (byte, shift) = position(place, counts.len());
        if let Some(counts) = counts.get(byte) {
            let all = counts.load(Relaxed);
            let count = change(all >> shift & FULL);
            counts.store(all & !(FULL << shift) | count << shift, Relaxed);
        }
    }
}

impl Near {
    fn new() -> Near {
        Near {
            level: AtomicU8::new(0),
            counts: [const { AtomicU8::new(0) }; NEAR_BYTES],
        }
    }
}

/// The byte of a key's slot among `bytes`, and the slot's first bit therein.
#[inline]
fn position(place: Place, bytes: usize) -> (usize, u32) {
    let slot = place.slot(bytes * SLOTS_PER_BYTE);
    (slot / SLOTS_PER_BYTE, (slot % SLOTS_PER_BYTE) as u32 * 2)
}
