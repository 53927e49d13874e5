//! Doing something to many keys at once and, where that fails, to ever smaller parts of them.

use std::ops::Range;

use super::error::Fault;
use crate::random;

/// The parts that are still to be tried.
///
/// A part that fails is halved, so that a key that cannot be reached does not keep the others from
/// being reached. But first two keys are tried alone: if neither can be reached, the fault is not
/// with the keys, and no more are tried. Nor are they if the store itself says that it is at fault.
pub(super) struct Parts {
    left: Vec<Range<usize>>,
    many: usize,
    /// How many failed in a row, and how many may.
    misses: u32,
    patience: u32,
}

impl Parts {
    /// All of `many` keys, as one part.
    pub(super) fn of(many: usize) -> Parts {
        let all = 0..many;
        Parts {
            left: Vec::from_iter((many > 0).then_some(all)),
            many,
            misses: 0,
            patience: 2,
        }
    }

    /// The part to try next.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.left.pop()
    }

    /// Notes that a part went well.
    pub(super) fn made(&mut self) {
        self.misses = 0;
        self.is_there();
    }

    /// The store is there, so it is worth going down to single keys, one after the other.
    fn is_there(&mut self) {
        self.patience = 2 * (usize::BITS - self.many.leading_zeros()) + 2;
    }

    /// Notes that a part failed. Returns whether that is final, for this part or for all that are
    /// left.
    pub(super) fn failed(&mut self, part: Range<usize>, fault: Fault) -> bool {
        self.misses += 1;
        if fault == Fault::Key {
            self.is_there();
        }
        if fault == Fault::Store || self.misses > self.patience {
            self.left.clear();
            return true;
        }
        if part.len() <= 1 {
            return true;
        }
        let middle = part.start + part.len() / 2;
        let halves = [part.start..middle, middle..part.end];
        if part.len() < self.many {
            self.left.extend(halves);
            return false;
        }
        // Not the same two each time: they may be the very keys that cannot be reached.
        let alone = halves.clone().map(|half| half.start + any(half.len()));
        for (half, one) in halves.into_iter().zip(alone) {
            let others = [half.start..one, one + 1..half.end];
            self.left
                .extend(others.into_iter().filter(|part| !part.is_empty()));
        }
        self.left.extend(alone.map(|one| one..one + 1));
        false
    }
}

/// Any number less than `many`.
fn any(many: usize) -> usize {
    random::seed() as usize % many.max(1)
}

#[cfg(test)]
mod tests {
    use super::{Fault, Parts};

    /// Which of `many` keys are reached if the `broken` ones cannot be, and by how many calls.
    fn reached(many: usize, broken: impl Fn(usize) -> bool) -> (Vec<usize>, u32) {
        reached_by(Fault::Unknown, many, broken)
    }

    fn reached_by(fault: Fault, many: usize, broken: impl Fn(usize) -> bool) -> (Vec<usize>, u32) {
        let mut parts = Parts::of(many);
        let (mut reached, mut calls) = (vec![], 0);
        while let Some(part) = parts.next() {
            calls += 1;
            if part.clone().any(&broken) {
                parts.failed(part, fault);
            } else {
                parts.made();
                reached.extend(part);
            }
        }
        reached.sort_unstable();
        (reached, calls)
    }

    #[test]
    fn one_that_fails_keeps_none_of_the_others() {
        assert_eq!(reached(0, |_| false), (vec![], 0));
        for many in [1, 2, 3, 7, 8, 100, 1000] {
            let all: Vec<_> = (0..many).collect();
            assert_eq!(reached(many, |_| false), (all.clone(), 1));
            for broken in [0, many / 2, many - 1] {
                let (reached, calls) = reached(many, |n| n == broken);
                let others = all.iter().copied().filter(|&n| n != broken);
                assert_eq!(reached, others.collect::<Vec<_>>());
                assert!(calls <= 2 * many.ilog2() + 7, "{calls} calls for {many}");
            }
        }
    }

    #[test]
    fn a_store_that_is_away_is_soon_left_alone() {
        for many in [1, 2, 8, 1000, 1_000_000] {
            let (reached, calls) = reached(many, |_| true);
            assert!(reached.is_empty());
            assert!(calls <= 3, "{calls} calls for {many}");
        }
    }

    #[test]
    fn a_store_that_says_what_is_wrong_is_believed() {
        for many in [1, 2, 8, 1000] {
            assert_eq!(reached_by(Fault::Store, many, |_| true), (vec![], 1));
        }
        // Both that are tried alone first may be broken, and yet it goes on.
        for _ in 0..100 {
            let (reached, _) = reached_by(Fault::Key, 8, |n| n != 3 && n != 4);
            assert_eq!(reached, [3, 4]);
        }
    }

    #[test]
    fn many_that_fail_are_no_reason_either_for_long() {
        // Every other of them, and all but a few.
        for broken in [|n| n % 2 == 0, |n| n % 5 != 0] {
            let mut all = std::collections::BTreeSet::new();
            for _ in 0..500 {
                all.extend(reached(40, broken).0);
            }
            assert!(all.into_iter().eq((0..40).filter(|&n| !broken(n))));
        }
    }
}
