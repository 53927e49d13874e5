//! A record as a key's value: one JSON object with a version, its times in microseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::policy::GiveUpReason;
use crate::state::BackoffState;
use crate::store::lease::Lease;
use crate::store::record::{Record, after, between};
use crate::store::unreadable::Problem;
use crate::store::version;

pub(super) const VERSION: u64 = 1;

/// The value as it is read. Fields that older writers left out may be missing; unknown ones are
/// refused. [`Draft`](super::draft::Draft) writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    relent: u64,
    first_failure: u64,
    since: u64,
    until: u64,
    #[serde(default)]
    lease: Option<Held>,
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    interval_ns: Option<u64>,
    #[serde(default)]
    gave_up: Option<GiveUpReason>,
    #[serde(default)]
    cause: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    since: u64,
    until: u64,
    token: u64,
    holder: String,
}

pub(super) fn decode(text: &[u8]) -> Result<Record, Problem> {
    let value: Value = version::read(text, VERSION, |value: &Value| value.relent)?;
    // A record without an interval counts as one without a streak: a clean slate.
    let state = value.interval_ns.map(|interval| BackoffState {
        failures: value.failures,
        interval: Duration::from_nanos(interval),
    });
    Ok(Record {
        state: state.unwrap_or_default(),
        first_failure: time(value.first_failure),
        since: time(value.since),
        until: time(value.until),
        gave_up: value.gave_up,
        cause: value.cause,
        lease: value.lease.map(|held| Lease {
            token: held.token,
            holder: held.holder,
            since: time(held.since),
            until: time(held.until),
        }),
    })
}

/// A time in microseconds since 1970, rounded down.
pub(super) fn micros(time: SystemTime) -> u64 {
    u64::try_from(between(UNIX_EPOCH, time).as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn time(micros: u64) -> SystemTime {
    after(UNIX_EPOCH, Duration::from_micros(micros))
}
