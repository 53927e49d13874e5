//! Heartbeats: many leases at once, each by itself.

use std::collections::BTreeMap;

use super::{Bench, another, done, good, refused, tracker};
use crate::store::{AsyncStore, LeaseLost, Refusal};

/// A heartbeat extends the leases that are good, whatever became of the others, and tells what
/// became of each.
pub async fn p2_a_heartbeat_tells_what_became_of_each_lease<B: Bench>(bench: &B) {
    let unit = bench.unit();
    let tracker = tracker(bench).await;
    let other = another(bench, &tracker, "two");
    let store = tracker.store();
    let none = store.extend(&[], unit, |_, _| panic!("there was no lease"));
    done(none.await);

    let taken = good(tracker.start("taken").await);
    let expired = good(tracker.start("expired").await);
    bench.pass(unit * 3).await;
    let refusal = refused(other.start("taken").await);
    assert!(matches!(refusal, Refusal::BackingOff { .. }));
    bench.pass(unit).await;
    let others = good(other.start("taken").await);
    let ended = good(tracker.start("ended").await);
    done(ended.finish().await);
    let [first, last] = [
        good(tracker.start("first").await),
        good(tracker.start("last").await),
    ];
    let before = good(tracker.get("expired").await);

    let works = [&first, &taken, &ended, &expired, &last];
    let leases = works.map(|work| (work.key(), work.token()));
    let mut told = BTreeMap::new();
    let tell = |n, answer| assert!(told.insert(n, answer).is_none(), "told twice of {n}");
    done(store.extend(&leases, unit * 100, tell).await);
    let mut told = told.into_values();
    let mut next = || told.next().unwrap_or_else(|| panic!("one was not told of"));
    let extended = [next(), next(), next(), next(), next()];

    for (work, answer) in [(&first, &extended[0]), (&last, &extended[4])] {
        let record = good(tracker.get(work.key()).await);
        let lease = record.and_then(|record| record.lease);
        let lease = lease.unwrap_or_else(|| panic!("a lease was lost"));
        assert_eq!((answer, lease.token), (&Ok(lease.until), work.token()));
        let granted = work.record().lease.as_ref().map(|lease| lease.until);
        assert!(granted < Some(lease.until));
    }
    let by = "two".to_owned();
    assert_eq!(extended[1], Err(LeaseLost::Taken { by }));
    assert_eq!(extended[2], Err(LeaseLost::Ended));
    assert!(matches!(extended[3], Err(LeaseLost::Expired { .. })));
    assert_eq!(good(tracker.get("expired").await), before);
    done(others.finish().await);
}
