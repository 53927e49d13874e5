//! One worker per key.

use std::time::Duration;

use super::{Bench, another, done, failed, good, lost, policy, refused, tracker};
use crate::policy::{Backoff, GiveUpReason};
use crate::state::Decision;
use crate::store::{AsyncStore, LeaseLost, Refusal, Work, step};

/// While one worker has a key, no other gets it, nor does the same one again.
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

/// A later lease of a key has a greater token, even after the record was deleted.
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
    let key = "key";
    assert_eq!(
        good(store.update(key, step::finish(stale)).await),
        Err(taken.clone())
    );
    assert_eq!(
        good(
            store
                .update(key, step::fail(stale, failed(bench, "stale")))
                .await
        ),
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

/// A lease that ran out counts as one failure when the next worker comes for the key, which then
/// waits.
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

/// Work begun out of turn is exclusive; as a failure it changes nothing, as a success it ends the
/// streak.
pub async fn p2_work_out_of_turn_escalates_nothing<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let one = tracker(bench).await;
    let two = another(bench, &one, "two");
    let limited = policy(bench).give_up_after_failures(2);
    for (failures, left) in [(1, None), (2, Some(GiveUpReason::Failures))] {
        done(
            one.record_failure_with("key", Some(&limited), None, "broken")
                .await,
        );
        let before = good(one.get("key").await);
        for _ in 0..3 {
            let work = good(one.start_now("key").await);
            assert!(matches!(
                refused(two.start_now("key").await),
                Refusal::Held { .. }
            ));
            let told = good(work.fail("pressed a button").await);
            match left {
                None => assert!(told.delay().is_some_and(|left| left <= unit)),
                Some(reason) => assert_eq!(told, Decision::GiveUp(reason)),
            }
            assert_eq!(lost(work.fail("again").await), LeaseLost::Ended);
            assert_eq!(good(one.get("key").await), before);
        }
        assert_eq!(before.map(|record| record.state.failures), Some(failures));
    }
    let work = good(one.start_now("key").await);
    let recovery = good(work.finish().await);
    assert_eq!(recovery.map(|recovery| recovery.failures), Some(2));
    assert_eq!(good(one.get("key").await), None);

    // Where the streak has ended meanwhile, there is nothing left that it could escalate.
    done(one.record_failure("key", "broken").await);
    let work = good(one.start_now("key").await);
    assert!(good(one.forget("key").await));
    let told = good(work.fail("broken anew").await);
    assert_eq!(told, Decision::Retry { after: unit });
    let record = good(one.get("key").await).expect("a record of the failure");
    assert_eq!(
        (record.state.failures, &*record.cause, record.lease),
        (1, "broken anew", None)
    );
    // But another that has begun is left as it is.
    let work = good(one.start_now("key").await);
    done(one.record_success("key").await);
    done(one.record_failure("key", "broken").await);
    done(work.fail("as before").await);
    let record = good(one.get("key").await).expect("a record of the failure");
    assert_eq!((record.state.failures, &*record.cause), (1, "broken"));
    done(one.record_success("key").await);

    // In turn, it is like any other work; and so is work whose worker died.
    let told = good(good(one.start_now("key").await).fail("broken").await);
    assert_eq!(told, Decision::Retry { after: unit });
    drop(good(one.start_now("key").await));
    bench.pass(unit * 3).await;
    assert!(matches!(
        refused(two.start("key").await),
        Refusal::BackingOff { .. }
    ));
    let record = good(two.get("key").await).expect("a record of the failure");
    assert_eq!(
        (record.state.failures, &*record.cause),
        (2, step::LEASE_EXPIRED)
    );
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
