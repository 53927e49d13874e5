//! A record as JSON: whatever is written is read back, and whatever is read does no harm.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use relent::store::blocking::DurableTracker;
use relent::store::{Cursor, Entry, Event, Lease, Listed, MemoryStore, Record};
use relent::{Backoff, BackoffState, GiveUpReason};

fn time() -> impl Strategy<Value = SystemTime> {
    let nanos = prop_oneof![0..i64::MAX as u64, Just(0), Just(i64::MAX as u64)];
    nanos.prop_map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos))
}

fn lease() -> impl Strategy<Value = Lease> {
    (any::<u64>(), any::<String>(), time(), time()).prop_map(|(token, holder, since, until)| {
        Lease {
            token,
            holder,
            since,
            until,
        }
    })
}

fn record() -> impl Strategy<Value = Record> {
    let state = (any::<u32>(), any::<u64>());
    let reason = prop_oneof![Just(GiveUpReason::Failures), Just(GiveUpReason::Elapsed)];
    let rest = (
        proptest::option::of(reason),
        any::<String>(),
        proptest::option::of(lease()),
    );
    (state, time(), time(), time(), rest).prop_map(
        |((failures, interval), first_failure, since, until, (gave_up, cause, lease))| Record {
            state: BackoffState {
                failures,
                interval: Duration::from_nanos(interval),
            },
            first_failure,
            since,
            until,
            gave_up,
            cause,
            lease,
        },
    )
}

/// As a page for operators shows it, and asks for the next.
#[test]
fn what_is_listed_and_what_happened_are_json_too() {
    let at = UNIX_EPOCH + Duration::from_micros(1_800_000_000_123_456);
    let entry = Entry {
        at,
        event: Event::Expired,
        cause: Some("lease expired".to_owned()),
    };
    let json = serde_json::to_string(&entry).unwrap();
    let written =
        r#"{"at":"2027-01-15T08:00:00.123456000Z","event":"expired","cause":"lease expired"}"#;
    assert_eq!(json, written);
    assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
    let kebab = serde_json::to_string(&entry.event).unwrap();
    assert_eq!(kebab, format!("\"{}\"", entry.event), "one name for it");

    let tracker = DurableTracker::new(MemoryStore::new(), Backoff::DEFAULT);
    tracker.record_failure("key", "broken").unwrap();
    let listed = tracker.waiting(1).unwrap();
    let json = serde_json::to_string(&listed).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Listed>>(&json).unwrap(), listed);
    let cursor = listed[0].cursor();
    let json = serde_json::to_string(&cursor).unwrap();
    assert_eq!(serde_json::from_str::<Cursor>(&json).unwrap(), cursor);
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in record()) {
        let json = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn p5_what_is_damaged_is_an_error_or_a_record(
        record in record(),
        at in any::<prop::sample::Index>(),
        with in any::<Vec<u8>>(),
    ) {
        let mut json = serde_json::to_vec(&record).unwrap();
        let at = at.index(json.len());
        let end = json.len().min(at + with.len());
        json.splice(at..end, with);
        if let Ok(record) = serde_json::from_slice::<Record>(&json) {
            let again = serde_json::to_vec(&record).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Record>(&again).unwrap(), record);
        }
    }
}
