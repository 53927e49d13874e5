//! A record as a key's value: one JSON object with a version.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::store::record::{Record, after, between};
use crate::store::unreadable::Problem;

const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Value<T> {
    /// The version, under a name that no other program's value has.
    relent: u64,
    record: T,
}

/// Whose value it is.
#[derive(Deserialize)]
struct Whose {
    relent: Option<serde_json::Value>,
}

/// A record as text; in two parts, between which the token of a lease belongs that is granted yet.
pub(super) fn encode(
    record: &Record,
    is_granted: bool,
) -> Result<(String, String), serde_json::Error> {
    let mut record = in_micros(record);
    if let Some(lease) = record.lease.as_mut().filter(|_| is_granted) {
        lease.token = u64::MAX;
    }
    let relent = VERSION;
    let mut text = serde_json::to_string(&Value { relent, record })?;
    if !is_granted {
        return Ok((text, String::new()));
    }
    // In a text of the user's its quotes would be escaped.
    let token = format!("\"token\":{}", u64::MAX);
    let at = text
        .find(&token)
        .map_or(text.len(), |at| at + "\"token\":".len());
    let rest = text.split_off(at);
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    Ok((text, rest.to_owned()))
}

pub(super) fn decode(text: &[u8]) -> Result<Record, Problem> {
    match serde_json::from_slice(text) {
        Ok(Value {
            relent: VERSION,
            record,
        }) => Ok(record),
        read => Err(problem(text, read.err())),
    }
}

/// What is the matter with a text that is no record of this version.
fn problem(text: &[u8], error: Option<serde_json::Error>) -> Problem {
    let whose: Whose = match serde_json::from_slice(text) {
        Ok(whose) => whose,
        Err(error) => return Problem::Damaged(error.to_string()),
    };
    match (whose.relent.as_ref().map(serde_json::Value::as_u64), error) {
        (None, _) => Problem::Foreign("it does not say `relent`".to_owned()),
        (Some(Some(found)), _) if found > VERSION => Problem::Newer {
            found,
            known: VERSION,
        },
        (Some(Some(VERSION)), Some(error)) => Problem::Damaged(error.to_string()),
        _ => Problem::Damaged("its version is no version".to_owned()),
    }
}

/// A time as lists have it: in microseconds since 1970, rounded down.
pub(super) fn micros(time: SystemTime) -> u128 {
    between(UNIX_EPOCH, time).as_micros()
}

/// The record as lists see it.
fn in_micros(record: &Record) -> Record {
    let round = |time: &mut SystemTime| {
        let nanos = between(UNIX_EPOCH, *time).subsec_nanos() % 1000;
        *time = time
            .checked_sub(Duration::from_nanos(nanos.into()))
            .unwrap_or(*time);
    };
    let mut record = record.clone();
    round(&mut record.first_failure);
    round(&mut record.since);
    round(&mut record.until);
    if let Some(lease) = &mut record.lease {
        round(&mut lease.since);
        round(&mut lease.until);
    }
    record
}

/// The server's time, from its seconds and microseconds.
pub(super) fn time(seconds: u64, micros: u64) -> SystemTime {
    after(
        UNIX_EPOCH,
        Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros)),
    )
}
