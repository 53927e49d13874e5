//! Changes within a transaction of the caller's.

use std::future::Future;
use std::time::SystemTime;

use super::{Bench, another, done, failed, good, lost, policy, refused, tracker};
use crate::state::Decision;
use crate::store::step::{self, Start};
use crate::store::{AsyncStore, Change, DurableTracker, LeaseLost, Record, Refusal};

/// Where a store that makes changes within the caller's transactions is tried.
///
/// The caller's own data is one number here, in whatever the same transaction reaches: a row of a
/// table, say. Stores may share it.
pub trait TransactionBench: Bench {
    /// What a transaction is open on.
    type Transaction;

    /// Runs `work` within a new transaction, and ends the transaction as `work` says. Nothing else
    /// uses the store meanwhile.
    fn transaction(
        &self,
        store: &Self::Store,
        work: impl AsyncFnOnce(&mut Self::Transaction) -> End,
    ) -> impl Future<Output = ()>;

    /// The method that is tried: [`AsyncTransactional::update_in`], or that of the blocking face.
    ///
    /// [`AsyncTransactional::update_in`]: crate::store::AsyncTransactional::update_in
    fn update_in<R: Send + 'static>(
        &self,
        store: &Self::Store,
        transaction: &mut Self::Transaction,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> impl Future<Output = Result<R, <Self::Store as AsyncStore>::Error>>;

    /// Replaces the caller's own data, within the transaction.
    fn put_data(&self, transaction: &mut Self::Transaction, data: u32) -> impl Future<Output = ()>;

    /// The caller's own data as it is without a transaction; 0 if it was never put there.
    fn data(&self, store: &Self::Store) -> impl Future<Output = u32>;
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it happens, at once.
    Commit,
    /// Nothing of it happened.
    RollBack,
}

/// Makes a change within a transaction that is rolled back, and checks that nothing came of it;
/// then within one that is committed. The caller's own data has to share the fate of each.
async fn joined<B, R, C>(bench: &B, tracker: &DurableTracker<B::Store>, change: impl Fn() -> C) -> R
where
    B: TransactionBench,
    R: Send + 'static,
    C: FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
{
    let store = tracker.store();
    let (data, record) = (bench.data(store).await, good(tracker.get("key").await));
    drop(one_change(bench, store, data + 1, change(), End::RollBack).await);
    let left = good(tracker.get("key").await);
    assert_eq!(left, record, "written, and yet rolled back");
    assert_eq!(bench.data(store).await, data);
    let answer = one_change(bench, store, data + 1, change(), End::Commit).await;
    assert_eq!(bench.data(store).await, data + 1, "not committed");
    answer
}

/// Makes a change, together with one to the caller's own data, in a transaction that ends as told.
async fn one_change<B: TransactionBench, R: Send + 'static>(
    bench: &B,
    store: &B::Store,
    data: u32,
    change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    end: End,
) -> R {
    let mut answer = None;
    let answered = &mut answer;
    bench
        .transaction(store, async |transaction| {
            bench.put_data(transaction, data).await;
            let updated = bench.update_in(store, transaction, "key", change).await;
            *answered = Some(good(updated));
            end
        })
        .await;
    answer.expect("the bench ran the work")
}

/// Finishing, and the caller's own data, are committed together or not at all. Until then the work
/// is in hand.
pub async fn p3_finish_joins_the_callers_transaction<B: TransactionBench>(bench: &B) {
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    done(one.record_failure("key", "broken").await);
    bench.pass(bench.unit()).await;
    let work = good(one.start("key").await);
    let finished = joined(bench, &one, || step::finish(work.token())).await;
    assert_eq!(
        finished.map(|told| told.map(|told| told.failures)),
        Ok(Some(1))
    );
    assert_eq!(good(one.get("key").await), None);
    assert_eq!(lost(work.cancel().await), LeaseLost::Ended);
    done(two.start("key").await);
}

/// Work whose finish was rolled back can be finished, failed or cancelled as if nothing had
/// happened; nobody else can do so.
pub async fn p3_a_finish_that_was_rolled_back_leaves_the_work_in_hand<B: TransactionBench>(
    bench: &B,
) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let store = one.store();
    for n in 0..3 {
        let key = format!("key {n}");
        let work = good(one.start(&key).await);
        bench
            .transaction(store, async |transaction| {
                let finish = step::finish(work.token());
                let finished = bench.update_in(store, transaction, &key, finish).await;
                assert_eq!(good(finished), Ok(None));
                let finish = step::finish(work.token());
                let twice = bench.update_in(store, transaction, &key, finish).await;
                assert_eq!(good(twice), Err(LeaseLost::Ended));
                End::RollBack
            })
            .await;
        assert!(matches!(refused(two.start(&key).await), Refusal::Held { by, .. } if by == "one"));
        match n {
            0 => done(work.finish().await),
            1 => {
                let told = good(work.fail("could not commit").await);
                assert_eq!(told, Decision::Retry { after: unit });
            }
            _ => good(work.cancel().await),
        }
        let record = good(one.get(&key).await);
        let cause = record.as_ref().map(|record| &*record.cause);
        assert_eq!(cause, (n == 1).then_some("could not commit"));
    }
}

/// A failure, a success and an operator's forgetting join the caller's transaction, and so do a
/// start and the other ends of work.
pub async fn p3_every_transition_joins_the_callers_transaction<B: TransactionBench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let get = async || good(one.get("key").await);

    for (failures, wait) in [(1, unit), (2, unit * 2)] {
        let failure = || step::failure(failed(bench, "broken"));
        let told = joined(bench, &one, failure).await;
        assert_eq!(told, Decision::Retry { after: wait });
        let record = get().await.expect("a record of the failure");
        assert_eq!(record.state.failures, failures);
        assert_eq!(record.cause, "broken");
        assert_eq!(record.until.duration_since(record.since).ok(), Some(wait));
    }
    let recovery = joined(bench, &one, step::success).await;
    assert_eq!(recovery.map(|recovery| recovery.failures), Some(2));
    assert_eq!(get().await, None);

    done(one.record_failure("key", "broken").await);
    assert!(joined(bench, &one, step::forget).await);
    assert_eq!(get().await, None);

    let work = good(one.start("key").await);
    assert_eq!(
        joined(bench, &one, || step::cancel(work.token())).await,
        Ok(())
    );
    assert_eq!(get().await, None);

    let work = good(one.start("key").await);
    let fail = || step::fail(work.token(), failed(bench, "no disk"));
    let told = joined(bench, &one, fail).await;
    assert_eq!(told, Ok(Decision::Retry { after: unit }));
    let record = get().await.expect("a record of the failure");
    assert_eq!((&*record.cause, record.lease), ("no disk", None));
    assert_eq!(lost(work.finish().await), LeaseLost::Ended);
}

/// A key that is taken within a transaction is nobody's if that is rolled back, and nobody else's
/// once it is committed; its token is greater than those before.
pub async fn p2_a_key_is_taken_within_a_transaction<B: TransactionBench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let mut last = 0;
    for _ in 0..3 {
        let before = good(two.start("key").await);
        done(before.cancel().await);
        let start = Start {
            holder: "one".to_owned(),
            time_to_live: unit * 3,
            backoff: Some(policy(bench)),
            entropy: 0,
        };
        let taken = joined(bench, &one, || step::start(start.clone())).await;
        let record = taken.expect("a key that was free");
        assert_eq!(good(one.get("key").await).as_ref(), Some(&record));
        let lease = record.lease.expect("a lease");
        assert!(before.token() > last && lease.token > before.token());
        last = lease.token;
        assert!(matches!(refused(two.start("key").await), Refusal::Held { by, .. } if by == "one"));
        let finished = joined(bench, &one, || step::finish(last)).await;
        assert_eq!(finished, Ok(None));
    }
}

/// Changes of one transaction see each other, and are committed all at once or not at all.
pub async fn p3_changes_of_one_transaction_go_together<B: TransactionBench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let store = tracker.store();
    done(tracker.record_failure("well again", "broken").await);
    let waiting = async || good(tracker.waiting(100).await);
    let before = waiting().await;
    for end in [End::RollBack, End::Commit] {
        bench
            .transaction(store, async |transaction| {
                for (key, wait) in [("a", unit), ("b", unit), ("a", unit * 2), ("a", unit * 4)] {
                    let failure = step::failure(failed(bench, "broken"));
                    let told = bench.update_in(store, transaction, key, failure).await;
                    assert_eq!(good(told), Decision::Retry { after: wait }, "{key}");
                }
                let success = step::success();
                let told = bench
                    .update_in(store, transaction, "well again", success)
                    .await;
                assert!(good(told).is_some());
                let success = step::success();
                let told = bench
                    .update_in(store, transaction, "well again", success)
                    .await;
                assert!(good(told).is_none());
                end
            })
            .await;
        if end == End::RollBack {
            assert_eq!(waiting().await, before);
        }
    }
    let mut failures = waiting().await;
    failures.sort_by(|a, b| a.key.cmp(&b.key));
    let failures = failures.iter();
    let failures: Vec<_> = failures
        .map(|listed| (&*listed.key, listed.record.state.failures))
        .collect();
    assert_eq!(failures, [("a", 3), ("b", 1)]);
}

/// Whoever lost a lease writes nothing within a transaction either.
pub async fn p2_a_stale_worker_is_refused_within_a_transaction<B: TransactionBench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let stale = good(one.start("key").await).token();
    bench.pass(unit * 3).await;
    let before = good(one.get("key").await);
    let late = joined(bench, &one, || step::finish(stale)).await;
    assert!(matches!(late, Err(LeaseLost::Expired { .. })), "{late:?}");
    assert_eq!(good(one.get("key").await), before, "a stale worker wrote");

    assert!(matches!(
        refused(two.start("key").await),
        Refusal::BackingOff { .. }
    ));
    bench.pass(unit).await;
    let work = good(two.start("key").await);
    let before = good(two.get("key").await);
    let by = "two".to_owned();
    let taken = LeaseLost::Taken { by };
    let late = joined(bench, &one, || step::finish(stale)).await;
    assert_eq!(late, Err(taken.clone()));
    let fail = || step::fail(stale, failed(bench, "stale"));
    let late = joined(bench, &one, fail).await;
    assert_eq!(late, Err(taken.clone()));
    let late = joined(bench, &one, || step::cancel(stale)).await;
    assert_eq!(late, Err(taken));
    assert_eq!(good(two.get("key").await), before, "a stale worker wrote");
    done(work.finish().await);
}
