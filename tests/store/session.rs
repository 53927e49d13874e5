//! Sessions: heartbeats through transient errors, until a lease has really run out.

use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use relent::clock::ManualClock;
use relent::store::blocking::{self, Store};
use relent::store::{
    Change, DurableTracker, Inline, Listed, MemoryStore, Options, Page, Record, StartError,
};
use relent::{Backoff, Jitter};

use crate::flaky::Flaky;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::fixed(SECOND).jitter(Jitter::None);
const TIME_TO_LIVE: Duration = Duration::from_secs(30);

fn options(clock: &ManualClock) -> Options {
    Options::new(POLICY)
        .holder("worker")
        .time_to_live(TIME_TO_LIVE)
        .clock(clock.clone())
        .seed(1)
}

#[test]
fn p2_a_session_expires_only_once_a_lease_has_run_out() {
    let clock = ManualClock::new();
    let flaky = Flaky::new(&clock);
    let tracker = blocking::DurableTracker::new(flaky.clone(), options(&clock));
    clock.advance(1000 * SECOND);
    assert!(!tracker.session().expired(), "it holds nothing");
    let work = tracker.start("key").unwrap();

    clock.advance(29 * SECOND);
    assert!(!work.expired());
    tracker.beat().unwrap();
    flaky.away.store(true, SeqCst);
    clock.advance(Duration::from_nanos(29_999_999_999));
    assert!(tracker.beat().is_err());
    assert!(!tracker.session().expired() && !work.expired());
    flaky.away.store(false, SeqCst);
    tracker.beat().unwrap();
    clock.advance(TIME_TO_LIVE);
    assert!(tracker.session().expired() && work.expired());

    // For good: the store is back, and no heartbeat helps.
    tracker.beat().unwrap();
    assert!(tracker.session().expired());
    work.finish().unwrap_err();
    assert!(matches!(
        tracker.start("other"),
        Err(StartError::SessionExpired)
    ));
    assert!(matches!(
        tracker.claim_due(1),
        Err(StartError::SessionExpired)
    ));
    let renewed = tracker.renewed();
    assert_eq!(renewed.session().holder(), "worker");
    drop(renewed.start("other").unwrap());
}

#[test]
fn p2_a_lease_lost_at_the_store_expires_the_session_whatever_its_own_clock_says() {
    let stores = ManualClock::new();
    let own = ManualClock::new();
    let tracker =
        blocking::DurableTracker::new(MemoryStore::with_clock(stores.clone()), options(&own));
    let work = tracker.start("key").unwrap();
    stores.advance(TIME_TO_LIVE);
    assert!(!tracker.session().expired());
    tracker.beat().unwrap();
    assert!(tracker.session().expired() && work.expired());
}

#[test]
fn p2_where_there_is_nothing_to_extend_no_heartbeat_asks_the_store() {
    let (stores, own) = (ManualClock::new(), ManualClock::new());
    let flaky = Flaky::new(&stores);
    let tracker = blocking::DurableTracker::new(flaky.clone(), options(&own));
    let asks = || {
        let before = flaky.calls.load(SeqCst);
        tracker.beat().unwrap();
        flaky.calls.load(SeqCst) > before
    };
    assert!(!asks(), "it holds nothing");
    let first = tracker.start("first").unwrap();
    stores.advance(SECOND);
    let second = tracker.start("second").unwrap();
    assert!(asks());
    // The store knows that one of them has run out: with it all are given up.
    stores.advance(TIME_TO_LIVE);
    first.finish().unwrap_err();
    assert!(tracker.session().expired() && second.expired());
    assert!(!asks(), "what was given up is not extended");
}

#[test]
fn p2_an_end_that_comes_too_late_expires_the_session() {
    let clock = ManualClock::new();
    let tracker =
        blocking::DurableTracker::new(MemoryStore::with_clock(clock.clone()), options(&clock));
    let work = tracker.start("key").unwrap();
    clock.advance(TIME_TO_LIVE);
    work.fail("broken").unwrap_err();
    assert!(tracker.session().expired());
}

#[test]
fn p2_a_heartbeat_revives_no_lease_that_has_run_out() {
    let clock = ManualClock::new();
    let tracker =
        blocking::DurableTracker::new(MemoryStore::with_clock(clock.clone()), options(&clock));
    let work = tracker.start("key").unwrap();
    // The store would still extend it: by the store's clock, the lease was granted later.
    tracker
        .store()
        .update(
            "key",
            relent::store::step::extend(work.token(), 2 * TIME_TO_LIVE),
        )
        .unwrap()
        .unwrap();
    let before = tracker.get("key").unwrap();
    clock.advance(TIME_TO_LIVE);
    // Nobody has looked at the session since.
    tracker.beat().unwrap();
    assert_eq!(
        tracker.get("key").unwrap(),
        before,
        "others may have the key soon"
    );
    assert!(work.expired() && tracker.session().expired());
}

#[test]
fn p2_an_answer_to_an_earlier_heartbeat_shortens_nothing() {
    let clock = ManualClock::new();
    let during = During::new(&clock);
    let tracker = blocking::DurableTracker::new(during, options(&clock));
    let work = tracker.start("key").unwrap();
    let (other, own) = (tracker.clone(), clock.clone());
    tracker.store().meanwhile(move || {
        own.advance(TIME_TO_LIVE / 2);
        other.beat().unwrap();
    });
    tracker.beat().unwrap();
    clock.advance(Duration::from_nanos(29_999_999_999));
    assert!(!work.expired());
    clock.advance(Duration::from_nanos(1));
    assert!(work.expired());
}

#[test]
fn work_that_ended_is_not_held_and_does_not_expire_the_session() {
    let clock = ManualClock::new();
    let tracker =
        blocking::DurableTracker::new(MemoryStore::with_clock(clock.clone()), options(&clock));
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|key| tracker.start(key).unwrap());
    assert_eq!(tracker.session().held(), 4);
    assert!(a.finish().is_ok() && b.fail("broken").is_ok() && c.cancel().is_ok());
    drop(d);
    assert_eq!(tracker.session().held(), 0);
    clock.advance(TIME_TO_LIVE);
    assert!(!tracker.session().expired());
}

#[test]
fn work_is_left_in_hand_by_an_error_of_the_store() {
    let clock = ManualClock::new();
    let flaky = Flaky::new(&clock);
    let tracker = blocking::DurableTracker::new(flaky.clone(), options(&clock));
    let work = tracker.start("key").unwrap();
    flaky.away.store(true, SeqCst);
    work.finish().unwrap_err();
    assert!(!work.expired());
    assert_eq!(tracker.session().held(), 1);
    flaky.away.store(false, SeqCst);
    work.cancel().unwrap();
}

#[test]
fn a_heartbeat_that_is_told_to_stop_beats_no_more() {
    let clock = ManualClock::new();
    let flaky = Flaky::new(&clock);
    let tracker = blocking::DurableTracker::new(flaky.clone(), options(&clock));
    let work = tracker.start("key").unwrap();
    let before = flaky.calls.load(SeqCst);
    // Some of the threads are told to stop while they wait, and some before.
    for _ in 0..100 {
        let heartbeat = tracker.heartbeat().unwrap();
        std::thread::yield_now();
        drop(heartbeat);
    }
    assert_eq!(flaky.calls.load(SeqCst), before);
    work.finish().unwrap();
}

/// Runs the heartbeat without a runtime: time passes as far as it sleeps.
#[test]
fn the_heartbeat_retries_until_the_lease_has_run_out_and_wakes_who_waits_for_that() {
    let clock = ManualClock::new();
    let flaky = Flaky::new(&clock);
    let tracker = DurableTracker::new(Inline(flaky.clone()), options(&clock));
    let mut context = Context::from_waker(Waker::noop());
    let work = match pin!(tracker.start("key")).poll(&mut context) {
        Poll::Ready(started) => started.unwrap(),
        Poll::Pending => panic!("it waits for nothing"),
    };

    let slept = Arc::new(Mutex::new(vec![]));
    let (sleeps, sleeping, away) = (Arc::clone(&slept), clock.clone(), Arc::clone(&flaky.away));
    // Every sleep for a heartbeat is followed by one that bounds it, which nobody waits for.
    let mut bounds = false;
    let heartbeat = tracker.heartbeat_with(move |time| {
        bounds = !bounds;
        if bounds {
            let mut sleeps = sleeps.lock().unwrap();
            sleeps.push(time);
            away.store(sleeps.len() >= 10, SeqCst);
            sleeping.advance(time);
        }
        std::future::ready(())
    });
    let mut expiry = pin!(tracker.session().expiry());
    assert!(expiry.as_mut().poll(&mut context).is_pending());
    assert!(pin!(heartbeat).poll(&mut context).is_ready());
    assert!(expiry.as_mut().poll(&mut context).is_ready());
    assert!(tracker.session().expired() && work.expired());

    let slept = slept.lock().unwrap();
    assert!(
        slept[..10].iter().all(|&pause| pause == TIME_TO_LIVE / 3),
        "{slept:?}"
    );
    assert!(
        slept[10..].iter().all(|&pause| pause <= TIME_TO_LIVE / 6),
        "{slept:?}"
    );
    assert!(slept.len() > 14, "only {} tries", slept.len());
    let last_good = TIME_TO_LIVE / 3 * 9;
    assert_eq!(
        slept.iter().sum::<Duration>(),
        last_good + TIME_TO_LIVE,
        "to the nanosecond"
    );
}

/// A store before whose next update something happens.
struct During {
    store: MemoryStore<ManualClock>,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl During {
    fn new(clock: &ManualClock) -> During {
        During {
            store: MemoryStore::with_clock(clock.clone()),
            meanwhile: Mutex::default(),
        }
    }

    fn meanwhile(&self, happens: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(happens));
    }
}

impl Store for During {
    type Error = std::convert::Infallible;

    fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Self::Error> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        Store::update(&self.store, key, change)
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Self::Error> {
        Store::load(&self.store, key)
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, Self::Error> {
        Store::list(&self.store, page)
    }
}

/// A heartbeat that is under way while a key is finished, and taken again by the same worker.
#[test]
fn work_that_is_begun_anew_during_a_heartbeat_does_not_expire_the_session() {
    let clock = ManualClock::new();
    let tracker = blocking::DurableTracker::new(During::new(&clock), options(&clock));
    let work = tracker.start("key").unwrap();
    let again = Arc::new(Mutex::new(None));
    let (other, put) = (tracker.clone(), Arc::clone(&again));
    tracker.store().meanwhile(move || {
        work.finish().unwrap();
        *put.lock().unwrap() = Some(other.start("key").unwrap());
    });
    tracker.beat().unwrap();
    assert!(!tracker.session().expired());
    let again = again.lock().unwrap().take().unwrap();
    assert!(!again.expired());
    again.finish().unwrap();
}
