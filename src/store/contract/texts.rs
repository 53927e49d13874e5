//! Causes and holders: any text, of any length.

use super::{Bench, done, good, options, refused, tracker};
use crate::store::{MAX_CAUSE, Refusal};

/// A cause may be anything that a server answers, and a failure is counted whatever it is: a NUL,
/// which some databases cannot keep, becomes `�`, and what is longer than [`MAX_CAUSE`] ends in
/// `…`.
pub async fn causes_are_any_text<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    let long = "漢".repeat(MAX_CAUSE);
    let cut = format!("{}…", "漢".repeat((MAX_CAUSE - "…".len()) / "漢".len()));
    let most = "x".repeat(MAX_CAUSE);
    let causes = [
        ("", ""),
        ("\0", "\u{FFFD}"),
        ("a\0b\n\0", "a\u{FFFD}b\n\u{FFFD}"),
        (&*most, &*most),
        (&*long, &*cut),
    ];
    for (n, (cause, _)) in causes.into_iter().enumerate() {
        done(tracker.record_failure(&format!("one {n}"), cause).await);
        let work = good(tracker.start(&format!("work {n}")).await);
        done(work.fail(cause).await);
    }
    let keys: Vec<_> = (0..causes.len()).map(|n| format!("all {n}")).collect();
    let failures = keys.iter().zip(causes);
    let failures: Vec<_> = failures.map(|(key, (cause, _))| (&**key, cause)).collect();
    done(tracker.record_failures(&failures).await);
    for (n, (_, kept)) in causes.into_iter().enumerate() {
        for way in ["one", "work", "all"] {
            let record = good(tracker.get(&format!("{way} {n}")).await);
            assert_eq!(record.map(|record| record.cause).as_deref(), Some(kept));
        }
    }
}

/// The name of a holder may be any text, too; others see the name that the session gives.
pub async fn holders_are_any_text<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    for name in ["", "a\0b", "\"quoted\"\n漢字", &"x".repeat(100_000)] {
        let named = tracker.another(options(bench).holder(name));
        let work = good(named.start("key").await);
        let told = Refusal::Held {
            by: named.session().holder().to_owned(),
            until: work
                .record()
                .lease
                .as_ref()
                .map_or_else(|| panic!("work without a lease"), |lease| lease.until),
        };
        assert_eq!(refused(tracker.start("key").await), told);
        done(work.fail("broken").await);
        bench.pass(bench.unit() * 9).await;
        let claimed = good(named.claim_due(1).await);
        assert_eq!(claimed.len(), 1);
        done(claimed[0].finish().await);
    }
}
