//! Listings, and claims from them.

use std::time::Duration;

use super::{Bench, another, done, good, tracker};
use crate::policy::Backoff;
use crate::store::{Listed, Page, Which, step};

/// Keys are listed once each, in the order in which they are due, on as many pages as it takes.
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

/// Several workers claim each key once: the oldest first, and last those whose worker died.
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
