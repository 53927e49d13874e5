//! A record as a JSON object that people can read: times as RFC 3339, durations with their units.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize, Serializer};

use super::Record;
use crate::policy::GiveUpReason;
use crate::policy::config::duration;
use crate::state::BackoffState;
use crate::store::lease::Lease;

/// The record as it is read: flat. Fields that older writers left out may be missing; unknown ones
/// are refused.
#[derive(Deserialize)]
#[serde(rename = "Record", deny_unknown_fields)]
pub(super) struct Flat {
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    interval: Option<Interval>,
    #[serde(with = "time")]
    first_failure: SystemTime,
    #[serde(with = "time")]
    since: SystemTime,
    #[serde(with = "time")]
    until: SystemTime,
    #[serde(default)]
    gave_up: Option<GiveUpReason>,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    lease: Option<Lease>,
}

#[derive(Serialize, Deserialize)]
struct Interval(#[serde(with = "duration")] Duration);

/// The same, as it is written.
#[derive(Serialize)]
#[serde(rename = "Record")]
struct FlatRef<'a> {
    failures: u32,
    interval: Interval,
    #[serde(with = "time")]
    first_failure: SystemTime,
    #[serde(with = "time")]
    since: SystemTime,
    #[serde(with = "time")]
    until: SystemTime,
    gave_up: Option<GiveUpReason>,
    cause: &'a str,
    lease: Option<&'a Lease>,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        FlatRef {
            failures: self.state.failures,
            interval: Interval(self.state.interval),
            first_failure: self.first_failure,
            since: self.since,
            until: self.until,
            gave_up: self.gave_up,
            cause: &self.cause,
            lease: self.lease.as_ref(),
        }
        .serialize(to)
    }
}

impl From<Flat> for Record {
    fn from(flat: Flat) -> Record {
        // A record without an interval counts as one without a streak: a clean slate.
        let state = flat.interval.map(|Interval(interval)| BackoffState {
            failures: flat.failures,
            interval,
        });
        Record {
            state: state.unwrap_or_default(),
            first_failure: flat.first_failure,
            since: flat.since,
            until: flat.until,
            gave_up: flat.gave_up,
            cause: flat.cause,
            lease: flat.lease,
        }
    }
}

/// A time: `"2026-05-01T12:00:00.123456789Z"`.
pub(crate) mod time {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::store::record::within;

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_nanos(within(*time)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        let time = humantime::parse_rfc3339(&text).map_err(|reason| {
            D::Error::custom(format_args!(
                "{text:?} is not a time ({reason}); write it as in \"2026-05-01T12:00:00.5Z\""
            ))
        })?;
        Ok(within(time))
    }
}
