//! Where a key belongs.

/// Where a key belongs, all of it by its one hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The hash itself, of which the table uses the lowest bits and the seven highest.
    pub(super) hash: u64,
    /// Its bits spread anew: the shard and the slots must not depend on what decides the place in
    /// the table, nor on a hasher that leaves its high bits empty.
    spread: u64,
}

/// So many that four million keys make tables which grow within a millisecond.
pub(super) const SHARDS: usize = 256;

/// How many bytes of slots each shard has in the nearest level of the presence: a cache line.
pub(super) const NEAR_BYTES: usize = 64;

impl Place {
    #[inline]
    pub(super) const fn new(hash: u64) -> Place {
        Place {
            hash,
            spread: hash.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Less than [`SHARDS`].
    #[inline]
    pub(super) const fn shard(self) -> usize {
        (self.spread >> 56) as usize
    }

    /// The key's slot in the nearest level, whose shards stand one after the other: its byte, and
    /// its first bit therein.
    #[inline]
    pub(super) const fn near(self) -> (usize, u32) {
        ((self.spread >> 50) as usize, (self.spread >> 47) as u32 & 6)
    }

    /// The key's slot among `bytes`, a power of two, of its shard in a farther level.
    #[inline]
    pub(super) const fn far(self, bytes: usize) -> (usize, u32) {
        let byte = (self.spread >> 24) as usize & bytes.wrapping_sub(1);
        (byte, (self.spread >> 21) as u32 & 6)
    }
}

const _: () = assert!(SHARDS == 1 << 8 && NEAR_BYTES == 1 << 6);
