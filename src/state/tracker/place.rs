//! Where a key belongs.

/// Where a key belongs, all of it by its one hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The hash itself, of which the table uses the lowest bits and the seven highest.
    pub(super) hash: u64,
    /// Its bits spread anew: the shard and the slot must not depend on what decides the place in
    /// the table, nor on a hasher that leaves its high bits empty.
    spread: u64,
}

pub(super) const MAX_SHARDS: usize = 256;

impl Place {
    #[inline]
    pub(super) const fn new(hash: u64) -> Place {
        Place {
            hash,
            spread: hash.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Which of `shards`: a power of two, at most [`MAX_SHARDS`].
    #[inline]
    pub(super) const fn shard(self, shards: usize) -> usize {
        (self.spread >> 56) as usize & (shards - 1)
    }

    /// Which of `slots`: any number up to 2³².
    #[inline]
    pub(super) const fn slot(self, slots: usize) -> usize {
        let fraction = self.spread >> 24 & 0xffff_ffff;
        ((fraction * slots as u64) >> 32) as usize
    }
}

/// The shard that comes after the last is the first.
pub(super) const fn wrap(shard: usize, shards: usize) -> usize {
    shard & (shards - 1)
}
