//! How many keys there are, and how many there may be.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU64;

/// How many keys are tracked, of how many at most.
///
/// On a cache line of its own: every look-up reads it, and only keys that come or go write it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Room {
    taken: AtomicUsize,
    most: usize,
    evicted: AtomicU64,
}

impl Room {
    pub(super) const fn new(most: usize) -> Room {
        Room {
            taken: AtomicUsize::new(0),
            most,
            evicted: AtomicU64::new(0),
        }
    }

    /// Makes sure that there is room for so many keys more.
    pub(super) fn reserve(&mut self, keys: usize) {
        self.most = self.most.max(self.taken().saturating_add(keys));
    }

    #[inline]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Takes room for one key; false if there is none.
    pub(super) fn take(&self) -> bool {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(super) fn give_back(&self, keys: usize) {
        self.taken.fetch_sub(keys, Relaxed);
    }

    pub(super) fn count_eviction(&self) {
        self.evicted.fetch_add(1, Relaxed);
    }
}
