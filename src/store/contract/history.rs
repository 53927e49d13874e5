//! The history of keys, for stores that keep one.

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::transactions::{End, TransactionBench};
use super::{Bench, done, failed, good, policy, refused, tracker};
use crate::store::{AsyncStore, DurableTracker, Entry, Event, Refusal, step};

/// Where a store that keeps a history is tried: every [`empty`](Bench::empty) one keeps it.
pub trait HistoryBench: Bench {
    /// The last `limit` things that happened to a key, the latest first.
    fn history(
        &self,
        store: &Self::Store,
        key: &str,
        limit: usize,
    ) -> impl Future<Output = Vec<Entry>>;

    /// Deletes what happened before `time` to any key. Returns how many entries that was.
    fn prune_history(&self, store: &Self::Store, time: SystemTime) -> impl Future<Output = u64>;
}

/// All that happened to a key, in its order: what, and why.
async fn told<B: HistoryBench>(bench: &B, store: &B::Store, key: &str) -> Vec<(Event, String)> {
    let entries = bench.history(store, key, 1000).await;
    let told = entries.into_iter().rev();
    told.map(|entry| (entry.event, entry.cause.unwrap_or_default()))
        .collect()
}

/// The same, as a test expects it.
fn these(events: &[(Event, &str)]) -> Vec<(Event, String)> {
    let events = events.iter();
    events
        .map(|&(event, cause)| (event, cause.to_owned()))
        .collect()
}

async fn now<B: Bench>(tracker: &DurableTracker<B::Store>) -> SystemTime {
    good(tracker.store().load("").await).1
}

/// Every event is told, in the order in which they happened, with the cause if there is one, and at
/// the store's time.
pub async fn history_tells_in_order_what_happened<B: HistoryBench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let began = now::<B>(&tracker).await;
    done(good(tracker.start("key").await).cancel().await);
    done(good(tracker.start("key").await).fail("no disk").await);
    bench.pass(unit).await;
    let later = now::<B>(&tracker).await;
    drop(good(tracker.start("key").await));
    bench.pass(unit * 3).await;
    let refusal = refused(tracker.start("key").await);
    assert!(matches!(refusal, Refusal::BackingOff { .. }));
    done(good(tracker.start_now("key").await).fail("a button").await);
    bench.pass(unit * 2).await;
    done(good(tracker.start("key").await).finish().await);
    done(tracker.record_failure("key", "\"quoted\"\n漢字").await);
    done(tracker.record_success("key").await);
    done(tracker.record_failure("key", "").await);
    done(tracker.forget("key").await);
    let ended = now::<B>(&tracker).await;

    let expected = [
        (Event::Started, None),
        (Event::Cancelled, None),
        (Event::Started, None),
        (Event::Failed, Some("no disk")),
        (Event::Started, None),
        (Event::Expired, Some(step::LEASE_EXPIRED)),
        (Event::Started, None),
        (Event::Cancelled, None),
        (Event::Started, None),
        (Event::Finished, None),
        (Event::Failed, Some("\"quoted\"\n漢字")),
        (Event::Finished, None),
        (Event::Failed, Some("")),
        (Event::Forgotten, None),
    ];
    let entries = bench.history(tracker.store(), "key", 100).await;
    let told = entries.iter().rev();
    let told: Vec<_> = told
        .map(|entry| (entry.event, entry.cause.as_deref()))
        .collect();
    assert_eq!(told, expected);

    // Times may be kept in whole microseconds, rounded down.
    let micro = Duration::from_micros(1);
    let times: Vec<_> = entries.iter().rev().map(|entry| entry.at).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[0] + micro > began && times[3] < later, "{times:?}");
    assert!(times[4] + micro > later && times[13] <= ended, "{times:?}");
}

/// A key's history is its own; as much of it is told as is asked for, the latest first.
pub async fn history_is_told_by_key_and_limit<B: HistoryBench>(bench: &B) {
    let tracker = tracker(bench).await;
    let store = tracker.store();
    for n in 0..5 {
        for key in ["key", "Key", "key "] {
            let cause = format!("{key} {n}");
            done(tracker.record_failure(key, &cause).await);
        }
    }
    let all = bench.history(store, "key", 100).await;
    let causes: Vec<_> = all.iter().map(|entry| entry.cause.as_deref()).collect();
    let latest_first = ["key 4", "key 3", "key 2", "key 1", "key 0"].map(Some);
    assert_eq!(causes, latest_first);
    for limit in 0..=5 {
        assert_eq!(bench.history(store, "key", limit).await, all[..limit]);
    }
    assert_eq!(bench.history(store, "never seen", 100).await, []);
    let other = super::tracker(bench).await;
    assert_eq!(bench.history(other.store(), "key", 100).await, []);
}

/// Batches and claims leave the history that single calls would.
pub async fn history_tells_of_each_in_a_batch<B: HistoryBench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let store = tracker.store();
    let batch = [("a", "1"), ("b", "2"), ("died on", "3"), ("a", "4")];
    done(tracker.record_failures(&batch).await);
    bench.pass(unit * 2).await;
    drop(good(tracker.start("died on").await));
    bench.pass(unit * 3).await;
    for work in good(tracker.claim_due(100).await) {
        if work.key() == "a" {
            done(work.fail("5").await);
        } else {
            done(work.finish().await);
        }
    }
    for (key, expected) in [
        (
            "a",
            &[
                (Event::Failed, "1"),
                (Event::Failed, "4"),
                (Event::Started, ""),
                (Event::Failed, "5"),
            ][..],
        ),
        (
            "b",
            &[
                (Event::Failed, "2"),
                (Event::Started, ""),
                (Event::Finished, ""),
            ],
        ),
        (
            "died on",
            &[
                (Event::Failed, "3"),
                (Event::Started, ""),
                (Event::Expired, step::LEASE_EXPIRED),
            ],
        ),
    ] {
        assert_eq!(told(bench, store, key).await, these(expected), "{key}");
    }
}

/// What changes nothing is not told: questions, refusals, heartbeats, attempts that do not count,
/// successes of healthy keys, and workers that come too late.
pub async fn history_does_not_tell_of_what_changed_nothing<B: HistoryBench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let store = tracker.store();
    done(tracker.record_success("key").await);
    done(tracker.forget("key").await);
    let attempts = [
        good(tracker.attempt("key").await),
        good(tracker.attempt("key").await),
        good(tracker.attempt("key").await),
    ];
    for attempt in attempts {
        done(attempt.fail("broken").await);
    }
    done(tracker.check("key").await);
    drop(tracker.start("key").await);
    bench.pass(unit).await;
    drop(good(tracker.attempt("key").await));
    let work = good(tracker.start("key").await);
    drop(tracker.start("key").await);
    done(tracker.beat().await);
    done(tracker.due(10).await);
    done(work.finish().await);
    drop(work.finish().await);
    drop(work.fail("too late").await);
    drop(work.cancel().await);
    let expected = [
        (Event::Failed, "broken"),
        (Event::Started, ""),
        (Event::Finished, ""),
    ];
    assert_eq!(told(bench, store, "key").await, these(&expected));
}

/// The history outlives its record, be that finished or forgotten; only pruning ends it.
pub async fn history_outlives_the_record<B: HistoryBench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let store = tracker.store();
    let limited = policy(bench).give_up_after_failures(1);
    let gave_up = tracker.record_failure_with("key", Some(&limited), None, "for good");
    done(gave_up.await);
    assert!(good(tracker.forget("key").await));
    assert_eq!(good(tracker.get("key").await), None);
    done(good(tracker.start("key").await).finish().await);
    bench.pass(unit).await;
    let expected = [
        (Event::Failed, "for good"),
        (Event::Forgotten, ""),
        (Event::Started, ""),
        (Event::Finished, ""),
    ];
    assert_eq!(told(bench, store, "key").await, these(&expected));
}

/// Pruning deletes what is older than the given time, of every key, and nothing else.
pub async fn history_is_pruned_by_age<B: HistoryBench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let another = super::tracker(bench).await;
    let store = tracker.store();
    for key in ["a", "b"] {
        done(tracker.record_failure(key, "old").await);
        done(another.record_failure(key, "old").await);
    }
    bench.pass(unit).await;
    done(tracker.record_failure("a", "new").await);
    bench.pass(unit).await;
    done(tracker.record_failure("b", "newer").await);
    let kept = [good(tracker.get("a").await), good(tracker.get("b").await)];

    let oldest = bench.history(store, "a", 100).await[1].at;
    assert_eq!(bench.prune_history(store, oldest).await, 0);
    let new = bench.history(store, "a", 1).await[0].at;
    assert_eq!(bench.prune_history(store, new).await, 2);
    for (key, cause) in [("a", "new"), ("b", "newer")] {
        let expected = these(&[(Event::Failed, cause)]);
        assert_eq!(told(bench, store, key).await, expected);
    }
    let after = now::<B>(&tracker).await + unit;
    assert_eq!(bench.prune_history(store, after).await, 2);
    for key in ["a", "b"] {
        assert_eq!(bench.history(store, key, 100).await, []);
        let expected = these(&[(Event::Failed, "old")]);
        assert_eq!(told(bench, another.store(), key).await, expected);
    }
    let left = [good(tracker.get("a").await), good(tracker.get("b").await)];
    assert_eq!(left, kept, "pruned more than history");
}

/// What was noted within a transaction of the caller's is committed with the rest of it, or never
/// happened.
pub async fn p3_history_joins_the_callers_transaction<B>(bench: &B)
where
    B: HistoryBench + TransactionBench,
{
    let tracker = tracker(bench).await;
    let store = tracker.store();
    let work = good(tracker.start("key").await);
    for end in [End::RollBack, End::Commit] {
        let data = bench.data(store).await + 1;
        let failure = step::failure(failed(bench, "no disk"));
        bench
            .transaction(store, async |transaction| {
                bench.put_data(transaction, data).await;
                done(bench.update_in(store, transaction, "other", failure).await);
                let finish = step::finish(work.token());
                let finished = bench.update_in(store, transaction, "key", finish).await;
                done(good(finished));
                end
            })
            .await;
        let is_committed = end == End::Commit;
        let expected = [(Event::Started, ""), (Event::Finished, "")];
        let expected = these(&expected[..=usize::from(is_committed)]);
        assert_eq!(told(bench, store, "key").await, expected, "{end:?}");
        let expected = [(Event::Failed, "no disk")];
        let expected = these(&expected[..usize::from(is_committed)]);
        assert_eq!(told(bench, store, "other").await, expected, "{end:?}");
        assert_eq!(bench.data(store).await == data, is_committed);
        assert_eq!(good(tracker.get("key").await).is_none(), is_committed);
        assert_eq!(good(tracker.get("other").await).is_some(), is_committed);
    }
}
