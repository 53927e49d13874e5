//! Where entropy enters: seeds, and the numbers drawn from them.

/// 64 bits that no other call, thread or process draws, nor a process that forked from this one.
///
/// Two exceptions. Copies of a virtual machine that was copied while this process ran draw the
/// same. And so do all instances of a program on `wasm32-unknown-unknown`, where the standard
/// library has no entropy: give loops and trackers a seed there.
///
/// Who draws a seed before a fork shares it with the forked process. A loop draws its own when it
/// first fails; a tracker or a [`Schedule`](crate::Schedule) when it is made, so make it after.
#[cfg(feature = "std")]
#[must_use]
pub fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    use std::sync::LazyLock;
    use std::sync::atomic::Ordering::Relaxed;

    use crate::atomic::AtomicU64;

    // The system's entropy, once a process: the standard library has it for its hash maps.
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static SEEDS: AtomicU64 = AtomicU64::new(0);

    let process = draw(*PROCESS, fork());
    draw(process, SEEDS.fetch_add(1, Relaxed))
}

/// What a forked process does not share with its parent: its number. Where nothing forks there may
/// be no number to ask for.
#[cfg(feature = "std")]
fn fork() -> u64 {
    if cfg!(unix) {
        u64::from(std::process::id())
    } else {
        0
    }
}

/// The `n`-th number of the random sequence that `seed` begins.
///
/// A function of its arguments: its caller keeps no generator, only a seed and a count, which it
/// mostly has anyway. It is `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", 2014) entered at its `n`-th place, from a start that is itself mixed, so
/// that seeds a few apart share nothing.
///
/// Good enough to spread load; not for secrets.
#[inline]
#[must_use]
pub const fn draw(seed: u64, n: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    mix(mix(seed).wrapping_add(n.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// A bijection in which each bit of the result depends on all of `x`.
#[inline]
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
