//! How keys are hashed unless told otherwise.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// The default hasher of a [`BackoffTracker`](super::BackoffTracker): fast, and seeded anew for
/// each [builder](super::BackoffTracker::builder), so that strangers who choose the keys do not
/// know their hashes.
///
/// The algorithm may change. It is not a cryptographic one: against strangers who measure how long
/// the tracker takes, there is [`std::hash::RandomState`].
#[derive(Clone, Default)]
pub struct DefaultHashBuilder(hashbrown::DefaultHashBuilder);

/// What [`DefaultHashBuilder`] builds.
#[derive(Clone)]
pub struct KeyHasher(hashbrown::DefaultHasher);

impl BuildHasher for DefaultHashBuilder {
    type Hasher = KeyHasher;

    #[inline(always)]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0.build_hasher())
    }
}

/// Integers whole. The signed ones come here as unsigned.
impl Hasher for KeyHasher {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    #[inline(always)]
    fn write_u8(&mut self, n: u8) {
        self.0.write_u8(n);
    }

    #[inline(always)]
    fn write_u16(&mut self, n: u16) {
        self.0.write_u16(n);
    }

    #[inline(always)]
    fn write_u32(&mut self, n: u32) {
        self.0.write_u32(n);
    }

    #[inline(always)]
    fn write_u64(&mut self, n: u64) {
        self.0.write_u64(n);
    }

    #[inline(always)]
    fn write_u128(&mut self, n: u128) {
        self.0.write_u128(n);
    }

    #[inline(always)]
    fn write_usize(&mut self, n: usize) {
        self.0.write_usize(n);
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// Seeds are not to be read in logs.
impl fmt::Debug for DefaultHashBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultHashBuilder").finish_non_exhaustive()
    }
}

/// Nor is what is made of them.
impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}
