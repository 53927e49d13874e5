//! What happens next: events in the order of their times.

use std::cmp::Reverse;

use radix_heap::RadixHeapMap;

/// A time since the run began, or a span, in nanoseconds.
pub(crate) type Nanos = u64;

pub(crate) const MILLISECOND: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000 * MILLISECOND;

/// Events to come, none before the last one taken: time does not run back. Which of several at one
/// time is first is not said, but the same in every run.
///
/// A radix heap, because of that and a million clients: a binary heap of them misses the cache at
/// every level.
pub(crate) struct Queue<E>(RadixHeapMap<Reverse<Nanos>, E>);

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue(RadixHeapMap::new())
    }

    pub(crate) fn push(&mut self, at: Nanos, event: E) {
        self.0.push(Reverse(at), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Nanos, E)> {
        self.0.pop().map(|(Reverse(at), event)| (at, event))
    }
}

impl<E> FromIterator<(Nanos, E)> for Queue<E> {
    fn from_iter<I: IntoIterator<Item = (Nanos, E)>>(events: I) -> Queue<E> {
        let mut queue = Queue::new();
        for (at, event) in events {
            queue.push(at, event);
        }
        queue
    }
}
