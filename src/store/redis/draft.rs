//! What the server is to write, at whatever moment of a span of time it does so.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::ScriptInvocation;
use serde::Serialize;

use super::value::{VERSION, micros};
use crate::policy::{GiveUpReason, nanos};
use crate::store::record::Record;

/// A span of the server's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    /// Its first moment.
    pub(super) from: SystemTime,
    /// The first after it.
    pub(super) before: SystemTime,
}

impl Span {
    /// A span that is over before it begins.
    pub(super) const NEVER: Span = Span {
        from: UNIX_EPOCH,
        before: UNIX_EPOCH,
    };

    pub(super) fn add_to(&self, script: &mut ScriptInvocation<'_>) {
        script.arg(micros(self.from)).arg(micros(self.before));
    }
}

/// A record as text, with gaps for what only the server knows; and its places in the lists.
#[derive(Debug)]
pub(super) struct Draft {
    /// The first and every other piece is given; those between them are gaps.
    text: Vec<Piece>,
    due: Option<Piece>,
    written: Piece,
    expires: Option<Piece>,
}

#[derive(Debug)]
enum Piece {
    Given(String),
    /// The moment this many microseconds after that of writing.
    Later(u64),
    /// The token of the lease that is granted.
    Token,
}

/// Those parts of a record that are neither a time nor its lease.
#[derive(Serialize)]
struct Rest<'a> {
    failures: u32,
    interval_ns: u64,
    gave_up: Option<GiveUpReason>,
    cause: &'a str,
}

impl Draft {
    /// A draft of a record that is `first` if written in the first moment of the span, and `last`
    /// if in the moment after it. `None` if they differ in more than times that move along with the
    /// moment: then nobody can tell what the record is in between.
    pub(super) fn new(
        first: &Record,
        last: &Record,
        span: Span,
        is_granted: bool,
        expires: &impl Fn(&Record) -> Option<SystemTime>,
    ) -> Result<Option<Draft>, serde_json::Error> {
        let rest = serde_json::to_string(&Rest {
            failures: first.state.failures,
            interval_ns: nanos(first.state.interval),
            gave_up: first.gave_up,
            cause: &first.cause,
        })?;
        let holder = first.lease.as_ref().map(|lease| &lease.holder);
        let holder = serde_json::to_string(&holder)?;
        let draft = || {
            let text = text(first, last, span, is_granted, &holder, &rest)?;
            let place = |first: Option<SystemTime>, last: Option<SystemTime>| match (first, last) {
                (None, None) => Some(None),
                (first, last) => Piece::moment(first?, last?, span).map(Some),
            };
            Some(Draft {
                text: joined(text),
                due: place(first.due(), last.due())?,
                written: Piece::moment(first.written(), last.written(), span)?,
                expires: place(expires(first), expires(last))?,
            })
        };
        let is_same = with_times_of(first, last) == *last;
        Ok(is_same.then(draft).flatten())
    }

    /// Adds the arguments from which the server makes the record.
    pub(super) fn add_to(&self, script: &mut ScriptInvocation<'_>) {
        script.arg(self.text.len());
        for piece in &self.text {
            piece.add_to(script);
        }
        for place in [
            self.due.as_ref(),
            Some(&self.written),
            self.expires.as_ref(),
        ] {
            match place {
                Some(place) => place.add_to(script),
                None => drop(script.arg("")),
            }
        }
    }

    /// The text that the server has made of this at `now`.
    pub(super) fn made(&self, now: SystemTime, token: u64) -> Vec<u8> {
        let mut made = String::new();
        for piece in &self.text {
            match piece {
                Piece::Given(text) => made.push_str(text),
                Piece::Later(by) => made.push_str(&micros(now).saturating_add(*by).to_string()),
                Piece::Token => made.push_str(&token.to_string()),
            }
        }
        made.into_bytes()
    }
}

/// The value, as [`decode`](super::value::decode) reads it.
fn text(
    first: &Record,
    last: &Record,
    span: Span,
    is_granted: bool,
    holder: &str,
    rest: &str,
) -> Option<Vec<Piece>> {
    let given = |text: &str| Piece::Given(text.to_owned());
    let mut text = vec![
        Piece::Given(format!("{{\"relent\":{VERSION},\"first_failure\":")),
        Piece::moment(first.first_failure, last.first_failure, span)?,
        given(",\"since\":"),
        Piece::moment(first.since, last.since, span)?,
        given(",\"until\":"),
        Piece::moment(first.until, last.until, span)?,
    ];
    if let (Some(first), Some(last)) = (&first.lease, &last.lease) {
        text.extend([
            given(",\"lease\":{\"since\":"),
            Piece::moment(first.since, last.since, span)?,
            given(",\"until\":"),
            Piece::moment(first.until, last.until, span)?,
            given(",\"token\":"),
            if is_granted {
                Piece::Token
            } else {
                Piece::Given(first.token.to_string())
            },
            Piece::Given(format!(",\"holder\":{holder}}}")),
        ]);
    }
    // The rest is written as an object of its own, whose closing brace is the value's.
    text.push(Piece::Given(rest.replacen('{', ",", 1)));
    Some(text)
}

/// The pieces, with all that are given between two gaps joined into one.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Given(before)), Piece::Given(text)) => before.push_str(&text),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

/// The record with the times of the other.
fn with_times_of(record: &Record, other: &Record) -> Record {
    let mut moved = Record {
        first_failure: other.first_failure,
        since: other.since,
        until: other.until,
        ..record.clone()
    };
    if let (Some(lease), Some(other)) = (&mut moved.lease, &other.lease) {
        lease.since = other.since;
        lease.until = other.until;
    }
    moved
}

impl Piece {
    /// A time that is `first` if written in the first moment of a span, and `last` if in the moment
    /// after it. `None` if it neither stays the same nor moves along with the moment.
    fn moment(first: SystemTime, last: SystemTime, span: Span) -> Option<Piece> {
        let (first, last) = (micros(first), micros(last));
        if first == last {
            return Some(Piece::Given(first.to_string()));
        }
        let from = micros(span.from);
        let goes_along = last.checked_sub(first) == micros(span.before).checked_sub(from);
        let later = first.checked_sub(from).filter(|_| goes_along);
        later.map(Piece::Later)
    }

    fn add_to(&self, script: &mut ScriptInvocation<'_>) {
        match self {
            Piece::Given(text) => script.arg(text.as_str()),
            Piece::Later(by) => script.arg(format!("+{by}")),
            Piece::Token => script.arg("#"),
        };
    }
}
