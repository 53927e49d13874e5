//! Keys, and what is kept of them.

use std::time::{Duration, SystemTime};

use super::{Bench, done, good, tracker};
use crate::policy::GiveUpReason;
use crate::state::BackoffState;
use crate::store::{AsyncStore, Change, Error, MAX_KEY, Record};

/// Any text is a key, and no two of them are the same.
pub async fn keys_are_any_text<B: Bench>(bench: &B) {
    let tracker = tracker(bench).await;
    let longest = "\u{10ffff}".repeat(MAX_KEY / 4);
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
    assert_eq!(super::keys(&listed), sorted);
    for key in ["\0", "a\0b", &"a".repeat(MAX_KEY + 1)] {
        let error = tracker.record_failure(key, "broken").await;
        assert!(matches!(error, Err(Error::Key(_))), "{key:?}");
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
        let change = move |_: Option<&Record>, _| Change::put(put.clone(), ());
        done(store.update("key", change).await);
        assert_eq!(good(store.load("key").await).0, Some(record));
    }
}

/// A batch does what single calls would, in the same order, even to a key that is in it twice.
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
