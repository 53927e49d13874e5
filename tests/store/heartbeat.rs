//! Heartbeats and leases where the store is slow, or cannot reach one of the keys.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use relent::clock::ManualClock;
use relent::store::blocking::{self, Block, Store};
use relent::store::{
    AsyncStore, Change, DurableTracker, Inline, LeaseLost, Listed, MemoryStore, Options, Page,
    Record, StartError, Unblock, Work, WorkError,
};
use relent::{Backoff, Jitter};
use tokio::runtime::Handle;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::fixed(SECOND).jitter(Jitter::None);
pub(crate) const TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// A store that is slow, and of which some keys cannot be reached.
#[derive(Clone)]
struct Troubled {
    store: Arc<MemoryStore<ManualClock>>,
    clock: ManualClock,
    trouble: Arc<Mutex<Trouble>>,
}

#[derive(Default)]
struct Trouble {
    damaged: Vec<&'static str>,
    /// How many keys are too many at once, if any number is.
    too_many: Option<usize>,
    /// Whether a batch is never answered, in the face that does no more than it has to.
    is_silent: bool,
    latency: Duration,
    calls: usize,
}

#[derive(Debug)]
struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("damaged")
    }
}

impl std::error::Error for Damaged {}

impl Troubled {
    fn new(clock: &ManualClock) -> Troubled {
        Troubled {
            store: Arc::new(MemoryStore::with_clock(clock.clone())),
            clock: clock.clone(),
            trouble: Arc::default(),
        }
    }

    fn damage(&self, keys: &[&'static str]) {
        self.trouble.lock().unwrap().damaged = keys.to_vec();
    }

    fn slow_down(&self, latency: Duration) {
        self.trouble.lock().unwrap().latency = latency;
    }

    fn reach(&self, keys: &[&str]) -> Result<&MemoryStore<ManualClock>, Damaged> {
        let mut trouble = self.trouble.lock().unwrap();
        trouble.calls += 1;
        let are_too_many = trouble.too_many.is_some_and(|many| keys.len() >= many);
        if are_too_many || keys.iter().any(|key| trouble.damaged.contains(key)) {
            return Err(Damaged);
        }
        Ok(&self.store)
    }

    /// Lets the time pass for which an answer is on its way.
    fn pass(&self) {
        self.clock.advance(self.trouble.lock().unwrap().latency);
    }
}

impl Store for Troubled {
    type Error = Damaged;

    fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Damaged> {
        let Ok(answer) = Store::update(self.reach(&[key])?, key, change);
        self.pass();
        Ok(answer)
    }

    fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, Damaged> {
        let Ok(answers) = Store::update_all(self.reach(keys)?, keys, change);
        self.pass();
        Ok(answers)
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Damaged> {
        let Ok(loaded) = Store::load(self.reach(&[key])?, key);
        Ok(loaded)
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, Damaged> {
        let Ok(listed) = Store::list(self.reach(&[])?, page);
        Ok(listed)
    }
}

/// The same, and it does no more than an async store has to.
struct Plain(Inline<Troubled>);

impl AsyncStore for Plain {
    type Error = Damaged;

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Damaged> {
        self.0.update(key, change).await
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, Damaged> {
        if self.0.0.trouble.lock().unwrap().is_silent {
            return std::future::pending().await;
        }
        self.0.update_all(keys, change).await
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Damaged> {
        self.0.load(key).await
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, Damaged> {
        self.0.list(page).await
    }
}

pub(crate) fn options(clock: &ManualClock) -> Options {
    let options = Options::new(POLICY).time_to_live(TIME_TO_LIVE);
    options.clock(clock.clone()).seed(1)
}

/// The output of a future that is ready at once.
#[track_caller]
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

pub(crate) fn is_ready(future: impl Future) -> bool {
    let context = &mut Context::from_waker(Waker::noop());
    pin!(future).poll(context).is_ready()
}

/// Counts how often it is woken, and how many wakers of it there are.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn p2_a_key_that_cannot_be_reached_expires_alone() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let tracker = blocking::DurableTracker::new(store.clone(), options(&clock));
    let kept = ["a", "c", "e"].map(|key| tracker.start(key).unwrap());
    let lost = ["b", "d"].map(|key| tracker.start(key).unwrap());
    store.damage(&["b", "d"]);
    for _ in 0..2 {
        clock.advance(TIME_TO_LIVE / 3);
        assert!(tracker.beat().is_err(), "who asks is told");
    }
    clock.advance(TIME_TO_LIVE / 3);
    for lost in &lost {
        assert!(lost.expired() && is_ready(lost.expiry()));
    }
    for kept in &kept {
        assert!(!kept.expired() && !is_ready(kept.expiry()));
    }
    assert!(!tracker.session().expired() && !is_ready(tracker.session().expiry()));
    assert_eq!(tracker.session().held(), 3);
    assert!(tracker.beat().is_ok(), "what is lost is not tried any more");
    drop(tracker.start("f").unwrap());

    // If no key can be reached, it is as if the store could not be.
    store.damage(&["a", "c", "e", "f"]);
    clock.advance(TIME_TO_LIVE / 2);
    assert!(tracker.beat().is_err());
    clock.advance(TIME_TO_LIVE / 2);
    assert!(tracker.beat().is_ok(), "nothing is left to extend");
    assert!(tracker.session().expired() && is_ready(kept[0].expiry()));
}

#[test]
fn a_heartbeat_of_many_leases_asks_little_of_a_store_that_is_away() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let tracker = blocking::DurableTracker::new(store.clone(), options(&clock));
    let keys: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    let _works: Vec<_> = keys.iter().map(|key| tracker.start(key).unwrap()).collect();
    let all: Vec<&'static str> = keys.iter().map(|key| &*key.clone().leak()).collect();
    let beat = |damaged: &[&'static str]| {
        store.damage(damaged);
        store.trouble.lock().unwrap().calls = 0;
        let is_ok = tracker.beat().is_ok();
        (is_ok, store.trouble.lock().unwrap().calls)
    };
    assert_eq!(beat(&[]), (true, 1));
    let (is_ok, calls) = beat(&all);
    assert!(!is_ok && calls == 3, "{calls}");
    let (is_ok, calls) = beat(&all[500..501]);
    assert!(!is_ok && calls < 30, "{calls}");
}

/// If ever smaller parts of the leases can be extended, all are, and nothing has failed.
#[tokio::test]
async fn a_heartbeat_that_takes_several_calls_is_well() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let one = blocking::DurableTracker::new(store.clone(), options(&clock));
    let two = DurableTracker::new(Plain(Inline(store.clone())), options(&clock));
    let one_works = ["a", "b", "c", "d", "e"].map(|key| one.start(key).unwrap());
    let mut two_works = vec![];
    for key in ["f", "g", "h", "i", "j"] {
        two_works.push(two.start(key).await.unwrap());
    }
    store.trouble.lock().unwrap().too_many = Some(3);
    for _ in 0..4 {
        clock.advance(TIME_TO_LIVE / 3);
        one.beat().unwrap();
        two.beat().await.unwrap();
    }
    assert!(!one_works.iter().any(blocking::Work::expired));
    assert!(!two_works.iter().any(Work::expired));
}

/// In the faces that pass the call on, and one that does not.
#[tokio::test]
async fn p2_a_key_that_cannot_be_reached_expires_alone_in_every_face() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let unblock = || Unblock::new(store.clone());
    let block = || Block::new(unblock(), Handle::current());
    let inline = DurableTracker::new(Arc::new(Inline(store.clone())), options(&clock));
    let unblocked = DurableTracker::new(unblock(), options(&clock));
    let blocked = DurableTracker::new(Inline(block()), options(&clock));
    let plain = DurableTracker::new(Plain(Inline(store.clone())), options(&clock));
    macro_rules! hold {
        ($tracker:expr, $good:expr, $bad:expr) => {{
            store.damage(&[]);
            let good = $tracker.start($good).await.unwrap();
            let bad = $tracker.start($bad).await.unwrap();
            store.damage(&[$bad]);
            for _ in 0..2 {
                clock.advance(TIME_TO_LIVE / 3);
                assert!($tracker.beat().await.is_err());
            }
            clock.advance(TIME_TO_LIVE / 3);
            assert!(bad.expired() && !good.expired());
            good.finish().await.unwrap();
        }};
    }
    hold!(inline, "a", "b");
    hold!(unblocked, "c", "d");
    hold!(blocked, "e", "f");
    hold!(plain, "g", "h");
}

#[test]
fn p2_a_store_slower_than_a_lease_gives_none_and_costs_none() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let tracker = blocking::DurableTracker::new(store.clone(), options(&clock));
    tracker.record_failure("due", "broken").unwrap();
    clock.advance(SECOND);
    let long = tracker.another(options(&clock).time_to_live(10 * TIME_TO_LIVE));
    let work = long.start("work").unwrap();

    store.slow_down(TIME_TO_LIVE);
    let late = |started| matches!(started, Err(StartError::TooLate));
    assert!(late(tracker.start("key").map(drop)));
    assert!(late(tracker.start_now("key").map(drop)));
    assert!(late(tracker.claim_due(9).map(drop)));
    store.slow_down(Duration::ZERO);
    assert!(!tracker.session().expired());
    assert_eq!(tracker.session().held(), 0);
    // It was given back: nobody has to wait, and nothing counts as a failure.
    assert_eq!(tracker.get("key").unwrap(), None);
    let due = tracker.get("due").unwrap().unwrap();
    assert_eq!((due.state.failures, due.lease), (1, None));
    let a = tracker.start("key").unwrap();
    assert!(work.finish().is_ok() && a.finish().is_ok());

    // The same in the other face.
    let clock = ManualClock::new();
    let store = Inline(Troubled::new(&clock));
    let tracker = DurableTracker::new(store, options(&clock));
    ready(tracker.record_failure("due", "broken")).unwrap();
    clock.advance(SECOND);
    tracker.store().0.slow_down(TIME_TO_LIVE);
    let late = |started| matches!(started, Err(StartError::TooLate));
    assert!(late(ready(tracker.start("key")).map(drop)));
    assert!(late(ready(tracker.start_now("key")).map(drop)));
    assert!(late(ready(tracker.claim_due(9)).map(drop)));
    assert_eq!(tracker.session().held(), 0);
    assert_eq!(ready(tracker.get("key")).unwrap(), None);
    let due = ready(tracker.get("due")).unwrap().unwrap();
    assert_eq!((due.state.failures, due.lease), (1, None));
}

#[test]
fn p2_a_lease_that_comes_almost_too_late_is_good_and_does_the_others_no_harm() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let tracker = blocking::DurableTracker::new(store.clone(), options(&clock));
    let other = tracker.start("other").unwrap();
    let nearly = Duration::from_nanos(29_999_999_999);
    store.slow_down(nearly);
    let barely = tracker.start("barely").unwrap();
    assert!(!barely.expired() && !other.expired());
    clock.advance(Duration::from_nanos(1));
    assert!(barely.expired() && other.expired());
}

#[test]
fn p2_a_lease_given_back_late_is_not_taken_from_another() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let tracker = DurableTracker::new(Inline(store.clone()), options(&clock));
    let other = DurableTracker::new(Inline(store.clone()), options(&clock));
    store.slow_down(2 * TIME_TO_LIVE);
    let late = ready(tracker.start("key")).map(drop);
    assert!(matches!(late, Err(StartError::TooLate)), "{late:?}");
    store.slow_down(Duration::ZERO);
    let taken = ready(other.start("key")).unwrap();
    assert_eq!(taken.record().state.failures, 0);
    // The first lease of the store had token 1.
    let change = relent::store::step::give_back(1);
    assert!(matches!(Store::update(&store, "key", change), Ok(false)));
    ready(taken.finish()).unwrap();
}

#[test]
fn p2_work_is_told_that_another_has_its_key() {
    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let tracker = DurableTracker::new(Inline(Arc::clone(&store)), options(&clock));
    let [work, fine] = ["key", "fine"].map(|key| ready(tracker.start(key)).unwrap());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut told = pin!(work.expiry());
    let mut not_told = pin!(fine.expiry());
    assert!(told.as_mut().poll(&mut context).is_pending());
    assert!(not_told.as_mut().poll(&mut context).is_pending());

    // By another clock than the worker's, its lease has run out; another has taken the key.
    let stolen = relent::store::step::give_back(work.token());
    assert_eq!(Store::update(&store, "key", stolen), Ok(true));
    let other = tracker.another(options(&clock));
    let others = ready(other.start("key")).unwrap();
    ready(tracker.beat()).unwrap();
    assert!(count.0.load(SeqCst) > 0, "woken");
    assert!(told.as_mut().poll(&mut context).is_ready());
    assert!(not_told.as_mut().poll(&mut context).is_pending());
    assert!(work.expired() && !fine.expired() && !tracker.session().expired());
    assert!(matches!(
        ready(work.finish()),
        Err(WorkError::Lost(LeaseLost::Taken { .. }))
    ));
    assert!(is_ready(work.expiry()), "it stays lost");
    ready(others.finish()).unwrap();

    // Work that ends as it should is not lost.
    ready(fine.finish()).unwrap();
    assert!(not_told.as_mut().poll(&mut context).is_pending());
}

#[test]
fn p2_work_that_learns_of_its_loss_at_its_end_tells_who_waits() {
    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let tracker = blocking::DurableTracker::new(Arc::clone(&store), options(&clock));
    let work = tracker.start("key").unwrap();
    let stolen = relent::store::step::give_back(work.token());
    assert_eq!(Store::update(&store, "key", stolen), Ok(true));
    assert!(!is_ready(work.expiry()));
    work.fail("broken").unwrap_err();
    assert!(is_ready(work.expiry()) && work.expired());
    assert!(!tracker.session().expired());
}

#[test]
fn p2_all_who_wait_are_woken_and_once() {
    let clock = ManualClock::new();
    let tracker =
        blocking::DurableTracker::new(MemoryStore::with_clock(clock.clone()), options(&clock));
    let works = ["a", "b"].map(|key| tracker.start(key).unwrap());
    let waiting = [
        tracker.session().expiry(),
        tracker.session().expiry(),
        works[0].expiry(),
        works[0].expiry(),
        works[1].expiry(),
    ];
    let mut waiting = waiting.map(|expiry| (Box::pin(expiry), Arc::new(Count::default())));
    let mut poll = || {
        waiting.each_mut().map(|(expiry, count)| {
            let waker = Waker::from(Arc::clone(count));
            let polled = expiry.as_mut().poll(&mut Context::from_waker(&waker));
            (polled.is_ready(), count.0.load(SeqCst))
        })
    };
    assert_eq!((poll(), poll()), ([(false, 0); 5], [(false, 0); 5]));
    clock.advance(1000 * SECOND);
    assert!(tracker.session().expired());
    assert_eq!(poll(), [(true, 1); 5]);
}

#[test]
fn who_waits_no_more_leaves_nothing_behind() {
    let clock = ManualClock::new();
    let tracker =
        blocking::DurableTracker::new(MemoryStore::with_clock(clock.clone()), options(&clock));
    let work = tracker.start("key").unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let before = Arc::strong_count(&count);
    for _ in 0..3 {
        let (session, of_work) = (tracker.session().expiry(), work.expiry());
        let clone = of_work.clone();
        for mut future in [session, of_work, clone].map(Box::pin) {
            let mut context = Context::from_waker(&waker);
            assert!(future.as_mut().poll(&mut context).is_pending());
            assert!(future.as_mut().poll(&mut context).is_pending());
            assert_eq!(Arc::strong_count(&count), before + 1);
        }
        assert_eq!(Arc::strong_count(&count), before);
    }
}

/// A heartbeat waits for an answer no longer than the leases live.
#[test]
fn p2_a_heartbeat_whose_store_never_answers_ends_with_the_session() {
    let clock = ManualClock::new();
    let store = Troubled::new(&clock);
    let tracker = DurableTracker::new(Plain(Inline(store.clone())), options(&clock));
    let work = ready(tracker.start("key")).unwrap();
    store.trouble.lock().unwrap().is_silent = true;
    let sleep = move |pause| {
        let clock = clock.clone();
        async move { clock.advance(pause) }
    };
    ready(tracker.heartbeat_with(sleep));
    assert!(work.expired() && tracker.session().expired());
}

/// A heartbeat that comes between the end of the work and the answer to it.
#[tokio::test]
async fn p2_the_end_of_work_is_not_taken_for_a_loss() {
    use tokio::sync::Semaphore;

    /// Answers an update once it is let to.
    struct Held(MemoryStore<ManualClock>, Semaphore);
    impl AsyncStore for Held {
        type Error = std::convert::Infallible;

        async fn update<R: Send + 'static>(
            &self,
            key: &str,
            change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
        ) -> Result<R, Self::Error> {
            let answer = Store::update(&self.0, key, change);
            self.1.acquire().await.unwrap().forget();
            answer
        }

        async fn update_all<R: Send + 'static>(
            &self,
            keys: &[&str],
            change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
        ) -> Result<Vec<R>, Self::Error> {
            Store::update_all(&self.0, keys, change)
        }

        async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Self::Error> {
            Store::load(&self.0, key)
        }

        async fn list(&self, page: &Page) -> Result<Vec<Listed>, Self::Error> {
            Store::list(&self.0, page)
        }
    }

    let clock = ManualClock::new();
    let held = Held(MemoryStore::with_clock(clock.clone()), Semaphore::new(1));
    let tracker = DurableTracker::new(held, options(&clock));
    let work = tracker.start("key").await.unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut expiry = pin!(work.expiry());
    {
        let mut finish = pin!(work.finish());
        assert!(finish.as_mut().poll(&mut context).is_pending());
        // The store has finished it, and another worker may take the key meanwhile.
        tracker.beat().await.unwrap();
        assert!(expiry.as_mut().poll(&mut context).is_pending());
        tracker.store().1.add_permits(1);
        finish.await.unwrap();
    }
    assert!(expiry.as_mut().poll(&mut context).is_pending());

    // If nobody waits for the answer, it is a loss like any other.
    tracker.store().1.add_permits(1);
    let work = tracker.start("other").await.unwrap();
    assert!(!is_ready(work.finish()), "dropped");
    assert!(!is_ready(work.expiry()));
    tracker.beat().await.unwrap();
    assert!(is_ready(work.expiry()) && !tracker.session().expired());
}

#[cfg(feature = "sqlite")]
#[test]
fn p5_a_damaged_row_expires_no_other_lease() {
    use relent::store::SqliteStore;

    let clock = ManualClock::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases.db");
    let store = SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let tracker = blocking::DurableTracker::new(store, options(&clock));
    let names = ["a", "b", "c"];
    let [a, b, c] = names.map(|key| tracker.start(key).unwrap());
    let damage = "UPDATE relent SET failures = -1 WHERE key = 'a'";
    let other = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(other.execute(damage, []).unwrap(), 1);
    for _ in 0..4 {
        clock.advance(TIME_TO_LIVE / 3);
        drop(tracker.beat());
    }
    assert!(a.expired() && !b.expired() && !c.expired() && !tracker.session().expired());
    assert!(b.finish().is_ok() && c.finish().is_ok());
}
