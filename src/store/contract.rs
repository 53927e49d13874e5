//! What every store must do, as code: hold your own store to it.
//!
//! Implement [`Bench`] for it, and call [`all`] in a test. Each function here is one promise, and
//! panics if the store does not keep it; its name begins with the number of the rule in the
//! architecture's list.
//!
//! ```
//! use relent::clock::ManualClock;
//! use relent::store::MemoryStore;
//! use relent::store::contract::{self, Bench};
//! use std::time::{Duration, SystemTime};
//!
//! struct Memory(ManualClock);
//!
//! impl Bench for Memory {
//!     type Store = MemoryStore<ManualClock>;
//!
//!     async fn empty(&self) -> Self::Store {
//!         MemoryStore::with_clock(self.0.clone())
//!     }
//!
//!     async fn pass(&self, time: Duration) {
//!         self.0.advance(time);
//!     }
//!
//!     fn set_clock(&self, time: SystemTime) -> bool {
//!         self.0.set_wall(time);
//!         true
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(
//! contract::all(&Memory(ManualClock::new()))
//! # )
//! ```

// That is what they are for.
#![allow(clippy::missing_panics_doc)]

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::{
    AsyncStore, DurableTracker, LeaseLost, Listed, Options, Page, Record, Refusal, StartError,
    Which, Work, WorkError, step,
};
use crate::policy::{Backoff, GiveUpReason, Jitter};
use crate::state::{BackoffState, Decision, Readiness, Recovery};

/// Where a store is tried.
pub trait Bench {
    /// The store.
    type Store: AsyncStore + 'static;

    /// An empty store: one that shares no keys with those made before.
    fn empty(&self) -> impl Future<Output = Self::Store>;

    /// Lets time pass by the store's clock: moves it, or waits.
    fn pass(&self, time: Duration) -> impl Future<Output = ()>;

    /// Sets the store's clock to another time of day. `false` if it cannot be set: promises about
    /// that are then not tried.
    fn set_clock(&self, _time: SystemTime) -> bool {
        false
    }

    /// A while, of which the promises are tried in multiples. For a clock that has to be waited for,
    /// say 200 ms: long enough for a few calls of the store.
    fn unit(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Tries every promise, one after the other.
pub async fn all<B: Bench>(bench: &B) {
    p1_waits_by_the_stores_clock(bench).await;
    p1_a_clock_set_back_lengthens_no_wait(bench).await;
    p1_a_clock_set_back_lengthens_no_lease(bench).await;
    p2_one_lease_per_key(bench).await;
    p2_tokens_grow_also_over_deletion(bench).await;
    p2_a_stale_worker_is_refused(bench).await;
    p2_attempts_of_one_window_escalate_once(bench).await;
    p2_a_dead_worker_counts_as_one_failure(bench).await;
    p2_heartbeats_keep_leases(bench).await;
    p3_finish_deletes_fail_escalates_cancel_restores(bench).await;
    p3_work_ends_once(bench).await;
    p6_an_expired_record_seeds_the_next_interval(bench).await;
    p7_times_keep_their_fractions(bench).await;
    p8_without_a_policy_goes_on(bench).await;
    g3_giving_up_sticks(bench).await;
    keys_are_any_text(bench).await;
    records_come_back_as_they_were(bench).await;
    batches_are_as_good_as_single_calls(bench).await;
    listings_are_in_order_and_paged(bench).await;
    claims_are_exclusive_and_oldest_first(bench).await;
    success_and_forget_end_streaks(bench).await;
}

/// Doubles from one unit up to eight, without jitter.
fn policy<B: Bench>(bench: &B) -> Backoff {
    let unit = bench.unit();
    Backoff::exponential(unit, unit * 8).jitter(Jitter::None)
}

async fn tracker<B: Bench>(bench: &B) -> DurableTracker<B::Store> {
    DurableTracker::new(bench.empty().await, options(bench))
}

fn options<B: Bench>(bench: &B) -> Options {
    Options::new(policy(bench))
        .holder("one")
        .time_to_live(bench.unit() * 3)
}

/// Another worker on the same store.
fn another<B: Bench>(
    bench: &B,
    tracker: &DurableTracker<B::Store>,
    holder: &str,
) -> DurableTracker<B::Store> {
    tracker.another(options(bench).holder(holder))
}

#[track_caller]
fn good<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("the store failed: {error}"))
}

#[track_caller]
fn done<T, E: std::fmt::Display>(result: Result<T, E>) {
    drop(good(result));
}

#[track_caller]
fn refused<S, E: std::fmt::Display>(started: Result<Work<S>, StartError<E>>) -> Refusal {
    match started {
        Ok(work) => panic!("{:?} was taken", work.key()),
        Err(StartError::Refused(refusal)) => refusal,
        Err(error) => panic!("the store failed: {error}"),
    }
}

#[track_caller]
fn lost<T, E: std::fmt::Display>(ended: Result<T, WorkError<E>>) -> LeaseLost {
    match ended {
        Ok(_) => panic!("a lost lease was good"),
        Err(WorkError::Lost(lost)) => lost,
        Err(WorkError::Store(error)) => panic!("the store failed: {error}"),
    }
}

/// A wait is over when the store's clock says so, not a moment sooner.
pub async fn p1_waits_by_the_stores_clock<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let told = good(tracker.record_failure("key", "broken").await);
    assert_eq!(told, Decision::Retry { after: unit });
    let Readiness::Wait(wait) = good(tracker.check("key").await) else {
        panic!("a key that failed must wait");
    };
    assert!(wait <= unit && wait > unit / 2, "{wait:?} of {unit:?}");
    assert!(matches!(
        refused(tracker.start("key").await),
        Refusal::BackingOff { .. }
    ));
    bench.pass(unit).await;
    assert_eq!(good(tracker.check("key").await), Readiness::Ready);
    done(tracker.start("key").await);
}

/// Whatever the clock does, no wait is longer than it was told.
pub async fn p1_a_clock_set_back_lengthens_no_wait<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let (_, now) = good(tracker.store().load("key").await);
    if !bench.set_clock(now + unit * 1000) {
        return;
    }
    for key in ["checked", "started", "listed"] {
        done(tracker.record_failure(key, "broken").await);
    }
    bench.set_clock(now);
    assert_eq!(good(tracker.check("checked").await), Readiness::Wait(unit));
    let until = now + unit;
    assert_eq!(
        refused(tracker.start("started").await),
        Refusal::BackingOff { until }
    );
    assert_eq!(
        keys(&good(tracker.due(10).await)),
        ["listed"],
        "the others have been set right"
    );
    assert_eq!(good(tracker.claim_due(10).await).len(), 0);
    assert_eq!(good(tracker.due(10).await), []);
    bench.pass(unit).await;
    let due = good(tracker.claim_due(10).await);
    assert_eq!(due.len(), 3, "told to wait {unit:?}, that is over");
}

/// Whatever the clock does, a dead worker blocks a key no longer than its time to live.
pub async fn p1_a_clock_set_back_lengthens_no_lease<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let (_, now) = good(one.store().load("key").await);
    if !bench.set_clock(now + unit * 1000) {
        return;
    }
    let dead = good(one.start("key").await);
    bench.set_clock(now);
    assert!(matches!(
        refused(two.start("key").await),
        Refusal::Held { .. }
    ));
    bench.pass(unit * 3).await;
    assert!(matches!(
        refused(two.start("key").await),
        Refusal::BackingOff { .. }
    ));
    assert_eq!(lost(dead.finish().await), LeaseLost::Ended);
}

/// While one has a key, no other gets it, nor the same again.
pub async fn p2_one_lease_per_key<B: Bench>(bench: &B) {
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let work = good(one.start("key").await);
    for other in [&one, &two] {
        let refusal = refused(other.start("key").await);
        assert!(matches!(refusal, Refusal::Held { by, .. } if by == "one"));
    }
    let free = good(two.start_any(["key", "other"]).await);
    assert_eq!(free.as_ref().map(Work::key), Some("other"));
    assert!(good(two.start_any(["key", "other"]).await).is_none());
    done(work.finish().await);
    done(two.start("key").await);
}

/// Who has a key later has a greater token, also after the key was deleted.
pub async fn p2_tokens_grow_also_over_deletion<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    let mut last = 0;
    for round in 0..12 {
        let work = good(tracker.start("key").await);
        assert!(work.token() > last, "{} after {last}", work.token());
        last = work.token();
        match round % 3 {
            0 => done(work.finish().await),
            1 => good(work.cancel().await),
            _ => {
                let now = Backoff::fixed(Duration::ZERO);
                done(work.fail_with(Some(&now), None, "broken").await);
            }
        }
    }
}

/// Whoever lost a lease writes nothing.
pub async fn p2_a_stale_worker_is_refused<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let stale = good(one.start("key").await);
    bench.pass(unit * 3).await;
    assert!(matches!(
        lost(stale.finish().await),
        LeaseLost::Expired { .. }
    ));
    let stale = stale.token();

    assert!(matches!(
        refused(two.start("key").await),
        Refusal::BackingOff { .. }
    ));
    bench.pass(unit).await;
    let work = good(two.start("key").await);
    let before = good(two.get("key").await);
    let store = one.store();
    let taken = LeaseLost::Taken {
        by: "two".to_owned(),
    };
    let failed = step::Failed {
        backoff: None,
        retry_after: None,
        cause: "stale".to_owned(),
        entropy: 0,
    };
    let key = "key";
    assert_eq!(
        good(store.update(key, step::finish(stale)).await),
        Err(taken.clone())
    );
    assert_eq!(
        good(store.update(key, step::fail(stale, failed)).await),
        Err(taken.clone())
    );
    assert_eq!(
        good(store.update(key, step::cancel(stale)).await),
        Err(taken.clone())
    );
    assert_eq!(
        good(store.update(key, step::extend(stale, unit)).await),
        Err(taken)
    );
    assert_eq!(good(two.get("key").await), before, "a stale worker wrote");
    done(work.finish().await);
}

/// Of many attempts that began before a failure was recorded, only the first to fail counts.
pub async fn p2_attempts_of_one_window_escalate_once<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    for streak in 1..=3 {
        let mut attempts = Vec::new();
        for _ in 0..5 {
            attempts.push(good(tracker.attempt("key").await));
        }
        for attempt in attempts {
            done(attempt.fail("broken").await);
        }
        assert_eq!(
            good(tracker.get("key").await).map(|kept| kept.state.failures),
            Some(streak)
        );
        let waits = tracker.attempt("key").await.map(drop);
        assert!(matches!(
            waits,
            Err(StartError::Refused(Refusal::BackingOff { .. }))
        ));
        bench.pass(unit * 8).await;
    }
    drop(good(tracker.attempt("key").await));
    assert_eq!(
        good(tracker.get("key").await).map(|kept| kept.state.failures),
        Some(3)
    );
    let recovery = good(good(tracker.attempt("key").await).succeed().await);
    assert_eq!(recovery.map(|recovery| recovery.failures), Some(3));
}

/// A lease that ran out counts as one failure when the next comes for the key, which then waits.
pub async fn p2_a_dead_worker_counts_as_one_failure<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    for (streak, wait) in [(1, 1), (2, 2), (3, 4)] {
        drop(good(one.start("key").await));
        bench.pass(unit * 3).await;
        assert!(matches!(
            refused(two.start("key").await),
            Refusal::BackingOff { .. }
        ));
        let record = good(two.get("key").await).expect("a record of the failure");
        assert_eq!(record.state.failures, streak);
        assert_eq!(record.state.interval, unit * wait);
        assert_eq!(record.cause, step::LEASE_EXPIRED);
        assert_eq!(record.lease, None);
        assert!(matches!(
            refused(two.start("key").await),
            Refusal::BackingOff { .. }
        ));
        let record = good(two.get("key").await).expect("a record of the failure");
        assert_eq!(record.state.failures, streak, "counted twice");
        bench.pass(unit * wait).await;
    }
}

/// A heartbeat extends every lease of its session, and no other.
pub async fn p2_heartbeats_keep_leases<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let kept = [good(one.start("a").await), good(one.start("b").await)];
    let ended = good(one.start("ended").await);
    drop(good(one.start("dropped").await));
    drop(good(two.start("other").await));
    done(ended.finish().await);
    for _ in 0..3 {
        bench.pass(unit * 2).await;
        done(one.beat().await);
    }
    for key in ["a", "b"] {
        assert!(
            matches!(refused(two.start(key).await), Refusal::Held { .. }),
            "{key}"
        );
    }
    for key in ["dropped", "other"] {
        assert!(
            matches!(refused(two.start(key).await), Refusal::BackingOff { .. }),
            "{key}"
        );
    }
    done(two.start("ended").await);
    for work in kept {
        done(work.finish().await);
    }
}

/// Finish deletes the record, fail escalates and tells why, cancel leaves the backoff as it was.
pub async fn p3_finish_deletes_fail_escalates_cancel_restores<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;

    done(good(tracker.start("key").await).cancel().await);
    assert_eq!(good(tracker.get("key").await), None);

    let told = good(good(tracker.start("key").await).fail("first").await);
    assert_eq!(told, Decision::Retry { after: unit });
    bench.pass(unit).await;
    let before = good(tracker.get("key").await);
    assert_eq!(before.as_ref().map(|record| &*record.cause), Some("first"));
    done(good(tracker.start("key").await).cancel().await);
    assert_eq!(good(tracker.get("key").await), before);

    let told = good(good(tracker.start("key").await).fail("second").await);
    assert_eq!(told, Decision::Retry { after: unit * 2 });
    bench.pass(unit * 2).await;
    let work = good(tracker.start("key").await);
    assert_eq!(work.record().cause, "second");
    let recovery = good(work.finish().await).expect("the end of a streak");
    assert_eq!(recovery.failures, 2);
    assert!(recovery.outage >= unit * 3);
    assert_eq!(good(tracker.get("key").await), None);
}

/// Work that has ended cannot be ended again.
pub async fn p3_work_ends_once<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    for end in 0..3 {
        let key = format!("key {end}");
        let work = good(tracker.start(&key).await);
        match end {
            0 => done(work.finish().await),
            1 => done(work.fail("broken").await),
            _ => good(work.cancel().await),
        }
        let left = good(tracker.get(&key).await);
        assert_eq!(lost(work.finish().await), LeaseLost::Ended);
        assert_eq!(lost(work.fail("again").await), LeaseLost::Ended);
        assert_eq!(lost(work.cancel().await), LeaseLost::Ended);
        assert_eq!(good(tracker.get(&key).await), left);
    }
}

/// However long a wait has been over, the next failure goes on from it.
pub async fn p6_an_expired_record_seeds_the_next_interval<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    for wait in [1, 2, 4, 8, 8] {
        let told = good(tracker.record_failure("key", "broken").await);
        assert_eq!(told, Decision::Retry { after: unit * wait });
        bench.pass(unit * 10).await;
    }
}

/// Times are kept to the microsecond at least.
pub async fn p7_times_keep_their_fractions<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    let wait = Duration::from_micros(1_234_567);
    let odd = Backoff::fixed(wait);
    done(
        tracker
            .record_failure_with("key", Some(&odd), None, "broken")
            .await,
    );
    let record = good(tracker.get("key").await).expect("a record of the failure");
    assert_eq!(record.state.interval, wait);
    assert_eq!(record.until.duration_since(record.since).ok(), Some(wait));
}

/// Without a policy, a failure goes on with the last interval, at least a second.
pub async fn p8_without_a_policy_goes_on<B: Bench>(bench: &B) {
    let tracker = DurableTracker::new(bench.empty().await, None);
    let second = Duration::from_secs(1);
    for (before, then) in [(1, second), (700, second), (90_000, second * 90)] {
        let before = Backoff::fixed(Duration::from_millis(before));
        let key = format!("{before:?}");
        done(
            tracker
                .record_failure_with(&key, Some(&before), None, "broken")
                .await,
        );
        for _ in 0..3 {
            let told = good(tracker.record_failure(&key, "broken").await);
            assert_eq!(told, Decision::Retry { after: then });
        }
    }
    let told = good(tracker.record_failure("fresh", "broken").await);
    assert_eq!(told, Decision::Retry { after: second });
}

/// A key that gave up stays so, until it is forgotten or succeeds.
pub async fn g3_giving_up_sticks<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let limited = policy(bench).give_up_after_failures(2);
    let gave_up = GiveUpReason::Failures;
    let mut told = Vec::new();
    for _ in 0..2 {
        let failure = tracker.record_failure_with("key", Some(&limited), None, "broken");
        told.push(good(failure.await));
    }
    assert_eq!(
        told,
        [Decision::Retry { after: unit }, Decision::GiveUp(gave_up)]
    );
    bench.pass(unit * 10).await;
    assert_eq!(good(tracker.check("key").await), Readiness::GaveUp(gave_up));
    assert_eq!(
        refused(tracker.start("key").await),
        Refusal::GaveUp(gave_up)
    );
    assert_eq!(
        good(tracker.record_failure("key", "more").await),
        Decision::GiveUp(gave_up)
    );
    assert_eq!(good(tracker.due(10).await), []);
    assert_eq!(good(tracker.waiting(10).await), []);
    assert_eq!(keys(&good(tracker.gave_up(10).await)), ["key"]);
    assert!(good(tracker.forget("key").await));
    assert_eq!(good(tracker.gave_up(10).await), []);
    done(tracker.start("key").await);

    let mut all = Vec::new();
    for n in 0..7 {
        let key = format!("gone {n}");
        done(
            tracker
                .record_failure_with(&key, Some(&Backoff::never_retry()), None, "")
                .await,
        );
        all.push(key);
    }
    let mut page = Page::first(Which::GaveUp, 3);
    for some in all.chunks(3) {
        let listed = good(tracker.list(&page).await);
        assert_eq!(keys(&listed), some);
        page = page.after(&listed[listed.len() - 1]);
    }
    assert_eq!(good(tracker.list(&page).await), []);
}

/// Any text is a key, and no two of them are the same.
pub async fn keys_are_any_text<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    let longest = "\u{10ffff}".repeat(super::MAX_KEY / 4);
    let keys = [
        "",
        " ",
        "  ",
        "a",
        "A",
        "a ",
        " a",
        "ä",
        "a\u{308}",
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "%",
        "_",
        "*",
        "a:b",
        "a/b",
        "{a}",
        "$1",
        "?",
        "\n",
        "\r\n",
        "\t",
        "\u{1}",
        "\u{7f}",
        "null",
        "NULL",
        "'; DROP TABLE relent; --",
        "漢字",
        "🦀",
        "\u{202e}",
        "\u{feff}",
        "\u{ffff}",
        &longest,
    ];
    for (n, key) in keys.iter().enumerate() {
        done(tracker.record_failure(key, &format!("{n}: {key}")).await);
    }
    for (n, key) in keys.iter().enumerate() {
        let record = good(tracker.get(key).await).expect("a record of the failure");
        assert_eq!(record.state.failures, 1, "{key:?} is taken for another key");
        assert_eq!(record.cause, format!("{n}: {key}"));
    }
    let mut listed = good(tracker.waiting(100).await);
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(self::keys(&listed), sorted);
    for key in ["\0", "a\0b", &"a".repeat(super::MAX_KEY + 1)] {
        let error = tracker.record_failure(key, "broken").await;
        assert!(matches!(error, Err(super::Error::Key(_))), "{key:?}");
    }
}

/// What is written is read back, to the microsecond.
pub async fn records_come_back_as_they_were<B: Bench>(bench: &B) {
    let store = bench.empty().await;
    let (_, now) = good(store.load("key").await);
    let nanos = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = now - Duration::from_nanos(u64::from(nanos.subsec_nanos() % 1000));
    let healthy = Record {
        state: BackoffState::default(),
        first_failure: now,
        since: now,
        until: now,
        gave_up: None,
        cause: String::new(),
        lease: None,
    };
    let mut failing = healthy.clone();
    failing.state.failures = u32::MAX;
    failing.state.interval = Duration::from_nanos(u64::MAX);
    failing.until = now + Duration::from_micros(1);
    failing.cause = String::from("\"quoted\"\n'line' 漢字 \\ \u{1}");
    let mut given_up = failing.clone();
    given_up.gave_up = Some(GiveUpReason::Elapsed);
    given_up.state.interval = Duration::from_nanos(1);
    for record in [healthy, failing, given_up] {
        let put = record.clone();
        let change = move |_: Option<&Record>, _| super::Change::put(put.clone(), ());
        done(store.update("key", change).await);
        assert_eq!(good(store.load("key").await).0, Some(record));
    }
}

/// A batch does what single calls would, in the same order, also to a key that is in it twice.
pub async fn batches_are_as_good_as_single_calls<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    done(tracker.record_failure("b", "before").await);
    let told = tracker.record_failures(&[("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")]);
    let told = good(told.await);
    let waits: Vec<_> = told
        .iter()
        .filter_map(|decision| decision.delay())
        .collect();
    assert_eq!(waits, [unit, unit * 2, unit, unit * 2]);
    assert_eq!(good(tracker.record_failures(&[]).await), []);
    for (key, failures, cause) in [("a", 2, "4"), ("b", 2, "2"), ("c", 1, "3")] {
        let record = good(tracker.get(key).await).expect("a record of the failure");
        assert_eq!((record.state.failures, &*record.cause), (failures, cause));
    }
    let many: Vec<_> = (0..1000).map(|n| format!("many {n}")).collect();
    let many: Vec<_> = many.iter().map(|key| (key.as_str(), "broken")).collect();
    assert_eq!(good(tracker.record_failures(&many).await).len(), 1000);
    assert_eq!(good(tracker.waiting(2000).await).len(), 1003);
}

fn keys(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|listed| listed.key.as_str()).collect()
}

/// Keys are listed once each, those due first coming first, on as many pages as it takes.
pub async fn listings_are_in_order_and_paged<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let waits = [3, 1, 2, 1, 5, 3, 1];
    for (n, &wait) in waits.iter().enumerate() {
        let wait = Backoff::fixed(unit * wait);
        let key = format!("{n}");
        done(
            tracker
                .record_failure_with(&key, Some(&wait), None, "broken")
                .await,
        );
    }
    let held = good(tracker.start("held").await);
    assert_eq!(good(tracker.due(10).await), []);
    for which in [Which::Waiting, Which::Due] {
        for limit in [1, 2, 3, 100] {
            let mut all = Vec::new();
            let mut page = Page::first(which, limit);
            loop {
                let listed = good(tracker.list(&page).await);
                assert!(listed.len() <= limit);
                let Some(last) = listed.last() else { break };
                page = page.after(last);
                all.extend(listed);
            }
            assert_eq!(all.len(), 8, "{which:?} by {limit}");
            let places: Vec<_> = all.iter().map(Listed::cursor).collect();
            assert!(places.is_sorted(), "{places:?}");
            let kept = good(tracker.get("0").await);
            let listed = all.iter().find(|listed| listed.key == "0");
            assert_eq!(listed.map(|listed| &listed.record), kept.as_ref());
        }
        bench.pass(unit * 6).await;
    }
    assert_eq!(good(tracker.waiting(10).await), []);
    assert_eq!(good(tracker.list(&Page::first(Which::Due, 0)).await), []);
    drop(held);
}

/// Several workers claim each key once, oldest first, and those that somebody died on last.
pub async fn claims_are_exclusive_and_oldest_first<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    for n in 0..10 {
        let wait = Backoff::fixed(unit / 2 + Duration::from_millis(10 - n));
        let key = format!("{n}");
        done(
            one.record_failure_with(&key, Some(&wait), None, "broken")
                .await,
        );
    }
    assert_eq!(good(one.claim_due(5).await).len(), 0);
    bench.pass(unit).await;
    let first = good(one.claim_due(4).await);
    let taken: Vec<_> = first.iter().map(|work| work.key().to_owned()).collect();
    if bench.unit() >= Duration::from_secs(60) {
        assert_eq!(taken, ["9", "8", "7", "6"]);
    }
    let second = good(two.claim_due(100).await);
    assert_eq!(second.len(), 6);
    assert!(
        second
            .iter()
            .all(|work| !taken.contains(&work.key().to_owned()))
    );
    assert!(second.iter().all(|work| work.record().state.failures == 1));
    assert_eq!(good(one.claim_due(100).await).len(), 0);
    for work in &first {
        done(work.finish().await);
    }
    drop(second);
    bench.pass(unit * 3).await;
    assert_eq!(
        good(one.claim_due(100).await).len(),
        0,
        "their holder died: that is a failure"
    );
    bench.pass(unit * 2).await;
    let third = good(one.claim_due(100).await);
    assert_eq!(third.len(), 6);
    assert!(third.iter().all(|work| work.record().state.failures == 2));
    assert!(
        third
            .iter()
            .all(|work| work.record().cause == step::LEASE_EXPIRED)
    );
}

/// A success and an operator both end a streak, and tell whether there was one; a lease stays.
pub async fn success_and_forget_end_streaks<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    assert_eq!(good(tracker.record_success("key").await), None);
    assert!(!good(tracker.forget("key").await));
    for _ in 0..3 {
        done(tracker.record_failure("key", "broken").await);
    }
    let recovery = good(tracker.record_success("key").await);
    assert_eq!(recovery.map(|Recovery { failures, .. }| failures), Some(3));
    assert_eq!(good(tracker.get("key").await), None);
    let told = good(tracker.record_failure("key", "broken").await);
    assert_eq!(told, Decision::Retry { after: unit });

    assert!(good(tracker.forget("key").await));
    let work = good(tracker.start("key").await);
    done(tracker.record_failure("key", "beside the work").await);
    assert!(matches!(
        refused(tracker.start("key").await),
        Refusal::Held { .. }
    ));
    done(tracker.record_success("key").await);
    done(tracker.record_failure("key", "beside the work").await);
    assert!(good(tracker.forget("key").await));
    assert!(matches!(
        refused(tracker.start("key").await),
        Refusal::Held { .. }
    ));
    done(work.finish().await);
    assert_eq!(good(tracker.get("key").await), None);
}
