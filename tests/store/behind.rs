//! A tracker in memory that is flushed to a store.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::clock::{Clock, ManualClock};
use relent::store::blocking::{DurableTracker, WriteBehind};
use relent::store::{self, Inline, MemoryStore};
use relent::{Backoff, BackoffTracker, Jitter, Readiness, Streak, random};

use crate::flaky::{Away, Flaky};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const POLICY: Backoff =
    Backoff::exponential(SECOND, Duration::from_secs(600)).give_up_after_failures(6);

type Tracker = BackoffTracker<String, ManualClock>;

pub(crate) fn tracker(clock: &ManualClock) -> Tracker {
    BackoffTracker::builder(POLICY).clock(clock.clone()).build()
}

/// A clock whose time and time of day have nothing to do with each other.
pub(crate) fn clock(wall: u64) -> ManualClock {
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
