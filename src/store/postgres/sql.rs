//! The statements that read and write rows by their keys. Each is one round trip, and commits by
//! itself where no transaction is open.
//!
//! They stay within what CockroachDB takes too: one change per table and statement, each at the top
//! of the statement and returning something, even where nobody asks; no functions in another
//! language, no locks but those of rows.
//!
//! Parameters that the planner would look into are hidden from it in subqueries. So one plan is
//! made for all their values, and for all namespaces: for a namespace of which the planner knows no
//! rows, the database would go through all of it to find a key.
//!
//! The time is that of the server's machine, `clock_timestamp()`, not that at which the transaction
//! began: a lease may run out in the middle of a transaction, and somebody else may have written a
//! row since it began. It is read after the row, so that what the row says is never from the
//! future; or where rows are not locked, after the moment as of which the statement sees all of
//! them.

mod delete;
mod put;
mod read;

pub(super) use delete::DELETE;
pub(super) use put::{EXTEND, PUT, PUT_NEW, PUT_OVER, REGRANT};
pub(super) use read::{LOCK, READ};

/// A statement about one key, and the same about a few and about many.
#[derive(Clone, Copy)]
pub(super) struct Statement {
    one: &'static str,
    few: &'static str,
    many: &'static str,
}

impl Statement {
    /// A few rows that are to be written over are first locked in order, which takes a third
    /// longer. Many are written in the order in which the database comes upon them. Two batches
    /// that do that to the same rows may wait for each other, until the database notices, and one
    /// of them is made again, in order.
    const FEW: usize = 32;

    const fn new(one: &'static str, many: &'static str) -> Statement {
        Statement {
            one,
            few: many,
            many,
        }
    }

    pub(super) fn about(self, keys: usize) -> &'static str {
        match keys {
            1 => self.one,
            2..=Self::FEW => self.few,
            _ => self.many,
        }
    }
}

/// Changes to several rows, in the one order in which everybody locks several, so that no two wait
/// for each other.
macro_rules! in_order {
    ($changes:expr) => {
        concat!($changes, " ORDER BY key")
    };
}
use in_order;

/// The changes to rows that are there, each of which is locked before the next is looked at.
macro_rules! locked {
    ($changes:expr) => {
        locked!($changes, "")
    };
    ($changes:expr, $or_else:literal) => {
        concat!(
            "
        SELECT change.* FROM (",
            in_order!($changes),
            ") AS change
        CROSS JOIN LATERAL (
            SELECT key FROM relent AS held
            WHERE held.namespace = (SELECT $1::TEXT) AND held.key = change.key FOR UPDATE",
            $or_else,
            "
        ) AS held OFFSET 0"
        )
    };
}
use locked;

/// A statement that writes; the same with events to note in the history; and, if there is one, the
/// same for [nothing but failures](super::batch), which binds and answers less.
#[derive(Clone, Copy)]
pub(super) struct Writing {
    failures: Option<Statement>,
    plain: Statement,
    noting: Statement,
}

impl Writing {
    pub(super) fn noting(self, is_noting: bool) -> Statement {
        if is_noting { self.noting } else { self.plain }
    }

    pub(super) fn failures(self) -> Option<Statement> {
        self.failures
    }
}

/// What [`row`](super::row) reads of the streak, in this order.
macro_rules! streak {
    () => {
        "key, version, failures, interval_ns, first_failure, since, until, cause"
    };
}
pub(super) use streak;

/// What [`row`](super::row) reads of a row, in this order.
macro_rules! columns {
    () => {
        concat!(
            $crate::store::postgres::sql::streak!(),
            ", revision, gave_up, token, holder, lease_since, lease_until"
        )
    };
}
pub(super) use columns;

/// The time, also in microseconds, and the latest time at which any row was written: in one row,
/// which is read once for all of a statement. The time is read last, so that a write in between
/// does not make it look set back.
macro_rules! clock {
    () => {
        "SELECT latest, now, (EXTRACT(EPOCH FROM now) * 1000000)::BIGINT AS micros
        FROM (SELECT last_value AS latest, clock_timestamp() AS now FROM relent_latest) AS clock"
    };
}
pub(super) use clock;

/// The keys of an array, looked up in the index one by one whatever the planner thinks of the
/// table.
macro_rules! is_any {
    ($keys:literal) => {
        concat!(" = ANY ((SELECT ", $keys, "::TEXT[])::TEXT[])")
    };
}
use is_any;

/// The condition that [`row`](super::row) can read a row. Nothing in the table ensures it, so a
/// statement that looks for rows passes the others over, and never writes to them.
macro_rules! is_readable {
    () => {
        "version <= 1 AND revision < 9223372036854775807
                AND failures BETWEEN 0 AND 4294967295
                AND (interval_ns IS NULL OR interval_ns >= 0)
                AND LEAST(first_failure, since, until) >= TIMESTAMPTZ '1970-01-01 00:00:00+00'
                AND GREATEST(first_failure, since, until)
                    <= TIMESTAMPTZ '2262-04-11 23:47:16.854775+00'
                AND (gave_up IS NULL OR gave_up IN ('failures', 'elapsed'))
                AND (token IS NULL OR token >= 0 AND holder IS NOT NULL
                    AND LEAST(lease_since, lease_until) >= TIMESTAMPTZ '1970-01-01 00:00:00+00'
                    AND GREATEST(lease_since, lease_until)
                        <= TIMESTAMPTZ '2262-04-11 23:47:16.854775+00'
                    AND lease_since IS NOT NULL AND lease_until IS NOT NULL)"
    };
}
pub(super) use is_readable;

/// The same; or any row, where a parameter says so, to learn of those that cannot be read.
macro_rules! is_wanted {
    ($any:literal) => {
        concat!("((SELECT ", $any, "::BOOLEAN) OR ", is_readable!(), ")")
    };
}
pub(super) use is_wanted;

/// A text that the database is made to take for a number, which fails, and so undoes a statement
/// that wrote only some of its rows.
macro_rules! some_only {
    () => {
        "relent: others were quicker, to be done again"
    };
}
use some_only;

/// The same text, as an error of the database quotes it.
pub(super) const SOME_ONLY: &str = some_only!();

/// How many rows were `written`: none, or as many as there are keys. Otherwise it is an error, and
/// none are.
macro_rules! all_or_none {
    ($keys:literal) => {
        concat!(
            "
    SELECT CASE WHEN count(*) IN (0, array_length(",
            $keys,
            "::TEXT[], 1)) THEN count(*)
        ELSE CAST('",
            some_only!(),
            " (' || count(*)::TEXT || ')' AS BIGINT) END
    FROM written"
        )
    };
}
use all_or_none;

/// Answers what was `written` only if all was; otherwise it is an error.
macro_rules! if_all {
    ($keys:literal) => {
        concat!(" WHERE (", all_or_none!($keys), ") > 0")
    };
}
use if_all;

/// A statement about many keys that writes all of their rows, or none.
macro_rules! whole {
    ($write:expr, $keys:literal) => {
        concat!(
            "
    WITH written AS (",
            $write,
            ")
    SELECT * FROM written",
            if_all!($keys)
        )
    };
}
use whole;

/// A write with events to note of the keys that were written, whose rows have to answer with their
/// `key`.
///
/// `IS TRUE` has the database look keys up in a hash table; otherwise it would assume that arrays
/// are short, and compare each key with each.
macro_rules! noting {
    ($write:expr, $keys:literal, $events:literal, $causes:literal, $if_all:expr) => {
        concat!(
            "
    WITH written AS (",
            $write,
            "), noted AS (
        INSERT INTO relent_history (namespace, key, at, event, cause)
        SELECT $1, key, $2, event, cause
        FROM UNNEST(",
            $keys,
            "::TEXT[], ",
            $events,
            "::TEXT[], ",
            $causes,
            "::TEXT[]) WITH ORDINALITY AS event (key, event, cause, n)
        WHERE (key IN (SELECT key FROM written)) IS TRUE ORDER BY n
        RETURNING key
    )
    SELECT * FROM written",
            $if_all
        )
    };
}
use noting;

/// What was decided while a lease was good is not written once it has run out.
macro_rules! lease_is_as_read {
    () => {
        "(relent.lease_until IS NULL OR relent.lease_until <= $2
                OR relent.lease_until > clock_timestamp())"
    };
}
use lease_is_as_read;
