//! A tracker in memory that is flushed to a store.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use relent::clock::{Clock, ManualClock};
use relent::store::blocking::{DurableTracker, Flusher, Store, WriteBehind};
use relent::store::{self, Change, Inline, Listed, MemoryStore, Page, Record, Unblock};
use relent::{Backoff, BackoffTracker, Jitter, Readiness, Streak, random};

use crate::flaky::{Away, Flaky};

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff =
    Backoff::exponential(SECOND, Duration::from_secs(600)).give_up_after_failures(6);

type Tracker = BackoffTracker<String, ManualClock>;

fn tracker(clock: &ManualClock) -> Tracker {
    BackoffTracker::builder(POLICY).clock(clock.clone()).build()
}

/// A clock whose time and time of day have nothing to do with each other.
fn clock(wall: u64) -> ManualClock {
    let clock = ManualClock::new();
    clock.advance(7 * SECOND);
    clock.set_wall(UNIX_EPOCH + Duration::from_secs(wall));
    clock
}

#[test]
fn a_restart_goes_on_from_the_last_flush_whatever_the_clocks_say() {
    let stores = clock(5_000_000);
    let store = Arc::new(MemoryStore::with_clock(stores.clone()));
    for round in 0..20 {
        // Each process has a clock of its own, ahead of the store's or behind.
        let own = clock(4_000_000 + 100_000 * round);
        let pass = |time| {
            own.advance(time);
            stores.advance(time);
        };
        let behind = WriteBehind::open(Arc::clone(&store), tracker(&own)).unwrap();
        for n in 0..200 {
            let draw = random::draw(round, n);
            let key = format!("{}", draw % 20);
            match (draw >> 32) % 5 {
                0..=2 => drop(format!("{:?}", behind.tracker().record_failure(&key))),
                3 => drop(behind.tracker().record_success(&key)),
                _ => pass(Duration::from_millis(draw >> 50)),
            }
        }
        behind.flush().unwrap();
        let other = clock(123);
        let again = WriteBehind::open(Arc::clone(&store), tracker(&other)).unwrap();
        assert_eq!(again.tracker().len(), behind.tracker().len());
        for key in (0..20).map(|key| key.to_string()) {
            let (one, two) = (behind.tracker().get(&key), again.tracker().get(&key));
            assert_eq!(one, two, "{key}");
        }
        // Those who ask the store itself are told the same.
        let durable = DurableTracker::new(Arc::clone(&store), POLICY);
        for key in (0..20).map(|key| key.to_string()) {
            let told = durable.check(&key).unwrap();
            assert_eq!(told, behind.tracker().check(&key), "{key}");
        }
    }
}

#[test]
fn a_flush_writes_what_changed_and_nothing_else() {
    let clock = clock(1_000_000);
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let behind = WriteBehind::open(Arc::clone(&store), tracker(&clock)).unwrap();
    let fail = |key: &str| assert!(behind.tracker().record_failure(key).delay().is_some());
    assert_eq!(behind.flush(), Ok(0));
    fail("a");
    fail("b");
    assert_eq!(behind.flush(), Ok(2));
    clock.advance(SECOND);
    assert_eq!(behind.flush(), Ok(0));
    fail("b");
    assert!(behind.tracker().record_success("a").is_some());
    fail("no\0key");
    assert_eq!(behind.flush(), Ok(2));
    assert_eq!(store.len(), 1);
    assert!(behind.tracker().forget("b"));
    fail("b");
    assert_eq!(behind.flush(), Ok(1), "a new streak");
    // What came after the last flush is lost.
    fail("c");
    let again = WriteBehind::open(store, tracker(&clock)).unwrap();
    assert_eq!(again.tracker().check("c"), Readiness::Ready);
    assert!(matches!(again.tracker().check("b"), Readiness::Wait(_)));
    assert_eq!(again.flush(), Ok(0));
}

/// Longer than the tracker's own policy would let anyone wait.
#[test]
fn h_what_a_server_asked_for_outlives_a_restart() {
    let clock = clock(1_000_000);
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let open = || WriteBehind::open(Arc::clone(&store), tracker(&clock)).unwrap();
    let hour = Duration::from_secs(3600);
    let patient = Backoff::exponential(SECOND, 2 * hour).jitter(Jitter::None);
    let behind = open();
    let told = behind
        .tracker()
        .record_failure_with("slow", &patient, Some(hour));
    assert_eq!(told.delay(), Some(hour));
    behind.flush().unwrap();
    let again = open();
    assert_eq!(again.tracker().check("slow"), Readiness::Wait(hour));
    assert_eq!(again.flush(), Ok(0));
}

#[test]
fn g3_p6_no_time_makes_a_store_forget() {
    let clock = clock(1_000_000);
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let open = || WriteBehind::open(Arc::clone(&store), tracker(&clock)).unwrap();
    let friday = open();
    for _ in 0..6 {
        friday.tracker().record_failure("gone");
    }
    friday.tracker().record_failure("flaky");
    assert_eq!(friday.flush(), Ok(2));

    // The program is down for longer than a tracker alone remembers; then it is idle for as long.
    let monday = Duration::from_secs(3 * 24 * 3600);
    clock.advance(monday);
    let behind = open();
    clock.advance(monday);
    behind.tracker().purge();
    assert_eq!(behind.flush(), Ok(0));
    assert_eq!(store.len(), 2);
    assert!(matches!(
        behind.tracker().check("gone"),
        Readiness::GaveUp(_)
    ));
    behind.tracker().record_failure("flaky");
    let flaky = behind.tracker().get("flaky").unwrap();
    assert_eq!(
        (flaky.state.failures, flaky.state.interval),
        (2, 2 * SECOND)
    );

    let aged = |streak: &Streak| streak.elapsed > SECOND;
    behind.tracker().retain(|_, streak| !aged(streak));
    assert_eq!(behind.flush(), Ok(2), "who wants to forget can say so");
    assert!(store.is_empty());
}

#[test]
fn to_open_a_store_takes_nothing_from_it_whatever_the_bound() {
    let clock = clock(1_000_000);
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let durable = DurableTracker::new(Arc::clone(&store), POLICY);
    for n in 0..25 {
        durable.record_failure(&n.to_string(), "broken").unwrap();
    }
    let small = || {
        let builder = BackoffTracker::builder(POLICY).clock(clock.clone());
        builder.max_keys(10).build()
    };
    let behind = WriteBehind::open(Arc::clone(&store), small()).unwrap();
    assert_eq!(behind.tracker().len(), 25);
    assert_eq!(behind.flush(), Ok(0));
    // From here on it is bounded: the store knows what the tracker does.
    behind.tracker().record_failure("another");
    assert_eq!(
        (behind.tracker().len(), behind.tracker().evicted()),
        (25, 1)
    );
    assert_eq!(behind.flush(), Ok(2));
    assert_eq!(store.len(), 25);
}

/// In both faces, and the other keys are written at once.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_damaged_row_keeps_no_other_key_from_being_written() {
    use relent::store::SqliteStore;

    let clock = clock(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("behind.db");
    let open = || SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let one = WriteBehind::open(open(), tracker(&clock)).unwrap();
    let two = open().namespace("two").unwrap();
    let two = store::WriteBehind::open(Inline(two), tracker(&clock)).await;
    let two = two.unwrap();
    let fail =
        |key: &str| [one.tracker(), two.tracker()].map(|tracker| tracker.record_failure(key));
    let _ = fail("damaged");
    assert_eq!((one.flush().unwrap(), two.flush().await.unwrap()), (1, 1));
    let damage = "UPDATE relent SET failures = -1";
    let other = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(other.execute(damage, []).unwrap(), 2);
    for key in ["a", "b", "damaged", "z"] {
        let _ = fail(key);
    }
    assert!(one.flush().is_err() && two.flush().await.is_err());
    let written = "SELECT count(*) FROM relent WHERE failures = 1";
    let written = || {
        other
            .query_row(written, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(written(), 6);
    let _ = fail("a");
    assert!(one.flush().is_err() && two.flush().await.is_err());
    assert_eq!(written(), 4);
    // Once it is repaired, nothing is missing.
    other
        .execute("DELETE FROM relent WHERE failures = -1", [])
        .unwrap();
    assert_eq!((one.flush().unwrap(), two.flush().await.unwrap()), (1, 1));
}

/// Whatever list it is in, and whatever else is in the list.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_damaged_row_is_passed_over_when_a_store_is_opened() {
    use relent::store::SqliteStore;

    let clock = clock(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("behind.db");
    let open = || SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let durable = DurableTracker::new(open(), POLICY);
    for (key, failures) in [("", 1), ("a", 1), ("b", 1), ("gone", 6), ("gone too", 6)] {
        for _ in 0..failures {
            durable.record_failure(key, "broken").unwrap();
        }
    }
    let other = rusqlite::Connection::open(&path).unwrap();
    let mut known = 5;
    for damaged in ["gone", "", "gone too", "a", "b"] {
        let damage = "UPDATE relent SET failures = -1 WHERE key = ?1";
        assert_eq!(other.execute(damage, [damaged]).unwrap(), 1);
        known -= 1;
        let one = WriteBehind::open(open(), tracker(&clock)).unwrap();
        let two = store::WriteBehind::open(Inline(open()), tracker(&clock)).await;
        let two = two.unwrap();
        assert_eq!((one.tracker().len(), two.tracker().len()), (known, known));
        assert_eq!(one.tracker().check(damaged), Readiness::Ready);
        assert_eq!(one.flush().unwrap(), 0, "it is left as it is");
        let _ = one.tracker().record_failure(damaged);
        one.flush().unwrap_err();
    }
    // An error that concerns the whole table is not passed over.
    let store = open();
    other.execute_batch("DROP TABLE relent").unwrap();
    WriteBehind::open(store, tracker(&clock)).unwrap_err();
}

/// The store may have written a key whose streak then ends in memory.
#[test]
fn a_flush_whose_answer_was_lost_leaves_nothing_behind() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let one = WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap();
    one.tracker().record_failure("key");
    flaky.mute.store(true, SeqCst);
    one.flush().unwrap_err();
    assert_eq!(flaky.store.len(), 1, "it was written");
    assert!(one.tracker().record_success("key").is_some());
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
    let one = WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap();
    one.tracker().record_failure("key");
    flaky.mute.store(true, SeqCst);
    one.flush().unwrap_err();
    assert_eq!(flaky.store.len(), 1, "it was written");
    assert!(one.tracker().record_success("key").is_some());
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

/// How long a flusher waits between its first few flushes; `each` is done before each of them.
fn pauses<S: store::AsyncStore + 'static>(
    behind: &Arc<store::WriteBehind<S, ManualClock>>,
    mut each: impl FnMut(usize) + Send + 'static,
) -> Vec<Duration> {
    let (pauses, told) = mpsc::channel();
    let mut left = 12_usize;
    let sleep = move |pause| {
        pauses.send(pause).unwrap();
        left -= 1;
        each(left);
        std::future::poll_fn(move |_| {
            if left > 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    };
    let flusher = behind.flush_every_with(SECOND, sleep, |_| ());
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(flusher).poll(&mut context).is_pending());
    told.iter().collect()
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_damaged_row_delays_no_other_key() {
    use relent::store::SqliteStore;

    let clock = clock(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("behind.db");
    let store = SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let behind = store::WriteBehind::open(Inline(store), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    let _ = behind.tracker().record_failure("damaged");
    assert_eq!(behind.flush().await.unwrap(), 1);
    let damage = "UPDATE relent SET failures = -1";
    let other = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(other.execute(damage, []).unwrap(), 1);
    let _ = behind.tracker().record_failure("damaged");
    // Both while other keys fail and while they do not.
    let failing = Arc::clone(&behind);
    let pauses = pauses(&behind, move |n| {
        if n < 6 {
            let _ = failing.tracker().record_failure(&n.to_string());
        }
    });
    assert_eq!(pauses, [SECOND; 12]);
    let rows = "SELECT count(*) FROM relent WHERE failures = 1";
    let rows = other.query_row(rows, [], |row| row.get::<_, i64>(0));
    assert_eq!(rows.unwrap(), 5);
}

/// It would lose what the store knows.
#[tokio::test]
async fn in_front_of_a_store_that_is_away_nothing_is_opened() {
    let clock = ManualClock::new();
    let flaky = Flaky::new(&clock);
    flaky.away.store(true, SeqCst);
    let blocking = WriteBehind::open(flaky.clone(), tracker(&clock));
    assert!(matches!(blocking, Err(Away)));
    let behind = store::WriteBehind::open(Inline(flaky), tracker(&clock)).await;
    assert!(matches!(behind, Err(Away)));
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_ever_more_slowly() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = store::WriteBehind::open(Inline(flaky.clone()), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    flaky.away.store(true, SeqCst);
    let _ = behind.tracker().record_failure("key");
    let pauses = pauses(&behind, |_| ());
    let longest = pauses.iter().copied().max().unwrap();
    assert!(pauses[1] < SECOND, "soon at first: {pauses:?}");
    assert!(longest > 2 * SECOND && longest <= 16 * SECOND, "{pauses:?}");
}

#[test]
fn the_async_face_does_the_same() {
    fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits"),
        }
    }

    let clock = clock(1_000_000);
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let behind = ready(store::WriteBehind::open(
        Arc::clone(&store),
        tracker(&clock),
    ))
    .unwrap();
    for _ in 0..6 {
        behind.tracker().record_failure("gone");
    }
    assert!(behind.tracker().record_failure("key").delay().is_some());
    assert_eq!(ready(behind.flush()), Ok(2));
    assert_eq!(ready(behind.flush()), Ok(0));
    let again = ready(store::WriteBehind::open(store, tracker(&clock))).unwrap();
    assert!(matches!(
        again.tracker().check("gone"),
        Readiness::GaveUp(_)
    ));
    assert_eq!(again.tracker().get("key"), behind.tracker().get("key"));
    assert!(clock.wall() > UNIX_EPOCH);
}

/// A clock by which a second passes at each look.
#[derive(Clone)]
struct Hasty(ManualClock);

impl Clock for Hasty {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn wall(&self) -> SystemTime {
        self.0.advance(SECOND);
        self.0.wall()
    }
}

#[tokio::test]
async fn a_key_that_comes_due_while_the_store_is_read_is_not_overlooked() {
    let clock = clock(1_000_000);
    let store = Arc::new(MemoryStore::with_clock(Hasty(clock.clone())));
    let durable = DurableTracker::new(Arc::clone(&store), POLICY);
    // By the time that they are read, some of them are long due, and some are not for long.
    for n in 0..40 {
        let wait = Backoff::fixed(SECOND * 2 * n).jitter(Jitter::None);
        let failed = durable.record_failure_with(&n.to_string(), Some(&wait), None, "broken");
        failed.unwrap();
    }
    let behind = WriteBehind::open(Arc::clone(&store), tracker(&clock)).unwrap();
    assert_eq!(behind.tracker().len(), 40);
    let behind = store::WriteBehind::open(store, tracker(&clock)).await;
    assert_eq!(behind.unwrap().tracker().len(), 40);
}

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn a_flusher_flushes_by_itself_and_through_errors() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let (errors, told) = mpsc::channel();
    flaky.away.store(true, SeqCst);
    let flusher = behind.flush_every(Duration::ZERO, move |error| {
        errors.send(error.to_string()).unwrap();
    });
    let flusher = flusher.unwrap();
    behind.tracker().record_failure("key");
    for _ in 0..3 {
        assert_eq!(told.recv_timeout(NEVER).unwrap(), "away");
    }
    flaky.away.store(false, SeqCst);
    while flaky.store.is_empty() {
        std::thread::yield_now();
    }
    flusher.close().unwrap();
}

#[test]
fn a_flusher_flushes_at_its_end() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let flusher = || behind.flush_every(NEVER, |_| ()).unwrap();

    let dropped = flusher();
    behind.tracker().record_failure("a");
    drop(dropped);
    assert_eq!(flaky.store.len(), 1);

    let closed = flusher();
    behind.tracker().record_failure("b");
    assert_eq!(closed.close().unwrap(), 1);
    assert_eq!(flaky.store.len(), 2);

    let closed = flusher();
    behind.tracker().record_failure("c");
    flaky.away.store(true, SeqCst);
    assert_eq!(closed.close().unwrap_err().to_string(), "away");
    flaky.away.store(false, SeqCst);
    assert_eq!(behind.flush().unwrap(), 1, "what was not written is kept");
}

#[test]
fn an_error_of_the_last_flush_is_told_once() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let (errors, told) = mpsc::channel();
    let flusher = || {
        let errors = errors.clone();
        let on_error = move |error: &Away| errors.send(error.to_string()).unwrap();
        behind.flush_every(NEVER, on_error).unwrap()
    };
    behind.tracker().record_failure("key");
    flaky.away.store(true, SeqCst);
    drop(flusher());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["away"]);
    flusher().close().unwrap_err();
    assert_eq!(told.try_iter().count(), 0, "who closes it is answered");
}

#[test]
fn a_flusher_outlives_a_panic_and_hands_it_on_when_closed() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let flusher = || {
        let on_error = |_: &Away| panic!("told of an error");
        behind.flush_every(Duration::ZERO, on_error).unwrap()
    };
    let panics_through = |key: &str, end: fn(Flusher<Away>)| {
        flaky.away.store(true, SeqCst);
        let flusher = flusher();
        behind.tracker().record_failure(key);
        let calls = flaky.calls.load(SeqCst);
        let began = Instant::now();
        while flaky.calls.load(SeqCst) < calls + 3 {
            assert!(began.elapsed() < 20 * SECOND, "the flusher has ended");
            std::thread::yield_now();
        }
        flaky.away.store(false, SeqCst);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| end(flusher)));
        let payload = ended.err()?;
        payload
            .downcast_ref::<&str>()
            .map(|said| (*said).to_owned())
    };
    let closed = panics_through("a", |flusher| drop(flusher.close()));
    assert_eq!(closed.as_deref(), Some("told of an error"));
    assert_eq!(flaky.store.len(), 1, "the last flush was made");
    let dropped = panics_through("b", drop);
    assert_eq!(dropped, None);
    assert_eq!(flaky.store.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_async_flusher_outlives_a_panic_too() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = store::WriteBehind::open(Inline(flaky.clone()), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    let flusher = behind.flush_every(SECOND, |_| panic!("told of an error"));
    let flusher = tokio::spawn(flusher);
    behind.tracker().record_failure("a");
    flaky.away.store(true, SeqCst);
    tokio::time::sleep(SECOND * 60).await;
    flaky.away.store(false, SeqCst);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(flaky.store.len(), 1);
    assert!(!flusher.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_async_flusher_does_the_same_until_it_is_dropped() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = store::WriteBehind::open(Inline(flaky.clone()), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    let (errors, told) = mpsc::channel();
    let on_error = move |error: &_| errors.send(format!("{error}")).unwrap();
    let flusher = tokio::spawn(behind.flush_every(SECOND, on_error));

    behind.tracker().record_failure("a");
    tokio::time::sleep(SECOND * 9 / 10).await;
    assert_eq!(flaky.store.len(), 0, "before its time");
    tokio::time::sleep(SECOND / 5).await;
    assert_eq!(flaky.store.len(), 1);

    flaky.away.store(true, SeqCst);
    behind.tracker().record_failure("b");
    tokio::time::sleep(SECOND * 600).await;
    let errors = told.try_iter().count();
    // Each wait is as likely short as long: half of at most 16 s, and some of the first are
    // shorter.
    assert!((50..150).contains(&errors), "{errors}");
    flaky.away.store(false, SeqCst);
    tokio::time::sleep(SECOND * 16).await;
    assert_eq!(flaky.store.len(), 2);

    flusher.abort();
    behind.tracker().record_failure("c");
    tokio::time::sleep(SECOND * 600).await;
    assert_eq!(flaky.store.len(), 2, "dropped");
    assert_eq!(behind.flush().await.unwrap(), 1);
}
