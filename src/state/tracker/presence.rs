//! Which keys may be tracked, for callers who mostly learn that theirs is not.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::place::{NEAR_BYTES, Place, SHARDS};

/// A counting filter that is read without a lock: most keys are healthy, and learn it here.
///
/// A key has a slot, and the slot counts the keys that are tracked in it: none means that the key
/// is not tracked. Each shard has its own slots, which change only under the shard's lock; so plain
/// loads and stores suffice, and a reader sees every insertion that happened before it.
///
/// A shard begins with the slots of one cache line, and moves to eight times as many when its keys
/// need them: the next level. A level is made when a shard first needs it, and its slots are
/// counted before the shard moves there. The nearest slots are asked first, and are all full while
/// the shard is elsewhere. A slot has two bits, and counts up to two keys; one that reaches three
/// no longer knows how many, and stays there until the shard counts anew.
#[derive(Debug)]
pub(super) struct Presence {
    /// At which level each shard is.
    levels: [AtomicU8; SHARDS],
    near: Box<[AtomicU8; SHARDS * NEAR_BYTES]>,
    far: [OnceLock<Box<Far>>; LEVELS - 1],
}

/// The slots of each shard that has been at this level.
type Far = [OnceLock<Box<[AtomicU8]>>; SHARDS];

const LEVELS: usize = 5;
const SLOTS_PER_BYTE: usize = 4;
const FULL: u8 = 3;

/// How many bytes of slots a shard has at `level`.
const fn bytes(level: usize) -> usize {
    NEAR_BYTES << (3 * level)
}

/// How many keys a shard may have at `level` before it should move on. The fewer of the slots are
/// taken, the fewer healthy keys need to ask further: an eighth of the slots at the level that
/// serves where almost all is well, a quarter at the others.
const fn room(level: usize) -> usize {
    let slots = bytes(level) * SLOTS_PER_BYTE;
    if level == 0 { slots / 8 } else { slots / 4 }
}

/// How a shard's slots are used, kept under its lock.
#[derive(Debug)]
pub(super) struct Usage {
    level: usize,
    /// How many more slots may become full before the shard counts anew.
    spare: usize,
}

impl Usage {
    pub(super) const fn at(level: usize) -> Usage {
        Usage {
            level,
            spare: bytes(level) * SLOTS_PER_BYTE / 16,
        }
    }

    /// The level at which a shard with so many keys should count anew, if it should.
    #[inline]
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
    pub(super) fn new() -> Presence {
        Presence {
            levels: [const { AtomicU8::new(0) }; SHARDS],
            near: Box::new([const { AtomicU8::new(0) }; SHARDS * NEAR_BYTES]),
            far: [const { OnceLock::new() }; LEVELS - 1],
        }
    }

    /// Whether the key at `place` may be tracked. If not, it is not.
    #[inline(always)]
    pub(super) fn may_hold(&self, place: Place) -> bool {
        let (byte, bit) = place.near();
        self.near[byte].load(Relaxed) >> bit & FULL != 0 && self.may_hold_far(place)
    }

    #[inline]
    fn may_hold_far(&self, place: Place) -> bool {
        // Pairs with the release in `move_to`: the slots of the level are counted.
        let level = self.levels[place.shard()].load(Acquire);
        let Some(slots) = self.far(level.into(), place.shard()) else {
            return true;
        };
        let (byte, bit) = place.far(slots.len());
        slots
            .get(byte)
            .is_none_or(|slots| slots.load(Relaxed) >> bit & FULL != 0)
    }

    /// Counts a key in. Under the lock of its shard, like all that follows.
    #[inline]
    pub(super) fn add(&self, place: Place, usage: &mut Usage) {
        self.change(place, usage.level, |count| {
            if count + 1 == FULL {
                usage.spare = usage.spare.saturating_sub(1);
            }
            FULL.min(count + 1)
        });
    }

    /// Counts a key out.
    #[inline]
    pub(super) fn remove(&self, place: Place, usage: &Usage) {
        self.change(place, usage.level, |count| match count {
            FULL => FULL,
            _ => count.saturating_sub(1),
        });
    }

    #[inline]
    fn change(&self, place: Place, level: usize, change: impl FnOnce(u8) -> u8) {
        let (slots, bit) = match self.far(level, place.shard()) {
            None => {
                let (byte, bit) = place.near();
                (&self.near[byte], bit)
            }
            Some(slots) => {
                let (byte, bit) = place.far(slots.len());
                (&slots[byte], bit)
            }
        };
        let all = slots.load(Relaxed);
        let count = change(all >> bit & FULL);
        slots.store(all & !(FULL << bit) | count << bit, Relaxed);
    }

    /// Counts a shard anew, at this level or another: `keys` are all that it has.
    #[cold]
    pub(super) fn move_to(
        &self,
        level: usize,
        shard: usize,
        usage: &mut Usage,
        keys: impl Iterator<Item = Place>,
    ) {
        let first = shard * NEAR_BYTES;
        let near = &self.near[first..first + NEAR_BYTES];
        let slots = match level.checked_sub(1) {
            None => near,
            Some(far) => {
                let far =
                    self.far[far].get_or_init(|| Box::new([const { OnceLock::new() }; SHARDS]));
                far[shard].get_or_init(|| (0..bytes(level)).map(|_| AtomicU8::new(0)).collect())
            }
        };
        let mut counted = vec![0; slots.len()];
        for place in keys {
            let (byte, bit) = match level {
                0 => (place.near().0 - first, place.near().1),
                _ => place.far(slots.len()),
            };
            if counted[byte] >> bit & FULL != FULL {
                counted[byte] += 1 << bit;
            }
        }
        // Never by way of zero: a reader who found the shard at this level before may still be
        // looking, for a key that has been there all the time.
        for (slots, counted) in slots.iter().zip(counted) {
            slots.store(counted, Relaxed);
        }
        self.levels[shard].store(level as u8, Release);
        if level > 0 {
            for slots in near {
                slots.store(u8::MAX, Relaxed);
            }
        }
        *usage = Usage::at(level);
    }

    /// The slots of a shard at a level; none at the nearest.
    #[inline]
    fn far(&self, level: usize, shard: usize) -> Option<&[AtomicU8]> {
        let far = self.far.get(level.wrapping_sub(1))?.get()?;
        far[shard].get().map(|slots| &**slots)
    }
}

#[cfg(test)]
mod tests {
    use super::{LEVELS, Place, Presence, Usage, bytes, room};

    fn places(from: u64, to: u64) -> impl Iterator<Item = Place> {
        (from..to).map(|n| Place::new(crate::random::draw(7, n)))
    }

    fn in_shard(shard: usize, keys: usize) -> Vec<Place> {
        let there = places(0, u64::MAX).filter(|place| place.shard() == shard);
        there.take(keys).collect()
    }

    #[track_caller]
    fn assert_all(presence: &Presence, held: &[Place]) {
        assert!(held.iter().all(|place| presence.may_hold(*place)));
    }

    #[test]
    fn who_was_counted_in_is_found_at_every_level_up_and_down() {
        let presence = Presence::new();
        let mut usage = Usage::at(0);
        let keys = in_shard(3, 6000);
        let mut levels = vec![];
        for n in 0..keys.len() {
            presence.add(keys[n], &mut usage);
            if let Some(level) = usage.wants(n + 1) {
                presence.move_to(level, 3, &mut usage, keys[..=n].iter().copied());
                levels.push(level);
                assert_all(&presence, &keys[..=n]);
            }
        }
        levels.dedup();
        assert!(levels.ends_with(&[3]), "{levels:?}");
        for n in (0..keys.len()).rev() {
            presence.remove(keys[n], &usage);
            if let Some(level) = usage.wants(n) {
                presence.move_to(level, 3, &mut usage, keys[..n].iter().copied());
                assert_all(&presence, &keys[..n]);
            }
        }
        assert_eq!(usage.level, 0);
        assert!(!keys.iter().any(|place| presence.may_hold(*place)));
    }

    /// How many of a hundred strangers are taken for keys, at most, after `come` keys have come of
    /// which the latest fill the level to the brim.
    #[track_caller]
    fn assert_strangers(level: usize, come: usize, percent: usize) {
        let presence = Presence::new();
        let mut usage = Usage::at(0);
        let keys = in_shard(9, come);
        let most = room(level);
        for (n, key) in keys.iter().enumerate() {
            presence.add(*key, &mut usage);
            let first = (n + 1).saturating_sub(most);
            if first > 0 {
                presence.remove(keys[first - 1], &usage);
            }
            let there = &keys[first..=n];
            if let Some(level) = usage.wants(there.len()) {
                presence.move_to(level, 9, &mut usage, there.iter().copied());
            }
        }
        assert_eq!(usage.level, level);
        assert_all(&presence, &keys[keys.len() - most..]);
        let strangers: Vec<_> = places(1 << 40, (1 << 40) + 100_000)
            .filter(|place| place.shard() == 9)
            .collect();
        let taken = strangers
            .iter()
            .filter(|place| presence.may_hold(**place))
            .count();
        assert!(
            taken * 100 < strangers.len() * percent,
            "{taken} of {} at level {level}",
            strangers.len()
        );
    }

    /// An eighth of the slots would be 12 %, a quarter 22 %, and what is stuck comes on top.
    #[test]
    fn few_strangers_are_taken_for_keys_however_long_keys_come_and_go() {
        assert_strangers(0, 4000, 22);
        assert_strangers(1, 20_000, 33);
    }

    #[test]
    fn a_slot_that_cannot_count_its_keys_holds_them_all() {
        let in_one_slot = |level: usize| {
            let keys = in_shard(5, 20_000);
            let slot = |place: &Place| match level {
                0 => place.near(),
                _ => place.far(bytes(level)),
            };
            let there = keys.iter().filter(|place| slot(place) == slot(&keys[0]));
            there.copied().take(6).collect::<Vec<_>>()
        };
        for level in 0..2 {
            let keys = in_one_slot(level);
            for count in 1..=keys.len() {
                let (presence, mut usage) = (Presence::new(), Usage::at(0));
                presence.move_to(level, 5, &mut usage, [].into_iter());
                let keys = &keys[..count];
                for key in keys {
                    presence.add(*key, &mut usage);
                }
                for (n, key) in keys.iter().enumerate() {
                    assert_all(&presence, &keys[n..]);
                    presence.remove(*key, &usage);
                }
                assert_eq!(presence.may_hold(keys[0]), count > 2, "{count} at {level}");
                presence.move_to(level, 5, &mut usage, [].into_iter());
                assert!(!presence.may_hold(keys[0]), "{count} at {level}");
            }
        }
    }

    #[test]
    fn levels_hold_what_a_shard_can_have() {
        assert!(room(LEVELS - 1) * super::SHARDS > 50_000_000);
        assert!((0..LEVELS).all(|level| bytes(level).is_power_of_two()));
        assert_eq!(Usage::at(LEVELS - 1).wants(usize::MAX), None);
        assert_eq!(Usage::at(LEVELS - 1).wants(0), Some(LEVELS - 2));
    }
}
