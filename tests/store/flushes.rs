//! Flushes of which nobody knows what became of them: unanswered, dropped, or made at once.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::{Instant, SystemTime};

use relent::clock::ManualClock;
use relent::random;
use relent::store::blocking::{DurableTracker, Store, WriteBehind};
use relent::store::{self, Change, Listed, Page, Record, Unblock};

use crate::behind::{POLICY, SECOND, clock, tracker};
use crate::flaky::{Away, Flaky};

/// In front of a store that wrote a key, but could not say so, and the streak has ended since.
fn in_doubt(flaky: &Flaky, clock: &ManualClock) -> WriteBehind<Flaky, ManualClock> {
    let one = WriteBehind::open(flaky.clone(), tracker(clock)).unwrap();
    one.tracker().record_failure("key");
    flaky.mute.store(true, SeqCst);
    one.flush().unwrap_err();
    assert_eq!(flaky.store.len(), 1, "it was written");
    assert!(one.tracker().record_success("key").is_some());
    one
}

#[test]
fn a_flush_whose_answer_was_lost_leaves_nothing_behind() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let one = in_doubt(&flaky, &clock);
    one.flush().unwrap_err();
    flaky.mute.store(false, SeqCst);
    one.flush().unwrap();
    assert!(flaky.store.is_empty(), "the streak has ended");
    assert_eq!(one.flush().unwrap(), 0);
}

/// That a key cannot be reached now says nothing of what became of it before.
#[test]
fn a_flush_whose_answer_was_lost_is_made_up_for_once_the_key_can_be_reached() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let one = in_doubt(&flaky, &clock);
    flaky.away.store(true, SeqCst);
    flaky.blames_keys.store(true, SeqCst);
    one.flush().unwrap_err();
    flaky.away.store(false, SeqCst);
    flaky.mute.store(false, SeqCst);
    assert_eq!(one.flush().unwrap(), 1);
    assert!(flaky.store.is_empty(), "the streak has ended");
}

/// Whatever became of those before it: not written, written in part, or written without an answer.
#[test]
fn a_flush_that_goes_well_makes_up_for_all_before_it() {
    let clock = clock(1_000_000);
    let keys = ["a", "b", "c", "d"];
    for round in 0..300 {
        let flaky = Flaky::new(&clock);
        let behind = WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap();
        for n in 0..40 {
            let draw = random::draw(round, n);
            let key = keys[(draw % 4) as usize];
            match (draw >> 8) % 8 {
                0..=2 => drop(behind.tracker().record_failure(key).delay()),
                3 | 4 => drop(behind.tracker().record_success(key)),
                5 => clock.advance(SECOND / 4),
                _ => {
                    flaky.away.store((draw >> 16) % 3 == 0, SeqCst);
                    flaky.mute.store((draw >> 24) % 2 == 0, SeqCst);
                    let _ = behind.flush();
                }
            }
        }
        flaky.away.store(false, SeqCst);
        flaky.mute.store(false, SeqCst);
        behind.flush().unwrap();
        let durable = DurableTracker::new(Arc::clone(&flaky.store), POLICY);
        for key in keys {
            let kept = durable.get(key).unwrap().map(|record| record.state);
            let known = behind.tracker().get(key).map(|streak| streak.state);
            assert_eq!(kept, known, "{key}, round {round}");
        }
        assert_eq!(behind.flush().unwrap(), 0);
    }
}

/// As the one above, where nobody waits for the answer.
#[tokio::test]
async fn a_flush_that_is_dropped_midway_leaves_nothing_behind() {
    let clock = clock(1_000_000);
    let slow = Slow::new(&clock);
    let two = store::WriteBehind::open(Arc::clone(&slow), tracker(&clock));
    let two = two.await.unwrap();
    two.tracker().record_failure("key");
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(two.flush()).poll(&mut context).is_pending());
    assert_eq!(slow.flaky.store.len(), 1, "it was written");
    assert!(two.tracker().record_success("key").is_some());
    assert_eq!(two.flush().await.unwrap(), 1);
    assert!(slow.flaky.store.is_empty(), "the streak has ended");
    assert_eq!(two.flush().await.unwrap(), 0);
}

/// The one that was begun first knows less, and must not come last.
#[tokio::test]
async fn flushes_at_once_write_one_after_the_other() {
    let clock = clock(1_000_000);
    let slow = Slow::new(&clock);
    let two = store::WriteBehind::open(Arc::clone(&slow), tracker(&clock));
    let two = two.await.unwrap();
    for round in 1..=3 {
        two.tracker().record_failure("key");
        slow.pauses.store(5, SeqCst);
        let mut first = pin!(two.flush());
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(two.tracker().record_success("key").is_some());
        let (first, second, third) = tokio::join!(first, two.flush(), two.flush());
        let told = [first, second, third].map(Result::unwrap);
        assert!(slow.flaky.store.is_empty(), "the streak has ended");
        assert_eq!(told, [1, 1, 0], "round {round}");
    }
}

/// One that is not waited for any more has no turn.
#[tokio::test(start_paused = true)]
async fn a_flush_that_is_dropped_is_waited_for_by_none() {
    let clock = clock(1_000_000);
    let slow = Slow::new(&clock);
    let two = store::WriteBehind::open(Arc::clone(&slow), tracker(&clock));
    let two = two.await.unwrap();
    two.tracker().record_failure("key");
    slow.pauses.store(5, SeqCst);
    let mut context = Context::from_waker(Waker::noop());
    let (mut first, mut second) = (Box::pin(two.flush()), Box::pin(two.flush()));
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    let third = tokio::time::timeout(SECOND, two.flush());
    let drops = async {
        drop(second);
        tokio::task::yield_now().await;
        drop(first);
    };
    let (third, ()) = tokio::join!(third, drops);
    assert_eq!(third.expect("it has its turn").unwrap(), 1);
    assert_eq!(slow.flaky.store.len(), 1);
}

/// What a store goes on with must not come after what it is asked later.
#[tokio::test]
async fn a_flush_that_is_dropped_cannot_undo_a_later_one() {
    let clock = clock(1_000_000);
    let late = Arc::new(Late {
        flaky: Flaky::new(&clock),
        is_first: AtomicBool::new(true),
        made: AtomicU32::new(0),
    });
    let two = store::WriteBehind::open(Unblock::new(Arc::clone(&late)), tracker(&clock));
    let two = two.await.unwrap();
    two.tracker().record_failure("key");
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(two.flush()).poll(&mut context).is_pending());
    while late.is_first.load(SeqCst) {
        std::thread::yield_now();
    }
    assert!(two.tracker().record_success("key").is_some());
    assert_eq!(two.flush().await.unwrap(), 1);
    while late.made.load(SeqCst) < 2 {
        std::thread::yield_now();
    }
    assert!(late.flaky.store.is_empty(), "the streak has ended");
    assert_eq!(two.flush().await.unwrap(), 0);
}

/// A store that makes the first change after the second, if that comes soon.
struct Late {
    flaky: Flaky,
    is_first: AtomicBool,
    made: AtomicU32,
}

impl Store for Late {
    type Error = Away;

    fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Away> {
        let began = Instant::now();
        if self.is_first.swap(false, SeqCst) {
            while self.made.load(SeqCst) == 0 && began.elapsed() < SECOND / 10 {
                std::thread::yield_now();
            }
        }
        let answer = Store::update(&self.flaky, key, change);
        self.made.fetch_add(1, SeqCst);
        answer
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Away> {
        Store::load(&self.flaky, key)
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, Away> {
        Store::list(&self.flaky, page)
    }
}

/// A store that takes a while to answer.
struct Slow {
    flaky: Flaky,
    /// How many pauses it makes before it writes the next time.
    pauses: AtomicU32,
}

impl Slow {
    fn new(clock: &ManualClock) -> Arc<Slow> {
        Arc::new(Slow {
            flaky: Flaky::new(clock),
            pauses: AtomicU32::new(0),
        })
    }
}

impl store::AsyncStore for Slow {
    type Error = Away;

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Away> {
        let answer = self.flaky.update(key, change);
        tokio::task::yield_now().await;
        answer
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, Away> {
        for _ in 0..self.pauses.swap(0, SeqCst) {
            tokio::task::yield_now().await;
        }
        let answers = self.flaky.update_all(keys, change);
        tokio::task::yield_now().await;
        answers
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Away> {
        self.flaky.load(key)
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, Away> {
        self.flaky.list(page)
    }
}
