//! A record's parts as the plain columns of a table.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::change::Event;
use super::record::{after, between};
use super::step::LEASE_EXPIRED;
use crate::policy::{GiveUpReason, nanos};

/// A time as nanoseconds since 1970. `i64::MAX` stands for the end of time.
pub(super) fn time(time: SystemTime) -> i64 {
    duration(between(UNIX_EPOCH, time))
}

pub(super) fn to_time(nanos: i64) -> Option<SystemTime> {
    let nanos = u64::try_from(nanos).ok()?;
    Some(after(UNIX_EPOCH, Duration::from_nanos(nanos)))
}

/// A duration as nanoseconds. `i64::MAX`, the most that a column holds, stands for the longest
/// duration, and is read back as that.
pub(super) fn duration(duration: Duration) -> i64 {
    i64::try_from(nanos(duration)).unwrap_or(i64::MAX)
}

pub(super) fn to_duration(nanos: i64) -> Option<Duration> {
    match nanos {
        i64::MAX => Some(Duration::from_nanos(u64::MAX)),
        _ => Some(Duration::from_nanos(u64::try_from(nanos).ok()?)),
    }
}

/// A token. Databases have no more than 63 bits for it.
pub(super) fn token(token: u64) -> i64 {
    i64::try_from(token).unwrap_or(i64::MAX)
}

pub(super) fn reason(reason: GiveUpReason) -> &'static str {
    match reason {
        GiveUpReason::Failures => "failures",
        GiveUpReason::Elapsed => "elapsed",
    }
}

pub(super) fn to_reason(name: &str) -> Option<GiveUpReason> {
    let all = [GiveUpReason::Failures, GiveUpReason::Elapsed];
    all.into_iter().find(|&known| reason(known) == name)
}

pub(super) fn to_event(name: &str) -> Option<Event> {
    let all = [
        Event::Started,
        Event::Finished,
        Event::Failed,
        Event::Cancelled,
        Event::Expired,
        Event::Forgotten,
    ];
    all.into_iter().find(|known| known.name() == name)
}

/// An event's cause, if it has one; `recorded` is the record's.
pub(super) fn cause(event: Event, recorded: Option<&str>) -> Option<&str> {
    match event {
        Event::Failed => recorded,
        Event::Expired => Some(LEASE_EXPIRED),
        _ => None,
    }
}
